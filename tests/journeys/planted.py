"""Pupils, a desk, an operator and an application who plant whatever secret passes through their hands, also where it
does not belong: the password in the username's box, a token in an address."""

import asyncio
import base64
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import msgspec
from aiohttp import encode_basic_auth

from services.cli.client import Answer, Homeroom, Json
from services.cli.pupil import Pupil, bearer
from tests.support.canaries import Canaries

PORTAL = "https://portal.example.org"
BACK = "https://app.example.org/callback"
QUESTIONS = ("middle_name", "school_mascot", "homeroom_teacher")
COMMON = "password1"
WAIT_S = 30


@dataclass
class Planting:
    """What the journeys share: the canaries, and all that was answered to those who may know none of them."""

    homeroom: Homeroom
    canaries: Canaries
    answers: list[tuple[str, str]] = field(default_factory=list)  # where, text
    application: tuple[str, str] = ("", "")
    shelf: str = ""  # the id of the application that speaks SAML

    def secret(self, kind: str) -> str:
        """A new one, as a person makes it up."""
        return self.canaries.plant(kind, f"{secrets.token_hex(6)} of a canary")

    def given(self, kind: str, secret: str) -> str:
        """One that a service gave out."""
        return self.canaries.plant(kind, secret)

    def witness(self, what: str, status: int, headers: Any, body: object) -> None:
        """An answer in which there must be none."""
        told = body if isinstance(body, str) else msgspec.json.encode(body).decode()
        self.answers.append((f"the answer {status} to {what}", f"{dict(headers)}\n{told}"))

    async def ask(self, method: str, service: str, path: str, body: object = None, **more: Any) -> Answer:
        answer = await self.homeroom.ask(method, service, path, body, **more)
        if answer.status >= 400:
            self.witness(f"{method} {service}", answer.status, answer.headers, answer.body)
        return answer

    async def raw(self, method: str, path: str, data: bytes | str = b"", **headers: str) -> None:
        """A request to auth that is refused, whatever it is."""
        url = f"{self.homeroom.site.services['auth']}/v1/districts/{self.homeroom.site.district}{path}"
        sent = {"Content-Type": "application/json"} | {n.replace("_", "-"): v for n, v in headers.items()}
        async with self.homeroom.http.request(method, url, data=data, headers=sent) as response:
            self.witness(f"{method} of a stray", response.status, response.headers, await response.text())
            assert response.status >= 400, (method, path[:20], response.status)

    async def line(self, head: bytes) -> None:
        """Bytes that are no request."""
        address = urlsplit(self.homeroom.site.services["auth"])
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(head)
        answer = await asyncio.wait_for(reader.read(65536), WAIT_S)
        writer.close()
        self.answers.append(("the answer to bytes that are no request", answer.decode(errors="replace")))


