"""A CSV file of an export as rows, each with the line where it begins, and the columns that are read.

RFC 4180 as both versions of the specification ask for it, and what real exports make of it: a byte order mark, UTF-16,
any end of line, line breaks within quotes, columns in another order or letter case, columns that nobody knows. Quotes
are read strictly: one that is never closed, or closed elsewhere, swallows rows, and a pupil whose row was swallowed
would seem to have left.
"""

import codecs
import csv
import io
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, NoReturn

import msgspec

from services.roster.oneroster.archive import Archive, Limits
from shared.errors import Rejected

# So many rows with a wrong number of columns, or so many of all, are no sign yet of a broken file; most of all are.
TORN_ROWS = 20
TORN_PERCENT = 5


class Table(msgspec.Struct, frozen=True):
    """A file, the columns that are read of it, and which of those may be missing. The first says whom it is about."""

    file: str
    columns: tuple[str, ...]
    optional: frozenset[str] = frozenset()


_PERSON = ("sourcedId", "identifier", "familyName", "givenName")
_STATE = ("status", "enabledUser", "grades")
MANIFEST = Table("manifest.csv", ("propertyName", "value"))
ORGS = Table("orgs.csv", ("sourcedId", "name", "type"), frozenset({"type"}))
USERS = {
    "1.1": Table(
        "users.csv",
        (*_PERSON, "orgSourcedIds", *_STATE, "role", "username"),
        frozenset({*_STATE, "username"}),
    ),
    "1.2": Table(
        "users.csv",
        (*_PERSON, "primaryOrgSourcedId", *_STATE, "username"),
        frozenset({"primaryOrgSourcedId", *_STATE, "username"}),
    ),
}
ROLES = Table(
    "roles.csv",
    ("userSourcedId", "role", "orgSourcedId", "roleType", "status", "beginDate", "endDate"),
    frozenset({"roleType", "status", "beginDate", "endDate"}),
)

SESSIONS = Table("academicSessions.csv", ("sourcedId", "startDate", "endDate"))
COURSES = Table("courses.csv", ("sourcedId", "title"))
CLASSES = Table(
    "classes.csv",
    ("sourcedId", "title", "schoolSourcedId", "termSourcedIds", "courseSourcedId", "status"),
    frozenset({"schoolSourcedId", "termSourcedIds", "courseSourcedId", "status"}),
)
ENROLLMENTS = Table(
    "enrollments.csv",
    ("userSourcedId", "classSourcedId", "role", "status", "beginDate", "endDate"),
    frozenset({"status", "beginDate", "endDate"}),
)

# A row: its line, its cells in the order of the table's columns, and how many cells it has more than the header. If
# that is not 0, the row is torn: of its cells only the first is there, and only where it cannot be another's.
Row = tuple[int, tuple[str, ...], int]


