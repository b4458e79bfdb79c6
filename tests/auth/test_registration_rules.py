"""The rules of applications that register themselves, given and answered."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from services.auth import registration_rules as rules
from services.auth.oidc_rules import Application
from services.auth.registration_rules import Allowed, Metadata
from shared.errors import Rejected
from tests.auth.test_oidc_rules import POLICY

ALLOWED = Allowed(
    ["app.example.org", "127.0.0.1", "org.example.app:"], ["openid", "profile", "offline_access"]
)
TOKEN = UUID(int=7)
KEYS = {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "alg": "Ed25519", "kid": "k"}]}


def metadata(**said: Any) -> Metadata:
    return msgspec.convert({"redirect_uris": ["https://app.example.org/back"]} | said, Metadata)


def accepted(**said: Any) -> Application:
    return rules.accept(metadata(**said), ALLOWED, "ccps", TOKEN)


def refused(**said: Any) -> tuple[str, str]:
    with pytest.raises(Rejected) as refusal:
        accepted(**said)
    return refusal.value.reason, refusal.value.details["error_description"]


def test_who_says_nothing_is_a_web_application_with_a_secret_and_all_that_the_token_allows() -> None:
    application = accepted()
    assert (application.type, application.authentication, application.pkce) == ("web", "secret", "required")
    assert application.scopes == ("openid", "profile", "offline_access")
    assert (application.districts, application.registered_by) == (("ccps",), TOKEN)
    assert application.name == "app.example.org"


@pytest.mark.parametrize(
    ("said", "type", "authentication"),
    [
        ({"token_endpoint_auth_method": "client_secret_post"}, "web", "secret"),
        ({"token_endpoint_auth_method": "none"}, "spa", "none"),
        ({"token_endpoint_auth_method": "private_key_jwt", "jwks": KEYS}, "web", "key"),
        ({"application_type": "native", "redirect_uris": ["http://127.0.0.1/cb"]}, "native", "none"),
        ({"application_type": "native", "redirect_uris": ["org.example.app:/cb"]}, "native", "none"),
    ],
)
def test_how_it_shows_who_it_is_says_what_it_is(said: Any, type: str, authentication: str) -> None:
    application = accepted(**said)
    assert (application.type, application.authentication) == (type, authentication)
    assert bool(application.keys) == (authentication == "key")


def test_more_scopes_than_the_token_allows_are_not_given() -> None:
    assert accepted(scope="openid school profile admin").scopes == ("openid", "profile")
    assert refused(scope="school")[0] == "invalid_client_metadata"


@pytest.mark.parametrize(
    "said",
    [
        {"jwks_uri": "https://app.example.org/keys"},
        {"grant_types": ["implicit"]},
        {"grant_types": ["authorization_code", "client_credentials"]},
        {"grant_types": []},
        {"response_types": ["code", "id_token"]},
        {"token_endpoint_auth_method": "tls_client_auth"},
        {"post_logout_redirect_uris": ["https://elsewhere.example.org/"]},
        {"backchannel_logout_uri": "https://10.0.0.1/"},
    ],
    ids=lambda said: next(iter(said)),
)
def test_what_cannot_be_had_is_refused_by_name(said: dict[str, Any]) -> None:
    reason, description = refused(**said)
    assert reason == "invalid_client_metadata"
    assert description.startswith(f"{next(iter(said))}: ")


@pytest.mark.parametrize(
    "uri",
    [
        "https://elsewhere.example.org/back",
        "https://app.example.org.evil.example/back",
        "https://app.example.org@evil.example/back",
        "https://evil.example/https://app.example.org/",
        "//app.example.org/back",
        "javascript:alert(1)",
        "app.example.org",
        "org.example.app.evil:/cb",
        "",
    ],
)
def test_an_address_at_another_host_is_refused_as_one(uri: str) -> None:
    refusal = Metadata(redirect_uris=["https://app.example.org/back", uri])
    with pytest.raises(Rejected) as raised:
        rules.accept(refusal, ALLOWED, "ccps", TOKEN)
    assert raised.value.reason == "invalid_redirect_uri"


def test_refreshing_is_a_grant_of_whoever_may_stay_signed_in() -> None:
    for scope, grants in (
        ("openid offline_access", ["authorization_code", "refresh_token"]),
        ("openid", ["authorization_code"]),
    ):
        said = metadata(scope=scope, grant_types=["authorization_code", "refresh_token"])
        told = rules.told(rules.accept(said, ALLOWED, "ccps", TOKEN), said, POLICY, secret="s", issued_at=1)
        assert (told.grant_types, told.scope) == (grants, scope)


def test_the_rules_that_all_keep_are_told_in_the_words_of_the_metadata() -> None:
    told = rules.as_metadata(Rejected("application_invalid", field="keys", problem="public ones"))
    assert (told.reason, told.details["error_description"]) == (
        "invalid_client_metadata",
        "jwks: public ones",
    )
    told = rules.as_metadata(Rejected("application_invalid", field="redirect_uris", problem="no such"))
    assert told.reason == "invalid_redirect_uri"
