"""Is all well: each service, what is behind, what was set aside, what is being rebuilt, what came from the SIS."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, NamedTuple

from aiohttp import web

from services.portal.backend import SERVICES, Answer, Service
from services.portal.desk.access import Staff, staffed
from services.portal.languages import N_
from services.portal.operations.imports import STATES
from services.portal.visit import Page

HEARD_WITHIN_S = 4.0  # the page comes also while a service hangs
LETTERS_COUNTED = 500
IMPORTS_SHOWN = 8
REBUILDS_SHOWN = 8
REBUILD_STATES = {
    "building": N_("being built"),
    "following": N_("built, follows along"),
    "switched": N_("serves now"),
    "dropped": N_("compared and dropped"),
    "failed": N_("failed"),
}


class Health(NamedTuple):
    """`missing`: what a service that answers stands on and lacks, each with why."""

    service: Service
    answers: bool
    ready: bool
    missing: dict[str, str]
    took_ms: int


class Reader(NamedTuple):
    """A relay, projection or consumer. `lag` in records; None: Kafka does not say."""

    service: Service
    name: str
    lag: int | None
    still_s: float
    alarm: str | None


async def show(staff: Staff) -> web.StreamResponse:
    healths, lags, letters, rebuilds, imports = await asyncio.gather(
        asyncio.gather(*(_health(staff, service) for service in SERVICES)),
        _each(staff, "/lag"),
        _each(staff, "/dead-letters", limit=LETTERS_COUNTED),
        _each(staff, "/rebuilds"),
        _in_time(staff.ask("roster", "GET", "/imports")),
    )
    return staff.page(
        "operations.html",
        healths=healths,
        readers=_readers(lags),
        lags=lags,
        letters={service: found and found.get("dead_letters", []) for service, found in letters.items()},
        counted=LETTERS_COUNTED,
        rebuilds=_rebuilds(rebuilds),
        rebuild_states=REBUILD_STATES,
        imports=_rows(imports, "imports", IMPORTS_SHOWN),
        import_states=STATES,
    )


async def _health(staff: Staff, service: Service) -> Health:
    began = time.perf_counter()
    answer = await _in_time(staff.visit.portal.backend.ask(service, "GET", "/health/ready"))
    took_ms = round((time.perf_counter() - began) * 1000)
    told = answer.body if isinstance(answer.body, dict) else {}
    missing = told.get("missing") or {}
    return Health(service, "ready" in told, told.get("ready") is True, dict(missing), took_ms)


async def _each(staff: Staff, path: str, **query: object) -> dict[Service, dict[str, Any] | None]:
    """What each service answers; None of one that does not."""
    asked = (_in_time(staff.ask(service, "GET", path, query=query)) for service in SERVICES)
    answers = await asyncio.gather(*asked)
    return {
        service: answer.body if answer.ok and isinstance(answer.body, dict) else None
        for service, answer in zip(SERVICES, answers, strict=True)
    }


async def _in_time(asked: Awaitable[Answer]) -> Answer:
    try:
        async with asyncio.timeout(HEARD_WITHIN_S):
            return await asked
    except TimeoutError:
        return Answer(503)


def _rows(answer: Answer, name: str, limit: int) -> list[dict[str, Any]] | None:
    if not answer.ok or not isinstance(answer.body, dict):
        return None
    return list(answer.body.get(name, []))[:limit]


def _readers(lags: dict[Service, dict[str, Any] | None]) -> list[Reader]:
    """What stands still comes first, then what is furthest behind."""
    found = []
    for service, said in lags.items():
        if said is None:
            continue
        relay = said.get("relay", {})
        found.append(Reader(service, "relay", relay.get("pending"), relay.get("oldest_s", 0.0), None))
        found += [
            Reader(service, each["consumer"], each["lag"], each["still_s"], each["alarm"])
            for each in said.get("consumers", [])
        ]
    return sorted(found, key=lambda each: (each.alarm is None, each.lag is not None, -(each.lag or 0)))


def _rebuilds(said: dict[Service, dict[str, Any] | None]) -> list[dict[str, Any]]:
    """The newest of all services."""
    found = [
        {"service": service, **each}
        for service, answer in said.items()
        for each in (answer or {}).get("rebuilds", [])
    ]
    return sorted(found, key=lambda each: str(each["started_at"]), reverse=True)[:REBUILDS_SHOWN]


PAGES = [Page("GET", "/operations", staffed(show, "operator"))]
