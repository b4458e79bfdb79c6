"""What the tests of imports stand on: a district whose SIS exports, and what Homeroom makes of it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from shared import clock
from shared.messages import rfc3339
from tests.roster.exports import Pupil, write_export
from tests.roster.given import DISTRICT

if TYPE_CHECKING:
    from tests.roster.conftest import Roster

ZIP = {"Content-Type": "application/zip"}
ENDED = ("done", "refused", "cancelled", "failed", "awaiting_approval")
PATIENCE_S = 20


class District:
    """An SIS that exports, and what Homeroom makes of it."""

    def __init__(self, roster: "Roster", folder: Path, dsn: str, slug: str = DISTRICT) -> None:
        self.roster, self.folder, self.dsn, self.slug = roster, folder, dsn, slug

    async def ask(self, method: str, path: str, **given: Any) -> tuple[int, Any]:
        return await self.roster.ask(method, path, district=self.slug, **given)

    def export(self, students: Sequence[Pupil], **given: Any) -> bytes:
        return write_export(self.folder / "export.zip", students, **given).read_bytes()

    async def upload(self, content: bytes, query: str = "", **given: Any) -> tuple[int, Any]:
        headers = ZIP | given.pop("headers", {})
        return await self.ask("POST", f"/imports{query}", data=content, headers=headers, **given)

    async def take(self, students: Sequence[Pupil], query: str = "", **given: Any) -> Any:
        """Import these students; the import as it stands when nothing goes on any more."""
        asking = {name: given.pop(name) for name in ("scope", "sub", "name", "headers") if name in given}
        status, body = await self.upload(self.export(students, **given), query, **asking)
        assert status == 202, body
        return await self.ended(body["import_id"])

    async def ended(self, import_id: str, *states: str) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                body = await self.shown(import_id)
                if body["state"] in (states or ENDED):
                    return body
                await asyncio.sleep(0.05)

    async def shown(self, import_id: str) -> Any:
        status, body = await self.ask("GET", f"/imports/{import_id}")
        assert status == 200, body
        return body

    async def changes(self, shown: Any, query: str = "") -> list[Any]:
        _, body = await self.ask("GET", f"/imports/{shown['import_id']}/changes{query}")
        return list(body["changes"])

    async def problems(self, shown: Any) -> list[Any]:
        _, body = await self.ask("GET", f"/imports/{shown['import_id']}/problems")
        return list(body["problems"])

    async def rows(self, query: str, *args: Any) -> list[Any]:
        conn = await asyncpg.connect(self.dsn)
        try:
            return [tuple(row) for row in await conn.fetch(query, *args)]
        finally:
            await conn.close()

    async def told(self, pupil: Pupil) -> list[str]:
        """The types of what is recorded of a pupil."""
        return await self.recorded(pupil.source_id)

    async def recorded(self, source_id: str) -> list[str]:
        rows = await self.rows(
            "SELECT type FROM event JOIN identity ON stream_id = person_id WHERE source_id = $1 ORDER BY version",
            source_id,
        )
        return [row[0] for row in rows]

    async def known(self, number: str, persons: int) -> list[Any]:
        """Everybody under a number, once the read model has so many."""
        path = f"/persons?number={number}"
        found = await self.roster.until(path, lambda _, body: len(body["persons"]) == persons, scope="desk")
        return list(found["persons"])

    async def person(self, pupil: Pupil, **expected: Any) -> Any:
        """The pupil as the help desk sees them, once the read model says what is expected."""

        def good(status: int, body: Any) -> bool:
            return any(fits(p) for p in body["persons"])

        def fits(person: Any) -> bool:
            return person["source_id"] == pupil.source_id and expected.items() <= person.items()

        body = await self.roster.until(f"/persons?number={pupil.number}", good, scope="desk")
        return next(p for p in body["persons"] if fits(p))


def change(pupil: Pupil, **fields: Any) -> Pupil:
    return msgspec.structs.replace(pupil, **fields)


def some(counts: dict[str, int]) -> dict[str, int]:
    """The figures that are not 0."""
    return {what: n for what, n in counts.items() if n}


def ago(**before: float) -> str:
    return rfc3339(clock.now() - timedelta(**before)).replace("+", "%2B")
