"""HTTP: a table of routes, and the one path that every request takes through it.

`boundary` (the only middleware) gives each request its correlation id, headers, metrics, one log line, and
turns whatever is raised into a problem. A route's endpoint then looks, in this order, at: the district, whether
the service is able to answer, the caller, the query, the body. Handlers get a `Call` and answer a `Reply`, or raise.
"""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
import structlog
from aiohttp import HttpVersion11, hdrs, web
from multidict import CIMultiDict

from shared import clock, metrics
from shared.auth import PUBLIC, Access, Caller, Scope, bearer, forwarded_for, permit
from shared.cors import allow_origin, preflight
from shared.database import queries
from shared.errors import Rejected
from shared.log import AccessLine, access_line
from shared.messages import Cause
from shared.policy import Policy
from shared.problems import Problem, new_reference, oauth_status, problem_of
from shared.reading import decode_form, decode_json, read_body, read_pairs, read_query

if TYPE_CHECKING:
    from shared.quick import Quick
    from shared.service import Kit

KIT: "web.AppKey[Kit]" = web.AppKey("kit")
_ROUTE: "web.RequestKey[Route]" = web.RequestKey("route")
_CAUSE = web.RequestKey("cause", Cause)

BODY_LIMIT_BYTES = 16 * 1024
CORRELATION_HEADER = "Homeroom-Correlation-Id"
FRONT_END_HEADER = "Homeroom-Client"
FRONT_ENDS = Scope("introspect", "exchange")  # what a client is for that stands in front of pupils and staff

_JSON_TYPES = ("application/json",)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")
DEFAULT_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Server", "homeroom"),
    ("X-Content-Type-Options", "nosniff"),
)

log = structlog.get_logger(__name__)
_sql = queries("shared", "web.sql")
_names = random.Random()  # of our own: whoever seeds the module's would have journeys share their names
encode_json = msgspec.json.Encoder().encode
B = TypeVar("B")


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of request bodies and queries. What is not known is refused: a misspelt `dry_run` must not reset pupils."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A handler's answer. A body is encoded as JSON; bytes are JSON already."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(slots=True)
class Call(Generic[B]):
    """One request, as its handler sees it: `now` was read once, and everything in it has been checked."""

    request: web.Request
    kit: "Kit"
    route: "Route"
    now: datetime
    cause: Cause
    district: str = ""  # "" on routes of no district
    caller: Caller | None = None
    raw: bytes = b""
    body: B = None  # type: ignore[assignment]
    query: Any = None
    pairs: list[tuple[str, str]] = field(default_factory=list)
    heard_s: float = 0.0  # by the loop's clock: when all of the request was there
    noted: dict[str, Any] = field(default_factory=dict)  # by the handler, for the audit

    @property
    def path(self) -> Mapping[str, str]:
        """The variable parts of the path."""
        return self.request.match_info

    @property
    def policy(self) -> Policy:
        """The district's rules. Raises UnknownDistrict."""
        return self.kit.policies.get(self.district)

    def uuid(self, name: str) -> UUID:
        """A part of the path that is a UUID; what is none names nothing that exists: Rejected `not_found`."""
        try:
            value = UUID(self.path[name])
        except ValueError:
            raise Rejected("not_found") from None
        if str(value) != self.path[name].lower():  # Python also takes braces, urn: and missing hyphens
            raise Rejected("not_found")
        return value

    async def remote(self) -> str:
        """The caller's address: as a front end of ours saw it, else the connection's. A front end shows the token of a
        client that has one of FRONT_ENDS. Raises Rejected `client_token_invalid`."""
        token = self.request.headers.get(FRONT_END_HEADER)
        if token is not None:
            try:
                front_end = await self.kit.authenticators["client"](token, self.district, self.now)
                permit(front_end, FRONT_ENDS)
            except Rejected:
                raise Rejected("client_token_invalid") from None
            if seen := forwarded_for(self.request.headers.get(hdrs.FORWARDED, "")):
                return seen
        return self.request.remote or ""


Handler = Callable[[Call[Any]], Awaitable[Reply]]


