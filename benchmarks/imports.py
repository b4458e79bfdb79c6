"""A district's export of 50,000 pupils: from the zip's first byte to the last one who may claim, and the same next day.

Beside it: COPY of the very rows that the import leaves in roster, indexes and all, into empty tables of the same shape.
"""

import asyncio
import contextlib
import io
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import asyncpg
import psutil

from benchmarks.district import District
from benchmarks.measure import Figure
from services.cli.client import Json
from tests.roster.exports import Pupil, pupils, write_export
from tests.roster.schedules import PERIODS

PUPILS = 50_000
PUPILS_A_TEACHER = 16
ROUNDS = 3
PATIENCE_S = 300
LEFT_BY_AN_IMPORT = ("identity", "stream", "event", "ingress", "person", "import_row")


async def figures(district: District) -> list[Figure]:
    """The first export is whole; those of later rounds are deltas of others, since a whole one takes others away."""
    first, again, peaks = [], [], []
    roster = await asyncpg.connect(district.fleet.dsn("roster"))
    try:
        with tempfile.TemporaryDirectory(prefix="homeroom-bench-") as folder:
            for n in range(ROUNDS):
                students = pupils(PUPILS, seed=n + 1)
                mode = "delta" if n else "bulk"
                export = write_export(Path(folder) / f"{n}.zip", students, mode=mode)
                seconds, peak = await _peak(district, to_claimable(district, export, students, n + 1))
                first.append(seconds)
                peaks.append(peak)
                if n == 0:
                    copies = [await _copy(roster) for _ in range(ROUNDS)]
                    again = [await _unchanged(district, roster, export) for _ in range(ROUNDS)]
    finally:
        await roster.close()
    return [
        Figure.of(f"import of {PUPILS:,} new pupils, to the last who may claim", "s", first, "< 90"),
        Figure.of("roster meanwhile, with its reader, resident at most", "MiB", peaks, "< 300"),
        Figure.of("COPY of the rows that it leaves in roster", "s", copies),
        Figure.of("import / COPY", "ratio", [s / c for s, c in zip(first, copies, strict=True)]),
        Figure.of("the same export again, to its report", "s", again, "< 15"),
    ]


async def figures_with_classes(district: District) -> list[Figure]:
    """The same pupils, each in seven classes, with who teaches them; then nearly all of them in other classes."""
    roster = await asyncpg.connect(district.fleet.dsn("roster"))
    try:
        with tempfile.TemporaryDirectory(prefix="homeroom-bench-") as folder:
            students = pupils(PUPILS)
            export = write_export(Path(folder) / "a.zip", students, staff=PUPILS_A_TEACHER, classes=True)
            first, peak = await _peak(district, to_claimable(district, export, students, 1))
            again = [await _unchanged(district, roster, export) for _ in range(ROUNDS)]
            students.reverse()
            other = write_export(Path(folder) / "b.zip", students, staff=PUPILS_A_TEACHER, classes=True)
            moved, moved_peak = await _peak(district, _reassigned(district, other))
    finally:
        await roster.close()
    what = f"{PUPILS:,} pupils and {PUPILS // PUPILS_A_TEACHER:,} staff, {PERIODS * PUPILS:,} enrollments in classes"
    return [
        Figure.of(f"import of {what}, to the last who may claim", "s", [first], "< 90"),
        Figure.of("roster meanwhile, with its reader, resident at most", "MiB", [peak, moved_peak], "< 300"),
        Figure.of("the same export again, to its report", "s", again, "< 15"),
        Figure.of("nearly everybody in other classes, to its report", "s", [moved]),
    ]


async def _reassigned(district: District, export: Path) -> float:
    """Seconds until nearly everybody has their other classes."""
    began = time.perf_counter()
    report = await _imported(district, export)
    if report["counts"].get("reassigned", 0) < PUPILS * 0.99:  # a section in the middle stays together
        raise RuntimeError(f"too few have other classes: {report}")
    return time.perf_counter() - began


