"""Resets at a command line: of one account, of a ticket's lines, of a school, of all students."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

from cyclopts import App, Parameter
from rich.progress import Progress

from services.cli.accounts import Ticket, find_account, given
from services.cli.client import (
    AsJson,
    Failed,
    Homeroom,
    Json,
    Yes,
    confirm,
    confirm_by_word,
    connect,
    err,
    out,
    show,
    table,
)

reset = App(
    name="reset", help="Put accounts back to unclaimed: one, a ticket's lines, a school, all students."
)

ASK_EVERY_S = 0.2
ASK_ABOUT_MANY_EVERY_S = 1.0
Batch = Annotated[UUID, Parameter(help="The id that the reset answered with.")]


@reset.default
async def reset_accounts(
    who: Annotated[
        str | None, Parameter(help="A person's id, username (S0123456) or number (0123456).")
    ] = None,
    *,
    lines: Annotated[
        Path | None,
        Parameter(
            allow_leading_hyphen=True,
            help="A file of ticket lines, `Firstname Lastname 0123456` each; - reads them from stdin.",
        ),
    ] = None,
    school: Annotated[
        str | None,
        Parameter(help="Every claimed account of this school's pupils, named as the SIS names it."),
    ] = None,
    all_students: Annotated[
        bool, Parameter(negative="", help="Every claimed account of the district's pupils.")
    ] = False,
    ticket: Ticket = None,
    dry_run: Annotated[bool, Parameter(negative="", help="Only show what would be done.")] = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Reset accounts: sessions end, the passwords are dead, the pupils claim again. Of many it first shows which."""
    if [who is not None, lines is not None, school is not None, all_students].count(True) != 1:
        raise Failed(
            "wrong_usage", "name one person, or --lines FILE, or --school NAME, or --all-students: see --help"
        )
    async with connect() as homeroom:
        if lines is not None:
            await _reset_lines(homeroom, lines, ticket, dry_run, yes, json)
        elif who is None:
            await _reset_many(homeroom, school, ticket, dry_run, yes, json)
        else:
            await _reset_one(homeroom, who, ticket, dry_run, json)


async def _reset_one(homeroom: Homeroom, who: str, ticket: str | None, dry_run: bool, as_json: bool) -> None:
    found = await find_account(homeroom, who)
    if dry_run:
        show(found, as_json)
        return
    path = f"/accounts/{found['person_id']}/resets"
    answer = await homeroom.post("claims", path, given(desk_ticket=ticket))
    await watch(homeroom, answer.body["batch_id"], as_json)


async def _reset_lines(
    homeroom: Homeroom, lines: Path, ticket: str | None, dry_run: bool, yes: bool, as_json: bool
) -> None:
    try:
        text = sys.stdin.read() if str(lines) == "-" else lines.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "this is no text in UTF-8"
        raise Failed("file_unreadable", f"{lines}: {why}") from error
    body: Json = {"lines": [line for line in text.splitlines() if line.strip()]} | given(desk_ticket=ticket)
    preview = (await homeroom.post("claims", "/reset-batches", body, dry_run="true")).body
    if not as_json:
        table([line | {"as pasted": body["lines"][line["line"] - 1]} for line in preview["lines"]])
    if dry_run:
        if as_json:
            show(preview, as_json)
        return
    matched = [line for line in preview["lines"] if line["state"] == "matched"]
    if not matched:
        raise Failed("nothing_matched", "no line names an account that can be reset")
    confirm(f"Reset {len(matched)} of {len(preview['lines'])} lines' accounts?", yes)
    await _begin(homeroom, body, as_json)


async def _reset_many(
    homeroom: Homeroom, school: str | None, ticket: str | None, dry_run: bool, yes: bool, as_json: bool
) -> None:
    body = given(school=school, all_students=school is None, desk_ticket=ticket)
    preview = (await homeroom.post("claims", "/reset-batches", body, dry_run="true")).body
    if dry_run and as_json:
        show(preview, as_json)
        return
    if not as_json:
        table(
            [
                {"school": of["school"], "to reset": of["total"], "not claimed": of["unclaimed"]}
                for of in preview["schools"]
            ]
        )
        out.print(_summary(preview))
    if dry_run:
        return
    if school is None:
        code = (await homeroom.ask("GET", "claims", "/policy")).body["code"]
        confirm_by_word(f"Every pupil of {homeroom.site.district} has to claim again.", code, yes)
    else:
        confirm(f"Reset {preview['total']} accounts of {school}?", yes)
    await _begin(homeroom, body, as_json)


def _summary(preview: Json) -> str:
    approval = "; a second person has to approve it" if preview["approval_required"] else ""
    return f"{preview['total']} accounts to reset, {preview['unclaimed']} not claimed{approval}"


async def _begin(homeroom: Homeroom, body: Json, as_json: bool) -> None:
    answer = await homeroom.post("claims", "/reset-batches", body)
    if answer.body["state"] == "awaiting_approval":
        show(_sheet(answer.body, as_json), as_json)
        err.print(f"A second person approves it: homeroom reset approve {answer.body['batch_id']}")
        return
    await watch(homeroom, answer.body["batch_id"], as_json)


