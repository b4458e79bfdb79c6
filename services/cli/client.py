"""How the command line finds Homeroom, asks its services, and shows what they answer.

Where Homeroom is comes from the environment, or else from the local stack of this project (`homeroom status --json`):

- `HOMEROOM_ROSTER_URL`, `HOMEROOM_CLAIMS_URL`, `HOMEROOM_AUTH_URL`: the services' addresses; all three or none.
- `HOMEROOM_DISTRICT`: the district that commands speak of, `ccps` by default.
- `HOMEROOM_CLIENT_ID` and `HOMEROOM_CLIENT_SECRET_FILE` (or `HOMEROOM_CLIENT_SECRET`): the client that asks.
- `HOMEROOM_KAFKA` and the other settings of the services, for what speaks to Kafka or PostgreSQL itself.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import aiohttp
import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from shared.errors import HomeroomError
from shared.reasons import Reason, load_reasons
from shared.settings import Settings, SettingsInvalid, from_environment

SERVICES = ("roster", "claims", "auth")
TRIES = 5
PATIENCE_S = 15

WIDTH_OF_A_PIPE, UNBOUNDED = 200, 10_000  # columns: of what is not read on a terminal; more than any row has

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Json = dict[str, Any]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]
Yes = Annotated[bool, Parameter(name="--yes", negative="", help="Do it without asking.")]

# What to do next about the command line's own reasons; the services' come with their reasons.
ADVICE = {
    "unreachable": "See what runs with `homeroom status`, or check HOMEROOM_*_URL.",
    "not_configured": "Start the local stack with `make up`, or set HOMEROOM_ROSTER_URL, _CLAIMS_URL and _AUTH_URL.",
    "invalid_client": "The client's id or secret is not accepted: see HOMEROOM_CLIENT_ID, or `homeroom client rotate`.",
    "scope_missing": "This client may not do that; on the local stack: desk, operator and sis each may what is theirs.",
    "demo_failed": "The story does not go as it should: see `homeroom status`, `homeroom lag` and `homeroom logs`.",
    "approver_is_author": "Somebody else must approve it: HOMEROOM_CLIENT_ID, on the local stack --client desk2.",
    "person_unknown": "Check the number or username; a new pupil appears when the SIS has published the enrollment.",
    "reference_unknown": "Read it again letter by letter. A code can be looked up for 30 days.",
    "application_unknown": "`homeroom application list` shows which there are.",
    "attribute_invalid": "Say `--attribute givenName=first_name`: its own name for it, and what it is told.",
    "no_secret": "Register it anew as `--type web` if it has a server that keeps one.",
    "client_unknown": "See `homeroom client token --help`; `homeroom client list` shows who may ask.",
    "district_not_served": "Put the file into the folder that the services read, HOMEROOM_POLICY_DIR; they take it up.",
    "keys_missing": "Name the folder: `--folder`, with keys/, signing/ and secrets/ in it.",
    "keys_of_another": "Run this as that account; with compose: `docker compose run --rm prepare services.cli keys …`.",
    "keys_unreadable": "Set the line right; the services go on with what they read before.",
    "key_unknown": "`homeroom keys show` tells which there are.",
    "key_in_use": "Make another first (`homeroom keys rotate`), and wait until nothing depends on this one.",
    "nothing_matched": "Each line's state says why; `homeroom person show NUMBER` tells how the SIS writes a name.",
    "file_unreadable": "Name a text file in UTF-8, or - to paste the lines.",
    "file_unusable": "Look at the path and who may use it. HOMEROOM_STATE_DIR names another folder for the stack.",
    "rebuild_missing": "Begin one with `homeroom rebuild start SERVICE PROJECTION`.",
    "rebuild_waits": "It goes on by itself when that is back; the same command watches it again.",
    "import_unwatched": "Nothing is lost: it goes on at the server when roster is back. `homeroom import show ID` tells"
    " how far it is; an upload is also followed again by the same command.",
    "part_unknown": "Name one of those, or none to follow all.",
    "not_running": "Start the local stack with `make up`.",
    "unavailable": "See what runs with `homeroom status`, or check HOMEROOM_KAFKA and HOMEROOM_POSTGRES.",
}


class Failed(HomeroomError):
    """A command refused, or one that could not be carried out: `reason` on stderr, exit status 1."""

    def __init__(
        self, reason: str, detail: str = "", *, status: int = 0, body: Json | None = None, service: str = ""
    ) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail, self.status, self.body = reason, detail, status, body or {}
        self.service = service


class Client(msgspec.Struct, frozen=True):
    """A client of auth's `token` route."""

    id: str
    secret: str


