"""What an operator does at a command line: watch the lag, mend dead letters, rebuild and replay, set districts up."""

import asyncio
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from services.cli import app
from services.cli.accounts import AsJson, Yes
from services.cli.client import SERVICES, Failed, Homeroom, Json, confirm, connect, out, show
from shared import policy as policies

dead_letters = App(name="dead-letters", help="Inputs that were set aside, and what waits behind them.")
rebuild = App(name="rebuild", help="Make a read model anew beside the running one, compare, and switch over.")
policy = App(name="policy", help="The districts' rules.")
client = App(name="client", help="Machines and staff that may ask the services.")
district = App(name="district", help="The districts served here.")
for group in (dead_letters, rebuild, policy, client, district):
    app.command(group)

Service = Literal["roster", "claims", "auth"]
OPERATIONS = "/v1/operations"
FINISHED = ("switched", "dropped", "failed")
POLL_S = 0.25


# ------------------------------------------------------------------ lag


@app.command
async def lag(*, json: AsJson = False) -> None:
    """How far every relay, projection and consumer is behind, in records and seconds."""
    async with connect() as homeroom:
        found = await asyncio.gather(
            *(homeroom.get(name, f"{OPERATIONS}/lag", role="operator") for name in SERVICES)
        )
        by_service = dict(zip(SERVICES, found, strict=True))
        show(by_service, json) if json else show(
            [{"service": name, **row} for name in SERVICES for row in lag_rows(by_service[name])], json
        )


def lag_rows(answer: Json) -> list[Json]:
    return list(answer["consumers"])


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
        names = [service] if service else list(SERVICES)
        found = await asyncio.gather(
            *(
                homeroom.get(name, f"{OPERATIONS}/dead-letters", role="operator", state=state)
                for name in names
            )
        )
        rows = [
            {"service": name, **row}
            for name, part in zip(names, found, strict=True)
            for row in part["dead_letters"]
        ]
        show(rows, json, "service", "id", "consumer", "state", "key", "reason", "detail", "first_at")


@dead_letters.command(name="show")
async def show_dead_letter(service: Service, number: int, *, json: AsJson = False) -> None:
    """One dead letter whole: its record, its reason, what was tried."""
    async with connect() as homeroom:
        show(await homeroom.get(service, f"{OPERATIONS}/dead-letters/{number}", role="operator"), json)


@dead_letters.command
async def retry(service: Service, number: int) -> None:
    """Take it again, after its cause was mended; what queued behind it follows in order."""
    async with connect() as homeroom:
        show(
            (
                await homeroom.post(service, f"{OPERATIONS}/dead-letters/{number}/retry", {}, role="operator")
            ).body,
            False,
        )


@dead_letters.command
async def discard(service: Service, number: int, *, reason: str, yes: Yes = False) -> None:
    """Give it up for ever, with the reason; what queued behind it follows in order."""
    confirm(f"Give up dead letter {number} of {service} for ever?", yes)
    async with connect() as homeroom:
        path = f"{OPERATIONS}/dead-letters/{number}/discard"
        show((await homeroom.post(service, path, {"reason": reason}, role="operator")).body, False)


# ------------------------------------------------------------------ rebuild, replay


@rebuild.command
async def start(service: Service, projection: str, *, json: AsJson = False) -> None:
    """Build beside the running table and follow live; interrupting this stops only the watching."""
    async with connect() as homeroom:
        show(await _build(homeroom, service, projection, "rebuild", quiet=json), json)


@rebuild.command
async def status(service: Service, projection: str | None = None, *, json: AsJson = False) -> None:
    """The rebuilds of a service: state, done of total, rate, time left."""
    async with connect() as homeroom:
        found = await homeroom.get(service, f"{OPERATIONS}/rebuilds", role="operator", projection=projection)
        show(
            found["rebuilds"],
            json,
            "id",
            "projection",
            "purpose",
            "state",
            "done",
            "total",
            "started_at",
            "error",
        )


@rebuild.command
async def compare(service: Service, projection: str, *, json: AsJson = False) -> None:
    """Compare the new table with the running one, row by row at equal versions."""
    async with connect() as homeroom:
        show(await _wish(homeroom, service, projection, "compare"), json)


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


@app.command
async def replay(service: Service, projection: str, *, json: AsJson = False) -> None:
    """Run the history again beside the running read model, compare, and drop: nothing is switched.

    Exit status 1 when a row differs.
    """
    async with connect() as homeroom:
        report = await replay_projection(homeroom, service, projection, quiet=json)
        show(report, json)
        if report["different"]:
            raise Failed(
                "replay_differs",
                f"{report['different']} rows of {service} {projection} differ from the running ones",
            )


async def replay_projection(homeroom: Homeroom, service: str, projection: str, *, quiet: bool) -> Json:
    """The comparison's report; the new table is dropped whatever it says."""
    await _build(homeroom, service, projection, "replay", quiet=quiet)
    try:
        return await _wish(homeroom, service, projection, "compare")
    finally:
        await _wish(homeroom, service, projection, "drop")


async def _build(homeroom: Homeroom, service: str, projection: str, purpose: str, *, quiet: bool) -> Json:
    """Start one, or go on watching the one that runs, until it follows live."""
    body = {"projection": projection, "purpose": purpose}
    found = (await homeroom.post(service, f"{OPERATIONS}/rebuilds", body, role="operator")).body
    columns = TextColumn(f"{service} {projection}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=out, transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=None)
        while found["state"] == "building":
            progress.update(task, total=found["total"] or None, completed=found["done"])
            await asyncio.sleep(POLL_S)
            found = await homeroom.get(service, f"{OPERATIONS}/rebuilds/{found['id']}", role="operator")
    if found["state"] == "failed":
        raise Failed("rebuild_failed", str(found["error"]))
    return dict(found)


async def _wish(homeroom: Homeroom, service: str, projection: str, wish: str) -> Json:
    """Ask something of the open rebuild and wait until it is done."""
    return {}


# ------------------------------------------------------------------ setting up


@policy.command
def check(
    folder: Annotated[Path, Parameter(help="The folder of policy files.")] = Path("policies"),
    *,
    json: AsJson = False,
) -> None:
    """Whether every district's policy holds; exit status 1 and what is wrong when one does not."""
    good, bad = policies.read_folder(folder)
    if not good and not bad:
        raise Failed("policy_missing", f"no policy file in {folder}")
    show(
        [{"district": name, "problem": "none"} for name in good]
        + [{"district": name, "problem": problem} for name, problems in bad.items() for problem in problems],
        json,
    )
    if bad:
        raise Failed("policy_invalid", ", ".join(bad))
