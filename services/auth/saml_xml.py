"""SAML's XML of other people: documents taken apart, requests read, their signatures proven.

Nothing is read of a document but what its signature covers, if it has to have one: the signature is the root's own
child, covers the root and nothing else, and what comes of the reading is made of the bytes that it was proven over
(signxml's `signed_xml`). Entities, document types, and comments within a text are refused; nothing is fetched.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_plus

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

from services.auth.saml_rules import AuthnRequest
from shared.errors import Rejected

LIMIT_BYTES = 64 * 1024
MOST_ELEMENTS, MOST_NAMES = 500, 30  # of a signed document; of one element
RSA_BITS = 2048
SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
METADATA = "urn:oasis:names:tc:SAML:2.0:metadata"
DS = "http://www.w3.org/2000/09/xmldsig#"
ENVELOPED = f"{DS}enveloped-signature"

EXCLUSIVE = CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0
_TRANSFORMS = {ENVELOPED, EXCLUSIVE.value}
_METHODS: dict[SignatureMethod, hashes.HashAlgorithm] = {
    SignatureMethod.RSA_SHA256: hashes.SHA256(),
    SignatureMethod.RSA_SHA384: hashes.SHA384(),
    SignatureMethod.RSA_SHA512: hashes.SHA512(),
    SignatureMethod.ECDSA_SHA256: hashes.SHA256(),
    SignatureMethod.ECDSA_SHA384: hashes.SHA384(),
    SignatureMethod.ECDSA_SHA512: hashes.SHA512(),
}
_DIGESTS = frozenset({DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512})
_BY_URI = {method.value: method for method in _METHODS}
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
# A certificate is what carries a key here; whether its dates hold is not asked (SAML Metadata Interoperability, 2.6.1).


def refuse(problem: str) -> Rejected:
    return Rejected("saml_request_invalid", problem=problem)


# Reading


def parse(raw: bytes) -> etree._Element:
    """A document, from strangers. Raises Rejected saml_request_invalid."""
    if len(raw) > LIMIT_BYTES:
        raise refuse(f"more than {LIMIT_BYTES} bytes")
    if b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
        raise refuse("a document type")
    parser = etree.XMLParser(
        encoding="utf-8",  # whatever it says of itself: else what is refused above might be written in another
        resolve_entities=False, load_dtd=False, dtd_validation=False, no_network=True, huge_tree=False,
        remove_pis=False, remove_comments=False,
    )  # fmt: skip
    try:
        root = etree.fromstring(raw, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise refuse("no well-formed XML in UTF-8") from None
    docinfo = root.getroottree().docinfo
    if docinfo.internalDTD is not None or docinfo.externalDTD is not None:
        raise refuse("a document type")
    return root


def inflate(said: str) -> bytes:
    """What the HTTP-Redirect binding carries (SAML Bindings, 3.4.4.1). Raises Rejected saml_request_invalid."""
    unpacking = zlib.decompressobj(-15)
    try:
        raw = unpacking.decompress(_base64(said), LIMIT_BYTES + 1)
    except zlib.error:
        raise refuse("SAMLRequest is not deflated") from None
    if len(raw) > LIMIT_BYTES:
        raise refuse(f"more than {LIMIT_BYTES} bytes")
    if not unpacking.eof or unpacking.unused_data:
        raise refuse("SAMLRequest is not deflated")
    return raw


def decode(said: str) -> bytes:
    """What the HTTP-POST binding carries (SAML Bindings, 3.5.4). Raises Rejected saml_request_invalid."""
    return _base64(said)


def _base64(said: str) -> bytes:
    if len(said) > LIMIT_BYTES * 2:
        raise refuse(f"more than {LIMIT_BYTES} bytes")
    try:
        return base64.b64decode(re.sub(r"[\r\n\t ]", "", said), validate=True)
    except (binascii.Error, ValueError):
        raise refuse("SAMLRequest is no base64") from None


def read_request(root: etree._Element) -> AuthnRequest:
    """Raises Rejected saml_request_invalid."""
    if root.tag != f"{{{SAMLP}}}AuthnRequest":
        raise refuse("no AuthnRequest")
    policy = _only(root, f"{{{SAMLP}}}NameIDPolicy")
    asked = _only(root, f"{{{SAMLP}}}RequestedAuthnContext")
    contexts = [] if asked is None else asked.findall(f"{{{SAML}}}AuthnContextClassRef")
    issuer = _only(root, f"{{{SAML}}}Issuer")
    if issuer is None:
        raise refuse("no Issuer")
    return AuthnRequest(
        id=root.get("ID", ""),
        version=root.get("Version", ""),
        issue_instant=root.get("IssueInstant", ""),
        issuer=_text(issuer),
        destination=root.get("Destination"),
        acs_url=root.get("AssertionConsumerServiceURL"),
        acs_index=root.get("AssertionConsumerServiceIndex"),
        binding=root.get("ProtocolBinding"),
        name_id_format=None if policy is None else policy.get("Format"),
        sp_name_qualifier=None if policy is None else policy.get("SPNameQualifier"),
        contexts=tuple(_text(each) for each in contexts),
        comparison="exact" if asked is None else asked.get("Comparison", "exact"),
        force=_boolean(root, "ForceAuthn"),
        passive=_boolean(root, "IsPassive"),
        names_subject=_only(root, f"{{{SAML}}}Subject") is not None,
    )


def _only(parent: etree._Element, tag: str) -> etree._Element | None:
    found = parent.findall(tag)
    if len(found) > 1:
        raise refuse(f"more than one {etree.QName(tag).localname}")
    return found[0] if found else None


def _text(element: etree._Element) -> str:
    """All of an element's text: with a comment in it a reader may see the half of it."""
    if len(element):
        raise refuse(f"{etree.QName(element).localname} holds more than text")
    return (element.text or "").strip()


