"""Who is calling: which tokens are taken, and which are not, whatever they claim about themselves."""

import base64
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey

from shared import clock
from shared.auth import forwarded_for
from shared.keys import SIGNS_AFTER, make_key
from shared.service import Kit, build_app

D = "/v1/districts/ccps"
Client = TestClient[Any, Any]
Sign = Callable[..., str]


@pytest.fixture
async def client(kit: Kit, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(build_app(kit))


async def ask(client: Client, path: str, token: str | None, scheme: str = "Bearer") -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"{scheme} {token}"}
    response = await client.get(f"{D}/{path}", headers=headers)
    body = await response.json(content_type=None)
    if response.status == 401:
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    return response.status, body.get("reason") or body["subject"]


async def test_a_client_with_one_of_the_scopes_is_let_in(client: Client, token: Sign) -> None:
    assert await ask(client, "desk", token()) == (200, "client-1")
    assert await ask(client, "desk", token(scope="teacher operator")) == (200, "client-1")
    assert await ask(client, "desk", token(), scheme="bearer") == (200, "client-1")


async def test_a_client_without_the_scope_is_told_which(client: Client, token: Sign) -> None:
    response = await client.get(f"{D}/desk", headers={"Authorization": f"Bearer {token(scope='teacher')}"})
    assert response.status == 403
    assert (await response.json(content_type=None))["scopes"] == ["desk", "operator"]
    assert 'error="insufficient_scope"' in response.headers["WWW-Authenticate"]


async def test_each_kind_of_token_opens_its_own_routes_alone(client: Client, token: Sign) -> None:
    tokens = {
        "desk": token(),
        "ticket": token("claim-ticket+jwt", "claims"),
        "recovery": token("recovery-ticket+jwt"),
        "session": "opaque",
    }
    for path in tokens:
        for kind, each in tokens.items():
            status, told = await ask(client, path, each)
            assert (status == 200) == (path == kind), (path, kind)
            assert status == 200 or told == "token_invalid"


async def test_no_token_is_told_apart_from_a_bad_one(client: Client) -> None:
    assert await ask(client, "desk", None) == (401, "token_missing")
    assert await ask(client, "desk", "") == (401, "token_invalid")
    assert await ask(client, "desk", "x y") == (401, "token_invalid")
    assert await ask(client, "desk", "dXNlcjpwYXNz", scheme="Basic") == (401, "token_invalid")
    two = [("Authorization", "Bearer a"), ("Authorization", "Bearer b")]
    response = await client.get(f"{D}/desk", headers=two)
    assert (await response.json(content_type=None))["reason"] == "token_invalid"


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1}, "token_expired"),
        ({"exp": None}, "token_invalid"),
        ({"exp": "never"}, "token_invalid"),
        ({"iat": 2**40}, "token_invalid"),
        ({"aud": "elsewhere"}, "token_invalid"),
        ({"aud": ["elsewhere"]}, "token_invalid"),
        ({"iss": "https://evil.example/v1/districts/ccps"}, "token_invalid"),
        ({"iss": "https://auth.example.org/v1/districts/other"}, "token_invalid"),
        ({"district": None}, "token_invalid"),
        ({"sub": 7}, "token_invalid"),
    ],
)
async def test_what_a_token_states_must_hold(
    client: Client, token: Sign, claims: dict[str, Any], reason: str
) -> None:
    assert await ask(client, "desk", token(**claims)) == (401, reason)


async def test_a_token_of_another_district_is_forbidden(client: Client, token: Sign) -> None:
    theirs = token(district="other", iss="https://auth.example.org/v1/districts/other")
    assert await ask(client, "desk", theirs) == (403, "district_forbidden")


async def test_a_ticket_is_for_this_service(client: Client, token: Sign) -> None:
    assert await ask(client, "ticket", token("claim-ticket+jwt", "claims", aud=["auth"])) == (
        401,
        "token_invalid",
    )