def read_table(archive: Archive, table: Table, limits: Limits) -> Iterator[Row]:
    """The rows of a file that the archive has. Raises Rejected `csv_invalid` or `rows_too_many` with the place.

    Only who reads to the end knows that the file is whole.
    """
    lines = _Lines(table.file, archive.pieces(table.file.lower()), limits)
    reader = csv.reader(lines, strict=True, skipinitialspace=True)
    line, begins, count, torn, short = 1, 1, 0, 0, 0
    try:
        pick, width, first = _pick(table, next(reader, None))
        lines.taken, begins = 0, reader.line_num + 1
        for cells in reader:
            line, begins = begins, reader.line_num + 1
            lines.taken = 0
            count += 1
            if count > limits.rows:
                raise Rejected("rows_too_many", file=table.file, limit=limits.rows)
            if not any(cells):
                continue
            if begins - line > 1:
                _check_quotes(table.file, line, cells, width)
            if len(cells) > width and not any(cells[width:]):
                del cells[width:]
            excess = len(cells) - width
            if excess == 0:
                cells.append("")  # what a column that is missing holds
                yield line, pick(cells), 0
            else:
                torn, short = torn + 1, line if excess < 0 else short
                key = cells[first] if _sure(first, len(cells), width) else ""
                yield line, (key, *[""] * (len(table.columns) - 1)), excess
    except csv.Error as error:
        problem = "truncated" if "end of data" in str(error) else "quotes"
        _refuse(table.file, begins, problem, detail=str(error)[:200])
    if lines.open_ended and short == line:
        _refuse(table.file, line, "truncated")
    if torn > max(TORN_ROWS, count * TORN_PERCENT // 100) or torn * 2 > count:
        _refuse(table.file, line, "columns_mismatch", rows=torn, expected=width)


def _pick(table: Table, header: list[str] | None) -> tuple[Callable[[list[str]], tuple[str, ...]], int, int]:
    """How the table's columns are picked from a row with an empty cell added; how many cells a row has; and where the
    first of the table's columns is."""
    names = [name.strip().lower() for name in header or ()]
    if not any(names):
        _refuse(table.file, 1, "header_missing")
    while not names[-1]:
        names.pop()  # spreadsheets end lines with commas
    for column in table.columns:
        if names.count(column.lower()) > 1:
            _refuse(table.file, 1, "column_repeated", column=column)
    for column in table.columns:
        if column.lower() not in names and column not in table.optional:
            if len(names) == 1 and (other := next((d for d in ";\t|" if d in names[0]), None)):
                _refuse(table.file, 1, "delimiter", found=other, expected=",")
            _refuse(table.file, 1, "column_missing", column=column)
    where = {name: i for i, name in enumerate(names)}
    indexes = [where.get(column.lower(), len(names)) for column in table.columns]
    return itemgetter(*indexes), len(names), indexes[0]


def _sure(index: int, cells: int, width: int) -> bool:
    """Whether a cell of a torn row is what it seems: whole, before all that is too much, and its row not two in one."""
    return index + 1 < cells < width or (index == 0 and width < cells < 2 * width - 1)


def _check_quotes(file: str, line: int, cells: list[str], width: int) -> None:
    """A field over several lines that holds as many commas as a row: two stray quotes, and rows between them."""
    for cell in cells:
        if "\n" in cell and width > 1 and cell.count(",") >= width - 1:
            _refuse(file, line, "quotes")


class _Lines:
    """The lines of a file, decoded, of bounded length. `taken`: how many since a row began; `count`: of all."""

    def __init__(self, file: str, pieces: Iterator[bytes], limits: Limits) -> None:
        self.count = self.taken = 0
        self.open_ended = False  # whether the last line has no end
        self._file, self._limits = file, limits
        self._lines = self._read(pieces)

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def _read(self, pieces: Iterator[bytes]) -> Iterator[str]:
        longest, record_lines, rest = self._limits.line_characters, self._limits.record_lines, ""
        for text in self._decoded(pieces):
            *whole, rest = (rest + text).split("\n")
            if "\0" in text:
                before = next((i for i, line in enumerate(whole) if "\0" in line), len(whole))
                _refuse(self._file, self.count + 1 + before, "nul")
            for line in whole:
                self.count += 1
                self.taken += 1
                if len(line) > longest:
                    _refuse(self._file, self.count, "line_too_long", limit=longest)
                if self.taken > record_lines:
                    _refuse(self._file, self.count - self.taken + 1, "quotes", limit=record_lines)
                yield line + "\n"
            if len(rest) > longest:
                _refuse(self._file, self.count + 1, "line_too_long", limit=longest)
        if rest:
            self.count += 1
            self.taken += 1
            self.open_ended = True
            yield rest

    def _decoded(self, pieces: Iterator[bytes]) -> Iterator[str]:
        first = next(pieces, b"")
        encoding = "utf-8-sig"
        if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            encoding = "utf-16"
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
        try:
            yield decoder.decode(first)
            for piece in pieces:
                yield decoder.decode(piece)
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            line = self.count + 1 + error.object[: error.start].count(b"\n")
            _refuse(self._file, line, "encoding", expected="UTF-8")


def _refuse(file: str, line: int, problem: str, **details: Any) -> NoReturn:
    raise Rejected("csv_invalid", file=file, line=line, problem=problem, **details)