class Child:
    """A pupil who plants what is typed and what is given."""

    def __init__(self, planting: Planting, enrolled: Json, policy: Json) -> None:
        self.at = planting
        self.pupil = Pupil(planting.ask, enrolled, policy)
        self.password = ""
        self.choose_answers()

    def choose_answers(self) -> None:
        self.pupil.answers = [{"question": q, "answer": self.at.secret("answer")} for q in QUESTIONS]

    def wrong_answers(self) -> list[Json]:
        return [answer | {"answer": self.at.secret("wrong answer")} for answer in self.pupil.answers]

    async def claim(self) -> None:
        """With every mistake on the way."""
        at, pupil = self.at, self.pupil
        assert (await pupil.open_claim(last_name=at.secret("name as typed"))).status == 403
        for _ in range(int(WAIT_S / 0.2)):
            if (await pupil.open_claim()).status == 201:
                break
            await asyncio.sleep(0.2)
        at.given("ticket", pupil.claim["ticket"])
        assert (await pupil.set_password(COMMON)).status == 422
        assert (await pupil.set_password(at.secret("abandoned password"))).status == 200
        stale = pupil.etag
        self.password = at.secret("password")
        assert (await pupil.set_password(self.password)).status == 200
        pupil.etag, fresh = stale, pupil.etag
        assert (await pupil.save_answers()).status == 412
        pupil.etag = fresh
        assert (await pupil.save_answers(self.wrong_answers()[:2])).status == 422
        answer = await pupil.save_answers()
        assert answer.status == 200 or await pupil.claim_settled() == "completed"

    async def sign_in(self) -> None:
        for _ in range(int(WAIT_S / 0.2)):  # auth may hear of the person later than claims
            answer = await self.pupil.sign_in(self.password)
            if answer.status == 201:
                break
            await asyncio.sleep(0.2)
        self.at.given("session", answer.body["session"])
        self.at.given("device", answer.body["device"])

    async def mistype(self) -> None:
        at, pupil = self.at, self.pupil
        body = {"username": at.secret("password in the username's box"), "password": self.password}
        assert (await at.ask("POST", "auth", "/sessions", body)).status == 401
        assert (await pupil.sign_in(at.secret("wrong password"))).status == 401
        await self.sign_in()
        assert (await pupil.sign_out()).status == 204
        assert (await pupil.who_am_i()).status == 401

    async def change_password(self) -> None:
        await self.sign_in()
        wrong, new = self.at.secret("wrong password"), self.at.secret("password")
        assert (await self.pupil.change_password(wrong, new)).status == 403
        assert (await self.pupil.change_password(self.password, self.password)).status == 422
        assert (await self.pupil.change_password(self.password, new)).status == 204
        self.password = new
        await self.sign_in()

    async def recover(self) -> None:
        pupil = self.pupil
        await self._forget()
        assert (await pupil.answer_questions(self.wrong_answers())).status == 403
        asked = {answer["question"]: answer for answer in pupil.answers}
        right = [asked[question["id"]] for question in pupil.recovery["questions"]]
        assert (await pupil.answer_questions(right)).status == 200
        assert (await pupil.recover_with(self.password)).status == 422
        await self._renew()

    async def recover_by_code(self) -> None:
        at, pupil = self.at, self.pupil
        person = await self.person()
        path, key = f"/accounts/{person}/recovery-codes", {"Idempotency-Key": secrets.token_hex(8)}
        headers = bearer(await at.homeroom.token("desk")) | key
        issued = await at.ask("POST", "auth", path, {"desk_ticket": "T-1"}, headers=headers)
        code = at.given("code", issued.body["code"])
        assert (await at.ask("POST", "auth", path, {"desk_ticket": "T-1"}, headers=headers)).status == 409
        await self._forget()
        assert (await pupil.show_code(at.secret("wrong code"))).status == 403
        assert (await pupil.show_code(code)).status == 200
        await self._renew()

    async def _forget(self) -> None:
        typed = {"username": self.at.secret("password in the username's box")}
        decoy = await self.at.ask("POST", "auth", "/recoveries", typed)
        self.at.given("ticket", decoy.body["ticket"])
        await self.pupil.forgot_password()
        self.at.given("ticket", self.pupil.recovery["ticket"])

    async def _renew(self) -> None:
        self.password = self.at.secret("password")
        assert (await self.pupil.recover_with(self.password)).status == 204
        await self.sign_in()

    async def person(self) -> str:
        number = self.pupil.enrolled["number"]
        found = await self.at.homeroom.get("roster", "/persons", number=number)
        return str(found["persons"][0]["person_id"])

    async def is_reset(self) -> None:
        """And claims again."""
        await self.sign_in()
        path = f"/accounts/{await self.person()}/resets"
        asked = await self.at.homeroom.post("claims", path, {"desk_ticket": "T-2"})
        batch = f"/reset-batches/{asked.body['batch_id']}"
        for _ in range(int(WAIT_S / 0.2)):
            if (await self.at.homeroom.get("claims", batch))["state"] == "done":
                break
            await asyncio.sleep(0.2)
        assert (await self.pupil.sign_in(self.password)).status == 401
        self.choose_answers()
        await self.claim()
        await self.sign_in()

    async def sign_on(self) -> None:
        await self.sign_in()
        await Visit(self.at, self.pupil.session).be_brought()
        await Visit(self.at, self.pupil.session).walk()

    async def stray(self) -> None:
        """Secrets where nobody expects them."""
        await self.sign_in()
        password, session, at = self.password, self.pupil.session, self.at
        sessions = "/sessions"
        whole = msgspec.json.encode({"username": self.pupil.username, "password": password})
        await at.raw("POST", sessions, whole[:-1])
        await at.raw("POST", sessions, whole[:-2] + b'\xff"}')
        await at.raw("POST", sessions, whole, Content_Type="text/plain")
        await at.raw("POST", sessions, b"[" + whole + b"]")
        await at.raw("POST", sessions, msgspec.json.encode({"username": password, "password": [password]}))
        await at.raw("POST", sessions, msgspec.json.encode({"username": "S", "password": password * 40}))
        await at.raw("POST", sessions, msgspec.json.encode({"username": "S", "password": password * 1000}))
        await at.raw("POST", f"{sessions}?password={password}", whole)
        await at.raw("GET", f"{sessions}/current?session={session}")
        await at.raw("GET", f"{sessions}/{session}")
        await at.raw("GET", f"/recoveries/{session}/answers")
        await at.raw("PUT", f"/claims/{session}/password", whole, Authorization=f"Bearer {session}")
        await at.raw("GET", f"/refusals/{session}", Authorization=f"Bearer {session}")
        await at.raw("GET", f"{sessions}/current", Authorization=f"Bearer {session}x")
        await at.raw("GET", f"{sessions}/current", Authorization=encode_basic_auth("S", password))
        await at.raw("GET", f"{sessions}/current", Cookie=f"session={session}", User_Agent=session)
        await at.raw("GET", f"{sessions}/current", Homeroom_Client=session, Forwarded=f"for={session}")
        await at.raw("GET", f"{sessions}/current", traceparent=session)
        await at.raw("POST", sessions, b"{}", Homeroom_Device=session, Idempotency_Key="k")
        form = "application/x-www-form-urlencoded"
        for fields in (
            {"grant_type": "password", "username": self.pupil.username, "password": password},
            {"grant_type": "client_credentials", "client_id": password, "client_secret": password},
            {"grant_type": "authorization_code", "code": session},
            {"grant_type": session},
        ):
            await at.raw("POST", "/token", urlencode(fields), Content_Type=form)
        for head in (
            f"GET /{session} {password} HTTP/1.1\r\n\r\n",
            f"GET / HTTP/1.1\r\nAuthorization: Bearer {session}\r\nno colon {session}\r\n\r\n",
            f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {session}\r\n\r\n",
            f"{session}\r\n\r\n",
        ):
            await at.line(head.encode())