@dataclass(frozen=True)
class Route:
    """One line of a service's table of routes. `refusals` are the reasons that it may answer with, beside the kit's.

    `body` and `query` are Structs (or any type msgspec decodes; `msgspec.Raw` leaves the bytes alone). `produces`: the
    content types of what succeeds. `form` takes OAuth's form bodies and answers problems as OAuth clients read them; so
    does a route with `oauth`, which is what they are told of a request that cannot be.
    `pairs`: the handler is given what the query or the form holds as it is, repeated and unknown names too (`query` and
    `body` only describe it). `page`: a person's browser comes here, so problems are told as a page. `streamed`: the
    handler itself reads the body, in pieces (`reading.body_pieces`). `needs_store=False` is for what can be answered
    while PostgreSQL is away; `despite_divergence` for what may be when store and topic
    disagree. `uniform_s`: refusals whose time must tell nothing leave so many seconds after the last of the request
    came, or at a multiple of that. `quick` answers some requests at once, from memory (shared/quick.py).
    `audit`: under what name the service writes down that there was such a request, and what came of it.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Handler
    summary: str
    caller: Access = PUBLIC
    body: Any = None
    query: type[msgspec.Struct] | None = None
    success: Mapping[int, Any] = field(default_factory=lambda: {200: None})
    refusals: Mapping[str, int] = field(default_factory=dict)
    body_limit: int = BODY_LIMIT_BYTES
    content_types: tuple[str, ...] = _JSON_TYPES
    produces: tuple[str, ...] = _JSON_TYPES
    form: bool = False
    oauth: str = ""
    pairs: bool = False
    page: bool = False
    streamed: bool = False
    needs_store: bool = True
    despite_divergence: bool = False
    uniform_s: Mapping[str, float] = field(default_factory=dict)
    quick: "Quick | None" = None
    audit: str = ""

    @property
    def has_district(self) -> bool:
        return "{district}" in self.path

    @property
    def oauth_error(self) -> str:
        """RFC 6749, 5.2, unless the route has another; empty where problems are told as everywhere (RFC 9457)."""
        return self.oauth or ("invalid_request" if self.form else "")

    @cached_property
    def decoder(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(self.body)

    @cached_property
    def flags(self) -> dict[str, Any]:
        """The query's fields that may stand without a value (`?dry_run`), by name."""
        assert self.query is not None
        return {f.encode_name: f.type for f in msgspec.structs.fields(self.query)}


def add_routes(app: web.Application, routes: list[Route]) -> None:
    """Puts a table of routes into an application; GET answers HEAD as well."""
    for route in routes:
        endpoint = _endpoint(route)
        if route.method == "GET":
            app.router.add_get(route.path, endpoint, allow_head=True, expect_handler=_heed_expectation)
        else:
            app.router.add_route(route.method, route.path, endpoint, expect_handler=_heed_expectation)


async def _heed_expectation(request: web.Request) -> None:
    """Tells a client that waits for it to send its body. Another expectation may be passed over (RFC 9110, 10.1.1)."""
    if request.headers[hdrs.EXPECT].lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it is no part of the answer


