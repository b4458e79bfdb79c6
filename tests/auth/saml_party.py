"""An application that speaks SAML, and what it sends; its own XML, of no code of ours."""

import base64
import html
import secrets
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from lxml import etree
from signxml.algorithms import CanonicalizationMethod
from signxml.signer import XMLSigner
from signxml.verifier import SignatureConfiguration, XMLVerifier

from tests.auth.conftest import ISSUER, PORTAL, Answer, D, World
from tests.auth.relying import Browser, Gone, accepted

SAML_APPLICATIONS = "/v1/operations/saml-applications"
ENTITY, ACS = "https://library.example.org/saml", "https://library.example.org/saml/acs"
SSO = f"{ISSUER}{D}/saml/sso"
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
NAMES = {
    "samlp": "urn:oasis:names:tc:SAML:2.0:protocol",
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "md": "urn:oasis:names:tc:SAML:2.0:metadata",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
}


@dataclass(frozen=True)
class Pair:
    """A key, and the certificate that it signed itself."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> str:
        return base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()


@cache
def pair(name: str = "library", bits: int = 2048, days: int = 365) -> Pair:
    key = rsa.generate_private_key(65537, bits)
    subject, since = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    )
    builder = builder.serial_number(1).not_valid_before(since).not_valid_after(since + timedelta(days=days))
    return Pair(key, builder.sign(key, hashes.SHA256()))


def authn_request(
    now: datetime,
    inside: str = "",
    *,
    issuer: str = ENTITY,
    text: str | None = None,
    **attributes: str | None,
) -> str:
    """`inside`: what follows the issuer; an attribute that is None is left out."""
    said: dict[str, str | None] = {
        "ID": f"_{secrets.token_hex(16)}", "Version": "2.0", "IssueInstant": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "Destination": SSO, "AssertionConsumerServiceURL": ACS,
    }  # fmt: skip
    shown = " ".join(f'{k}="{html.escape(v)}"' for k, v in (said | attributes).items() if v is not None)
    return (
        f'<samlp:AuthnRequest xmlns:samlp="{NAMES["samlp"]}" xmlns:saml="{NAMES["saml"]}" {shown}>'
        f"<saml:Issuer>{text if text is not None else html.escape(issuer)}</saml:Issuer>{inside}</samlp:AuthnRequest>"
    )


def sign(request: str, by: Pair, **differing: Any) -> str:
    """As applications sign, for HTTP-POST. `differing`: as signxml's signer takes them."""
    root = etree.fromstring(request)
    issuer = root.find("saml:Issuer", NAMES)
    issuer.addnext(etree.Element(f"{{{NAMES['ds']}}}Signature", Id="placeholder", nsmap={"ds": NAMES["ds"]}))
    signer = XMLSigner(
        c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
        signature_algorithm="rsa-sha256",
        digest_algorithm="sha256",
    )
    signed = signer.sign(root, key=by.key, cert=[by.certificate], reference_uri=root.get("ID"), **differing)
    return etree.tostring(signed).decode()


def deflated(request: str | bytes) -> str:
    packing = zlib.compressobj(wbits=-15)
    raw = request.encode() if isinstance(request, str) else request
    return base64.b64encode(packing.compress(raw) + packing.flush()).decode()


