"""SAML's XML of ours: responses, with an assertion or a refusal, signed (SAML Core, 2 and 3; SAML Profiles, 4.1.4.2).

The assertion is signed, and the response that it is in: some applications look at the one, some at the other.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from lxml import etree
from msgspec import Struct
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.signer import XMLSigner

from services.auth.saml_rules import (
    ASSERTION_LIFE,
    CLOCKS_DIFFER,
    NAME_ID_FORMATS,
    SUCCESS,
    Refused,
    ServiceProvider,
    Told,
)
from services.auth.saml_xml import DS, EXCLUSIVE, SAML, SAMLP

BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
BASIC_NAMES = "urn:oasis:names:tc:SAML:2.0:attrname-format:basic"
PREFIXES = {"samlp": SAMLP, "saml": SAML}


class Keyed(Struct, frozen=True):
    """What signs, and the certificate by which it is known."""

    key: RSAPrivateKey
    certificate: x509.Certificate


class Envelope(Struct, frozen=True, kw_only=True):
    """What every response says of itself. `response_id` and `assertion_id` are random, of 128 bits or more."""

    issuer: str
    acs: str
    request_id: str | None
    response_id: str
    assertion_id: str
    now: datetime


def granted(envelope: Envelope, provider: ServiceProvider, told: Told, keyed: Keyed) -> bytes:
    """A response that says who has signed in."""
    response = _response(envelope, SUCCESS)
    assertion = _assertion(envelope, provider, told)
    # Signed while it stands alone: it says the same wherever it is put (exclusive canonicalization).
    response.append(_signed(assertion, envelope.assertion_id, keyed))
    return _written(_signed(response, envelope.response_id, keyed))


def refused(envelope: Envelope, refusal: Refused, keyed: Keyed) -> bytes:
    """A response that says why nobody has."""
    response = _response(envelope, refusal.status, refusal.second, refusal.message)
    return _written(_signed(response, envelope.response_id, keyed))


def instant(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _response(
    envelope: Envelope, status: str, second: str | None = None, message: str = ""
) -> etree._Element:
    about = {
        "ID": envelope.response_id, "Version": "2.0", "IssueInstant": instant(envelope.now),
        "Destination": envelope.acs,
    }  # fmt: skip
    if envelope.request_id is not None:
        about["InResponseTo"] = envelope.request_id
    response = etree.Element(f"{{{SAMLP}}}Response", about, nsmap=PREFIXES)
    _add(response, SAML, "Issuer", envelope.issuer)
    _place_of_signature(response)
    outer = _add(_add(response, SAMLP, "Status"), SAMLP, "StatusCode", Value=status)
    if second is not None:
        _add(outer, SAMLP, "StatusCode", Value=second)
    if message:
        _add(outer.getparent(), SAMLP, "StatusMessage", message)
    return response


def _assertion(envelope: Envelope, provider: ServiceProvider, told: Told) -> etree._Element:
    now, until = envelope.now, instant(min(envelope.now + ASSERTION_LIFE, told.session_ends_at))
    about = {"ID": envelope.assertion_id, "Version": "2.0", "IssueInstant": instant(now)}
    assertion = etree.Element(f"{{{SAML}}}Assertion", about, nsmap=PREFIXES)
    _add(assertion, SAML, "Issuer", envelope.issuer)
    _place_of_signature(assertion)
    subject = _add(assertion, SAML, "Subject")
    qualified = {}
    if provider.name_id == "persistent":  # SAML Core, 8.3.7
        qualified = {"NameQualifier": envelope.issuer, "SPNameQualifier": provider.entity_id}
    _add(subject, SAML, "NameID", told.name_id, Format=NAME_ID_FORMATS[provider.name_id], **qualified)
    bearer = {"Recipient": envelope.acs, "NotOnOrAfter": until}
    if envelope.request_id is not None:
        bearer["InResponseTo"] = envelope.request_id
    confirmation = _add(subject, SAML, "SubjectConfirmation", Method=BEARER)
    _add(confirmation, SAML, "SubjectConfirmationData", **bearer)
    conditions = _add(
        assertion, SAML, "Conditions", NotBefore=instant(now - CLOCKS_DIFFER), NotOnOrAfter=until
    )
    _add(_add(conditions, SAML, "AudienceRestriction"), SAML, "Audience", provider.entity_id)
    statement = _add(
        assertion, SAML, "AuthnStatement", AuthnInstant=instant(told.signed_in_at),
        SessionIndex=told.session_index, SessionNotOnOrAfter=instant(told.session_ends_at),
    )  # fmt: skip
    _add(_add(statement, SAML, "AuthnContext"), SAML, "AuthnContextClassRef", told.context)
    if told.attributes:
        _attributes(assertion, told.attributes)
    return assertion


def _attributes(assertion: etree._Element, attributes: Mapping[str, str]) -> None:
    statement = _add(assertion, SAML, "AttributeStatement")
    for name, value in attributes.items():
        attribute = _add(statement, SAML, "Attribute", Name=name, NameFormat=BASIC_NAMES)
        _add(attribute, SAML, "AttributeValue", value)


def _add(
    parent: Any, namespace: str, name: str, text: str | None = None, **attributes: str
) -> etree._Element:
    made = etree.SubElement(parent, f"{{{namespace}}}{name}", attributes)
    made.text = text
    return made


def _place_of_signature(element: etree._Element) -> None:
    """Where the schema has it, after the issuer; signxml puts it there."""
    etree.SubElement(element, f"{{{DS}}}Signature", Id="placeholder", nsmap={"ds": DS})


def _signed(element: etree._Element, name: str, keyed: Keyed) -> etree._Element:
    signer = XMLSigner(
        signature_algorithm=SignatureMethod.RSA_SHA256,
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=EXCLUSIVE,
    )
    signed: etree._Element = signer.sign(
        element, key=keyed.key, cert=[keyed.certificate], reference_uri=name, id_attribute="ID"
    )
    return signed


def _written(element: etree._Element) -> bytes:
    return etree.tostring(element, encoding="utf-8", xml_declaration=False)