STORIES: tuple[Callable[[Child], Awaitable[None]], ...] = (
    Child.mistype,
    Child.change_password,
    Child.recover,
    Child.recover_by_code,
    Child.is_reset,
    Child.sign_on,
    Child.stray,
)


@dataclass
class Visit:
    """Somebody signs in to the application, in a browser of their own, until the application signs them out."""

    at: Planting
    session: str
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def issuer(self) -> str:
        return f"{self.at.homeroom.site.services['auth']}/v1/districts/{self.at.homeroom.site.district}"

    async def walk(self) -> None:
        at = self.at
        verifier = at.given("verifier", secrets.token_urlsafe(32))
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "client_id": at.application[0], "redirect_uri": BACK, "response_type": "code", "state": "s",
            "scope": "openid profile offline_access", "code_challenge": digest, "code_challenge_method": "S256",
        }  # fmt: skip
        returned = await self.accept(await self.go(f"{self.issuer}/authorize?{urlencode(asked)}"))
        [code] = parse_qs(urlsplit(returned).query)["code"]
        at.given("authorization code", code)
        for name, value in self.cookies.items():
            at.given(f"cookie {name}", value)
        redeem = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": verifier,
        }  # fmt: skip
        another = at.given("verifier", secrets.token_urlsafe(32))
        assert (await self.token(redeem | {"code_verifier": another}))[0] == 400
        status, tokens = await self.token(redeem)
        assert status == 200, tokens
        status, tokens = await self.refresh(tokens["refresh_token"])
        assert status == 200, tokens
        who = await at.ask("GET", "auth", "/userinfo", headers=bearer(tokens["access_token"]))
        assert who.status == 200
        used = tokens["refresh_token"]
        assert [(await self.refresh(used))[0] for _ in range(2)] == [200, 400]
        await self.go(f"{self.issuer}/logout?{urlencode({'id_token_hint': tokens['id_token']})}")

    async def be_brought(self) -> None:
        """To the application that speaks SAML, by a tile."""
        at = self.at
        returned = await self.accept(await self.go(f"{self.issuer}/saml/applications/{at.shelf}"))
        word = at.given("word of an answer", parse_qs(urlsplit(returned).query)["answer"][0])
        answer = await at.ask("POST", "auth", "/saml/answers", {"answer": word})
        response = at.given("SAML response", answer.body["saml_response"])
        for signature in re.findall(r"<ds:SignatureValue>([^<]+)<", base64.b64decode(response).decode()):
            at.given("SAML signature", signature)
        assert (await at.ask("POST", "auth", "/saml/answers", {"answer": word})).status == 400
        for name, value in self.cookies.items():
            at.given(f"cookie {name}", value)

    async def accept(self, away: str) -> str:
        """What the portal does for a browser that was sent to it; where the browser goes in the end."""
        [authorization] = parse_qs(urlsplit(away).query)["authorization"]
        path = f"/authorizations/{authorization}/acceptance"
        accepted = await self.at.ask("POST", "auth", path, headers=bearer(self.session))
        proof = parse_qs(urlsplit(accepted.body["location"]).query)["accepted"][0]
        self.at.given("proof of signing in", proof)
        return await self.go(accepted.body["location"])

    async def refresh(self, token: str) -> tuple[int, Any]:
        return await self.token({"grant_type": "refresh_token", "refresh_token": token})

    async def token(self, fields: dict[str, str]) -> tuple[int, Any]:
        basic = {"Authorization": encode_basic_auth(*self.at.application)}
        answer = await self.at.ask("POST", "auth", "/token", form=fields, headers=basic)
        for kind in ("access_token", "refresh_token", "id_token"):
            if kind in answer.body:
                self.at.given(kind, answer.body[kind])
        return answer.status, answer.body

    async def go(self, url: str) -> str:
        """Where the browser is sent."""
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        async with self.at.homeroom.http.get(url, headers=headers, allow_redirects=False) as response:
            for header in response.headers.getall("Set-Cookie", []):
                self.cookies |= {name: each.value for name, each in SimpleCookie(header).items()}
            if response.status >= 400:
                self.at.witness("a browser", response.status, response.headers, await response.text())
            return response.headers.get("Location", "")


