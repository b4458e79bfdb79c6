"""What the help desk does at a command line: look a pupil up, waive the wait, reset, see why a claim was refused."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

from cyclopts import App, Parameter
from rich.progress import Progress

from services.cli import app
from services.cli.client import (
    SERVICES,
    AsJson,
    Failed,
    Homeroom,
    Json,
    Yes,
    confirm,
    connect,
    out,
    show,
    table,
)

account = App(name="account", help="One pupil's account, as the help desk sees it.")
person = App(name="person", help="Who is on file.")
reset = App(name="reset", help="Put accounts back to unclaimed: one, or the lines of a ticket.")
app.command(account)
app.command(person)
app.command(reset)

Person = Annotated[str, Parameter(help="A person's id, username (S0123456) or number (0123456).")]
Ticket = Annotated[
    str | None, Parameter(name="--ticket", help="The help desk's ticket number, kept with the event.")
]

SERVICE_OF_REFERENCE = {"R": "roster", "C": "claims", "A": "auth"}


async def find_account(homeroom: Homeroom, who: str) -> Json:
    """The account of a person named by id, username or number; `person_unknown` unless it is exactly one."""
    try:
        return dict(await homeroom.get("claims", f"/accounts/{UUID(who)}"))
    except ValueError:
        pass
    username = who if who[:1].upper() in ("S", "E") else f"S{who}"
    accounts = (await homeroom.get("claims", "/accounts", username=username))["accounts"]
    if not accounts:
        raise Failed("person_unknown", f"nobody has the username or number {who}")
    if len(accounts) > 1:
        raise Failed("person_ambiguous", f"{len(accounts)} accounts under {who}: name one by its id")
    return dict(accounts[0])


async def account_path(homeroom: Homeroom, who: str) -> str:
    """The route of a person's account, the same in claims and in auth."""
    return f"/accounts/{(await find_account(homeroom, who))['person_id']}"


def given(**fields: object) -> Json:
    """A body of those fields that were said."""
    return {name: value for name, value in fields.items() if value}


@account.command(name="show")
async def show_account(who: Person, *, json: AsJson = False) -> None:
    """Whether the account is claimed, since when, from when it can be, and what stands in the way."""
    async with connect() as homeroom:
        show(await find_account(homeroom, who), json)


@account.command
async def waive(
    who: Person, *, ticket: Ticket = None, reason: str | None = None,
    revoke: Annotated[bool, Parameter(negative="", help="Take the waiver back.")] = False,
) -> None:  # fmt: skip
    """Let this pupil claim at once, without the waiting period."""
    async with connect() as homeroom:
        path = await account_path(homeroom, who)
        if revoke:
            await homeroom.call("desk", "DELETE", "claims", f"{path}/waiver", query={"desk_ticket": ticket})
        else:
            body = given(desk_ticket=ticket, reason=reason)
            await homeroom.call("desk", "PUT", "claims", f"{path}/waiver", body)
        show(await homeroom.get("claims", path), as_json=False)


@account.command
async def suspend(who: Person, *, ticket: Ticket = None) -> None:
    """Close this account: sessions end, nobody signs in to it or claims it until it is restored."""
    async with connect() as homeroom:
        path = await account_path(homeroom, who)
        await homeroom.call("desk", "PUT", "claims", f"{path}/suspension", given(desk_ticket=ticket))
        show(await homeroom.get("claims", path), as_json=False)


@account.command
async def restore(who: Person, *, ticket: Ticket = None) -> None:
    """Open an account that the desk closed. Who was suspended because they left is let in again by their return."""
    async with connect() as homeroom:
        path = await account_path(homeroom, who)
        await homeroom.call("desk", "DELETE", "claims", f"{path}/suspension", query={"desk_ticket": ticket})
        show(await homeroom.get("claims", path), as_json=False)


@account.command
async def unlock(who: Person, *, ticket: Ticket = None) -> None:
    """Lift the pauses after wrong passwords and wrong answers at once; by themselves they end the next day."""
    async with connect() as homeroom:
        path = f"{await account_path(homeroom, who)}/lockout"
        await homeroom.call("desk", "DELETE", "auth", path, query={"desk_ticket": ticket})
        out.print("unlocked")


@account.command
async def code(who: Person, *, ticket: Ticket = None, json: AsJson = False) -> None:
    """A one-time code, shown once, here: for a new password in place of the three questions, or for staff to claim."""
    async with connect() as homeroom:
        path = f"{await account_path(homeroom, who)}/recovery-codes"
        show((await homeroom.post("auth", path, given(desk_ticket=ticket))).body, json)