class Site(msgspec.Struct, frozen=True):
    """Where one Homeroom is, and whom the command line may be there."""

    district: str
    services: dict[str, str]
    clients: dict[str, Client]
    kafka: str = ""
    databases: dict[str, str] = {}

    def client(self, role: str) -> Client:
        """The client of that role: on the local stack each role has its own, otherwise there is the one configured."""
        found = self.clients.get(role) or self.clients.get("*")
        if not found:
            if self.clients:
                raise Failed("client_unknown", f"no client {role} here: {', '.join(self.clients)}")
            raise Failed("not_configured", "HOMEROOM_CLIENT_ID and HOMEROOM_CLIENT_SECRET_FILE are missing")
        return found

    def settings(self, **given: Any) -> Settings:
        """The services' settings, for what speaks to Kafka or PostgreSQL itself."""
        try:
            return from_environment(**({"service": "cli", "postgres": "", "kafka": self.kafka} | given))
        except SettingsInvalid as error:
            raise Failed("not_configured", str(error)) from None


class Answer(msgspec.Struct, frozen=True):
    """What a service answered; `body` is empty where there was none."""

    status: int
    headers: Mapping[str, str]
    body: Any


def find_site(env: Mapping[str, str] = os.environ) -> Site:
    """The Homeroom that the environment names, else the local stack; `not_configured` when there is neither."""
    urls = {name: env.get(f"HOMEROOM_{name.upper()}_URL", "").rstrip("/") for name in SERVICES}
    if not any(urls.values()):
        return _local_stack(env)
    if missing := [name for name, url in urls.items() if not url]:
        raise Failed("not_configured", f"HOMEROOM_{missing[0].upper()}_URL is missing")
    clients = {}
    if client_id := env.get("HOMEROOM_CLIENT_ID"):
        clients["*"] = Client(client_id, _secret(env))
    return Site(env.get("HOMEROOM_DISTRICT", "ccps"), urls, clients, env.get("HOMEROOM_KAFKA", ""))


def _secret(env: Mapping[str, str]) -> str:
    if file := env.get("HOMEROOM_CLIENT_SECRET_FILE"):
        try:
            return Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Failed("not_configured", f"HOMEROOM_CLIENT_SECRET_FILE: {error}") from None
    return env.get("HOMEROOM_CLIENT_SECRET", "")


