"""What load balancers, operators and machines ask of every service, of no district and without a token."""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared import openapi
from shared.errors import Rejected
from shared.reasons import load_reasons
from shared.web import Reply, Route, encode, respond

if TYPE_CHECKING:
    from shared.service import Kit


def add_routes(app: web.Application, kit: "Kit", described: Sequence[Route]) -> None:
    """GET /health/live, /health/ready, /health/serving, /metrics, /openapi.json, /problems/{reason}."""
    document: list[bytes] = []  # made when it is first asked for

    async def live(_: web.Request) -> web.Response:
        return respond(Reply(200, {"live": True}))

    async def ready(_: web.Request) -> web.Response:
        """Whether everything is there that this process stands on."""
        missing = kit.readiness.missing
        return respond(Reply(503 if missing else 200, {"ready": not missing, "missing": missing}))

    async def serving(_: web.Request) -> web.Response:
        """Whether requests can be answered, for load balancers: they can be while Kafka is away."""
        missing = kit.readiness.lacks("migrations", "history", "policies", "signing_key", "postgres")
        return respond(Reply(503 if missing else 200, {"serving": missing is None}))

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def description(_: web.Request) -> web.Response:
        if not document:
            document.append(encode(describe(kit.spec.name, kit.spec.package, described)))
        return respond(Reply(200, document[0]))

    async def problem(request: web.Request) -> web.Response:
        """What a problem's `type` leads to."""
        reason = request.match_info["reason"]
        explained = load_reasons(kit.spec.package).get(reason)
        if explained is None:
            raise Rejected("not_found")
        return respond(Reply(200, {"reason": reason, "meaning": explained.meaning, "next": explained.next}))

    for path, handler in (
        ("/health/live", live),
        ("/health/ready", ready),
        ("/health/serving", serving),
        ("/metrics", metrics),
        ("/openapi.json", description),
        ("/problems/{reason}", problem),
    ):
        app.router.add_get(path, handler)


def describe(name: str, package: str, routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document of a service; its package's docstring says what it is for."""
    summary = (import_module(package).__doc__ or "").strip()
    document = openapi.document(name, summary, routes, load_reasons(package))
    plain: dict[str, Any] = msgspec.json.decode(encode(document))  # as it goes out: lists, not tuples
    return plain
