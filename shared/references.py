"""Reference codes: the true reason of a refusal, kept for the help desk under the code that the refused person sees."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.database import Connection, queries
from shared.problems import new_reference

_sql = queries("shared", "web.sql")


async def record_refusal(
    conn: Connection,
    *,
    service: str,
    district: str,
    route: str,
    reason: str,
    detail: Mapping[str, Any],
    now: datetime,
    person_id: UUID | None = None,
) -> str:
    """Keeps why something was refused; answers the reference. `reason` is what the caller was told."""
    while True:
        reference = new_reference(service)
        # A code that is taken already is drawn again.
        args = (reference, district, route, reason, dict(detail), person_id, now)
        if await conn.fetchval(_sql.insert_refusal, *args):
            return reference
