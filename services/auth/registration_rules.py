"""THE RULES of applications that register themselves (RFC 7591): what of their metadata is taken, and how it is told.

Pure, as the rules of single sign-on, which the application then has to keep as every other. What is not known here is
passed over, as the RFC says (section 2); what is known and cannot be had is refused with the errors of section 3.2.2.
"""

import re
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

from services.auth.oidc_rules import MAX_LENGTH, SCOPES, Application, IdTokenAlgorithm
from shared.errors import Rejected
from shared.policy import Policy

METHODS = ("client_secret_basic", "client_secret_post", "private_key_jwt", "none")
GRANTS = ("authorization_code", "refresh_token")
MAX_HOST = 255
# A host as it stands in an address, or the scheme of a native application's own with its colon: "org.example.app:".
HOST = r"[a-z0-9.-]+|\[::1\]|[a-z][a-z0-9+.-]*:"
_HOST = re.compile(r"https?://(\[::1\]|[^/:?]+)|([a-z][a-z0-9+.-]*:)")
# What the fields of an application are called in its metadata, where that is another name.
_NAMES = {"scopes": "scope", "keys": "jwks", "id_token_algorithm": "id_token_signed_response_alg",
          "authentication": "token_endpoint_auth_method"}  # fmt: skip

Uri = Annotated[str, Meta(min_length=1, max_length=MAX_LENGTH)]


class KeySet(Struct, frozen=True):
    """RFC 7517, 5."""

    keys: Annotated[list[dict[str, Any]], Meta(max_length=10)]


