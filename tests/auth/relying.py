"""An application, and a browser in which somebody signs in to it."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import msgspec
from aiohttp import encode_basic_auth
from yarl import URL

from tests.auth.conftest import ISSUER, PORTAL, Answer, D, World

APPLICATIONS = "/v1/operations/applications"
BACK = "https://app.example.org/callback"
GOODBYE = "https://app.example.org/goodbye"
FIELDS = {
    "redirect_uris": [BACK],
    "post_logout_redirect_uris": [GOODBYE],
    "districts": ["ccps"],
    "name": "Library",
}


def pkce() -> tuple[str, str]:
    """A verifier and its challenge."""
    verifier = secrets.token_urlsafe(32)
    digest = hashlib.sha256(verifier.encode()).digest()
    return verifier, base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass
class Gone:
    """Where a browser was sent, or the page that it was shown."""

    status: int
    location: str
    text: str = ""
    headers: Any = None

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.location).query))


@dataclass
class Browser:
    """Keeps cookies as browsers do, and is told where to go instead of going there."""

    world: World
    cookies: dict[str, str] = field(default_factory=dict)

    async def go(self, url: str, method: str = "GET", **more: Any) -> Gone:
        # As it was given, character by character: what is signed is the query as it stands.
        there = URL(
            f"{self.world.http.make_url('/')}{url.removeprefix(ISSUER).removeprefix('/')}", encoded=True
        )
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        async with self.world.http.session.request(
            method, there, headers=headers, allow_redirects=False, **more
        ) as response:
            for header in response.headers.getall("Set-Cookie", []):
                for name, morsel in SimpleCookie(header).items():
                    assert morsel["secure"]
                    assert morsel["httponly"]
                    assert (morsel["path"], morsel["samesite"], morsel["domain"]) == ("/", "Lax", "")
                    if morsel["max-age"] == "0":
                        self.cookies.pop(name, None)
                    else:
                        self.cookies[name] = morsel.value
            text = await response.text()
            return Gone(response.status, response.headers.get("Location", ""), text, response.headers)


@dataclass
class RelyingParty:
    """What a registered application knows and does."""

    world: World
    client_id: str
    secret: str | None
    scope: str = "openid profile offline_access"
    redirect_uri: str = BACK
    verifier: str = ""

    @classmethod
    async def register(cls, world: World, type: str = "web", **said: Any) -> "RelyingParty":
        body = FIELDS | {"type": type, "scopes": ["openid", "profile", "school", "offline_access"]} | said
        answer = await world.ask("POST", APPLICATIONS, body, bearer=world.token("operator"))
        assert answer.status == 201, answer
        return cls(world, answer.body["id"], answer.body["secret"])

    def link(self, **differing: str | None) -> str:
        """The address to which it sends a browser."""
        self.verifier, challenge = pkce()
        asked: dict[str, str | None] = {
            "client_id": self.client_id, "redirect_uri": self.redirect_uri, "response_type": "code",
            "scope": self.scope, "state": "s", "nonce": "n", "code_challenge": challenge,
            "code_challenge_method": "S256",
        }  # fmt: skip
        asked |= differing
        return f"{D}/authorize?{urlencode({k: v for k, v in asked.items() if v is not None})}"

    async def code(self, browser: Browser, session: str, **differing: str | None) -> str:
        """Somebody signs in to it, all the way: the code that comes of it."""
        returned = await browser.go(self.link(**differing))
        if returned.location.startswith(PORTAL):  # not signed in yet
            returned = await browser.go(await accepted(self.world, returned, session))
        assert returned.status == 303, returned.text
        assert returned.location.startswith(self.redirect_uri), returned.location
        return returned.query["code"]

    async def post(self, path: str, **fields: str | None) -> Answer:
        """A request to an OAuth endpoint, authenticated as it is registered to be."""
        headers = {}
        if self.secret is not None:
            headers["Authorization"] = encode_basic_auth(self.client_id, self.secret)
        else:
            fields = {"client_id": self.client_id} | fields
        data = {name: value for name, value in fields.items() if value is not None}
        async with self.world.http.post(f"{D}{path}", data=data, headers=headers) as response:
            raw = await response.read()
            return Answer(response.status, msgspec.json.decode(raw) if raw else None, response.headers)

    async def redeem(self, code: str, **differing: str | None) -> Answer:
        fields: dict[str, str | None] = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self.redirect_uri,
            "code_verifier": self.verifier,
        }  # fmt: skip
        return await self.post("/token", **fields | differing)

    async def refresh(self, token: str, **more: str) -> Answer:
        return await self.post("/token", grant_type="refresh_token", refresh_token=token, **more)

    async def signed_in(self, session: str, browser: Browser | None = None, **differing: str | None) -> Any:
        """The tokens that it gets for somebody who has signed in."""
        code = await self.code(browser or Browser(self.world), session, **differing)
        answer = await self.redeem(code)
        assert answer.status == 200, answer
        return answer.body

    async def userinfo(self, access_token: str) -> Answer:
        return await self.world.ask("GET", "/userinfo", bearer=access_token)


async def accepted(world: World, asked: Gone, session: str) -> str:
    """What the portal does with a browser that was sent to it, for whoever has this session."""
    assert asked.status == 303, asked.text
    assert asked.location.startswith(f"{PORTAL}/ccps/sign-on?authorization="), asked.location
    [authorization_id] = parse_qs(urlsplit(asked.location).query)["authorization"]
    answer = await world.ask("POST", f"/authorizations/{authorization_id}/acceptance", bearer=session)
    assert answer.status == 200, answer
    return str(answer.body["location"])