def _endpoint(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def endpoint(request: web.Request) -> web.StreamResponse:
        request[_ROUTE] = route
        kit = request.app[KIT]
        call: Call[Any] = Call(request, kit, route, clock.now(), request[_CAUSE])
        try:
            reply = await _run(call)
        except Rejected as refusal:
            if refusal.secret:
                refusal.details["reference"] = await _record(call, refusal)
            if route.audit:
                kit.audit(call, refusal)
            if every_s := route.uniform_s.get(refusal.reason):
                taken_s = asyncio.get_running_loop().time() - call.heard_s
                await asyncio.sleep(every_s - taken_s % every_s)
            raise
        if route.audit:
            kit.audit(call, reply)
        return respond(reply)

    return endpoint


async def _run(call: Call[Any]) -> Reply:
    route, request, kit = call.route, call.request, call.kit
    if any("\0" in part for part in request.match_info.values()):
        raise Rejected("not_found")
    if route.has_district:
        call.district = request.match_info["district"]
        kit.policies.get(call.district)
    kit.admit(route)
    if route.caller.kind != "public":
        authenticator = kit.authenticators[route.caller.kind]
        token = bearer(request.headers.getall(hdrs.AUTHORIZATION, []))
        call.caller = await authenticator(token, call.district, call.now)
        permit(call.caller, route.caller)
        if call.caller.kind == "client" and route.method != "GET":
            await kit.actors.note(call.caller)
    if route.body is not None and not route.streamed:
        call.raw = await read_body(request, route.body_limit)
    if route.pairs:
        call.pairs = read_pairs(call.raw, request, route)
    else:
        call.query = read_query(request, route)
        if route.body is not None and not route.streamed:
            call.body = _decode(call)
    # Not before: whoever sends a body slowly would else choose where in the interval the handler begins.
    call.heard_s = asyncio.get_running_loop().time()
    return await route.handler(call)


def _decode(call: Call[Any]) -> Any:
    decode = decode_form if call.route.form else decode_json
    return decode(call.raw, call.request, call.route)


async def _record(call: Call[Any], refusal: Rejected) -> str:
    """Keeps a refusal's truth for the desk; the code to find it by."""
    detail = dict(refusal.secret)
    person_id = detail.pop("person_id", None)
    route = f"{call.route.method} {call.route.path}"
    async with call.kit.db.connection() as conn:
        while True:  # a code that is taken already is drawn again
            reference = new_reference(call.kit.settings.service)
            kept = (reference, call.district, route, refusal.reason, detail, person_id, call.now)
            if await conn.fetchval(_sql.insert_refusal, *kept):
                return reference


def encode(body: Any) -> bytes:
    """A reply's body as it goes out, and as it is kept for a repeat."""
    if body is None:
        return b""
    return body if isinstance(body, bytes) else encode_json(body)


def respond(reply: Reply) -> web.Response:
    headers = CIMultiDict(reply.headers)
    if reply.body is not None:
        headers.setdefault(hdrs.CONTENT_TYPE, reply.content_type)
    return web.Response(status=reply.status, body=encode(reply.body), headers=headers)


def respond_problem(problem: Problem, *, oauth: str = "", page: bool = False) -> web.Response:
    status = oauth_status(problem.status) if oauth or page else problem.status
    if page:
        body, kind, charset = problem.page.encode(), "text/html", "utf-8"
    elif oauth:
        body, kind, charset = encode_json(problem.oauth_body(oauth)), "application/json", None
    else:
        body, kind, charset = encode_json(problem.body), "application/problem+json", None
    return web.Response(
        status=status, body=body, headers=dict(problem.headers), content_type=kind, charset=charset
    )


def begin_journey(traceparent: str | None) -> Cause:
    """The journey that a request is part of: the caller's (W3C trace context), or a new one."""
    trace, flags = _trace(traceparent)
    return Cause(_correlation_id(trace), None, f"00-{trace}-{_names.getrandbits(64):016x}-{flags}")


def name_journey(traceparent: str | None) -> str:
    """The correlation id alone, where nothing follows from the request."""
    return _correlation_id(_trace(traceparent)[0])


def _trace(traceparent: str | None) -> tuple[str, str]:
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    # Names that must differ, not secrets: the system's randomness costs ten times as much.
    return (match[1], match[2]) if match else (f"{_names.getrandbits(128):032x}", "00")


def _correlation_id(trace: str) -> str:
    return f"{trace[:8]}-{trace[8:12]}-{trace[12:16]}-{trace[16:20]}-{trace[20:]}"


@web.middleware
async def boundary(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What every request has in common, whatever comes of it."""
    started = time.perf_counter()
    kit = request.app[KIT]
    cause = request[_CAUSE] = begin_journey(request.headers.get("traceparent"))
    policy = kit.policies.find(request.match_info.get("district", ""))
    district = "" if policy is None else policy.district
    structlog.contextvars.bind_contextvars(district=district, correlation_id=cause.correlation_id)
    reason = None
    metrics.in_flight += 1
    try:
        response = await handler(request)
    except Exception as error:
        route = request.get(_ROUTE)
        problem = problem_of(error, kit.settings.service, route.refusals if route else {})
        reason = problem.reason
        response = preflight(request, kit.policies, error) or respond_problem(
            problem, oauth=route.oauth_error if route else "", page=route is not None and route.page
        )
    finally:
        metrics.in_flight -= 1
    headers = response.headers
    for name, value in DEFAULT_HEADERS:
        if name not in headers:
            headers[name] = value
    headers[CORRELATION_HEADER] = cause.correlation_id
    if hdrs.ORIGIN in request.headers:
        allow_origin(request, response, kit.policies)
    # By its route's template: a raw path can hold a person, or anything at all.
    resource = request.match_info.route.resource
    path = resource.canonical if resource is not None else "unmatched"
    seconds = time.perf_counter() - started
    observe(kit, cause.correlation_id, district, request.method, path, response.status, reason, seconds)
    return response


def observe(
    kit: "Kit",
    correlation_id: str,
    district: str,
    method: str,
    path: str,
    status: int,
    reason: str | None,
    seconds: float,
) -> None:
    """Counts and logs a request; `path` is its route's template."""
    metrics.observe_request(method, path, status, reason, seconds)
    access_line(
        AccessLine(
            service=kit.settings.service,
            time=clock.now(),
            district=district,
            correlation_id=correlation_id,
            method=method,
            route=path,
            status=status,
            ms=round(seconds * 1000, 2),
            reason=reason,
        )
    )