@person.command(name="show")
async def show_person(who: Person, *, json: AsJson = False) -> None:
    """What the SIS has told about a pupil: names and number to the letter, the enrollments, the basis of the wait."""
    async with connect() as homeroom:
        try:
            found = await homeroom.get("roster", f"/persons/{UUID(who)}")
        except ValueError:
            found = await homeroom.get("roster", "/persons", number=who[1:] if who[:1] in "sS" else who)
        except Failed as failure:
            raise _instead_of_not_found(failure, "person_unknown", f"nobody has the id {who}") from failure
        persons = found.get("persons", [found])
        if not persons:
            raise Failed("person_unknown", f"nobody has the number {who}")
        for each in [persons] if json else persons:
            show(each, json)


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
    ticket: Ticket = None,
    dry_run: Annotated[
        bool, Parameter(negative="", help="Only show what would be done, line by line.")
    ] = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Reset one account, or a ticket's lines: sessions end, the password is dead, the pupil claims again."""
    if (who is None) == (lines is None):
        raise Failed("wrong_usage", "name either one person, or a file with --lines: homeroom reset --help")
    async with connect() as homeroom:
        if lines is not None:
            await _reset_lines(homeroom, lines, ticket, dry_run, yes, json)
            return
        found = await find_account(homeroom, str(who))
        if dry_run:
            show(found, json)
            return
        path = f"/accounts/{found['person_id']}/resets"
        answer = await homeroom.post("claims", path, given(desk_ticket=ticket))
        await _follow(homeroom, answer.body["batch_id"], json)


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
    answer = await homeroom.post("claims", "/reset-batches", body)
    if answer.body["state"] == "awaiting_approval":
        show(answer.body, as_json)
        out.print(f"A second person approves it: homeroom reset approve {answer.body['batch_id']}")
        return
    await _follow(homeroom, answer.body["batch_id"], as_json)


async def _follow(homeroom: Homeroom, batch_id: str, as_json: bool) -> None:
    """Wait until every session has really ended; an interruption stops only the waiting."""
    path = f"/reset-batches/{batch_id}"
    with Progress(console=out, transient=True, disable=as_json or not out.is_terminal) as progress:
        task = progress.add_task(f"reset {batch_id}", total=None)
        while (batch := await homeroom.get("claims", path))["state"] == "running":
            progress.update(task, total=batch["total"], completed=batch["done"])
            await asyncio.sleep(0.2)
    show(batch, as_json)


@reset.command
async def status(batch: UUID, *, json: AsJson = False) -> None:
    """How far a reset is: each account of the list, and whether auth has confirmed that its sessions ended."""
    async with connect() as homeroom:
        show(await homeroom.get("claims", f"/reset-batches/{batch}"), json)


@reset.command
async def approve(
    batch: UUID, *, client: Annotated[str, Parameter(help="The local stack's client that approves.")] = "desk"
) -> None:
    """Approve a reset that somebody else asked for."""
    async with connect() as homeroom:
        approved = await homeroom.post("claims", f"/reset-batches/{batch}/approval", role=client)
        show(approved.body, as_json=False)


@reset.command
async def cancel(batch: UUID) -> None:
    """Stop a reset; what is done stays done."""
    async with connect() as homeroom:
        await homeroom.call("desk", "DELETE", "claims", f"/reset-batches/{batch}")
        out.print("cancelled")


@app.command
async def refusal(code: str, *, json: AsJson = False) -> None:
    """The true reason behind a reference code that a pupil was shown."""
    service = SERVICE_OF_REFERENCE.get(code[:1].upper())
    if not service:
        raise Failed("reference_unknown", "a reference begins with R, C or A, as in C-7K3M-9QX")
    async with connect() as homeroom:
        try:
            show(await homeroom.get(service, f"/refusals/{code.upper()}"), json)
        except Failed as failure:
            raise _instead_of_not_found(
                failure, "reference_unknown", f"no refusal has the code {code}"
            ) from failure


def _instead_of_not_found(failure: Failed, reason: str, detail: str) -> Failed:
    return Failed(reason, detail) if failure.reason == "not_found" else failure


@app.command
async def timeline(
    who: Person,
    *,
    at: Annotated[str | None, Parameter(help="As it stood at this moment, RFC 3339.")] = None,
    json: AsJson = False,
) -> None:
    """Everything that happened to one person, in all three services, in order."""
    async with connect() as homeroom:
        person_id = (await find_account(homeroom, who))["person_id"]
        parts = await asyncio.gather(*(_history(homeroom, name, person_id, at) for name in SERVICES))
    events = sorted((event for part in parts for event in part), key=lambda event: str(event["time"]))
    show(events, json, "time", "service", "version", "type", "actor_name", "data")


async def _history(homeroom: Homeroom, service: str, person_id: str, at: str | None) -> list[Json]:
    """One service's part; none where it has not heard of the person."""
    try:
        return await homeroom.pages(service, f"/persons/{person_id}/timeline", "events", at=at)
    except Failed as failure:
        if failure.status != 404:
            raise
        return []