def _boolean(element: etree._Element, name: str) -> bool:
    said = element.get(name, "false").strip()
    if said not in ("true", "false", "1", "0"):
        raise refuse(f"{name} is neither true nor false")
    return said in ("true", "1")


# Signatures of applications


def has_signature(root: etree._Element) -> bool:
    return next(root.iter(f"{{{DS}}}Signature"), None) is not None


def signed_by(root: etree._Element, certificates: Sequence[str]) -> etree._Element:
    """What one of these keys has signed of a document: its root, read anew from the bytes that are proven. Raises
    Rejected saml_request_invalid."""
    _check_shape(root)
    for certificate in certificates:
        known = _certificate(certificate)
        config = SignatureConfiguration(
            location="./",
            expect_references=1,
            signature_methods=frozenset(_METHODS),
            digest_algorithms=_DIGESTS,
            ignore_ambiguous_key_info=True,  # what the signature says of its key is not looked at
            verification_time=known.not_valid_before_utc,
        )
        try:
            proven: Any = XMLVerifier().verify(root, x509_cert=known, id_attribute="ID", expect_config=config)
        except (
            SignXMLException,
            InvalidSignature,
            etree.LxmlError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
        ):
            continue
        if proven.signed_xml is not None and proven.signed_xml.tag == root.tag:
            found: etree._Element = proven.signed_xml
            return found
    raise refuse("its signature is not by a key of this application")


def _check_shape(root: etree._Element) -> None:
    """One signature, of the root as a whole, where SAML puts it (SAML Core, 5.4); every ID once; no more elements,
    attributes and namespaces than a request has use for, since sorting them is what canonicalization takes long for."""
    for n, each in enumerate(root.iter(etree.Element)):
        if n >= MOST_ELEMENTS or len(each.attrib) > MOST_NAMES or len(each.nsmap) > MOST_NAMES:
            raise refuse("it has too many elements, attributes or namespaces")
    signatures = list(root.iter(f"{{{DS}}}Signature"))
    if len(signatures) != 1 or signatures[0].getparent() is not root:
        raise refuse("not one signature, at the root")
    [signature] = signatures
    references = list(signature.iter(f"{{{DS}}}Reference"))
    if len(references) != 1 or references[0].get("URI") != f"#{root.get('ID', '')}" or not root.get("ID"):
        raise refuse("its signature is not of all of it")
    if any(each.get("Algorithm") not in _TRANSFORMS for each in signature.iter(f"{{{DS}}}Transform")):
        raise refuse("its signature transforms what it covers")
    if next(signature.iter(f"{{{DS}}}Object"), None) is not None:
        raise refuse("its signature holds an Object")
    names = [
        value for each in root.iter(etree.Element) for name, value in each.items() if name.lower() == "id"
    ]
    if len(names) != len(set(names)):
        raise refuse("an ID that is there twice")


def query_is_signed_by(raw_query: str, certificates: Sequence[str]) -> bool:
    """Whether one of these keys has signed a query (SAML Bindings, 3.4.4.1), as it came, character by character; False
    where there is no signature. Raises Rejected saml_request_invalid for one that does not hold."""
    given: dict[str, str] = {}
    for pair in raw_query.split("&"):
        name, _, value = pair.partition("=")
        if name in given:
            raise refuse("a parameter was given twice")
        given[name] = value
    if "Signature" not in given and "SigAlg" not in given:
        return False
    method = _BY_URI.get(unquote_plus(given.get("SigAlg", "")))
    if method is None:
        raise refuse("not an algorithm that counts here")
    covered = "&".join(
        f"{name}={given[name]}" for name in ("SAMLRequest", "RelayState", "SigAlg") if name in given
    )
    signature = _base64(unquote_plus(given.get("Signature", "")))
    for certificate in certificates:
        key = _certificate(certificate).public_key()
        try:
            if isinstance(key, rsa.RSAPublicKey) and method.name.startswith("RSA_"):
                key.verify(signature, covered.encode(), padding.PKCS1v15(), _METHODS[method])
                return True
            if isinstance(key, ec.EllipticCurvePublicKey) and method.name.startswith("ECDSA_"):
                key.verify(_der(signature), covered.encode(), ec.ECDSA(_METHODS[method]))
                return True
        except InvalidSignature:
            continue
    raise refuse("its signature is not by a key of this application")


def _der(signature: bytes) -> bytes:
    """XML signatures write the two numbers of ECDSA side by side (RFC 9231, 2.3.6)."""
    half = len(signature) // 2
    return encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))


def read_certificate(said: str) -> str:
    """A certificate, PEM or the base64 of it, as it is kept. Raises ValueError for what is none, or has a weak key."""
    body = re.sub(r"-----(BEGIN|END) CERTIFICATE-----|\s", "", said)
    certificate = x509.load_der_x509_certificate(base64.b64decode(body, validate=True))
    key = certificate.public_key()
    strong = isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS
    if not strong and not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES)):
        raise ValueError(f"neither RSA of {RSA_BITS} bits nor an elliptic curve of NIST's")
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()


def _certificate(kept: str) -> x509.Certificate:
    return x509.load_der_x509_certificate(base64.b64decode(kept))
