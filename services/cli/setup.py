"""What is set up and checked at a command line: databases, topics, histories, policies, districts, clients."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from services.cli.accounts import find_account
from services.cli.client import (
    SERVICES,
    AsJson,
    Failed,
    Homeroom,
    Json,
    Yes,
    confirm,
    connect,
    err,
    find_site,
    local_databases,
    out,
    show,
)
from services.cli.operations import OPERATIONS, Service
from shared import history as histories
from shared import kafka, policies
from shared.database import connect as connect_database
from shared.database import migrate as migrate_database
from shared.errors import HomeroomError, Unavailable
from shared.logo import LogoUnusable, read_logo
from shared.messages import topic_of
from shared.settings import Settings

policy = App(name="policy", help="The districts' rules.")
client = App(name="client", help="Machines and staff that may ask the services.")
district = App(name="district", help="The districts served here.")
topics = App(name="topics", help="The topics that the services stand on.")
history = App(name="history", help="Store and topic tell one history, or they do not.")

SERVICES_FOLDER = Path(__file__).parents[1]
CLIENTS = f"{OPERATIONS}/clients"
SERVED_PATIENCE_S = 10.0


async def migrate(service: Service | None = None) -> None:
    """Bring databases to the present shape: those of the local stack, or HOMEROOM_POSTGRES as SERVICE's."""
    for name, dsn in local_databases(find_site(), service).items():
        with _told("migration_failed"):
            applied = await migrate_database(dsn, SERVICES_FOLDER / name / "sql")
        out.print(f"{name}: {', '.join(applied) if applied else 'nothing to do'}")


@topics.command
async def create() -> None:
    """Make the topics that are missing, those of the services and of every district."""
    settings = find_site().settings()
    with _told("topic_refused"):
        made = await kafka.create_topics(settings, _wanted_topics(settings))
    out.print("\n".join(made) or "nothing to do")


@topics.command(name="check")
async def check_topics(*, json: AsJson = False) -> None:
    """Whether every topic is as it has to be; exit status 1 and what is wrong when one is not."""
    settings = find_site().settings()
    with _told("topic_refused"):
        problems = await kafka.check_topics(settings, _wanted_topics(settings))
    if json or problems:
        show([{"problem": problem} for problem in problems], json)
    if problems:
        raise Failed("topics_differ", f"{len(problems)} problems")
    if not json:
        out.print("every topic is as it has to be")


def _wanted_topics(settings: Settings) -> list[kafka.Topic]:
    good, _ = policies.read_folder(settings.policy_dir)
    wanted = [kafka.service_topic(settings, name) for name in SERVICES]
    for name in SERVICES:
        wanted += import_module(f"services.{name}.app").SPEC.topics(settings)
    return wanted + [kafka.enrollments_topic(settings, name) for name in good]


@history.command
async def verify(service: Service | None = None, *, json: AsJson = False) -> None:
    """Hold each whole topic against its store: nothing missing, nothing strange, in order. Exit status 1 if not."""
    site = find_site()
    found = {}
    for name, dsn in local_databases(site, service).items():
        with _told("history_unread"), err.status(f"{name}: reading the topic", spinner="line"):
            found[name] = await _verify(site.settings(service=name, postgres=dsn))
    rows = [
        {"service": name, "agrees": seen.agrees} | msgspec.to_builtins(seen) for name, seen in found.items()
    ]
    show(rows, json, "service", "agrees", "records", "streams", "duplicates", "strangers", "gaps", "missing")
    if not all(seen.agrees for seen in found.values()):
        raise Failed("history_diverged", ", ".join(name for name, seen in found.items() if not seen.agrees))


async def _verify(settings: Settings) -> histories.Verification:
    topic = topic_of(settings.topic_prefix, settings.service)
    async with kafka.consuming(settings) as consumer:
        connection = await connect_database(settings.postgres, application_name="homeroom-verify")
        try:
            return await histories.verify(connection, consumer, topic, settings.partitions)
        finally:
            await connection.close()


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
    for name, holds in good.items():  # it is served without its logo; whoever asks is to know
        try:
            if holds.portal.logo:
                read_logo(folder, holds.portal.logo)
        except LogoUnusable as error:
            bad[name] = [str(error)]
    rows = [{"district": name, "problem": None} for name in good if name not in bad]
    rows += [{"district": name, "problem": problem} for name, problems in bad.items() for problem in problems]
    show(rows, json)
    if bad:
        raise Failed("policy_invalid", ", ".join(bad))


@district.command(name="add")
async def add_district(
    slug: str,
    *,
    name: Annotated[str, Parameter(help="The district's name in English.")],
    name_es: Annotated[str | None, Parameter(help="Its name in Spanish; else the English one.")] = None,
    code: Annotated[str, Parameter(help="By which an app finds it: 4 to 12 capitals and digits.")],
    time_zone: Annotated[
        str, Parameter(help="IANA time zone in which moments are shown.")
    ] = "America/New_York",
    extends: Annotated[str, Parameter(help="The district whose other rules it takes over.")] = "ccps",
    folder: Annotated[Path, Parameter(help="The folder of policy files.")] = Path("policies"),
) -> None:
    """Write a new district's policy, check it, and see it served, its topic made, where Homeroom runs."""
    file = folder / f"{slug}.toml"
    names = msgspec.json.encode(name).decode(), msgspec.json.encode(name_es or name).decode()
    try:
        with file.open("x", encoding="utf-8") as written:
            written.write(
                f'extends = "{extends}"\n\ncode = "{code}"\ntime_zone = "{time_zone}"\n'
                f"names = {{ en = {names[0]}, es = {names[1]} }}\n"
            )
    except OSError as error:
        raise Failed("district_exists" if file.exists() else "file_unwritable", str(error)) from None
    if problems := policies.read_folder(folder)[1].get(slug):
        file.unlink()
        raise Failed("policy_invalid", "; ".join(problems))
    out.print(f"{file} holds")
    try:
        site = find_site()
    except Failed:
        out.print("No services are running here: they take it up when they start.")
        return
    if site.kafka:
        await create()
    async with connect(site) as homeroom:
        for service in SERVICES:
            await _until_served(homeroom, service, slug)
    out.print(f"served: {', '.join(SERVICES)}")