class Metadata(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 7591, 2, with OpenID Connect Registration 1.0, 2, its logout (Back-Channel 1.0, 2.2; RP-Initiated 1.0, 3.1)
    and RFC 9126, 6. Only what this issuer heeds."""

    redirect_uris: Annotated[list[Uri], Meta(min_length=1, max_length=50)]
    token_endpoint_auth_method: str | None = None
    grant_types: Annotated[tuple[str, ...], Meta(max_length=20)] = ("authorization_code",)
    response_types: Annotated[tuple[str, ...], Meta(max_length=20)] = ("code",)
    application_type: Literal["web", "native"] = "web"
    client_name: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    scope: Annotated[str, Meta(max_length=MAX_LENGTH)] | None = None
    jwks: KeySet | None = None
    jwks_uri: str | None = None
    post_logout_redirect_uris: Annotated[list[Uri], Meta(max_length=50)] = []
    backchannel_logout_uri: Uri | None = None
    id_token_signed_response_alg: IdTokenAlgorithm = "RS256"
    require_pushed_authorization_requests: bool = False


class Allowed(Struct, frozen=True):
    """What a registration token is good for."""

    redirect_hosts: Sequence[str]
    scopes: Sequence[str]


class Registered(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 7591, 3.2.1: the application as it was taken, which may be less than it asked for."""

    client_id: str
    client_id_issued_at: int
    client_secret: str | None = None
    client_secret_expires_at: int | None = None  # with a secret: 0, it does not expire
    client_name: str
    redirect_uris: list[str]
    token_endpoint_auth_method: str
    grant_types: list[str]
    response_types: list[str]
    application_type: Literal["web", "native"]
    scope: str
    subject_type: str
    id_token_signed_response_alg: IdTokenAlgorithm
    require_pushed_authorization_requests: bool
    jwks: KeySet | None = None
    post_logout_redirect_uris: list[str] = []
    backchannel_logout_uri: str | None = None


def accept(said: Metadata, allowed: Allowed, district: str, registered_by: UUID) -> Application:
    """The application that is to be registered. Raises Rejected invalid_redirect_uri, invalid_client_metadata."""
    if said.jwks_uri is not None:
        raise _invalid("jwks_uri", "nothing is fetched from applications; send the keys as jwks")
    if list(said.response_types) != ["code"]:
        raise _invalid("response_types", "only code")
    if "authorization_code" not in said.grant_types or not set(said.grant_types) <= set(GRANTS):
        raise _invalid("grant_types", "authorization_code, and refresh_token beside it")
    method = method_of(said)
    _check_hosts(said, allowed.redirect_hosts)
    return Application(
        client_id="",
        name=said.client_name or host_of(said.redirect_uris[0]),
        districts=(district,),
        type="native" if said.application_type == "native" else "spa" if method == "none" else "web",
        redirect_uris=tuple(said.redirect_uris),
        post_logout_redirect_uris=tuple(said.post_logout_redirect_uris),
        scopes=_scopes(said.scope, allowed.scopes),
        authentication=authentication_of(method),
        id_token_algorithm=said.id_token_signed_response_alg,
        backchannel_logout_uri=said.backchannel_logout_uri,
        keys=tuple(said.jwks.keys) if said.jwks and method == "private_key_jwt" else (),
        pushed="required" if said.require_pushed_authorization_requests else "optional",
        registered_by=registered_by,
    )


def method_of(said: Metadata) -> str:
    """How it will show who it is: as RFC 7591 has it where it says nothing, but a native one can keep no secret."""
    default = "none" if said.application_type == "native" else METHODS[0]
    method = said.token_endpoint_auth_method or default
    if method not in METHODS:
        raise _invalid("token_endpoint_auth_method", f"one of {', '.join(METHODS)}")
    return method


def authentication_of(method: str) -> Literal["none", "secret", "key"]:
    return "none" if method == "none" else "key" if method == "private_key_jwt" else "secret"


def host_of(uri: str) -> str:
    """The host of an address; of a native application's own scheme that scheme, with its colon."""
    found = _HOST.match(uri)
    return (found[1] or found[2]) if found else ""


def told(
    application: Application, said: Metadata, policy: Policy, *, secret: str | None, issued_at: int
) -> Registered:
    """The answer to `said`, as which `application` was registered."""
    grants = [g for g in GRANTS if g != "refresh_token" or "offline_access" in application.scopes]
    return Registered(
        client_id=application.client_id,
        client_id_issued_at=issued_at,
        client_secret=secret,
        client_secret_expires_at=None if secret is None else 0,
        client_name=application.name,
        redirect_uris=list(application.redirect_uris),
        token_endpoint_auth_method=method_of(said),
        grant_types=grants,
        response_types=["code"],
        application_type=said.application_type,
        scope=" ".join(application.scopes),
        subject_type=policy.applications.subjects,
        id_token_signed_response_alg=application.id_token_algorithm,
        require_pushed_authorization_requests=application.pushed == "required",
        jwks=KeySet(list(application.keys)) if application.keys else None,
        post_logout_redirect_uris=list(application.post_logout_redirect_uris),
        backchannel_logout_uri=application.backchannel_logout_uri,
    )


def as_metadata(refusal: Rejected) -> Rejected:
    """A refusal of the rules that every application keeps, in the words of RFC 7591."""
    field, problem = refusal.details["field"], refusal.details["problem"]
    if field == "redirect_uris":
        return Rejected("invalid_redirect_uri", error_description=problem)
    return _invalid(_NAMES.get(field, field), problem)


def _scopes(wanted: str | None, allowed: Collection[str]) -> tuple[str, ...]:
    """Those of the wanted that the token allows; all of them where nothing is said."""
    names = allowed if wanted is None else wanted.split(" ")
    scopes = tuple(scope for scope in SCOPES if scope in names and scope in allowed)
    if "openid" not in scopes:
        raise _invalid("scope", f"openid, and of the others {', '.join(s for s in allowed if s != 'openid')}")
    return scopes


def _check_hosts(said: Metadata, allowed: Collection[str]) -> None:
    for uri in said.redirect_uris:
        if host_of(uri) not in allowed:
            problem = f"{uri[:200]}: its host is none that this registration token is good for"
            raise Rejected("invalid_redirect_uri", error_description=problem)
    others = {"post_logout_redirect_uris": said.post_logout_redirect_uris}
    others["backchannel_logout_uri"] = [said.backchannel_logout_uri] if said.backchannel_logout_uri else []
    for field, uris in others.items():
        if any(host_of(uri) not in allowed for uri in uris):
            raise _invalid(field, "its host is none that this registration token is good for")


def _invalid(field: str, problem: str) -> Rejected:
    return Rejected("invalid_client_metadata", error_description=f"{field}: {problem}")
