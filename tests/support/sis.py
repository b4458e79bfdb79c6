"""An SIS that answers over REST as OneRoster 1.2 says of a rostering service, and misbehaves on demand."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.messages import rfc3339
from shared.policy import RestRule
from tests.roster.exports import SCHOOLS, Pupil, school_name

BASE = "/ims/oneroster/rostering/v1p2"
SCOPE = "https://purl.imsglobal.org/spec/or/v1p2/scope/roster-core.readonly"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
CODES = {
    400: "invaliddata", 401: "unauthorisedrequest", 403: "forbidden", 404: "unknownobject", 429: "server_busy",
    500: "internal_server_error", 503: "server_busy",
}  # fmt: skip

Item = dict[str, Any]
Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


def status_info(status: int, minor: str = "", description: str = "no", **headers: str) -> web.Response:
    """An error in the specification's form."""
    field = {
        "imsx_codeMinorFieldName": "TargetEndSystem",
        "imsx_codeMinorFieldValue": minor or CODES[status],
    }
    return web.json_response(
        {
            "imsx_codeMajor": "failure",
            "imsx_severity": "error",
            "imsx_description": description,
            "imsx_CodeMinor": {"imsx_codeMinorField": [field]},
        },
        status=status,
        headers=headers,
    )


def user(pupil: Pupil, modified: datetime = LONG_AGO, **changes: Any) -> Item:
    org = {
        "href": f"https://sis.example.org{BASE}/orgs/s{pupil.school}",
        "sourcedId": f"s{pupil.school}",
        "type": "org",
    }
    return {
        "sourcedId": pupil.source_id,
        "status": pupil.status or "active",
        "dateLastModified": rfc3339(modified),
        "enabledUser": str(pupil.enabled).lower(),  # a word in the specification
        "username": f"S{pupil.number}",
        "givenName": pupil.first_name,
        "familyName": pupil.last_name,
        "identifier": pupil.number,
        "email": f"{pupil.number}@example.org",
        "grades": [pupil.grade],
        "primaryOrg": org,
        "roles": [{"roleType": "primary", "role": "student", "org": org}],
    } | changes


def other(source_id: str, role: str) -> Item:
    roles = [
        {
            "roleType": "primary",
            "role": role,
            "org": {"href": f"https://sis.example.org{BASE}/orgs/d", "sourcedId": "d", "type": "org"},
        }
    ]
    return user(
        Pupil(source_id=source_id, number="", last_name="Teacher", first_name="Ida", school=0, grade=""),
        roles=roles, grades=[], identifier="", username="e12345",
    )  # fmt: skip


def _reference(kind: str, source_id: str) -> Item:
    return {"href": f"https://sis.example.org{BASE}/{kind}/{source_id}", "sourcedId": source_id, "type": kind}


def session(source_id: str, start: str, end: str) -> Item:
    return {
        "sourcedId": source_id, "status": "active", "dateLastModified": rfc3339(LONG_AGO), "title": source_id,
        "startDate": start, "endDate": end, "type": "term", "schoolYear": "2027",
    }  # fmt: skip


def school_class(
    source_id: str, title: str, school: int = 0, terms: Sequence[str] = (), **changes: Any
) -> Item:
    return {
        "sourcedId": source_id, "status": "active", "dateLastModified": rfc3339(LONG_AGO), "title": title,
        "classType": "scheduled", "course": _reference("course", "k1"), "school": _reference("org", f"s{school}"),
        "terms": [_reference("academicSession", term) for term in terms],
    } | changes  # fmt: skip


def member(
    user_id: str, class_id: str, role: str = "student", modified: datetime = LONG_AGO, **changes: Any
) -> Item:
    return {
        "sourcedId": f"{class_id}-{user_id}", "status": "active", "dateLastModified": rfc3339(modified), "role": role,
        "primary": "false", "user": _reference("user", user_id), "class": _reference("class", class_id),
        "school": _reference("org", "s0"),
    } | changes  # fmt: skip


