"""Reads an export in a process of its own, `python -m services.roster.import_reader`: the service goes on meanwhile.

On stdin it is told what to read (`Task`); on stdout it answers in frames, a letter and a length before each:
  R  rows, in COPY's text format, of the columns COLUMNS
  F  flaws, as JSON
  E  the end: what the export was, as JSON (`Told`)
  X  a refusal of the whole, as JSON (`Refusal`); nothing after it, and what came before means nothing
"""

import resource
import struct
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from services.roster.oneroster.cells import ClassFlaw, Flaw
from services.roster.oneroster.export import PersonRow, open_export
from shared.errors import Rejected
from shared.policy import Policy

COLUMNS = (*PersonRow.__struct_fields__, "flawed")
UNTOLD = len(COLUMNS) - 5  # of somebody whose row cannot be read all is, but the place, the id and two flags
HEAD = struct.Struct("!cI")
FRAME_ROWS = 500
MEMORY_BYTES = 2 * 1024**3  # of addresses; whatever an archive makes of its reader, the machine lives
MAX_FLAWS = 1000  # that are told one by one

_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))  # the backslash first


class Task(msgspec.Struct, frozen=True):
    path: str
    as_of: datetime
    policy: Policy
    all_roles: bool  # of the users that it names, in a delta too


class Told(msgspec.Struct, frozen=True):
    """`flaws`: how many rows were not taken, by reason. `remarks`: values that were not, of rows that were.
    `anonymous`: rows of which nobody can tell whom they are about."""

    version: str
    mode: str
    source: str | None
    passed_over: dict[str, int]
    flaws: dict[str, int]
    remarks: int
    anonymous: int

    @property
    def repeated(self) -> int:
        """Rows of users who are there more than once."""
        return self.passed_over.get("repeated", 0) + self.flaws.get("source_id_repeated", 0)


class Refusal(msgspec.Struct, frozen=True):
    reason: str
    details: dict[str, Any]


class Answers:
    """Frames on their way out, and what they come to."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._rows: list[str] = []
        self.flaws: dict[str, int] = {}
        self.remarks = self.anonymous = self._told = 0

    def take(self, rows: Iterable[PersonRow | Flaw]) -> None:
        for row in rows:
            if isinstance(row, Flaw):
                self._flaw(row)
            else:
                self._rows.append(copied(row))
            if len(self._rows) >= FRAME_ROWS:
                self.flush()
        self.flush()

    def _flaw(self, flaw: Flaw) -> None:
        if flaw.taken:
            self.remarks += 1
        else:
            self.flaws[flaw.reason] = self.flaws.get(flaw.reason, 0) + 1
            if isinstance(flaw, ClassFlaw):
                pass  # whoever it names is as present as without it
            elif flaw.source_id is None:
                self.anonymous += 1
            else:
                self._rows.append(_line(flaw.file, flaw.line, flaw.source_id, *[None] * UNTOLD, False, True))
        if self._told < MAX_FLAWS:
            self._told += 1
            self.send(b"F", msgspec.json.encode(flaw))

    def flush(self) -> None:
        if self._rows:
            self.send(b"R", "".join(self._rows).encode())
            self._rows.clear()

    def send(self, kind: bytes, content: bytes) -> None:
        self._out.write(HEAD.pack(kind, len(content)))
        self._out.write(content)


def copied(row: PersonRow) -> str:
    """A person as a line of COPY."""
    if row.unassigned is not None:
        row = msgspec.structs.replace(row, unassigned=msgspec.json.encode(row.unassigned).decode())
    return _line(*msgspec.structs.astuple(row), False)


def _line(*values: object) -> str:
    return "\t".join(["\\N" if v is None else _escaped(str(v)) for v in values]) + "\n"


def _escaped(text: str) -> str:
    for sign, escape in _ESCAPES:
        text = text.replace(sign, escape)
    return text


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    answers = Answers(sys.stdout.buffer)
    try:
        with open_export(Path(task.path), task.policy, task.as_of, all_roles=task.all_roles) as export:
            answers.take(export.persons())
            told = Told(
                export.version, export.mode, export.source, dict(export.passed_over),
                dict(export.untold + Counter(answers.flaws)), answers.remarks, answers.anonymous,
            )  # fmt: skip
        answers.send(b"E", msgspec.json.encode(told))
    except Rejected as refusal:
        answers.send(b"X", msgspec.json.encode(Refusal(refusal.reason, refusal.details)))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