async def _until_served(homeroom: Homeroom, service: str, slug: str) -> None:
    """Services read their folder again within a second."""
    deadline = time.monotonic() + SERVED_PATIENCE_S
    # Nobody's refusal: who does not say who he is learns whether there is such a district, and no more.
    while (await homeroom.ask("GET", service, f"/v1/districts/{slug}/refusals/0")).status == 404:
        if time.monotonic() > deadline:
            raise Failed("district_not_served", f"{service} does not know it after {SERVED_PATIENCE_S:.0f} s")
        await asyncio.sleep(0.1)


@client.command(name="add")
async def add_client(
    name: str,
    *,
    scope: Annotated[
        list[str],
        Parameter(help="roster:write, desk, teacher, operator, introspect or exchange; may be repeated."),
    ],
    districts: Annotated[
        list[str] | None, Parameter(name="--district", help="Where it may ask; this one by default.")
    ] = None,
    human: Annotated[
        bool,
        Parameter(
            negative="", help="One person's own: may ask for and approve resets that take a second person."
        ),
    ] = False,
    person: Annotated[
        str | None,
        Parameter(
            help="Whose, by employee number or id: what the client and their own session do, one person did."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """A machine or a member of staff that may ask the services. The secret is shown once, here."""
    async with connect() as homeroom:
        body: Json = {"name": name, "scopes": scope, "districts": districts or [homeroom.site.district]}
        if human or person:
            body["human"] = True
        if person:
            body["person_id"] = (await find_account(homeroom, person))["person_id"]
        show((await homeroom.post("auth", CLIENTS, body, role="operator")).body, json)


@client.command(name="list")
async def list_clients(
    *,
    removed: Annotated[bool, Parameter(negative="", help="Those that were removed, and by whom.")] = False,
    json: AsJson = False,
) -> None:
    """Who may ask, with which scopes; never a secret."""
    async with connect() as homeroom:
        found = await homeroom.get("auth", CLIENTS, role="operator", removed=str(removed).lower())
        columns = "id", "name", "scopes", "districts", "human", "person_id", "created_at"
        more = ("removed_at", "removed_by_name") if removed else ("rotated_at", "previous_until")
        show(found["clients"], json, *columns, *more)


@client.command(name="change")
async def change_client(
    client_id: str,
    *,
    name: str | None = None,
    scope: Annotated[
        list[str] | None, Parameter(help="In place of all that it has; may be repeated.")
    ] = None,
    districts: Annotated[
        list[str] | None, Parameter(name="--district", help="In place of all where it may ask.")
    ] = None,
    human: Annotated[bool | None, Parameter(help="Whether it is one person's own.")] = None,
    person: Annotated[str | None, Parameter(help="Whose, by employee number or id.")] = None,
    json: AsJson = False,
) -> None:
    """Change what a client is called or may do; what is not said stays. Tokens that it has end within ten minutes."""
    async with connect() as homeroom:
        found = await _find_client(homeroom, client_id)
        said = {"name": name, "scopes": scope, "districts": districts, "human": human}
        body = {key: found[key] if value is None else value for key, value in said.items()}
        whose = (await find_account(homeroom, person))["person_id"] if person else found.get("person_id")
        if whose and body["human"]:
            body["person_id"] = whose
        await homeroom.call("operator", "PUT", "auth", f"{CLIENTS}/{client_id}", body)
        show(await _find_client(homeroom, client_id), json)


@client.command(name="remove")
async def remove_client(client_id: str, *, yes: Yes = False) -> None:
    """Shut a client out, for good. Auth takes none of its tokens any more, the other services within ten minutes."""
    async with connect() as homeroom:
        found = await _find_client(homeroom, client_id)
        confirm(f"Shut out {found['name']} ({', '.join(found['scopes'])}) for good?", yes)
        await homeroom.call("operator", "DELETE", "auth", f"{CLIENTS}/{client_id}")
        out.print("removed")


async def _find_client(homeroom: Homeroom, client_id: str) -> Json:
    for each in (await homeroom.get("auth", CLIENTS, role="operator"))["clients"]:
        if each["id"] == client_id:
            return dict(each)
    raise Failed("client_unknown", f"no client has the id {client_id}")


@client.command(name="token")
async def show_token(role: str) -> None:
    """A bearer token of a configured client (sis, desk, operator, …) for other programs; good for ten minutes."""
    async with connect() as homeroom:
        out.print(await homeroom.token(role), markup=False)


@client.command
async def rotate(
    client_id: str,
    *,
    overlap: Annotated[
        int,
        Parameter(help="Minutes for which the present secret still counts; 0 ends every older one at once."),
    ] = 60,
    json: AsJson = False,
) -> None:
    """Give a client a new secret, shown once, here."""
    async with connect() as homeroom:
        path, body = f"{CLIENTS}/{client_id}/rotate", {"overlap_minutes": overlap}
        show((await homeroom.post("auth", path, body, role="operator")).body, json)


@contextmanager
def _told(reason: str) -> Iterator[None]:
    """What Kafka or PostgreSQL refuse, as the command line tells it; that one is away is no refusal."""
    try:
        yield
    except Unavailable:
        raise
    except HomeroomError as error:
        raise Failed(reason, str(error)) from error
