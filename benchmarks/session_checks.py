"""The session check and introspection, beside an aiohttp handler that does nothing, under the same load."""

import asyncio
import sys
from urllib.parse import urlencode

import uvloop
from aiohttp import BasicAuth, web

from benchmarks.district import PASSWORD, District, http_request, load
from benchmarks.measure import Figure, in_turn
from tests.journeys.fleet import DISTRICT, free_ports

SECONDS = 4.0
CONNECTIONS = 32


async def figures(district: District) -> list[Figure]:
    (pupil,) = await district.claimed(1)
    await pupil.sign_in(PASSWORD)
    portal = district.fleet.clients["portal"]
    check = http_request(
        "GET",
        f"/v1/districts/{DISTRICT}/sessions/current",
        {"Authorization": f"Bearer {pupil.session}"},
    )
    introspect = http_request(
        "POST",
        f"/v1/districts/{DISTRICT}/introspect",
        {
            "Authorization": BasicAuth(portal.id, portal.secret).encode(),
            "Content-Type": "application/x-www-form-urlencoded",
        },
        urlencode({"token": pupil.session}).encode(),
    )
    (port,) = free_ports(1)
    empty = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, str(port))
    await asyncio.sleep(1)
    results: list[Figure] = []
    try:

        async def nothing() -> float:
            return await _rate(f"http://127.0.0.1:{port}", http_request("GET", "/"))

        for name, request in (("session check", check), ("introspection", introspect)):

            async def ours(request: bytes = request) -> float:
                return await _rate(district.fleet.urls["auth"], request)

            rates, bare, ratio = await in_turn(ours, nothing)
            results += [
                Figure.of(name, "/s", rates),
                Figure.of("handler that does nothing", "/s", bare),
                Figure.of(f"{name} / nothing", "ratio", ratio),
            ]
    finally:
        empty.terminate()
        await empty.wait()
    return results


async def _rate(url: str, request: bytes) -> float:
    report = await load(url, request, connections=CONNECTIONS, seconds=SECONDS)
    if set(report["statuses"]) != {"200"}:
        raise RuntimeError(f"not every request was answered well: {report['statuses']}")
    return float(report["requests"]) / float(report["seconds"])


async def _nothing(port: int) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=b"{}", content_type="application/json")

    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_nothing(int(sys.argv[1])))
