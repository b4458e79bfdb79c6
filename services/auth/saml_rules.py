"""THE RULES of SAML 2.0 sign-on: what an application may be registered as, what its request must be, what it is told.

Pure, like the decider: XML is read and written, signatures are made and proven elsewhere (saml_xml). What shows that a
request is not its application's own, or not meant for here, is Rejected and told to the person; what an application
asks for and cannot have is Refused, and told to it, at an address of its registration (SAML Core, 3.2.2.2).
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from msgspec import Struct

from shared.errors import Rejected

NameId = Literal["persistent", "email", "username"]
NAME_ID_FORMATS: dict[NameId, str] = {
    "persistent": "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
    "email": "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
    "username": "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified",
}
ANY_FORMAT = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
POST_BINDING = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
REDIRECT_BINDING = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
PASSWORD_CONTEXT = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
# What a password that is typed over TLS is as well (SAML Authentication Context, 3.4): the first that is asked for.
CONTEXTS = (
    PASSWORD_CONTEXT,
    "urn:oasis:names:tc:SAML:2.0:ac:classes:Password",
    "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified",
)
TOLD = ("username", "email", "name", "first_name", "last_name", "kind", "number", "district")

_STATUS = "urn:oasis:names:tc:SAML:2.0:status:"
SUCCESS, REQUESTER, RESPONDER = f"{_STATUS}Success", f"{_STATUS}Requester", f"{_STATUS}Responder"
VERSION_MISMATCH = f"{_STATUS}VersionMismatch"
NO_PASSIVE, NO_CONTEXT = f"{_STATUS}NoPassive", f"{_STATUS}NoAuthnContext"
INVALID_NAME_ID, REQUEST_DENIED = f"{_STATUS}InvalidNameIDPolicy", f"{_STATUS}RequestDenied"
UNSUPPORTED_BINDING = f"{_STATUS}UnsupportedBinding"

REQUEST_LIFE = timedelta(minutes=5)
CLOCKS_DIFFER = timedelta(minutes=1)
ASSERTION_LIFE = timedelta(minutes=5)
MAX_RELAY_STATE = 1024  # the specification says 80 bytes; applications put a whole address there
MAX_ENTITY_ID = 1024  # SAML Core, 8.3.6
MAX_URI = 512
MAX_ID = 256

_ID = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*")  # an NCName, as far as anybody makes them
_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(?:Z|\+00:00)"
)  # SAML Core, 1.3.3: always UTC
_ADDRESS = re.compile(
    r"(?:https://(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
    r"|http://(?:127\.0\.0\.1|localhost))(?::[0-9]{1,5})?"
    r"(?:[/?](?:[A-Za-z0-9._~!$&'()*+,=:@/?-]|%[0-9A-Fa-f]{2})*)?"
)
_ENTITY = re.compile(r"[!-~]+")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")
_ATTRIBUTE = re.compile(r"[!-;=?-~]{1,256}")


class Acs(Struct, frozen=True):
    """An assertion consumer service: where an application takes responses, by POST."""

    url: str
    index: int = 0


class ServiceProvider(Struct, frozen=True, kw_only=True):
    """An application that speaks SAML. The first `acs` is where it is answered that names none. `certificates`: base64
    of DER, whose keys sign its requests; with one, every request has to be. `attributes`: what it is told of a person,
    by the names that it knows. `unsolicited`: it takes a response that it did not ask for (a tile of the portal)."""

    client_id: str
    name: str
    districts: tuple[str, ...]
    entity_id: str
    acs: tuple[Acs, ...]
    certificates: tuple[str, ...] = ()
    name_id: NameId = "persistent"
    email_domain: str | None = None
    attributes: dict[str, str] = {}
    unsolicited: bool = False
    sector: str = ""


class AuthnRequest(Struct, frozen=True, kw_only=True):
    """What an <AuthnRequest> says (SAML Core, 3.4.1), as it was read; nothing of it is checked yet."""

    id: str
    version: str
    issue_instant: str
    issuer: str
    destination: str | None = None
    acs_url: str | None = None
    acs_index: str | None = None
    binding: str | None = None
    name_id_format: str | None = None
    sp_name_qualifier: str | None = None
    contexts: tuple[str, ...] = ()
    comparison: str = "exact"
    force: bool = False
    passive: bool = False
    names_subject: bool = False


class Told(Struct, frozen=True, kw_only=True):
    """What a response says of a person: at whom it is, and until when it is good."""

    name_id: str
    session_index: str
    signed_in_at: datetime
    session_ends_at: datetime
    context: str
    attributes: dict[str, str]


class Refused(Exception):
    """Told to the application as a SAML status."""

    def __init__(self, status: str, second: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.second, self.message = status, second, message


# Registering


def check_provider(provider: ServiceProvider) -> None:
    """Raises Rejected application_invalid with the `field` and the `problem`."""

    def refuse(field: str, problem: str) -> None:
        raise Rejected("application_invalid", field=field, problem=problem)

    if not _ENTITY.fullmatch(provider.entity_id) or len(provider.entity_id) > MAX_ENTITY_ID:
        refuse("entity_id", f"printable, without a blank, at most {MAX_ENTITY_ID} characters")
    for acs in provider.acs:
        if not may_be_answered(acs.url):
            refuse("acs", f"{acs.url[:200]}: not an https address without user and fragment")
    if not provider.acs or len({acs.index for acs in provider.acs}) != len(provider.acs):
        refuse("acs", "at least one address, each with an index of its own")
    if provider.email_domain is not None and not _DOMAIN.fullmatch(provider.email_domain):
        refuse("email_domain", "a domain in small letters")
    wants_email = provider.name_id == "email" or "email" in provider.attributes.values()
    if wants_email != (provider.email_domain is not None):
        refuse("email_domain", "the domain of the addresses, where any is told")
    for name, what in provider.attributes.items():
        if what not in TOLD or not _ATTRIBUTE.fullmatch(name):
            refuse("attributes", f"names of the application's own for any of {', '.join(TOLD)}")


def may_be_answered(url: str) -> bool:
    """https, or this machine; nothing that a browser might read in another way."""
    return len(url) <= MAX_URI and _ADDRESS.fullmatch(url) is not None


# Asking


def check_request(
    provider: ServiceProvider, request: AuthnRequest, here: str, now: datetime, *, signed: bool
) -> datetime:
    """Whether the request is its application's own, new, and meant for here: until when its id must not come again.
    Raises Rejected saml_request_invalid with the `problem`."""

    def refuse(problem: str) -> None:
        raise Rejected("saml_request_invalid", problem=problem)

    if provider.certificates and not signed:
        refuse("it is not signed, and this application's requests are")
    if len(request.id) > MAX_ID or not _ID.fullmatch(request.id):
        refuse("its ID is none")
    if request.destination is None:
        if signed:
            refuse("it is signed and names no Destination")
    elif request.destination != here:
        refuse("its Destination is elsewhere")
    issued = read_instant(request.issue_instant)
    if issued is None:
        refuse("its IssueInstant is no moment of UTC")
    assert issued is not None
    if not now - REQUEST_LIFE - CLOCKS_DIFFER < issued < now + CLOCKS_DIFFER:
        refuse("it is too old, or of the future")
    return issued + REQUEST_LIFE + CLOCKS_DIFFER


def read_instant(said: str) -> datetime | None:
    match = _INSTANT.fullmatch(said)
    try:
        return datetime.fromisoformat(match[1]).replace(tzinfo=UTC) if match else None
    except ValueError:
        return None


def find_acs(provider: ServiceProvider, request: AuthnRequest) -> str:
    """Where the answer goes: an address of the registration, character by character. Raises Rejected acs_unknown, which
    is never told to that address."""
    by_index = request.acs_index is not None
    if by_index and (request.acs_url is not None or request.binding is not None):
        raise Rejected("acs_unknown")  # SAML Core, 3.4.1: they exclude one another
    for acs in provider.acs:
        if by_index:
            if str(acs.index) == request.acs_index:
                return acs.url
        elif request.acs_url in (None, acs.url):
            return acs.url
    raise Rejected("acs_unknown")


def check_wishes(provider: ServiceProvider, request: AuthnRequest) -> str:
    """The authentication context of the answer. Raises Refused for what nobody gets here."""
    if request.version != "2.0":
        raise Refused(VERSION_MISMATCH, None, "only SAML 2.0 is spoken here")
    if request.binding not in (None, POST_BINDING):
        raise Refused(REQUESTER, UNSUPPORTED_BINDING, "responses go by HTTP-POST alone")
    if request.names_subject:
        raise Refused(REQUESTER, REQUEST_DENIED, "who signs in is not chosen by the application")
    if request.name_id_format not in (None, ANY_FORMAT, NAME_ID_FORMATS[provider.name_id]):
        raise Refused(REQUESTER, INVALID_NAME_ID, "the application is registered for another NameID")
    if request.sp_name_qualifier not in (None, provider.entity_id):
        raise Refused(REQUESTER, INVALID_NAME_ID, "names of another application are not told")
    return _context(request)


def _context(request: AuthnRequest) -> str:
    if not request.contexts:
        return PASSWORD_CONTEXT
    if request.comparison == "exact":
        found = [context for context in CONTEXTS if context in request.contexts]
    elif request.comparison in ("minimum", "maximum"):
        found = [PASSWORD_CONTEXT] if set(request.contexts) & set(CONTEXTS) else []
    else:  # "better" than a password there is nothing
        found = []
    if not found:
        raise Refused(RESPONDER, NO_CONTEXT, "people sign in by a password")
    return found[0]


def check_relay_state(said: str | None) -> str | None:
    """Raises Rejected saml_request_invalid."""
    if said is not None and len(said.encode()) > MAX_RELAY_STATE:
        raise Rejected("saml_request_invalid", problem=f"RelayState is longer than {MAX_RELAY_STATE} bytes")
    return said


# Answering


def name_id(provider: ServiceProvider, pairwise: str, username: str) -> str:
    """The name by which the application knows the person."""
    if provider.name_id == "persistent":
        return pairwise
    return username if provider.name_id == "username" else _email(provider, username)


def attributes(provider: ServiceProvider, about: Mapping[str, Any]) -> dict[str, str]:
    """What is told of a person: what the application was registered for, and nothing else. `about` has TOLD, without
    the address."""
    known = dict(about)
    if provider.email_domain is not None:
        known["email"] = _email(provider, known["username"])
    return {name: str(known[what]) for name, what in provider.attributes.items()}


def _email(provider: ServiceProvider, username: str) -> str:
    return f"{username.lower()}@{provider.email_domain}"


def origin_of(acs: str) -> str:
    """Where a form is sent: scheme, host and port of an address that `may_be_answered`."""
    return re.split(r"(?<=[^:/])[/?]", acs, maxsplit=1)[0]


def sector_of(provider: ServiceProvider) -> str:
    return provider.sector or provider.entity_id
