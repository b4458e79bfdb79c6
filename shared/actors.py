"""Who did something, by name: events and rows keep the client's stable id, the help desk reads what it is called.

Services never ask auth. A client's token says its name, so each service notes it when the client first changes
something here; a name is no fact of the history, can be another tomorrow, and can be deleted.
"""

from collections.abc import Iterable

from shared.auth import Caller
from shared.database import Connection, Database, queries

REMEMBERED = 2048  # clients of whom a process knows that their name is written down

_sql = queries("shared", "web.sql")


class Actors:
    """Notes names, each once for each process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._noted: dict[str, str] = {}

    async def note(self, caller: Caller) -> None:
        """Before the client changes anything. Raises Unavailable."""
        if caller.name == caller.subject or self._noted.get(caller.subject) == caller.name:
            return
        async with self._db.connection() as conn:
            await conn.execute(_sql.note_actor, caller.subject, caller.name)
        if len(self._noted) >= REMEMBERED:
            self._noted.clear()
        self._noted[caller.subject] = caller.name


async def names_of(conn: Connection, client_ids: Iterable[str]) -> dict[str, str]:
    """What clients are called, as far as it was noted."""
    rows = await conn.fetch(_sql.names_of, list(client_ids))
    return {row["client_id"]: row["name"] for row in rows}
