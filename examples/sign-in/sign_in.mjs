// Sign somebody in with openid-client (a certified library): `npm install openid-client`, then
// `ISSUER=… CLIENT_ID=… CLIENT_SECRET=… REDIRECT_URI=… AFTER=… node sign_in.mjs`.
// It prints the address to open, and reads the address that the browser came back to.
import * as client from 'openid-client'
import { createInterface } from 'node:readline/promises'

const { ISSUER, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, AFTER } = process.env
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

// allowInsecureRequests is for http://127.0.0.1 alone
const config = await client.discovery(new URL(ISSUER), CLIENT_ID, CLIENT_SECRET, undefined, {
  execute: ISSUER.startsWith('https:') ? [] : [client.allowInsecureRequests],
})
client.enableNonRepudiationChecks(config) // verify signatures too
const verifier = client.randomPKCECodeVerifier()
const [state, nonce] = [client.randomState(), client.randomNonce()]
const go = client.buildAuthorizationUrl(config, {
  redirect_uri: REDIRECT_URI, scope: 'openid profile offline_access', state, nonce,
  code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
})
console.log('GO', go.href)

const back = new URL((await lines.next()).value) // the address that the browser came back to
const tokens = await client.authorizationCodeGrant(config, back, {
  pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce,
})
const user = await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub)
console.log('USER', JSON.stringify(user))

await lines.next() // later
const renewed = await client.refreshTokenGrant(config, tokens.refresh_token)
console.log('AGAIN', renewed.claims().sub)

const out = client.buildEndSessionUrl(config, { id_token_hint: renewed.id_token, post_logout_redirect_uri: AFTER })
console.log('OUT', out.href)
process.exit(0)
