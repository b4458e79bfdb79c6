"""Whom the help desk looks for, who has not claimed yet, and how the first day goes."""

import asyncio
import re
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from services.cli.accounts import SERVICE_OF_REFERENCE, person
from services.cli.client import AsJson, Failed, Homeroom, Json, connect, err, out, show, table

REFERENCE = re.compile(r"[RCA]-[0-9A-Z]{4}-[0-9A-Z]{3}", re.IGNORECASE)
COLUMNS = "username", "last_name", "first_name", "school", "grade", "enrolled", "claimed", "suspended"
PAGE = 200

School = Annotated[str | None, Parameter(help="As the SIS names it.")]
Grade = Annotated[str | None, Parameter(help="As the SIS writes it, such as 07.")]


@person.command
async def find(
    text: Annotated[str, Parameter(help="Part of a name, a number, a username; or a reference code.")],
    *,
    school: School = None,
    json: AsJson = False,
) -> None:
    """Who is meant: by the beginnings of names or of a number, without case and accents, or by a code that they were
    shown."""
    async with connect() as homeroom:
        if REFERENCE.fullmatch(text):
            found, more = [await _refused(homeroom, text.upper())], None
        else:
            page = await homeroom.get("claims", "/directory", search=text, school=school)
            found, more = page["persons"], page["next_after"]
    _list(found, json)
    if more:
        err.print(f"There are more than these {len(found)}: type more of the name, or name the school.")


async def _refused(homeroom: Homeroom, code: str) -> Json:
    refusal = await homeroom.get(SERVICE_OF_REFERENCE[code[0]], f"/refusals/{code}")
    if not refusal["person_id"]:
        raise Failed("person_unknown", f"the refusal {code} is of nobody whom the roster knows")
    account = await homeroom.get("claims", f"/accounts/{refusal['person_id']}")
    return {name: account[name] for name in ("person_id", "kind", *COLUMNS)}


async def unclaimed(
    *,
    by: Annotated[
        Literal["school", "grade", "class"], Parameter(help="Which figures; classes are those of a --school.")
    ] = "school",
    school: School = None,
    grade: Grade = None,
    class_id: Annotated[
        str | None, Parameter(name="--class", help="A class by the SIS's id: lists its pupils.")
    ] = None,
    names: Annotated[
        bool, Parameter(name="--list", negative="", help="Who they are, in place of figures.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Who has not claimed yet: figures, or their names. `waiting` are those who cannot yet because they are new."""
    said: Json = {"school": school, "grade": grade}
    async with connect() as homeroom:
        if names or class_id:
            _list(await _pages(homeroom, **said, class_id=class_id, claimed="false"), json)
            return
        figures = (await homeroom.get("claims", "/unclaimed", by=by, **said))["figures"]
    shown = ("class_id", "title") if by == "class" else (by,)
    show(figures, json, *shown, "persons", "claimed", "unclaimed", "waiting")


async def _pages(homeroom: Homeroom, **sought: Any) -> list[Json]:
    found: list[Json] = []
    after: str | None = None
    while True:
        page = await homeroom.get("claims", "/directory", **sought, after=after, limit=PAGE)
        found += page["persons"]
        after = page["next_after"]
        if after is None:
            return found


def _list(found: list[Json], as_json: bool) -> None:
    if as_json:
        show(found, as_json)
    elif found:
        table([{name: each[name] for name in COLUMNS} for each in found])
    else:
        out.print("nobody")


async def activity(
    *,
    minutes: Annotated[int, Parameter(help="Of how many, the present one last; a day at most.")] = 15,
    json: AsJson = False,
) -> None:
    """The first day as it goes: accounts claimed and sign-ins in each minute, and how many were refused."""
    async with connect() as homeroom:
        claims, auth = await asyncio.gather(
            *(homeroom.get(service, "/activity", minutes=minutes) for service in ("claims", "auth"))
        )
    of_auth = {minute["at"]: minute for minute in auth["minutes"]}
    none = {"done": 0, "refused": 0}
    rows = [
        {
            "at": minute["at"],
            "claims": minute["done"],
            "claims_refused": minute["refused"],
            "sign_ins": of_auth.get(minute["at"], none)["done"],
            "sign_ins_refused": of_auth.get(minute["at"], none)["refused"],
        }
        for minute in claims["minutes"]
    ]
    show(rows, json, "at", "claims", "claims_refused", "sign_ins", "sign_ins_refused")
