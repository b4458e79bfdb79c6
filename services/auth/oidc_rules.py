"""THE RULES of single sign-on: what an application may ask for, when a session is an answer, what is told of a person.

Pure, like the decider: what is random, hashed or signed is made by whoever asks. Refusals carry the names that the RFCs
give them, since applications are told them: `accept_request` those of RFC 6749 (4.1.2.1) and OpenID Connect Core
(3.1.2.6), the token endpoint those of RFC 6749 (5.2).
"""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct

from shared.errors import Rejected
from shared.policy import Kind, Policy

Type = Literal["web", "native", "spa"]
Authentication = Literal["none", "secret", "key"]
Need = Literal["required", "optional"]
IdTokenAlgorithm = Literal["RS256", "ES256"]
ID_TOKEN_ALGORITHMS: tuple[IdTokenAlgorithm, ...] = ("RS256", "ES256")

ASSERTION_ALGORITHMS = ("RS256", "PS256", "ES256", "Ed25519")
PUSHED = "urn:ietf:params:oauth:request_uri:"
SCOPES = ("openid", "profile", "school", "offline_access")
CLAIMS = {
    "openid": ("sub",),
    "profile": ("name", "given_name", "family_name", "preferred_username"),
    "school": ("district", "kind", "number"),
}
PROMPTS = ("none", "login", "consent", "select_account")
ACR = "urn:homeroom:acr:password"
AMR = ("pwd",)

REQUEST_LIFE = timedelta(minutes=30)  # to sign in, or to find the way back to a forgotten password
PUSHED_LIFE = timedelta(seconds=90)
CODE_LIFE = timedelta(seconds=60)
CODE_KEPT = timedelta(minutes=10)  # so that a second use is known as one
MAX_LENGTH = 512  # of state, nonce and the like; applications put state of their own there

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_HOST = r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
# No fragment, no user, no backslash, no blank, nothing outside ASCII: whatever a browser might read in another way.
_REST = r"(?:[/?](?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
_HTTPS = re.compile(rf"https://{_HOST}(?::[0-9]{{1,5}})?{_REST}")
_LOOPBACK = re.compile(rf"http://(?:127\.0\.0\.1|\[::1\])(?P<port>:[0-9]{{1,5}})?{_REST}")
_LOCALHOST = re.compile(rf"http://localhost(?::[0-9]{{1,5}})?{_REST}")
_PRIVATE = re.compile(rf"(?=[^:]*\.)[a-z][a-z0-9+.-]*:{_REST}")  # RFC 8252, 7.1: a domain name in reverse
_DOTS = re.compile(r"/\.{1,2}(?:/|\?|$)|%2[eEfF]|%5[cC]|%00")


class Application(Struct, frozen=True, kw_only=True):
    """A client that sends people to sign in here."""

    client_id: str
    name: str
    districts: tuple[str, ...]
    type: Type
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ("openid",)
    authentication: Authentication = "secret"
    pkce: Need = "required"
    id_token_algorithm: IdTokenAlgorithm = "RS256"
    access_token_minutes: int = 10
    backchannel_logout_uri: str | None = None
    keys: tuple[dict[str, Any], ...] = ()  # public ones, by which it shows who it is
    pushed: Need = "optional"
    sector: str = ""
    registered_by: UUID | None = None  # the registration token, where it registered itself


class Asked(Struct, frozen=True, kw_only=True):
    """What an application asks for, once it was found that it may."""

    redirect_uri: str
    scopes: tuple[str, ...]
    state: str | None = None
    nonce: str | None = None
    challenge: str | None = None
    prompts: tuple[str, ...] = ()
    max_age_s: int | None = None
    login_hint: str | None = None
    ui_locales: str | None = None


class Subject(Struct, frozen=True, kw_only=True):
    """The person whom an application is told of, as far as anything may be told. `sub`: the name it knows them by."""

    sub: str
    username: str
    kind: Kind
    number: str
    first_name: str
    last_name: str


# Registering


def check_application(application: Application) -> None:
    """Raises Rejected application_invalid with the `field` and the `problem`."""

    def refuse(field: str, problem: str) -> None:
        raise Rejected("application_invalid", field=field, problem=problem)

    secret = application.authentication != "none"
    if secret != (application.type == "web"):
        refuse("authentication", "whatever runs at its user keeps no secret, and a web application has one")
    if (application.authentication == "key") != bool(application.keys):
        refuse("keys", "public keys, where it is authenticated by them")
    if any(
        key.get("alg") not in ASSERTION_ALGORITHMS or "d" in key or "k" in key for key in application.keys
    ):
        refuse("keys", f"public JWKs whose alg is {', '.join(ASSERTION_ALGORITHMS)}; never a private one")
    if application.pushed == "required" and not secret:
        refuse("pushed", "only a confidential application can be asked to push")
    if application.pkce == "optional" and not secret:
        refuse("pkce", "only a confidential application may do without")
    if "openid" not in application.scopes or not set(application.scopes) <= set(SCOPES):
        refuse("scopes", f"openid, and of the others {', '.join(SCOPES[1:])}")
    for uri in application.redirect_uris:
        if not may_redirect(uri, application.type):
            refuse("redirect_uris", f"{uri[:200]}: not an address that this type of application may have")
    for uri in application.post_logout_redirect_uris:
        if not may_redirect(uri, application.type):
            refuse("post_logout_redirect_uris", f"{uri[:200]}: not such an address")
    if application.backchannel_logout_uri and not may_be_told(application.backchannel_logout_uri):
        refuse("backchannel_logout_uri", "an https address without user and fragment")


