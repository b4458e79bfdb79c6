"""Whom the help desk looks for: persons by part of a name, a number or a username; who has not claimed yet, by school,
grade and class; and how many claim, minute by minute.

All of it is asked of the read models as they are now: nothing is counted ahead, so nothing can be counted wrong.
"""

import re
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from shared.activity import Activity, activity, first_minute
from shared.database import Connection, queries
from shared.errors import Rejected
from shared.policy import Kind, Policy
from shared.text import plain

SEARCH_MIN_LETTERS = 2
FIGURES_MAX = 2000  # schools, grades, or classes of a school

_sql = queries("services.claims", "directory.sql")


class PersonSeen(Struct, frozen=True, kw_only=True):
    """One line of a list: who it is, and how the account stands."""

    person_id: UUID
    kind: Kind
    username: str
    last_name: str
    first_name: str
    school: str | None
    grade: str | None
    enrolled: bool
    claimed: bool
    suspended: bool


class Directory(Struct, frozen=True):
    """One page in the order of names; `next_after`: where the next one begins, None on the last."""

    persons: list[PersonSeen]
    next_after: UUID | None


class Sought(Struct, frozen=True, kw_only=True):
    """Who is looked for; what is None does not matter. `claimed`: of the enrolled alone."""

    search: str | None = None
    school: str | None = None
    grade: str | None = None
    class_id: str | None = None
    claimed: bool | None = None


class Figure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Enrolled pupils of one school, grade or class: how many there are, have claimed, have not, and of these, how many
    cannot yet because they are new. What is not known has no name."""

    persons: int
    claimed: int
    unclaimed: int
    waiting: int
    school: str | None = None
    grade: str | None = None
    class_id: str | None = None
    title: str | None = None


async def find(
    conn: Connection, policy: Policy, sought: Sought, *, after: UUID | None, limit: int
) -> Directory:
    """One page of the persons that are looked for. Raises Rejected `search_short`."""
    of_class = None if sought.class_id is None else [{"class_id": sought.class_id}]
    asked = policy.district, sought.school, sought.grade, of_class, sought.claimed, after, limit + 1
    if sought.search is None:
        rows = await conn.fetch(_sql.list_persons, *asked)
    else:
        rows = await conn.fetch(_sql.search_persons, *asked, read_search(sought.search, policy))
    persons = [_seen(dict(row), policy) for row in rows[:limit]]
    return Directory(persons, persons[-1].person_id if len(rows) > limit else None)


def _seen(row: dict[str, Any], policy: Policy) -> PersonSeen:
    return PersonSeen(username=policy.username(row["kind"], row.pop("number")), **row)


def read_search(typed: str, policy: Policy) -> list[str]:
    """The words to look for. A student's username, or its beginning, is looked for by the number in it. Raises Rejected
    `search_short`."""
    prefix = re.escape(policy.username_prefix)
    words = [re.sub(rf"^{prefix}(?=[0-9])", "", word, flags=re.IGNORECASE) for word in plain(typed).split()]
    if sum(letter.isalnum() for word in words for letter in word) < SEARCH_MIN_LETTERS:
        raise Rejected("search_short", min_letters=SEARCH_MIN_LETTERS)
    return words


async def unclaimed(
    conn: Connection, policy: Policy, by: str, school: str | None, grade: str | None, now: datetime
) -> list[Figure]:
    """The figures of each school, grade or class. Raises Rejected `school_missing`: classes are those of a school."""
    asked: list[Any] = [policy.district, school, grade, now - policy.claim_delay("student"), FIGURES_MAX]
    statement = {"school": _sql.unclaimed_by_school, "grade": _sql.unclaimed_by_grade}.get(by)
    if statement is None:
        if school is None:
            raise Rejected("school_missing")
        statement = _sql.unclaimed_by_class
        asked.append(now.astimezone(policy.zone).date().isoformat())
    rows = await conn.fetch(statement, *asked)
    return [Figure(unclaimed=row["persons"] - row["claimed"], **dict(row)) for row in rows]


async def claims_a_minute(conn: Connection, district: str, minutes: int, now: datetime) -> Activity:
    """Accounts claimed, by the events that say so; refusals of whatever kind."""
    first = first_minute(now, minutes)
    done = {row["minute"]: row["count"] for row in await conn.fetch(_sql.claims_a_minute, district, first)}
    refused = {
        row["minute"]: row["count"] for row in await conn.fetch(_sql.refusals_a_minute, district, first)
    }
    return activity(first, minutes, done, refused)
