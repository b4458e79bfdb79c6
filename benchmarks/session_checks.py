"""The session check and introspection, beside an aiohttp handler that does nothing, under the same load; and how long a
check takes at most under a flood of sign-ins."""

import asyncio
import sys
from urllib.parse import urlencode

import uvloop
from aiohttp import BasicAuth, web

from benchmarks.district import PASSWORD, District, http_request, load
from benchmarks.measure import Figure, in_turn
from services.cli.pupil import Pupil
from tests.journeys.fleet import DISTRICT, free_ports

SECONDS = 4.0
CONNECTIONS = 32
CHECKING = 8  # of the checks whose slowest are looked at
FLOOD = 8
ROUNDS = 3


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
                Figure.of(f"{name} / nothing", "ratio", ratio, "≥ 0.8"),
            ]
        results += await _under_a_flood(district, check, pupil)
    finally:
        empty.terminate()
        await empty.wait()
    return results


async def _under_a_flood(district: District, check: bytes, pupil: Pupil) -> list[Figure]:
    """A few who check at a modest pace, alone and beside as many sign-ins as there are hash threads to fill."""
    alone, beside = [], []
    for _ in range(ROUNDS):
        alone.append(await _p99(district, check))
        flood = [asyncio.create_task(_sign_in_again_and_again(pupil)) for _ in range(FLOOD)]
        beside.append(await _p99(district, check))
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
    return [
        Figure.of("session check, p99, alone", "ms", alone),
        Figure.of("session check, p99, under a flood of sign-ins", "ms", beside),
        Figure.of(
            "p99 under the flood / alone", "ratio", [b / a for a, b in zip(alone, beside, strict=True)], "≤ 3"
        ),
    ]


async def _p99(district: District, check: bytes) -> float:
    report = await load(district.fleet.urls["auth"], check, connections=CHECKING, seconds=SECONDS)
    return float(report["p99_ms"])


async def _sign_in_again_and_again(pupil: Pupil) -> None:
    while True:
        await pupil.sign_in(PASSWORD)


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
