"""What the help desk looks up when it asks who signed in, from where, and what came of it."""

from datetime import datetime
from typing import Annotated

from cyclopts import Parameter

from services.cli.accounts import Person, find_account
from services.cli.client import AsJson, connect, show

COLUMNS = (
    "at", "what", "outcome", "person_id", "actor_name", "client", "device_kind", "device", "network", "reference",
    "desk_ticket",
)  # fmt: skip


async def audit(
    who: Person | None = None,
    *,
    what: Annotated[str | None, Parameter(help="sign_in, change_password, issue_code, …")] = None,
    outcome: Annotated[str | None, Parameter(help="done, or the reason of a refusal.")] = None,
    reference: Annotated[str | None, Parameter(help="The code that somebody was shown.")] = None,
    since: Annotated[datetime | None, Parameter(help="From this moment on, 2026-09-01T08:00:00Z.")] = None,
    until: Annotated[datetime | None, Parameter(help="Before this moment.")] = None,
    limit: Annotated[int, Parameter(help="So many lines, the newest first; 1000 at most.")] = 100,
    json: AsJson = False,
) -> None:
    """Who signed in, who was refused, what was given out and changed: of one person, or of the district."""
    async with connect() as homeroom:
        person_id = (await find_account(homeroom, who))["person_id"] if who else None
        found = await homeroom.get(
            "auth", "/audit", person_id=person_id, what=what, outcome=outcome, reference=reference, limit=limit,
            since=_moment(since), until=_moment(until),
        )  # fmt: skip
        show(found["lines"], json, *COLUMNS)


def _moment(given: datetime | None) -> str | None:
    """With its offset; one without is of this machine's clock."""
    return given.astimezone().isoformat() if given else None
