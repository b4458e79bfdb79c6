// Sign somebody in with SAML 2.0 and @node-saml/node-saml, which passport-saml stands on.
//
// Settings come from the environment: IDENTITY_PROVIDER ({auth}/v1/districts/{district}), ENTITY_ID, ACS, KEY and
// CERTIFICATE (PEM). What a web framework would do is done by printing and reading: METADATA is for the operator who
// registers this application; the browser goes to what GO says; its form comes in as two words, SAMLResponse and
// RelayState.
import { createInterface } from 'node:readline';
import { SAML, ValidateInResponseTo } from '@node-saml/node-saml';

const { IDENTITY_PROVIDER, ENTITY_ID, ACS, KEY, CERTIFICATE } = process.env;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const line = async () => (await lines.next()).value;

const saml = new SAML({
  entryPoint: `${IDENTITY_PROVIDER}/saml/sso`,
  idpIssuer: `${IDENTITY_PROVIDER}/saml/metadata`,
  idpCert: await (await fetch(`${IDENTITY_PROVIDER}/saml/certificate`)).text(),
  issuer: ENTITY_ID,
  audience: ENTITY_ID,
  callbackUrl: ACS,
  privateKey: KEY,
  publicCert: CERTIFICATE,
  signatureAlgorithm: 'sha256',
  digestAlgorithm: 'sha256',
  identifierFormat: 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent',
  wantAssertionsSigned: true,
  wantAuthnResponseSigned: true,
  validateInResponseTo: ValidateInResponseTo.always,
});

console.log('METADATA', Buffer.from(saml.generateServiceProviderMetadata(null, CERTIFICATE)).toString('base64'));
await line();

console.log('GO', await saml.getAuthorizeUrlAsync('/shelf', undefined, {}));

const [SAMLResponse, relayState] = (await line()).split(' ');
const { profile } = await saml.validatePostResponseAsync({ SAMLResponse, RelayState: relayState });
const { nameID, sessionIndex, attributes = {} } = profile;
console.log('USER', JSON.stringify({ name_id: nameID, session: sessionIndex, relay_state: relayState, attributes }));
process.exit(0);