async def test_a_signer_cannot_speak_for_another(client: Client, token: Sign) -> None:
    """Claims' key opens no desk, and auth's makes no claim ticket, also when the same token was seen elsewhere."""
    forged = token("at+jwt", "claims")
    assert await ask(client, "ticket", forged) == (401, "token_invalid")
    assert await ask(client, "desk", forged) == (401, "token_invalid")
    assert await ask(client, "ticket", token("claim-ticket+jwt", "auth")) == (401, "token_invalid")


def part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


async def test_tricks_with_the_header_do_not_work(client: Client, token: Sign, tmp_path: Path) -> None:
    good = token()
    header, payload, signature = good.split(".")
    own = json.loads(base64.urlsafe_b64decode(header + "=="))
    public = json.loads(next((tmp_path / "public").glob("auth-*")).read_text())
    stranger = OKPKey.generate_key("Ed25519", {"kid": own["kid"]})
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    bad = [
        f"{part({**own, 'alg': 'none'})}.{payload}.",
        f"{part({**own, 'alg': 'none'})}.{payload}.{signature}",
        f"{part({**own, 'alg': 'EdDSA'})}.{payload}.{signature}",
        f"{part({k: v for k, v in own.items() if k != 'kid'})}.{payload}.{signature}",
        f"{part({**own, 'kid': ['x']})}.{payload}.{signature}",
        f"{part({**own, 'kid': '../auth/x'})}.{payload}.{signature}",
        f"{part({**own, 'crit': ['exp']})}.{payload}.{signature}",
        f"{header}.{part({**claims, 'scope': 'operator'})}.{signature}",
        f"{header}.{payload}",
        f"{header}.{payload}.{signature}.x",
        "..",
        "a.b.c",
        good + "x" * 5000,
        jwt.encode({**own, "jwk": stranger.as_dict(private=False)}, claims, stranger, algorithms=["Ed25519"]),
        # the public key taken for a shared secret
        jwt.encode({**own, "alg": "HS256"}, claims, OctKey.import_key(public["x"] * 2), algorithms=["HS256"]),
    ]
    for each in bad:
        assert await ask(client, "desk", each) == (401, "token_invalid"), each
    assert (await ask(client, "desk", good))[0] == 200


async def test_a_remembered_token_still_expires(
    client: Client, token: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = token()
    assert (await ask(client, "desk", good))[0] == 200
    later = clock.now() + timedelta(minutes=11)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert await ask(client, "desk", good) == (401, "token_expired")


async def test_a_key_that_is_removed_verifies_nothing_any_more(
    client: Client, kit: Kit, token: Sign, tmp_path: Path
) -> None:
    old = token()
    assert (await ask(client, "desk", old))[0] == 200
    (old_file,) = (tmp_path / "public").glob("auth-*")
    make_key("auth", tmp_path / "public", tmp_path / "auth", clock.now() - SIGNS_AFTER)
    kit.keys.refresh()
    new = token()
    assert (await ask(client, "desk", old))[0] == 200  # old and new overlap
    assert (await ask(client, "desk", new))[0] == 200
    old_file.unlink()
    kit.keys.refresh()
    assert await ask(client, "desk", old) == (401, "token_invalid")
    assert (await ask(client, "desk", new))[0] == 200


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("for=192.0.2.1", "192.0.2.1"),
        ("For=192.0.2.1;proto=https", "192.0.2.1"),
        ("proto=https; for=192.0.2.1:4711", "192.0.2.1"),
        ('for="[2001:db8::1]:80"', "2001:db8::1"),
        ('for="[2001:db8::1]"', "2001:db8::1"),
        ("for=6.6.6.6, for=192.0.2.1", "192.0.2.1"),
        ("for=_hidden", "_hidden"),
        ("", None),
        ("proto=https", None),
        ("by=1.2.3.4", None),
    ],
)
def test_the_nearest_front_end_is_believed(header: str, address: str | None) -> None:
    assert forwarded_for(header) == address