async def to_claimable(district: District, export: Path, students: list[Pupil], rounds: int) -> float:
    """Seconds until claims would let all of them in; as a baseline, so that nobody waits."""
    claims = await asyncpg.connect(district.fleet.dsn("claims"))
    try:
        began = time.perf_counter()
        report = await _imported(district, export, baseline="true")
        deadline = began + PATIENCE_S
        found = "SELECT count(*) FROM admission WHERE baseline AND kind = 'student'"
        while await claims.fetchval(found) < rounds * PUPILS:
            if time.perf_counter() > deadline:
                raise RuntimeError("claims has not heard of everybody")
            await asyncio.sleep(0.1)
        seconds = time.perf_counter() - began
    finally:
        await claims.close()
    if report["counts"]["added"] < PUPILS:
        raise RuntimeError(f"not everybody was taken: {report}")
    last = students[-1]
    body = {"number": last.number, "last_name": last.last_name, "first_name": last.first_name}
    if (answer := await district.homeroom.ask("POST", "claims", "/claims", body)).status != 201:
        raise RuntimeError(f"a pupil may not claim: {answer.body}")
    return seconds


async def _unchanged(district: District, roster: asyncpg.Connection, export: Path) -> float:
    """Seconds until everybody was found unchanged."""
    events = await roster.fetchval("SELECT count(*) FROM event")
    began = time.perf_counter()
    report = await _imported(district, export)
    seconds = time.perf_counter() - began
    if (
        report["counts"]["unchanged"] < PUPILS
        or await roster.fetchval("SELECT count(*) FROM event") != events
    ):
        raise RuntimeError(f"something was taken for news: {report}")
    return seconds


async def _imported(district: District, export: Path, **query: str) -> Json:
    """The report of an import once it has ended."""
    homeroom = district.homeroom
    url = f"{homeroom.site.services['roster']}/v1/districts/{homeroom.site.district}/imports"
    headers = {
        "Authorization": f"Bearer {await homeroom.token('everything')}",
        "Content-Type": "application/zip",
    }
    with export.open("rb") as file:
        async with homeroom.http.post(url, params=query, data=file, headers=headers) as answer:
            report: Json = await answer.json()
    if answer.status != 202:
        raise RuntimeError(f"the export was not taken: {report}")
    path, deadline = f"/imports/{report['import_id']}", time.perf_counter() + PATIENCE_S
    while report["state"] in ("received", "applying"):
        if time.perf_counter() > deadline:
            raise RuntimeError(f"an import has not ended: {report}")
        await asyncio.sleep(0.1)
        report = (await homeroom.call("everything", "GET", "roster", path)).body
    if report["state"] != "done":
        raise RuntimeError(f"an import ended otherwise: {report}")
    return report


async def _peak(district: District, work: Awaitable[float]) -> tuple[float, float]:
    """What `work` answers, and the most memory that roster had with its children meanwhile, in MiB."""
    part = district.fleet.part("roster")
    assert part.process is not None
    roster, peak = psutil.Process(part.process.pid), 0.0
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [roster, *roster.children(recursive=True)]
            peak = max(peak, sum(each.memory_info().rss for each in family) / 2**20)
        await asyncio.sleep(0.05)
    return await task, peak


async def _copy(roster: asyncpg.Connection) -> float:
    """Seconds of COPY for all rows of the first import, table by table."""
    seconds = 0.0
    for table in LEFT_BY_AN_IMPORT:
        rows = io.BytesIO()
        await roster.copy_from_table(table, output=rows, format="binary")
        rows.seek(0)
        async with _bare(roster, table):
            began = time.perf_counter()
            await roster.copy_to_table("bare", source=rows, format="binary")
            seconds += time.perf_counter() - began
    return seconds


@contextlib.asynccontextmanager
async def _bare(roster: asyncpg.Connection, table: str) -> AsyncIterator[None]:
    await roster.execute(f"CREATE TABLE bare (LIKE {table} INCLUDING ALL)")
    try:
        yield
    finally:
        await roster.execute("DROP TABLE bare")