async def watch(homeroom: Homeroom, batch_id: str, as_json: bool) -> None:
    """Wait until every session has really ended; an interruption stops only the waiting."""
    path = f"/reset-batches/{batch_id}"
    try:
        with Progress(console=out, transient=True, disable=as_json or not out.is_terminal) as progress:
            task = progress.add_task(f"reset {batch_id}", total=None)
            while (batch := await homeroom.get("claims", path, limit=0))["state"] == "running":
                progress.update(
                    task, total=batch["total"], completed=settled_of(batch), description=progress_of(batch)
                )
                many = batch["extent"] in ("school", "all_students")
                await asyncio.sleep(ASK_ABOUT_MANY_EVERY_S if many else ASK_EVERY_S)
    except asyncio.CancelledError:
        err.print(f"The reset goes on by itself: homeroom reset status {batch_id}")
        raise
    failed = (await _show(homeroom, path, as_json))["counts"].get("failed", 0)
    if failed:
        raise Failed("reset_failed", body={"batch_id": batch_id, "accounts": failed}, service="claims")


def settled_of(batch: Json) -> int:
    """Accounts that nothing more will become of."""
    return sum(batch["counts"].get(state, 0) for state in ("done", "skipped", "failed"))


def progress_of(batch: Json) -> str:
    """How fast it goes, and how long it will take."""
    if not batch["per_second"]:
        return "reset"
    minutes, seconds = divmod(batch["seconds_left"], 60)
    return f"reset, {batch['per_second']:.0f}/s, {minutes}:{seconds:02} left"


async def _show(homeroom: Homeroom, path: str, as_json: bool, *, accounts: bool = False) -> Json:
    """A batch with its lines; of a school or of all students the figures alone, unless the accounts are asked for."""
    batch = await homeroom.get("claims", path, limit=0)
    if accounts or batch["extent"] not in ("school", "all_students"):
        batch["lines"] = await _lines(homeroom, path)
        batch["next_after"] = None
    show(_sheet(batch, as_json), as_json)
    return dict(batch)


async def _lines(homeroom: Homeroom, path: str) -> list[Json]:
    found: list[Json] = []
    after: int | None = 0
    while after is not None:
        page = await homeroom.get("claims", path, after=after)
        found += page["lines"]
        after = page["next_after"]
    return found


def _sheet(batch: Json, as_json: bool) -> Json:
    """As JSON whole; for people without what only a script goes on from."""
    return batch if as_json else {name: value for name, value in batch.items() if name != "next_after"}


@reset.command(name="list")
async def list_resets(
    *,
    waiting: Annotated[
        bool, Parameter(negative="", help="Only those that wait for a second person.")
    ] = False,
    limit: Annotated[int, Parameter(help="How many at most, the newest first.")] = 20,
    json: AsJson = False,
) -> None:
    """The district's last resets: who asked, what they mean, how far they are."""
    async with connect() as homeroom:
        said = {"waiting": "true"} if waiting else {}
        found = await homeroom.get("claims", "/reset-batches", limit=limit, **said)
        columns = "batch_id", "state", "extent", "author_name", "desk_ticket", "as_of", "total", "done"
        show(found["batches"], json, *columns)


@reset.command
async def status(
    batch: Batch,
    *,
    accounts: Annotated[
        bool, Parameter(negative="", help="Also each account, where a school or all students are reset.")
    ] = False,
    json: AsJson = False,
) -> None:
    """How far a reset is: each account of the list, and whether auth has confirmed that its sessions ended."""
    async with connect() as homeroom:
        await _show(homeroom, f"/reset-batches/{batch}", json, accounts=accounts)


@reset.command
async def approve(
    batch: Batch,
    *,
    client: Annotated[str, Parameter(help="The local stack's client that approves.")] = "desk",
    follow: Annotated[bool, Parameter(negative="", help="Wait until every session has ended.")] = False,
    json: AsJson = False,
) -> None:
    """Approve a reset that somebody else asked for."""
    async with connect() as homeroom:
        approved = await homeroom.post("claims", f"/reset-batches/{batch}/approval", role=client)
        if follow:
            await watch(homeroom, str(batch), json)
        else:
            show(_sheet(approved.body, json), json)


@reset.command
async def retry(
    batch: Batch,
    *,
    follow: Annotated[bool, Parameter(negative="", help="Wait until every session has ended.")] = False,
    json: AsJson = False,
) -> None:
    """Try again what failed; whoever was reset or claimed since is left alone."""
    async with connect() as homeroom:
        begun = await homeroom.post("claims", f"/reset-batches/{batch}/retry")
        if follow:
            await watch(homeroom, str(batch), json)
        else:
            show(_sheet(begun.body, json), json)


@reset.command
async def cancel(batch: Batch) -> None:
    """Stop a reset; what is done stays done."""
    async with connect() as homeroom:
        await homeroom.call("desk", "DELETE", "claims", f"/reset-batches/{batch}")
        out.print("cancelled")