async def operate(planting: Planting) -> None:
    """An operator's clients: made, shown once, rotated, guessed at, removed; and the application of the others."""
    headers = bearer(await planting.homeroom.token("operator")) | {"Idempotency-Key": secrets.token_hex(8)}
    body = {"name": "Kiosk", "scopes": ["introspect"], "districts": ["ccps"]}
    path = "/v1/operations/clients"
    made = (await planting.ask("POST", "auth", path, body, headers=headers)).body
    planting.given("client secret", made["secret"])
    assert (await planting.ask("POST", "auth", path, body, headers=headers)).status == 409
    for secret in (made["secret"], planting.secret("wrong client secret")):
        form = {"grant_type": "client_credentials", "client_id": made["id"], "client_secret": secret}
        token = await planting.ask("POST", "auth", "/token", form=form)
        if token.status == 200:
            planting.given("client token", token.body["access_token"])
    path = f"{path}/{made['id']}"
    rotated = await planting.homeroom.post("auth", f"{path}/rotate", {"overlap_minutes": 5}, role="operator")
    planting.given("client secret", rotated.body["secret"])
    await planting.homeroom.call("operator", "DELETE", "auth", path)
    application = {
        "type": "web", "name": "Library", "districts": ["ccps"], "redirect_uris": [BACK],
        "scopes": ["openid", "profile", "offline_access"],
    }  # fmt: skip
    made = (
        await planting.homeroom.post("auth", "/v1/operations/applications", application, role="operator")
    ).body
    planting.application = made["id"], planting.given("application's secret", made["secret"])
    shelf = {
        "name": "Shelf", "districts": ["ccps"], "entity_id": BACK, "acs": [{"url": BACK}], "unsolicited": True,
        "attributes": {"number": "number"},
    }  # fmt: skip
    path = "/v1/operations/saml-applications"
    planting.shelf = (await planting.homeroom.post("auth", path, shelf, role="operator")).body["id"]


def tracing(trace_id: str) -> aiohttp.TraceConfig:
    """Every request is of one journey: its id is kept and told everywhere, so it shows what the search reaches."""
    config = aiohttp.TraceConfig()

    async def begin(_: Any, __: Any, params: aiohttp.TraceRequestStartParams) -> None:
        params.headers.setdefault("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-01")

    config.on_request_start.append(begin)
    return config
