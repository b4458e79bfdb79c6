"""Everything that the portal is made of, and its process."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import aiohttp
import structlog
import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.portal import (
    account,
    claim,
    common,
    desk,
    home,
    languages,
    operations,
    recovery,
    sign_in,
    sign_on,
)
from services.portal.backend import PATIENCE_S, SERVICES, Backend
from services.portal.languages import N_
from services.portal.seals import Seals
from services.portal.security import harden
from services.portal.settings import PortalSettings
from services.portal.visit import PORTAL, Portal, Sorry, add_pages, explain
from shared.log import configure_logging, flush
from shared.server import listening
from shared.settings import SettingsInvalid, read_environment, unknown_variables

FLUSH_S = 1.0
# A browser sends the cookies of a host in one line, and those of the district's other sites with them.
MAX_COOKIES_BYTES = 32 * 1024
CONNECTIONS = 100  # to the services, at most

log = structlog.get_logger(__name__)

PAGES = [
    *common.PAGES,
    *claim.PAGES,
    *recovery.PAGES,
    *sign_in.PAGES,
    *home.PAGES,
    *account.PAGES,
    *sign_on.PAGES,
    *desk.PAGES,
    *operations.PAGES,
]


def create_app(settings: PortalSettings) -> web.Application:
    """The application of one process. Raises SettingsInvalid."""
    seals = Seals.read(settings.portal_key_file)
    languages.languages()  # a catalogue that cannot be read is found out now
    app = web.Application(middlewares=[_beyond_pages])

    async def connected(app: web.Application) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S, connect=3)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=connector, cookie_jar=aiohttp.DummyCookieJar()
        ) as http:
            app[PORTAL] = Portal(settings, seals, Backend(settings, http))
            writing = asyncio.create_task(_flush(seals))
            yield
            writing.cancel()

    app.cleanup_ctx.append(connected)
    app.on_response_prepare.append(_harden)  # whatever is answered, also where no page is
    app.router.add_get("/", common.root)
    app.router.add_get("/health/live", _live)
    app.router.add_get("/health/ready", _ready)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/static/{digest}/{name}", common.static)
    app.router.add_get("/{district}", common.without_slash)
    add_pages(app, PAGES)
    return app


async def _flush(seals: Seals) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        seals.refresh()
        flush()


async def _live(_: web.Request) -> web.Response:
    return web.json_response({"live": True})


async def _ready(request: web.Request) -> web.Response:
    """Whether the three services can answer requests."""
    backend = request.app[PORTAL].backend
    answers = await asyncio.gather(*(backend.ask(name, "GET", "/health/serving") for name in SERVICES))
    missing = [name for name, answer in zip(SERVICES, answers, strict=True) if not answer.ok]
    return web.json_response({"ready": not missing, "missing": missing}, status=503 if missing else 200)


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@web.middleware
async def _beyond_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What no page answers for: an address that is none, a method that none takes."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        sorry = Sorry(error.status, N_("Nothing is here"), N_("Check the address, letter by letter."))
        response = explain(None, request, sorry)
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = error.headers["Allow"]
        return response


async def _harden(request: web.Request, response: web.StreamResponse) -> None:
    harden(response, request.app[PORTAL].settings.portal_url)


def main() -> None:
    """The portal's process. Ends with status 2 when the environment does not hold."""
    try:
        settings = read_environment(PortalSettings)
        configure_logging("portal", level=settings.log_level, form=settings.log_format)
        if misspelt := unknown_variables(os.environ, PortalSettings):
            log.warning("settings_unknown", variables=misspelt)
        uvloop.run(_serve(create_app(settings), settings))
    except SettingsInvalid as error:
        print(f"homeroom portal: {error}", file=sys.stderr)
        sys.exit(2)


async def _serve(app: web.Application, settings: PortalSettings) -> None:
    """Answers requests until SIGTERM or SIGINT; then no new ones, and the running ones may finish."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with listening(
        app,
        settings.http_host,
        settings.http_port,
        drain_s=settings.drain_seconds,
        max_field_bytes=MAX_COOKIES_BYTES,
    ) as port:
        log.info("listening", host=settings.http_host, port=port)
        await stop.wait()
        log.info("draining", seconds=settings.drain_seconds)
    log.info("stopped")
