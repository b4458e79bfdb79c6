"""Keys and peppers, as whoever runs Homeroom turns them: in the folder where they are, without stopping anything."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from services.cli.client import AsJson, Failed, Yes, confirm, find_site, local_databases, out, show
from services.cli.key_folder import Kept, KeyFolder, Kind
from shared import clock
from shared.database import close, connect

keys = App(name="keys", help="Keys that sign, peppers, the portal's keys: which there are, and turning them.")

AGE_DAYS = 90
COLUMNS = "kind", "id", "state", "made_at", "since", "over_at"
SAYS = {
    "waits": "It signs from {since}, when everybody knows it.",
    "known": "It opens what others make with it. `homeroom keys use {kind} {id}` has it used here.",
    "used": "What is made from now on is made with it; the services read the file within a second.",
    "signs": "It signs from now on.",
}
# A password that is staged is sealed as it is.
VERIFIERS = """SELECT count(*) FILTER (WHERE starts_with(password, $1)) AS passwords,
    count(*) FILTER (WHERE starts_with(answers, $1)) AS answers,
    (SELECT count(*) FROM staging WHERE starts_with(password, $1)) AS claims
FROM vault"""

Folder = Annotated[
    Path | None, Parameter(help="That `deploy.prepare` made; without it the local stack's.", negative="")
]
Id = Annotated[str, Parameter(help="As `homeroom keys show` has it.")]


def _folder(named: Path | None) -> KeyFolder:
    if named is None:
        from deploy.local.state import state_dir

        named = state_dir()
    return KeyFolder(named, clock.now())


def _tell(kept: Kept) -> None:
    since = f"{kept.since:%Y-%m-%d %H:%M} UTC" if kept.since else ""
    out.print(f"{kept.kind} {kept.id}: {kept.state}", markup=False)
    if says := SAYS.get(kept.state):
        out.print(says.format(kind=kept.kind, id=kept.id, since=since), markup=False)


@keys.command(name="show")
def show_keys(*, folder: Folder = None, json: AsJson = False) -> None:
    """Which keys there are, what each is for at the moment, and since when; never the key."""
    show(msgspec.to_builtins(_folder(folder).all()), json, *COLUMNS)


@keys.command
def rotate(
    kind: Kind,
    *,
    folder: Folder = None,
    known_first: Annotated[
        bool,
        Parameter(
            negative="",
            help="Of a pepper or the portal: only let it be known here. Where each machine has its own file.",
        ),
    ] = False,
) -> None:
    """Make a new key. One that signs begins after ten minutes (for SAML after two weeks), when everybody knows it."""
    where = _folder(folder)
    with where.alone():
        _tell(where.rotate(kind, known_first=known_first))


@keys.command
def use(kind: Kind, id: Id, *, folder: Folder = None) -> None:
    """Have a pepper or a portal's key that is known on every machine make what is made from now on."""
    where = _folder(folder)
    with where.alone():
        _tell(where.use(kind, id))


@keys.command
async def retire(
    kind: Kind,
    id: Id,
    *,
    folder: Folder = None,
    leaked: Annotated[
        bool, Parameter(negative="", help="Somebody else has it: at once, whatever depends on it.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Take a key away that nothing depends on any more. Of a pepper: what was hashed with it is counted
    in auth's database (the local stack's, or HOMEROOM_POSTGRES), and it stays while there is any, leaked or not:
    without it a new password cannot be compared with those before, and their owner could not even claim again."""
    where = _folder(folder)
    if kind == "pepper":
        await _nobody_depends_on(id)
    elif leaked:
        confirm(f"Whatever was made with {kind} {id} counts no more, at once. Take it away?", yes)
    with where.alone():
        where.retire(kind, id, leaked=leaked)
    out.print(f"{kind} {id} is gone", markup=False)


async def _nobody_depends_on(pepper: str) -> None:
    """Raises Failed `key_in_use`."""
    dsn = os.environ.get("HOMEROOM_POSTGRES") or local_databases(find_site(), "auth")["auth"]
    conn = await connect(dsn, application_name="homeroom-keys")
    try:
        (found,) = await conn.fetch(VERIFIERS, f"{pepper}:")
    finally:
        await close(conn)
    if any(found):
        hashed = "{} passwords, {} people's answers and {} claims under way".format(*found)
        raise Failed(
            "key_in_use",
            f"{hashed} were hashed with it; signing in moves a password to the present one, a new claim moves answers",
        )


@keys.command
def turn(
    *,
    folder: Folder = None,
    older_than_days: Annotated[int, Parameter(help="Whose newest key is so old gets another.")] = AGE_DAYS,
) -> None:
    """For a schedule, every day: new keys for tokens and ID tokens where they are old enough, and those away that are
    needed no more. Keys of SAML, peppers and the portal's are turned by hand: somebody has to know of it."""
    if older_than_days < 1:
        raise Failed("wrong_usage", "--older-than-days is 1 or more")
    where = _folder(folder)
    with where.alone():
        over, due = where.over(), where.due(timedelta(days=older_than_days))
        for kept in over:
            where.retire(kept.kind, kept.id)
            out.print(f"{kept.kind} {kept.id} is gone", markup=False)
        for kind in due:
            _tell(where.rotate(kind))
    if not over and not due:
        out.print("nothing to do")