def may_be_told(uri: str) -> bool:
    """Whether an application may be told there that a session has ended: https, or this machine."""
    return _matches(_HTTPS, uri) or _matches(_LOOPBACK, uri)


def may_redirect(uri: str, type: Type) -> bool:
    """Whether an application of this type may register this address: https, and what is on the user's own machine."""
    own_machine = _matches(_LOOPBACK, uri) or _matches(_LOCALHOST, uri)
    return _matches(_HTTPS, uri) or own_machine or (type == "native" and _matches(_PRIVATE, uri))


def _matches(shape: re.Pattern[str], uri: str) -> bool:
    return len(uri) <= MAX_LENGTH and shape.fullmatch(uri) is not None and _DOTS.search(uri) is None


def sector_of(application: Application) -> str:
    """The host of its first address; a native application is a sector by itself."""
    host = re.match(r"https?://([^/:?]+)", application.redirect_uris[0])
    return host[1] if host and application.type != "native" else application.client_id


# Asking


def find_redirect(application: Application, given: str | None) -> str:
    """The address to answer to: one of the registered, character by character; a native application's on the loopback
    may have any port (RFC 8252, 7.3). Raises Rejected redirect_uri_unknown, which is never told to that address."""
    if given is not None:
        for registered in application.redirect_uris:
            if given == registered or (application.type == "native" and _same_loopback(given, registered)):
                return given
    raise Rejected("redirect_uri_unknown")


def _same_loopback(given: str, registered: str) -> bool:
    one, other = _LOOPBACK.fullmatch(given), _LOOPBACK.fullmatch(registered)
    return one is not None and other is not None and _without_port(one) == _without_port(other)


def _without_port(match: re.Match[str]) -> str:
    start, end = match.span("port")
    return match.string if start < 0 else match.string[:start] + match.string[end:]


def accept_request(
    application: Application, redirect_uri: str, given: Mapping[str, str], repeated: Collection[str]
) -> Asked:
    """Raises Rejected with the error that the application is told. Parameters that nobody knows are passed over."""
    if repeated:
        raise _invalid("a parameter was given more than once")
    for name, error in _NOT_SUPPORTED.items():
        if name in given:
            raise Rejected(error)
    if "response_type" not in given:
        raise _invalid("response_type is missing")
    if given["response_type"] != "code":
        raise Rejected("unsupported_response_type")
    if given.get("response_mode", "query") != "query":
        raise _invalid("response_mode can only be query")
    for name in ("state", "nonce", "login_hint", "ui_locales"):
        if len(given.get(name, "")) > MAX_LENGTH:
            raise _invalid(f"{name} is longer than {MAX_LENGTH} characters")
    return Asked(
        redirect_uri=redirect_uri,
        scopes=accept_scopes(given.get("scope", ""), application),
        state=given.get("state"),
        nonce=given.get("nonce"),
        challenge=_challenge(application, given),
        prompts=_prompts(given.get("prompt", "")),
        max_age_s=_max_age(given.get("max_age")),
        login_hint=given.get("login_hint"),
        ui_locales=given.get("ui_locales"),
    )


_NOT_SUPPORTED = {
    "request": "request_not_supported",
    "request_uri": "request_uri_not_supported",
    "registration": "registration_not_supported",
}


def accept_scopes(wanted: str, application: Application) -> tuple[str, ...]:
    """Those of the wanted that the application has: the others are not given, and the token's `scope` says so."""
    scopes = tuple(scope for scope in SCOPES if scope in wanted.split(" ") and scope in application.scopes)
    if "openid" not in scopes:
        raise Rejected("invalid_scope", scopes=list(application.scopes))
    return scopes


def _challenge(application: Application, given: Mapping[str, str]) -> str | None:
    challenge, method = given.get("code_challenge"), given.get("code_challenge_method")
    if challenge is None:
        if application.pkce == "required" or method is not None:
            raise _invalid("code_challenge is missing (PKCE)")
        return None
    if method != "S256":
        raise _invalid("code_challenge_method can only be S256")
    if not _CHALLENGE.fullmatch(challenge):
        raise _invalid("code_challenge is not the base64url of a SHA-256")
    return challenge


def _prompts(given: str) -> tuple[str, ...]:
    prompts = tuple(prompt for prompt in given.split(" ") if prompt)
    if not set(prompts) <= set(PROMPTS) or ("none" in prompts and len(prompts) > 1):
        raise _invalid(f"prompt is one of {', '.join(PROMPTS)}, and none stands alone")
    return prompts


def _max_age(given: str | None) -> int | None:
    if given is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", given):
        raise _invalid("max_age is a number of seconds")
    return int(given)