class Sis:
    """`faults` are asked in turn, each for one request of data, before the SIS answers; None: it answers as always.
    `asked` is every request of data: collection, and the parameters."""

    def __init__(self, students: Sequence[Pupil] = ()) -> None:
        orgs = [{"sourcedId": "d", "name": "Riverdale County", "type": "district", "identifier": "0"}]
        orgs += [
            {"sourcedId": f"s{n}", "name": school_name(n), "type": "school", "identifier": f"{n:04}"}
            for n in range(SCHOOLS)
        ]
        self.items: dict[str, list[Item]] = {
            "orgs": [org | {"status": "active", "dateLastModified": rfc3339(LONG_AGO)} for org in orgs],
            "users": [user(pupil) for pupil in students],
            "academicSessions": [],
            "classes": [],
            "enrollments": [],
        }
        self.faults: list[Fault | None] = []
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.tokens: dict[str, datetime] = {}
        self.token_life = timedelta(hours=1)
        self.most = 1000  # items on a page, whatever is asked for
        self.counts = True  # X-Total-Count
        self.secret = "s3cret"
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/token", self._token)
        app.router.add_get(BASE + "/{collection}", self._data)
        return app

    def rule(self, **more: Any) -> RestRule:
        return RestRule(url=self.url + BASE, token_url=f"{self.url}/token", client_id="homeroom", **more)

    async def _token(self, request: web.Request) -> web.Response:
        basic = base64.b64encode(f"homeroom:{self.secret}".encode()).decode()
        form = parse_qs(await request.text())
        if request.headers.get("Authorization") != f"Basic {basic}":
            return web.json_response({"error": "invalid_client"}, status=401)
        if form != {"grant_type": ["client_credentials"], "scope": [SCOPE]}:
            return web.json_response({"error": "invalid_scope"}, status=400)
        token = f"token-{len(self.tokens)}"
        self.tokens[token] = datetime.now(UTC) + self.token_life
        lives = int(self.token_life.total_seconds())
        return web.json_response({"access_token": token, "token_type": "bearer", "expires_in": lives})

    async def _data(self, request: web.Request) -> web.StreamResponse:
        collection, query = request.match_info["collection"], request.query
        self.asked.append((collection, dict(query)))
        if self.faults and (fault := self.faults.pop(0)) and (answer := await fault(request)):
            return answer
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.tokens.get(token, LONG_AGO) < datetime.now(UTC):
            return status_info(401)
        if collection not in self.items:
            return status_info(404)
        found = [item for item in self.items[collection] if self._passes(item, query.get("filter"))]
        if "sort" in query:
            found.sort(key=lambda item: str(item[query["sort"]]), reverse=query.get("orderBy") == "desc")
        limit, offset = min(int(query.get("limit", 100)), self.most), int(query.get("offset", 0))
        wanted = query["fields"].split(",") if "fields" in query else None
        page = [
            {name: value for name, value in item.items() if wanted is None or name in wanted}
            for item in found[offset : offset + limit]
        ]
        headers = {"X-Total-Count": str(len(found))} if self.counts else {}
        if offset + limit < len(found):
            following = request.url.update_query(offset=offset + limit, limit=limit)
            headers["Link"] = f'<{following}>; rel="next"'
        return web.json_response({collection: page}, headers=headers)

    @staticmethod
    def _passes(item: Item, said: str | None) -> bool:
        if said is None:
            return True
        field, _, value = said.partition(">")
        assert field == "dateLastModified"
        return datetime.fromisoformat(item[field]) > datetime.fromisoformat(value.strip("'"))


async def cut(request: web.Request) -> web.StreamResponse:
    """The connection ends in the middle of a page."""
    answer = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "5000"})
    await answer.prepare(request)
    await answer.write(b'{"users": [{"sourcedId": "')
    assert request.transport is not None
    request.transport.close()
    return answer


async def silence(request: web.Request) -> web.StreamResponse | None:
    await asyncio.sleep(3600)
    return None


def saying(body: bytes, status: int = 200, **headers: str) -> Fault:
    async def fault(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers={"X-Total-Count": "1"} | headers)

    return fault


def refusing(status: int, **headers: str) -> Fault:
    async def fault(request: web.Request) -> web.StreamResponse:
        return status_info(status, **headers)

    return fault


@asynccontextmanager
async def serving(
    sis: Sis, shown: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Sis]:
    """`shown`: with TLS, and this certificate. `host`: how it is called."""
    server = TestServer(sis.app())
    await server.start_server(ssl=shown)
    sis.url = f"{'https' if shown else 'http'}://{host}:{server.port}"
    try:
        yield sis
    finally:
        await server.close()
