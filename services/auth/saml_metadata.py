"""SAML metadata: what an application says of itself is read, and what a district's identity provider is, written."""

import base64
import re
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from msgspec import Struct

from services.auth.saml_rules import NAME_ID_FORMATS, POST_BINDING, REDIRECT_BINDING, Acs
from services.auth.saml_xml import DS, METADATA, SAMLP, parse, read_certificate
from shared.errors import Rejected

CONTENT_TYPE = "application/samlmetadata+xml"
MOST = 20  # addresses and certificates


class Described(Struct, frozen=True):
    """What counts of an application's metadata."""

    entity_id: str
    acs: tuple[Acs, ...]
    certificates: tuple[str, ...]


def read(said: str) -> Described:
    """One application's metadata. Nothing of it is trusted for being signed: an operator brings it. Raises Rejected
    metadata_invalid."""
    try:
        root = parse(said.encode())
    except Rejected as refusal:
        raise _refuse(str(refusal.details["problem"])) from None
    if root.tag != f"{{{METADATA}}}EntityDescriptor":
        raise _refuse("not one EntityDescriptor")
    services = [each for each in root.findall(f"{{{METADATA}}}SPSSODescriptor") if _speaks_saml_2(each)]
    if len(services) != 1:
        raise _refuse("not one SPSSODescriptor of SAML 2.0")
    [service] = services
    found = []
    for each in service.findall(f"{{{METADATA}}}AssertionConsumerService")[:MOST]:
        index = each.get("index", "0")
        if each.get("Binding") == POST_BINDING and re.fullmatch(r"[0-9]{1,5}", index):
            found.append(
                (each.get("isDefault") not in ("true", "1"), Acs(each.get("Location", ""), int(index)))
            )
    found.sort(key=lambda pair: pair[0])  # the default comes first, the others stay as they are
    if not found:
        raise _refuse("no AssertionConsumerService that takes HTTP-POST")
    return Described(root.get("entityID", ""), tuple(acs for _, acs in found), tuple(_certificates(service)))


def _speaks_saml_2(service: etree._Element) -> bool:
    return SAMLP in service.get("protocolSupportEnumeration", "").split()


def _certificates(service: etree._Element) -> list[str]:
    found: list[str] = []
    for descriptor in service.findall(f"{{{METADATA}}}KeyDescriptor")[:MOST]:
        if descriptor.get("use", "signing") != "signing":
            continue
        for each in descriptor.iter(f"{{{DS}}}X509Certificate"):
            try:
                found.append(read_certificate(each.text or ""))
            except ValueError as error:
                raise _refuse(f"a certificate: {str(error)[:200]}") from None
    return list(dict.fromkeys(found))


def _refuse(problem: str) -> Rejected:
    return Rejected("metadata_invalid", problem=problem)


def write(entity_id: str, sign_on_url: str, certificates: Sequence[x509.Certificate]) -> bytes:
    """A district's identity provider (SAML Metadata, 2.4.3)."""
    root = etree.Element(
        f"{{{METADATA}}}EntityDescriptor", entityID=entity_id, nsmap={"md": METADATA, "ds": DS}
    )
    provider = etree.SubElement(
        root,
        f"{{{METADATA}}}IDPSSODescriptor",
        WantAuthnRequestsSigned="false",
        protocolSupportEnumeration=SAMLP,
    )
    for certificate in certificates:
        described = etree.SubElement(provider, f"{{{METADATA}}}KeyDescriptor", use="signing")
        inner = etree.SubElement(described, f"{{{DS}}}KeyInfo")
        inner = etree.SubElement(inner, f"{{{DS}}}X509Data")
        der = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
        etree.SubElement(inner, f"{{{DS}}}X509Certificate").text = der
    for name in NAME_ID_FORMATS.values():
        etree.SubElement(provider, f"{{{METADATA}}}NameIDFormat").text = name
    for binding in (REDIRECT_BINDING, POST_BINDING):
        place = {"Binding": binding, "Location": sign_on_url}
        etree.SubElement(provider, f"{{{METADATA}}}SingleSignOnService", place)
    return etree.tostring(root, encoding="utf-8", xml_declaration=True)
