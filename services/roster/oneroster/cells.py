"""What a cell of an export holds, or what is wrong with it."""

import re
import unicodedata
from datetime import date
from functools import lru_cache
from typing import Any

import msgspec

from shared import text
from shared.policy import NAME_MAX_LENGTH

VALUE_CHARACTERS = 80  # of what a file has, in a flaw


class Flaw(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a row, and where: `line` is where the row begins in `file`, the header is line 1.

    `taken`: it is a remark only, and the row was taken without this value. Otherwise nothing of the row counts, and
    `source_id` is whom it is about: they must not seem absent. None: nobody can tell whom, so with such a flaw in a
    bulk export absence proves nothing about anybody.

    `value` is what the file has there, cut to 80 characters. `details` is JSON-able.
    """

    file: str
    line: int
    column: str | None = None
    value: str | None = None
    reason: str
    details: dict[str, Any] = {}
    source_id: str | None = None
    taken: bool = False


class ClassFlaw(Flaw, frozen=True, kw_only=True):
    """What is wrong with a row about classes. Whoever it names is in the export all the same."""


class Bad(Exception):
    """A cell that makes its row a flaw."""

    def __init__(self, column: str, value: str, reason: str, **details: Any) -> None:
        super().__init__(reason)
        self.column, self.value, self.reason, self.details = column, value, reason, details


def flaw_of(bad: Bad, file: str, line: int, user: str, *, taken: bool = False) -> Flaw:
    return Flaw(**_told(bad, file, line, user, taken))


def class_flaw_of(bad: Bad, file: str, line: int, user: str, *, taken: bool = False) -> ClassFlaw:
    return ClassFlaw(**_told(bad, file, line, user, taken))


def _told(bad: Bad, file: str, line: int, user: str, taken: bool) -> dict[str, Any]:
    return {
        "file": file,
        "line": line,
        "column": bad.column or None,
        "value": bad.value[:VALUE_CHARACTERS] if bad.column else None,
        "reason": bad.reason,
        "details": bad.details,
        "source_id": user if problem_of(user) is None else None,
        "taken": taken,
    }


def one_of(known: dict[str, bool], column: str, given: str) -> bool:
    try:
        return known[given.strip().lower()]
    except KeyError:
        raise Bad(column, given, "value_unknown", known=[word for word in known if word]) from None


def day_of(column: str, given: str) -> date | None:
    """A day as ISO 8601 has it. Of a moment its day counts: it is midnight somewhere, and a day was meant."""
    given = given.strip()
    if not given:
        return None
    if (day := _day(given)) is None:
        raise Bad(column, given, "date_malformed", expected="2026-08-03")
    return day


@lru_cache(maxsize=1000)  # of half a million cells nearly all hold the same few
def _day(given: str) -> date | None:
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}([T ].*)?", given, re.ASCII):
            return date.fromisoformat(given[:10])
    except ValueError:
        pass
    return None


def problem_of(given: str) -> str | None:
    if not given.strip():
        return "field_empty"
    if len(given) > NAME_MAX_LENGTH:
        return "field_too_long"
    if not given.isprintable() and text.control_character(given) is not None:
        return "field_control_character"
    return None


def check(column: str, given: str) -> None:
    if problem := problem_of(given):
        limit = {"limit": NAME_MAX_LENGTH} if problem == "field_too_long" else {}
        raise Bad(column, given, problem, field=column, **limit)


def name_of(column: str, given: str) -> str:
    """In NFC; letters, hyphens, apostrophes and inner blanks are left alone, as in every statement of a district."""
    name = unicodedata.normalize("NFC", given).strip()
    check(column, name)
    return name


def word_of(column: str, given: str) -> str | None:
    return name_of(column, given) if given.strip() else None
