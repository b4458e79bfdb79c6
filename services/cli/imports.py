"""`homeroom import`: what a district's data engineer does with the SIS's export, by hand and every night."""

import asyncio
import hashlib
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID, uuid4

import aiohttp
from cyclopts import App, Parameter
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from services.cli.client import (
    TRIES,
    Answer,
    AsJson,
    Failed,
    Homeroom,
    Json,
    Yes,
    confirm,
    connect,
    decoded,
    err,
    out,
    raise_for,
    show,
)
from services.cli.import_report import print_changes, print_problems, print_report

imports = App(name="import", help="Take in the SIS's OneRoster export, and see what became of it.")

Kind = Literal[
    "added", "corrected", "renumbered", "moved", "withdrawn", "returned", "reassigned", "linked", "baseline"
]
OPEN = ("pulling", "received", "applying")
PIECE_BYTES = 256 * 1024
POLL_S, POLL_AWAY_S = 0.3, 1.0
SILENCE_ALLOWED_S = 60
FIRST_ROWS = 100
# So long may roster be away while an import is followed: a restart with a migration of a large district.
AWAY_S = 900
AWAY_STATUSES = (0, 502, 503, 504)  # nobody answers, or whoever stands before roster says so
WORDS = {"pulling": "pulling from the SIS", "received": "reading and comparing", "applying": "applying"}