def _invalid(description: str) -> Rejected:
    return Rejected("invalid_request", error_description=description)


# Answering


def signed_in_since(asked: Asked, asked_at: datetime, now: datetime) -> datetime | None:
    """When a session must have been begun to be an answer, if that matters. `prompt=login` and `max_age` may ask for a
    fresh one; one that was begun after the question always is."""
    if "login" in asked.prompts:
        return asked_at
    if asked.max_age_s is None:
        return None
    return min(asked_at, now - timedelta(seconds=asked.max_age_s))


def session_answers(asked: Asked, asked_at: datetime, signed_in_at: datetime, now: datetime) -> bool:
    since = signed_in_since(asked, asked_at, now)
    return since is None or signed_in_at >= since


def answers_silently(asked: Asked) -> bool:
    """Whether a browser that is signed in is answered without anybody being asked. What an application may know the
    district has decided, so there is no consent to ask for."""
    return "select_account" not in asked.prompts and "login" not in asked.prompts


def is_verifier(given: str) -> bool:
    """RFC 7636, 4.1."""
    return _VERIFIER.fullmatch(given) is not None


def narrowed(granted: Sequence[str], wanted: str | None) -> tuple[str, ...]:
    """The scopes of a refreshed token: fewer on request, never more. Raises Rejected invalid_scope."""
    if wanted is None:
        return tuple(granted)
    if not wanted.split() or not set(wanted.split()) <= set(granted):
        raise Rejected("invalid_scope", scopes=list(granted))
    return tuple(scope for scope in granted if scope in wanted.split())


def claims_of(subject: Subject, scopes: Collection[str], policy: Policy) -> dict[str, Any]:
    """What /userinfo tells: nothing that was not asked for."""
    everything = {
        "sub": subject.sub,
        "name": f"{subject.first_name} {subject.last_name}",
        "given_name": subject.first_name,
        "family_name": subject.last_name,
        "preferred_username": subject.username,
        "district": policy.district,
        "kind": subject.kind,
        "number": subject.number,
    }
    return {name: everything[name] for scope in SCOPES if scope in scopes for name in CLAIMS.get(scope, ())}


def id_token(
    issuer: str, application: Application, sub: str, sid: str, *, signed_in_at: datetime, now: datetime,
    nonce: str | None, at_hash: str,
) -> dict[str, Any]:  # fmt: skip
    """OpenID Connect Core, 2 and 3.1.3.6. Who somebody is, and nothing else of them: that is what /userinfo is for."""
    claims = {
        "iss": issuer,
        "sub": sub,
        "aud": application.client_id,
        "iat": int(now.timestamp()),
        "exp": int((now + timedelta(minutes=application.access_token_minutes)).timestamp()),
        "auth_time": int(signed_in_at.timestamp()),
        "acr": ACR,
        "amr": list(AMR),
        "sid": sid,
        "at_hash": at_hash,
    }
    return claims if nonce is None else claims | {"nonce": nonce}


def logout_token(
    issuer: str, application: Application, sub: str, sid: str, jti: str, now: datetime
) -> dict[str, Any]:
    """OpenID Connect Back-Channel Logout 1.0, 2.4. Never with a nonce: it must not pass for an ID token."""
    return {
        "iss": issuer,
        "aud": application.client_id,
        "iat": int(now.timestamp()),
        "exp": int((now + timedelta(minutes=2)).timestamp()),
        "jti": jti,
        "sub": sub,
        "sid": sid,
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    }


def public_subject(policy: Policy) -> bool:
    return policy.applications.subjects == "public"


# Describing


def discovery(
    issuer: str, policy: Policy, grants: Collection[str], algorithms: Collection[str]
) -> dict[str, Any]:
    """OpenID Connect Discovery 1.0, 3, and RFC 8414: what is there, and nothing else."""
    methods = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "userinfo_endpoint": f"{issuer}/userinfo",
        "jwks_uri": f"{issuer}/jwks",
        "introspection_endpoint": f"{issuer}/introspect",
        "revocation_endpoint": f"{issuer}/revoke",
        "end_session_endpoint": f"{issuer}/logout",
        "pushed_authorization_request_endpoint": f"{issuer}/par",
        "registration_endpoint": f"{issuer}/register",
        "require_pushed_authorization_requests": False,
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": sorted(grants),
        "subject_types_supported": [policy.applications.subjects],
        "id_token_signing_alg_values_supported": [a for a in ID_TOKEN_ALGORITHMS if a in algorithms],
        "token_endpoint_auth_methods_supported": [*methods, "none"],
        "token_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
        "introspection_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": [*methods, "none"],
        "code_challenge_methods_supported": ["S256"],
        "claim_types_supported": ["normal"],
        "claims_supported": [
            "iss", "aud", "iat", "exp", "auth_time", "acr", "amr", "sid", "at_hash", "nonce",
            *(name for names in CLAIMS.values() for name in names),
        ],
        "acr_values_supported": [ACR],
        "prompt_values_supported": list(PROMPTS),
        "ui_locales_supported": ["en", "es"],
        "authorization_response_iss_parameter_supported": True,
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }  # fmt: skip