def local_databases(site: Site, service: str | None, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The database of one service, or of all: the local stack's, else the one in HOMEROOM_POSTGRES."""
    if dsn := env.get("HOMEROOM_POSTGRES"):
        if service is None:
            raise Failed("wrong_usage", "say whose database HOMEROOM_POSTGRES is")
        return {service: dsn}
    if not site.databases:
        raise Failed("not_configured", "HOMEROOM_POSTGRES is missing")
    return {name: dsn for name, dsn in site.databases.items() if service in (None, name)}


def _local_stack(env: Mapping[str, str]) -> Site:
    from services.cli import stack  # which shows with what this module offers

    found = stack.read_status()
    if found.get("state") not in ("running", "degraded"):
        raise Failed("not_configured", "no local stack of this project is running")
    site = msgspec.convert(found, Site)
    return msgspec.structs.replace(
        site, district=env.get("HOMEROOM_DISTRICT", site.district), databases=found["postgres"]["databases"]
    )


class Homeroom:
    """The three services as one district's clients see them; a token is asked for once for each role."""

    def __init__(self, site: Site, http: aiohttp.ClientSession) -> None:
        self.site, self.http, self._tokens = site, http, dict[str, str]()

    async def get(self, service: str, path: str, *, role: str = "desk", **query: object) -> Any:
        """GET; the decoded body."""
        return (await self.call(role, "GET", service, path, query=query)).body

    async def pages(
        self, service: str, path: str, rows: str, *, role: str = "desk", **query: object
    ) -> list[Json]:
        """All `rows` that a service gives page by page, each with the service's name."""
        found: list[Json] = []
        after: int | None = 0
        while after is not None:
            page = await self.get(service, path, role=role, **query, after=after)
            found += ({"service": service, **row} for row in page[rows])
            after = page["next_after"]
        return found

    async def post(
        self, service: str, path: str, body: object = None, *, role: str = "desk", **query: object
    ) -> Answer:
        """POST under an idempotency key of its own, so that a repeat after a broken connection is not done twice."""
        return await self.call(
            role, "POST", service, path, body, query=query, headers={"Idempotency-Key": str(uuid4())}
        )

    async def call(
        self, role: str, method: str, service: str, path: str, body: object = None,
        *, query: Mapping[str, object] | None = None, headers: Mapping[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        """Ask as `role`; a path that does not begin with /v1 is the district's. Refusals are raised as `Failed`."""
        if role not in self._tokens:
            self._tokens[role] = await self.token(role)
        bearer = {"Authorization": f"Bearer {self._tokens[role]}", **(headers or {})}
        answer = await self.ask(method, service, path, body, query=query, headers=bearer)
        if answer.status == 401:  # ten minutes have gone by: once more with a fresh token
            self._tokens[role] = await self.token(role)
            bearer["Authorization"] = f"Bearer {self._tokens[role]}"
            answer = await self.ask(method, service, path, body, query=query, headers=bearer)
        return raise_for(answer, service)

    async def token(self, role: str) -> str:
        """A fresh access token of the client of that role."""
        return await self._token(self.site.client(role))

    async def _token(self, client: Client) -> str:
        form = {"grant_type": "client_credentials"}
        basic = {"Authorization": aiohttp.encode_basic_auth(client.id, client.secret)}
        answer = raise_for(await self.ask("POST", "auth", "/token", form=form, headers=basic), "auth")
        return str(answer.body["access_token"])

    async def ask(
        self, method: str, service: str, path: str, body: object = None, *, form: Mapping[str, str] | None = None,
        query: Mapping[str, object] | None = None, headers: Mapping[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        """One request; a 503 and a connection that was never made are tried again, a few times, as long as that is
        answered soon."""
        url = self.site.services[service] + (
            path if path.startswith(("/v1/", "/health")) else f"/v1/districts/{self.site.district}{path}"
        )
        params = {key: str(value) for key, value in (query or {}).items() if value is not None}
        deadline = time.monotonic() + PATIENCE_S
        for attempt in range(TRIES):
            last = attempt == TRIES - 1
            try:
                async with self.http.request(
                    method, url, params=params, json=body, data=form, headers=dict(headers or {})
                ) as response:
                    answer = Answer(response.status, response.headers, decoded(await response.read()))
            except (aiohttp.ClientError, TimeoutError) as error:
                last = last or time.monotonic() > deadline
                if last or (method == "POST" and not form and "Idempotency-Key" not in (headers or {})):
                    why = str(error) or f"nothing within {PATIENCE_S} s"
                    raise Failed("unreachable", f"{service} does not answer at {url} ({why})") from error
                await asyncio.sleep(0.2 * 2**attempt)
                continue
            if answer.status != 503 or last or time.monotonic() > deadline:
                return answer
            await asyncio.sleep(min(2.0, float(answer.headers.get("Retry-After", "1"))))
        raise AssertionError("the last attempt returns or raises")


def decoded(content: bytes) -> Any:
    """A JSON body, or {} for none; a body that is not JSON (a proxy's page) is kept as text."""
    try:
        return msgspec.json.decode(content) if content else {}
    except msgspec.DecodeError:
        return {"reason": "unexpected_answer", "detail": content[:200].decode(errors="replace")}


def raise_for(answer: Answer, service: str) -> Answer:
    """The answer itself, or its problem as `Failed`."""
    if answer.status < 400:
        return answer
    body = answer.body if isinstance(answer.body, dict) else {}
    reason = body.get("reason") or body.get("error") or f"http_{answer.status}"
    detail = body.get("detail") or body.get("error_description") or ""
    raise Failed(reason, detail, status=answer.status, body=body, service=service)


@asynccontextmanager
async def connect(site: Site | None = None) -> AsyncIterator[Homeroom]:
    """Homeroom, for the time of one command."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        yield Homeroom(site or find_site(), http)


# ------------------------------------------------------------------ showing


def explain(failure: Failed) -> None:
    """A refusal on stderr: its reason, what it says, the rest of its facts, and what to do next."""
    known = _reason(failure)
    says = failure.detail or (known.meaning if known else "")
    err.print(f"[red]{failure.reason}[/red]" + (f": {plain(says)}" if says else ""))
    for key, value in failure.body.items():
        if key not in ("type", "title", "status", "detail", "reason", "error", "error_description"):
            err.print(f"  {key}: {plain(value)}")
    if advice := ADVICE.get(failure.reason) or (known.next if known else ""):
        err.print(f"  {advice}", markup=False)


def _reason(failure: Failed) -> Reason | None:
    """What the service that refused says about its reason; the same reason may mean another thing elsewhere."""
    asked = [failure.service] if failure.service else SERVICES
    found = (load_reasons(f"services.{name}").get(failure.reason) for name in asked)
    return next((known for known in found if known), None)


def show(data: Any, as_json: bool, *columns: str) -> None:
    """`data` as JSON, or for people: rows as a table (of `columns`, else of all), a single thing as a sheet."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")
    elif isinstance(data, list):
        table(data, columns)
    else:
        sheet(data)


def table(rows: Sequence[Json], columns: Sequence[str] = ()) -> None:
    """One line for each row; says so when there is none. What the terminal is too narrow for becomes sheets."""
    if not rows:
        out.print("none")
        return
    columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    cells = {column: [plain(row.get(column)) for row in rows] for column in columns}
    for column, texts in cells.items():  # only prose is broken into lines, never an id or a moment
        drawn.add_column(column, overflow="fold", no_wrap=not any(" " in text for text in texts))
    for line in zip(*cells.values(), strict=True):
        drawn.add_row(*line)
    if Measurement.get(out, out.options.update(width=UNBOUNDED), drawn).minimum <= out.width:
        printed(drawn)
        return
    for row in rows:
        sheet({column: row.get(column) for column in columns})
        out.print()


def sheet(data: Json) -> None:
    """One line for each field; of what is nested only what is known, one thing a line."""
    drawn = Table.grid(padding=(0, 2))
    for key, value in data.items():
        drawn.add_row(f"[bold]{key}[/bold]", plain(value))
    printed(drawn)


def printed(drawn: Table) -> None:
    """Without the blanks that fill its last column."""
    with out.capture() as captured:
        out.print(drawn)
    out.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def plain(value: object) -> str:
    """A value as a person reads it; never markup."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        known = ((key, item) for key, item in value.items() if item not in (None, [], {}))
        return ", ".join(
            f"{key} ({plain(item)})" if isinstance(item, dict) else f"{key} {plain(item)}"
            for key, item in known
        )
    if isinstance(value, list):
        between = "\n" if any(isinstance(item, dict) for item in value) else ", "
        return between.join(plain(item) for item in value) or "-"
    return str(value).lower() if isinstance(value, bool) else str(value).replace("[", "\\[")


def confirm_by_word(warning: str, word: str, yes: bool, *, ask: Callable[[str], str] = input) -> None:
    """As `confirm`, where a y comes too easily: the word itself has to be typed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failed("not_confirmed", f"{warning} Say --yes to do it without being asked.")
    if ask(f"{warning} Type {word} to go on: ").strip() != word:
        raise Failed("not_confirmed", "nothing was done")


def confirm(question: str, yes: bool, *, ask: Callable[[str], str] = input) -> None:
    """Go on only after a yes; without a terminal to ask on, `--yes` must say it."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failed("not_confirmed", f"{question} Say --yes to do it without being asked.")
    if ask(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise Failed("not_confirmed", "nothing was done")