@imports.default
async def import_export(
    export: Annotated[Path, Parameter(help="The export: a zip, or the folder with its CSV files.")],
    *,
    dry_run: Annotated[bool, Parameter(negative="", help="Only report what it would change.")] = False,
    baseline: Annotated[
        bool, Parameter(negative="", help="Pupils whom the district had before Homeroom: they do not wait.")
    ] = False,
    as_of: Annotated[
        str | None, Parameter(help="When the export was made, RFC 3339 with its offset; now by default.")
    ] = None,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Import a OneRoster export: planned and reported first, then applied. What was interrupted goes on."""
    query = {"baseline": "true" if baseline else None, "as_of": as_of, "file_name": export.name[:255]}
    if json and not (yes or dry_run):
        raise Failed("wrong_usage", "--json asks no questions: say --dry-run or --yes as well")
    role = "operator" if baseline else "sis"
    async with connect() as homeroom:
        with _zipped(export) as file:
            upload = _Upload(homeroom, role, file, quiet=json)
            if dry_run or not yes:
                report = await upload.run(query | {"dry_run": "true"})
                if dry_run or report["state"] != "done":
                    await _end(homeroom, role, report, json)
                    return
                await print_report(homeroom, role, report)
                confirm("Apply it?", yes=False)
            await _end(homeroom, role, await upload.run(query), json)


@imports.command
async def pull(
    *,
    full: Annotated[
        bool, Parameter(negative="", help="Everything, not only what was modified since the last pull.")
    ] = False,
    dry_run: Annotated[bool, Parameter(negative="", help="Only report what it would change.")] = False,
    baseline: Annotated[
        bool, Parameter(negative="", help="Pupils whom the district had before Homeroom: they do not wait.")
    ] = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Import from the SIS over REST (OneRoster 1.2): roster asks it, as the district's policy says where."""
    if json and not (yes or dry_run):
        raise Failed("wrong_usage", "--json asks no questions: say --dry-run or --yes as well")
    role = "operator" if baseline else "sis"
    asked = {name: "true" for name, said in (("full", full), ("baseline", baseline)) if said}
    async with connect() as homeroom:
        if dry_run or not yes:
            report = await _pull(homeroom, role, asked | {"dry_run": "true"}, quiet=json)
            if dry_run or report["state"] != "done":
                await _end(homeroom, role, report, json)
                return
            await print_report(homeroom, role, report)
            confirm("Apply it?", yes=False)
        await _end(homeroom, role, await _pull(homeroom, role, asked, quiet=json), json)


async def _pull(homeroom: Homeroom, role: str, asked: dict[str, str], *, quiet: bool) -> Json:
    begun = await homeroom.post("roster", "/imports/pulls", role=role, **asked)
    return await _follow(homeroom, role, dict(begun.body), quiet=quiet)


@imports.command(name="list")
async def list_imports(*, json: AsJson = False) -> None:
    """The last imports of the district, the newest first."""
    async with connect() as homeroom:
        rows = (await homeroom.get("roster", "/imports", role="sis"))["imports"]
    if not json:
        rows = [row | {"counts": {kind: n for kind, n in row["counts"].items() if n}} for row in rows]
    show(rows, json, "import_id", "received_at", "state", "dry_run", "mode", "file_name", "counts", "reason")


@imports.command(name="show")
async def show_import(
    which: Annotated[UUID | None, Parameter(help="Its id; the last one by default.")] = None,
    *,
    changes: Annotated[
        Kind | Literal["all"] | None, Parameter(help="Person by person: who is added, withdrawn, …")
    ] = None,
    problems: Annotated[
        bool, Parameter(negative="", help="Row by row: what was not taken, and why.")
    ] = False,
    json: AsJson = False,
) -> None:
    """How far an import is, and its report."""
    if changes and problems:
        raise Failed("wrong_usage", "say either --changes or --problems")
    async with connect() as homeroom:
        path = f"/imports/{which or await _last(homeroom)}"
        if changes:
            kind = None if changes == "all" else changes
            await _show_rows(homeroom, f"{path}/changes", "changes", print_changes, json, kind=kind)
        elif problems:
            await _show_rows(homeroom, f"{path}/problems", "problems", print_problems, json)
        elif json:
            show(await homeroom.get("roster", path, role="sis"), json)
        else:
            await print_report(homeroom, "sis", await homeroom.get("roster", path, role="sis"))


async def _show_rows(
    homeroom: Homeroom,
    path: str,
    rows: str,
    print_rows: Callable[[list[Json]], None],
    as_json: bool,
    **query: str | None,
) -> None:
    """The first rows of a report for people, all of them as JSON."""
    if as_json:
        show(await homeroom.pages("roster", path, rows, role="sis", **query), as_json)
        return
    page = await homeroom.get("roster", path, role="sis", **query)
    if not page[rows]:
        out.print("none")
    print_rows(page[rows][:FIRST_ROWS])
    if len(page[rows]) > FIRST_ROWS or page["next_after"]:
        out.print(f"The first {FIRST_ROWS}; --json has all.")


@imports.command
async def approve(
    which: UUID,
    *,
    client: Annotated[str, Parameter(help="The local stack's client that approves.")] = "desk",
    json: AsJson = False,
) -> None:
    """Let an import go on that somebody else uploaded and that waits for a second person; follows it to its end."""
    async with connect() as homeroom:
        approved = await homeroom.post("roster", f"/imports/{which}/approval", role=client)
        await _end(homeroom, client, await _follow(homeroom, client, approved.body, quiet=json), json)


@imports.command
async def cancel(which: UUID, *, json: AsJson = False) -> None:
    """Stop an import where it is. What was applied stays; the report says how far it came."""
    async with connect() as homeroom:
        await homeroom.call("sis", "DELETE", "roster", f"/imports/{which}")
        report = await homeroom.get("roster", f"/imports/{which}", role="sis")
        if json:
            show(report, json)
        else:
            out.print(f"cancelled; {report['done']} of {report['total']} rows had been applied")


async def _last(homeroom: Homeroom) -> str:
    found = (await homeroom.get("roster", "/imports", role="sis"))["imports"]
    if not found:
        raise Failed("import_unknown", "the district has no imports yet")
    return str(found[0]["import_id"])


# ------------------------------------------------------------------ the file


@contextmanager
def _zipped(export: Path) -> Iterator[Path]:
    """The zip itself, or one of a folder's CSV files: the same bytes again for the same files."""
    if not export.is_dir():
        yield export
        return
    with tempfile.TemporaryDirectory(prefix="homeroom-export-") as folder:
        file = Path(folder) / "export.zip"
        try:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for each in sorted(export.glob("*.csv")):
                    with archive.open(zipfile.ZipInfo(each.name), "w") as copy, each.open("rb") as source:
                        while piece := source.read(PIECE_BYTES):
                            copy.write(piece)
        except (OSError, ValueError) as error:
            raise Failed("file_unreadable", f"{export}: {error}") from error
        yield file


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise Failed("file_unreadable", f"{file}: {error.strerror}") from error


# ------------------------------------------------------------------ uploading and following


class _Upload:
    """One file on its way into Homeroom."""

    def __init__(self, homeroom: Homeroom, role: str, file: Path, *, quiet: bool) -> None:
        self.homeroom, self.role, self.file, self.quiet = homeroom, role, file, quiet
        self.sha256 = _digest(file)

    async def run(self, query: dict[str, str | None]) -> Json:
        """Its import's report at the end, or when it waits for a second person. One that is open already and has the
        same content goes on; another one's dry run is waited for. Raises Failed `import_running` for any other."""
        dry_run = "dry_run" in query
        while (running := await self._open()) is not None:
            ours = running["sha256"] == self.sha256 and running["dry_run"] == dry_run
            if not ours and not running["dry_run"]:
                shown = ("import_id", "state", "file_name", "received_at", "author_name")
                raise Failed("import_running", body={key: running[key] for key in shown}, service="roster")
            report = await _follow(self.homeroom, self.role, running, quiet=self.quiet)
            if ours:
                return report
        return await _follow(self.homeroom, self.role, await self._send(query), quiet=self.quiet)

    async def _open(self) -> Json | None:
        found = await self.homeroom.get("roster", "/imports", role=self.role)
        return next((i for i in found["imports"] if i["state"] in (*OPEN, "awaiting_approval")), None)

    async def _send(self, query: dict[str, str | None]) -> Json:
        """Uploads under one key, so that what was sent again after a broken connection is one import."""
        site = self.homeroom.site
        url = f"{site.services['roster']}/v1/districts/{site.district}/imports"
        headers = {"Content-Type": "application/zip", "Idempotency-Key": str(uuid4())}
        params = {key: value for key, value in query.items() if value is not None}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_ALLOWED_S)
        for attempt in range(1, TRIES + 1):
            bearer = {"Authorization": f"Bearer {await self.homeroom.token(self.role)}"}
            try:
                with self._progress() as advance:
                    async with self.homeroom.http.post(
                        url,
                        params=params,
                        data=self._pieces(advance),
                        headers=headers | bearer,
                        timeout=timeout,
                    ) as response:
                        answer = Answer(response.status, response.headers, decoded(await response.read()))
            except asyncio.CancelledError:
                err.print(
                    "The upload was broken off. Unless `homeroom import list` has it, nothing of it came in."
                )
                raise
            except (aiohttp.ClientError, TimeoutError) as error:
                if attempt == TRIES:
                    raise Failed(
                        "unreachable", f"roster does not take the file at {url} ({error})"
                    ) from error
            else:
                if answer.status != 503 or attempt == TRIES:
                    return dict(raise_for(answer, "roster").body)
            await asyncio.sleep(0.5 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    async def _pieces(self, advance: Callable[[int], None]) -> AsyncIterator[bytes]:
        with self.file.open("rb") as content:
            while piece := await asyncio.to_thread(content.read, PIECE_BYTES):
                yield piece
                advance(len(piece))

    @contextmanager
    def _progress(self) -> Iterator[Callable[[int], None]]:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        quiet = self.quiet or not out.is_terminal
        with Progress(*columns, console=out, transient=True, disable=quiet) as progress:
            task = progress.add_task("uploading", total=self.file.stat().st_size)
            yield lambda size: progress.advance(task, size)


async def _follow(homeroom: Homeroom, role: str, report: Json, *, quiet: bool) -> Json:
    """Wait until nothing goes on any more; an interruption stops only the waiting."""
    path = f"/imports/{report['import_id']}"
    try:
        with Progress(console=out, transient=True, disable=quiet or not out.is_terminal) as progress:
            task = progress.add_task("", total=None)
            while report["state"] in OPEN:
                total = report["total"] if report["state"] != "received" else None
                progress.update(
                    task, description=WORDS[report["state"]], total=total, completed=report["done"]
                )
                await asyncio.sleep(POLL_S)
                report = await _asked(homeroom, role, path)
    except asyncio.CancelledError:
        err.print(
            f"The import goes on at the server. How far it is: homeroom import show {report['import_id']}\n"
            f"To stop it: homeroom import cancel {report['import_id']}"
        )
        raise
    return report


async def _asked(homeroom: Homeroom, role: str, path: str) -> Json:
    """The import, also from a roster that is being restarted. Raises Failed `import_unwatched` when that takes too
    long."""
    now, away_since = asyncio.get_running_loop().time, None
    while True:
        try:
            return dict(await homeroom.get("roster", path, role=role))
        except Failed as failure:
            if failure.status not in AWAY_STATUSES or failure.reason == "history_diverged":
                raise
            if away_since is None:
                away_since = now()
                err.print("roster does not answer; the import goes on when it is back. Waiting for it ...")
            if now() > away_since + AWAY_S:
                import_id = path.rpartition("/")[2]
                silent = f"roster has not answered for {AWAY_S // 60} minutes ({failure.reason})"
                raise Failed("import_unwatched", silent, body={"import_id": import_id}) from failure
        await asyncio.sleep(POLL_AWAY_S)


async def _end(homeroom: Homeroom, role: str, report: Json, as_json: bool) -> None:
    """Shows a report; Failed unless the import is done."""
    if as_json:
        problems = await homeroom.get("roster", f"/imports/{report['import_id']}/problems", role=role)
        show(report | {"first_problems": problems["problems"]}, as_json)
    else:
        await print_report(homeroom, role, report)
    if report["state"] != "done":
        sys.stdout.flush()
        body = {"import_id": report["import_id"]} | report["details"]
        raise Failed(report["reason"] or f"import_{report['state']}", body=body, service="roster")
