"""Refresh tokens: each is used once, for an access token, an ID token with its signature and the next refresh token."""

import asyncio
import base64
import hashlib
import secrets
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec
import uvloop
from aiohttp import ClientSession, DummyCookieJar, encode_basic_auth

from benchmarks.district import PASSWORD, District, http_request
from benchmarks.load import LOOPBACK, Connection, Tally
from benchmarks.measure import Figure
from services.cli.client import Json
from services.cli.pupil import Pupil, bearer
from shared import clock
from shared.keys import Algorithm, make_key
from tests.journeys.fleet import DISTRICT

SIGNED_IN = 32  # pupils, each with a connection of its own
SECONDS = 5.0
ROUNDS = 3
KEYS_READ_AFTER_S = 3
BACK = "https://app.example.org/callback"
ROOT = f"/v1/districts/{DISTRICT}"
APPLICATION = {
    "name": "Benchmark",
    "type": "web",
    "redirect_uris": [BACK],
    "districts": [DISTRICT],
    "scopes": ["openid", "profile", "offline_access"],
}


async def figures(district: District) -> list[Figure]:
    pupils = await district.claimed(SIGNED_IN)
    found = []
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256")
    for algorithm in algorithms:
        folder = district.fleet.folder
        make_key("auth", folder / "keys", folder / "private/auth", clock.now(), algorithm)
    await asyncio.sleep(KEYS_READ_AFTER_S)
    for algorithm in algorithms:
        application = await _register(district, algorithm)
        tokens = [await _signed_in(district, application, pupil) for pupil in pupils]
        rates = []
        for _ in range(ROUNDS + 1):
            rate, tokens = await _rate(district.fleet.urls["auth"], application, tokens)
            rates.append(rate)
        found.append(Figure.of(f"refreshes, ID tokens by {algorithm}", "/s", rates[1:], "≥ 1,044"))
    return found


async def _register(district: District, algorithm: str) -> Json:
    said = APPLICATION | {"id_token_algorithm": algorithm}
    answer = await district.homeroom.post("auth", "/v1/operations/applications", said, role="operator")
    return dict(answer.body)


async def _signed_in(district: District, application: Json, pupil: Pupil) -> str:
    """The refresh token of a pupil who has signed in to the application."""
    await pupil.sign_in(PASSWORD)
    verifier = secrets.token_urlsafe(32)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "client_id": application["id"], "redirect_uri": BACK, "response_type": "code", "state": "s",
        "scope": "openid offline_access", "code_challenge": challenge, "code_challenge_method": "S256",
    }  # fmt: skip
    auth = district.fleet.urls["auth"]
    async with ClientSession(cookie_jar=DummyCookieJar()) as browser:
        sent = await _location(browser, f"{auth}{ROOT}/authorize?{urlencode(asked)}")
        request = dict(parse_qsl(urlsplit(sent).query))["authorization"]
        path = f"/authorizations/{request}/acceptance"
        accepted = await district.homeroom.ask("POST", "auth", path, headers=bearer(pupil.session))
        code = dict(parse_qsl(urlsplit(await _location(browser, accepted.body["location"])).query))["code"]
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": BACK,
            "code_verifier": verifier,
        }
        headers = {"Authorization": encode_basic_auth(application["id"], application["secret"])}
        async with browser.post(f"{auth}{ROOT}/token", data=fields, headers=headers) as answer:
            return str((await answer.json())["refresh_token"])


async def _location(browser: ClientSession, url: str) -> str:
    """Where a browser is sent to. Its cookies are for https alone, so they are carried by hand."""
    async with browser.get(url, allow_redirects=False) as answer:
        for name, morsel in answer.cookies.items():
            browser.headers["Cookie"] = f"{name}={morsel.value}"
        return answer.headers["Location"]


async def _rate(url: str, application: Json, tokens: Sequence[str]) -> tuple[float, list[str]]:
    """How many were answered in a second, and the tokens to go on with."""
    address = urlsplit(url)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, str(address.hostname), str(address.port)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    basic = encode_basic_auth(application["id"], application["secret"])
    output, _ = await process.communicate(msgspec.json.encode([basic, list(tokens)]))
    report: Any = msgspec.json.decode(output)
    if set(report["statuses"]) != {"200"}:
        raise RuntimeError(f"not every request was answered well: {report['statuses']}")
    return report["requests"] / report["seconds"], report["tokens"]


class _Renewing(Connection):
    """Asks with the token that the answer before gave it."""

    def __init__(self, basic: str, token: str, tally: Tally) -> None:
        super().__init__(b"", tally)
        self.basic, self.token = basic, token

    def send(self) -> None:
        headers = {
            "Authorization": self.basic,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        body = f"grant_type=refresh_token&refresh_token={quote(self.token)}".encode()
        self.request = http_request("POST", f"{ROOT}/token", headers, body)
        super().send()

    def answered(self, body: bytes) -> None:
        self.token = msgspec.json.decode(body)["refresh_token"]


async def _run(host: str, port: int, basic: str, tokens: Sequence[str]) -> dict[str, object]:
    if host not in LOOPBACK:
        raise SystemExit("load goes to loopback only")
    tally, loop = Tally(SECONDS), asyncio.get_running_loop()
    made = await asyncio.gather(
        *(
            loop.create_connection(lambda token=token: _Renewing(basic, token, tally), host, port)
            for token in tokens
        )
    )
    while not all(transport.is_closing() for transport, _ in made):
        await asyncio.sleep(0.05)
    return tally.report() | {"tokens": [renewing.token for _, renewing in made]}


if __name__ == "__main__":
    basic, tokens = msgspec.json.decode(sys.stdin.buffer.read())
    print(msgspec.json.encode(uvloop.run(_run(sys.argv[1], int(sys.argv[2]), basic, tokens))).decode())
