"""What an operator does at a command line: watch the lag, mend dead letters, rebuild and replay read models."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from services.cli.client import SERVICES, AsJson, Failed, Homeroom, Json, Yes, confirm, connect, out, show

dead_letters = App(name="dead-letters", help="Inputs that were set aside, and what waits behind them.")
rebuild = App(name="rebuild", help="Make a read model anew beside the running one, compare, and switch over.")

Service = Literal["roster", "claims", "auth"]
OPERATIONS = "/v1/operations"
LETTERS, REBUILDS = f"{OPERATIONS}/dead-letters", f"{OPERATIONS}/rebuilds"
POLL_S = 0.25
STILL_S = 60.0  # a rebuild that reads nothing for so long waits for something
LETTERS_A_PAGE = 500


# ------------------------------------------------------------------ lag


async def lag(*, json: AsJson = False) -> None:
    """How far every relay, projection and consumer is behind, in records, and how long it has not moved."""
    async with connect() as homeroom:
        found, away = await _each(
            SERVICES, lambda name: homeroom.get(name, f"{OPERATIONS}/lag", role="operator")
        )
    relay = [
        {
            "service": name,
            "consumer": "relay",
            "lag": lags["relay"]["pending"],
            "still_s": lags["relay"]["oldest_s"],
        }
        for name, lags in found.items()
    ]
    readers = [{"service": name, **reader} for name, lags in found.items() for reader in lags["consumers"]]
    columns = "service", "consumer", "lag", "still_s", "state", "alarm"
    show(found if json else [*relay, *readers], json, *columns)
    if away:
        raise away[0]


async def _each(
    services: Sequence[str], ask: Callable[[str], Awaitable[Any]]
) -> tuple[dict[str, Any], list[Failed]]:
    """What each service answers, and the failures of those that do not: an operator asks most when one is away.
    Raises the first of them when nobody answers."""
    answers = dict(
        zip(services, await asyncio.gather(*map(ask, services), return_exceptions=True), strict=True)
    )
    away = [answer for answer in answers.values() if isinstance(answer, BaseException)]
    if strange := [error for error in away if not isinstance(error, Failed)]:
        raise strange[0]
    if len(away) == len(services):
        raise away[0]
    found = {name: answer for name, answer in answers.items() if not isinstance(answer, BaseException)}
    return found, [error for error in away if isinstance(error, Failed)]


# ------------------------------------------------------------------ dead letters


@dead_letters.command(name="list")
async def list_dead_letters(
    service: Service | None = None,
    *,
    state: Annotated[
        str | None, Parameter(help="parked, queued, discarded or applied; open ones by default.")
    ] = None,
    json: AsJson = False,
) -> None:
    """What could not be taken, oldest first, and why."""
    async with connect() as homeroom:
        found, away = await _each(
            [service] if service else SERVICES,
            lambda name: homeroom.pages(
                name, LETTERS, "dead_letters", role="operator", state=state, limit=LETTERS_A_PAGE
            ),
        )
    rows = [letter for part in found.values() for letter in part]
    show(rows, json, "service", "id", "consumer", "state", "key", "reason", "detail", "first_at")
    if away:
        raise away[0]


@dead_letters.command(name="show")
async def show_dead_letter(service: Service, number: int, *, json: AsJson = False) -> None:
    """One dead letter whole: its record, its reason, what was tried."""
    async with connect() as homeroom:
        show(await homeroom.get(service, f"{LETTERS}/{number}", role="operator"), json)


@dead_letters.command
async def retry(service: Service, number: int) -> None:
    """Take it again, after its cause was mended; what queued behind it follows in order."""
    async with connect() as homeroom:
        show((await homeroom.post(service, f"{LETTERS}/{number}/retry", {}, role="operator")).body, False)


@dead_letters.command
async def discard(service: Service, number: int, *, reason: str, yes: Yes = False) -> None:
    """Give it up for ever, with the reason; what queued behind it follows in order."""
    confirm(f"Give up dead letter {number} of {service} for ever?", yes)
    async with connect() as homeroom:
        path, body = f"{LETTERS}/{number}/discard", {"reason": reason}
        show((await homeroom.post(service, path, body, role="operator")).body, False)


# ------------------------------------------------------------------ rebuild, replay


@rebuild.command
async def start(service: Service, projection: str, *, json: AsJson = False) -> None:
    """Build beside the running table and follow live. An interruption ends the watching only: start again to go on."""
    async with connect() as homeroom:
        show(await _build(homeroom, service, projection, "rebuild", quiet=json), json)


@rebuild.command
async def status(service: Service, projection: str | None = None, *, json: AsJson = False) -> None:
    """The rebuilds of a service, newest first: state, done of total, rate, seconds left."""
    async with connect() as homeroom:
        found = await homeroom.get(service, REBUILDS, role="operator", projection=projection)
        columns = "projection", "purpose", "state", "done", "total", "rate", "left_s", "error"
        show(found["rebuilds"], json, *columns)


@rebuild.command
async def compare(service: Service, projection: str, *, json: AsJson = False) -> None:
    """Compare the new table with the running one, row by row at equal versions. Exit status 1 when rows differ."""
    async with connect() as homeroom:
        _judge(service, projection, (await _wish(homeroom, service, projection, "compare"))["report"], json)


@rebuild.command
async def switch(service: Service, projection: str, *, yes: Yes = False, json: AsJson = False) -> None:
    """Serve from the new table; the old one is kept until it is dropped."""
    confirm(f"Serve {service} {projection} from the rebuilt table?", yes)
    async with connect() as homeroom:
        show(await _wish(homeroom, service, projection, "switch"), json)


@rebuild.command
async def drop(service: Service, projection: str, *, yes: Yes = False, json: AsJson = False) -> None:
    """Drop the table that is not served: the new one before a switch, the old one after."""
    confirm(f"Drop the table of {service} {projection} that is not served?", yes)
    async with connect() as homeroom:
        show(await _wish(homeroom, service, projection, "drop"), json)


async def replay(service: Service, projection: str, *, json: AsJson = False) -> None:
    """Run the history again beside the running read model, compare, and drop: nothing is switched.

    Exit status 1 when rows differ.
    """
    async with connect() as homeroom:
        _judge(service, projection, await replay_projection(homeroom, service, projection, quiet=json), json)


def _judge(service: str, projection: str, report: Json, as_json: bool) -> None:
    show(report, as_json)
    if report["different"]:
        raise Failed(
            "rows_differ",
            f"{report['different']} rows of {service} {projection} differ from the running ones",
        )
    if not as_json:
        out.print(f"The history gives the state that is served: {report['compared']} rows, none different.")


async def replay_projection(homeroom: Homeroom, service: str, projection: str, *, quiet: bool) -> Json:
    """The report of a replay: how many rows were `compared`, how many are `different`."""
    return dict((await _build(homeroom, service, projection, "replay", quiet=quiet))["report"])


async def _build(homeroom: Homeroom, service: str, projection: str, purpose: str, *, quiet: bool) -> Json:
    """Start one, or watch the one that runs already, until it follows live (a replay: until it is dropped)."""
    try:
        body = {"projection": projection, "purpose": purpose}
        found = (await homeroom.post(service, REBUILDS, body, role="operator")).body
    except Failed as failure:
        if failure.reason != "rebuild_open":
            raise
        found = await _open_rebuild(homeroom, service, projection)
        if found["purpose"] != purpose:
            raise
    waiting = ("building", "following") if purpose == "replay" else ("building",)
    columns = TextColumn(f"{service} {projection}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=out, transient=True, disable=quiet or not out.is_terminal) as progress:
        task = progress.add_task("", total=None)
        done, moved_at = -1, time.monotonic()
        while found["state"] in waiting:
            progress.update(task, total=found["total"] or None, completed=found["done"])
            if found["done"] != done or found["state"] != "building":
                done, moved_at = found["done"], time.monotonic()
            elif time.monotonic() > moved_at + STILL_S:
                raise await _stands_still(homeroom, service)
            await asyncio.sleep(POLL_S)
            found = await homeroom.get(service, f"{REBUILDS}/{found['id']}", role="operator")
    if found["state"] == "failed":
        raise Failed("rebuild_failed", str(found["error"]))
    return dict(found)


async def _stands_still(homeroom: Homeroom, service: str) -> Failed:
    ready = (await homeroom.ask("GET", service, "/health/ready")).body
    why = "; ".join(ready.get("missing", {}).values()) or "nobody works on it"
    return Failed("rebuild_waits", f"nothing was read for {STILL_S:.0f} s: {why}")


async def _open_rebuild(homeroom: Homeroom, service: str, projection: str) -> Json:
    """The rebuild of a projection that is not finished."""
    found = await homeroom.get(service, REBUILDS, role="operator", projection=projection)
    for each in found["rebuilds"]:
        if each["finished_at"] is None:
            return dict(each)
    raise Failed("rebuild_missing", f"no rebuild of {service} {projection} is under way")


async def _wish(homeroom: Homeroom, service: str, projection: str, wish: str) -> Json:
    """Ask something of the rebuild under way, and wait until it is done."""
    path = f"{REBUILDS}/{(await _open_rebuild(homeroom, service, projection))['id']}"
    found = (await homeroom.post(service, f"{path}/{wish}", {}, role="operator")).body
    while found["wish"] is not None:
        await asyncio.sleep(POLL_S)
        found = await homeroom.get(service, path, role="operator")
    if found["error"]:
        raise Failed("rebuild_not_ready", found["error"])
    return dict(found)