def redirect_query(request: str, relay_state: str | None = None, by: Pair | None = None) -> str:
    """The query of the HTTP-Redirect binding, signed by a key if there is one."""
    parts = {"SAMLRequest": deflated(request)} | ({} if relay_state is None else {"RelayState": relay_state})
    if by is not None:
        parts["SigAlg"] = RSA_SHA256
    query = "&".join(f"{name}={quote_plus(value)}" for name, value in parts.items())
    if by is None:
        return query
    signature = by.key.sign(query.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{query}&Signature={quote_plus(base64.b64encode(signature).decode())}"


@dataclass
class SamlParty:
    """A registered one."""

    world: World
    client_id: str
    by: Pair | None = None
    sent: list[str] = field(default_factory=list)

    @classmethod
    async def register(cls, world: World, by: Pair | None = None, **said: Any) -> "SamlParty":
        answer = await cls.ask(world, by, **said)
        assert answer.status == 201, answer
        return cls(world, answer.body["id"], by)

    @classmethod
    async def ask(cls, world: World, by: Pair | None = None, **said: Any) -> Answer:
        body = {"name": "Library", "districts": ["ccps"], "entity_id": ENTITY, "acs": [{"url": ACS}]}
        if by is not None:
            body["certificates"] = [by.pem]
        return await world.ask("POST", SAML_APPLICATIONS, body | said, bearer=world.token("operator"))

    def request(self, inside: str = "", **differing: Any) -> str:
        made = authn_request(self.world.now(), inside, **differing)
        self.sent.append(etree.fromstring(made).get("ID"))
        return made

    def link(self, relay_state: str | None = "rs", inside: str = "", **differing: Any) -> str:
        """The address to which it sends a browser by HTTP-Redirect."""
        query = redirect_query(self.request(inside, **differing), relay_state, self.by)
        return f"{D}/saml/sso?{query}"

    async def post(self, browser: Browser, request: str, relay_state: str = "rs") -> Gone:
        """What its page does by HTTP-POST: a browser sends no cookies along, and does with the GET after it."""
        form = {"SAMLRequest": base64.b64encode(request.encode()).decode(), "RelayState": relay_state}
        return await Browser(self.world).go(f"{D}/saml/sso", "POST", data=form)

    async def page(self, browser: Browser, gone: Gone, session: str) -> Any:
        """A browser on its way, until the portal has the form that it shows."""
        if f"{D}/saml/sso?posted=" in gone.location:
            gone = await browser.go(gone.location)
        if gone.location.startswith(f"{PORTAL}/ccps/sign-on?authorization="):
            gone = await browser.go(await accepted(self.world, gone, session))
        assert gone.status == 303, (gone.status, gone.text)
        return await form_of(self.world, gone)

    async def signed_in(self, session: str, browser: Browser | None = None, **differing: Any) -> "Read":
        """Somebody signs in to it, all the way."""
        browser = browser or Browser(self.world)
        form = await self.page(browser, await browser.go(self.link(**differing)), session)
        return read(self.world, form["saml_response"])


async def form_of(world: World, gone: Gone) -> Any:
    """What the portal fetches for its page."""
    answer = await redeem(world, gone)
    assert answer.status == 200, answer
    return answer.body


async def redeem(world: World, gone: Gone) -> Answer:
    assert gone.location.startswith(f"{PORTAL}/ccps/sign-on/answer?answer="), gone
    [word] = parse_qs(urlsplit(gone.location).query)["answer"]
    return await world.ask("POST", "/saml/answers", {"answer": word})


@dataclass
class Read:
    """A response, whose signatures have been proven."""

    response: Any

    def find(self, path: str) -> Any:
        return self.response.find(path, NAMES)

    def text(self, path: str) -> str | None:
        return self.response.findtext(path, None, NAMES)  # type: ignore[no-any-return]

    @property
    def statuses(self) -> list[str]:
        found = self.response.iterfind(".//samlp:StatusCode", NAMES)
        return [each.get("Value").rpartition(":")[2] for each in found]

    @property
    def attributes(self) -> dict[str, str]:
        found = self.response.iterfind(".//saml:Attribute", NAMES)
        return {each.get("Name"): each.findtext("saml:AttributeValue", None, NAMES) for each in found}


def read(world: World, saml_response: str) -> Read:
    certificate = world.auth.saml_keys.current().certificate
    return Read(prove(etree.fromstring(base64.b64decode(saml_response)), certificate))


def prove(root: Any, certificate: x509.Certificate) -> Any:
    """A response, made of what its signature covers; its assertion's is proven too."""
    config = SignatureConfiguration(location="./")
    proven: Any = XMLVerifier().verify(root, x509_cert=certificate, id_attribute="ID", expect_config=config)
    assert proven.signed_xml.get("ID") == root.get("ID")
    if (assertion := root.find("saml:Assertion", NAMES)) is not None:
        alone = etree.fromstring(etree.tostring(assertion))
        XMLVerifier().verify(alone, x509_cert=certificate, id_attribute="ID", expect_config=config)
    return proven.signed_xml


def why(gone: Gone) -> str:
    """For what reason the person was sent to the portal's page of refusals, and nobody to anything else."""
    start = f"{PORTAL}/ccps/sign-on/refused?reason="
    assert (gone.status, gone.location[: len(start)]) == (303, start), gone
    return gone.location.removeprefix(start)
