"""What the help desk does at a command line: look a pupil up, waive the wait, see why a claim was refused."""

import asyncio
from typing import Annotated, Literal
from uuid import UUID

from cyclopts import App, Parameter

from services.cli.client import (
    SERVICES,
    AsJson,
    Failed,
    Homeroom,
    Json,
    connect,
    out,
    show,
)

account = App(name="account", help="One pupil's account, as the help desk sees it.")
person = App(name="person", help="Who is on file.")

Person = Annotated[str, Parameter(help="A person's id, username (S0123456) or number (0123456).")]
Ticket = Annotated[
    str | None, Parameter(name="--ticket", help="The help desk's ticket number, kept with the event.")
]

Role = Literal["desk", "operator"]

WHO = (
    "last_name",
    "first_name",
    "number",
    "kind",
    "role",
    "school",
    "grade",
    "status",
)  # shown first, in this order

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
    """Whether the account is claimed, since when, from when it can be, what stands in the way; its roles, where it is
    signed in, and what auth refused."""
    async with connect() as homeroom:
        found = await find_account(homeroom, who)
        found["auth"] = await _standing(homeroom, found["person_id"])
        show(found, json)


async def _standing(homeroom: Homeroom, person_id: str) -> Json | None:
    """What auth knows of the account; None where it has not heard of the person yet."""
    try:
        standing = dict(await homeroom.get("auth", f"/accounts/{person_id}"))
    except Failed as failure:
        if failure.status != 404:
            raise
        return None
    del standing["person_id"], standing["username"]
    return standing


@account.command
async def roles(*, json: AsJson = False) -> None:
    """Who of the staff has a role, and since when."""
    async with connect() as homeroom:
        holders = (await homeroom.get("auth", "/roles", role="operator"))["holders"]
        show(holders, json, "username", "last_name", "first_name", "roles")


@account.command
async def grant(who: Person, role: Role, *, ticket: Ticket = None, json: AsJson = False) -> None:
    """Give a member of the staff a role: what they may do with their own account, until they leave or are reset."""
    await _change_role("PUT", who, role, ticket, json)


@account.command
async def revoke(who: Person, role: Role, *, ticket: Ticket = None, json: AsJson = False) -> None:
    """Take a role back. Auth takes no token of it any more, the other services within five minutes."""
    await _change_role("DELETE", who, role, ticket, json)


async def _change_role(method: str, who: str, role: str, ticket: str | None, as_json: bool) -> None:
    async with connect() as homeroom:
        path = await account_path(homeroom, who)
        body, query = (
            (given(desk_ticket=ticket), None) if method == "PUT" else (None, {"desk_ticket": ticket})
        )
        await homeroom.call("operator", method, "auth", f"{path}/roles/{role}", body, query=query)
        roles = (await homeroom.get("auth", path, role="operator"))["roles"]
        show(roles, as_json) if roles or as_json else out.print("no role")


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
    """What the SIS has told about somebody: names and number to the letter, school, classes, the basis of the wait."""
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
        if json:
            show(persons, json)
        else:
            for each in persons:
                _print_person(each)


def _print_person(found: Json) -> None:
    """Who, as what, where and since when; then the classes, one a line."""
    known = {field: value for field, value in found.items() if value not in (None, []) and field != "classes"}
    first = {field: known.pop(field) for field in WHO if field in known}
    show(first | known, as_json=False)
    if found.get("classes"):
        out.print()
        show(found["classes"], False, "class_id", "role", "title", "school", "begins_on", "ends_on")


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
