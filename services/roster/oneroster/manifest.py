"""manifest.csv: which version an export is of, and what it says of each of its files. All of it is honoured.

A file that the manifest names and that is not there, or the other way round, means that the export is not the one that
was made: half of an export would look as if half of the pupils had left.
"""

import re
from typing import Any, Literal, NoReturn

import msgspec

from services.roster.oneroster.archive import Archive, Limits
from services.roster.oneroster.tables import MANIFEST, read_table
from shared.errors import Rejected

MAX_ROWS = 1000
MODES = ("bulk", "delta", "absent")

Version = Literal["1.1", "1.2"]
Mode = Literal["bulk", "delta"]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`files`: by name without its ending, in lower case ("users"), what it holds: "bulk", "delta" or "absent"."""

    version: Version
    mode: Mode
    source: str | None
    files: dict[str, str]


def read_manifest(archive: Archive, limits: Limits) -> Manifest:
    """Raises Rejected `manifest_invalid`; `csv_invalid` when it is no CSV file."""
    said: dict[str, tuple[int, str]] = {}
    for line, cells, excess in read_table(archive, MANIFEST, msgspec.structs.replace(limits, rows=MAX_ROWS)):
        name, value = cells[0].strip().lower(), cells[1].strip()
        if excess:
            _refuse("row_unreadable", line=line)
        if said.setdefault(name, (line, value))[1] != value:
            _refuse("repeated", line=line, property=name[:80])
        if name.startswith("file."):
            _check_file(archive, name.removeprefix("file."), line, value)
    version = _version(*said.get("oneroster.version", (None, "")))
    files = {
        name.removeprefix("file."): value.lower() or "absent"
        for name, (_, value) in said.items()
        if name.startswith("file.")
    }
    needed = ("orgs", "users") if version == "1.1" else ("orgs", "users", "roles")
    for name in needed:
        if name not in files and f"{name}.csv" in archive.names:
            _refuse("file_not_named", property=f"file.{name}")
    source = said.get("source.systemname", (0, ""))[1][:255] or None
    return Manifest(version=version, mode=_mode(version, files), source=source, files=files)


def _check_file(archive: Archive, name: str, line: int, value: str) -> None:
    mode, there = value.lower() or "absent", f"{name}.csv" in archive.names
    if mode not in MODES:
        _refuse("mode_unknown", line=line, property=f"file.{name}"[:80], value=value[:80], known=list(MODES))
    if there and mode == "absent":
        _refuse("file_there", line=line, property=f"file.{name}"[:80])
    if not there and mode != "absent":
        _refuse("file_missing", line=line, property=f"file.{name}"[:80])


def _version(line: int | None, value: str) -> Version:
    """1.2.1 is 1.2 with errata."""
    match = re.fullmatch(r"v?(1\.[12])(\.\d{1,3})?", value.lower())
    if match is None:
        _refuse("version", property="oneroster.version", value=value[:80], known=["1.1", "1.2"], line=line)
    return "1.1" if match[1] == "1.1" else "1.2"


def _mode(version: Version, files: dict[str, str]) -> Mode:
    """Whether users, and in 1.2 their roles, are all there are or what changed. Of both only one can be understood."""
    people = ["users"] if version == "1.1" else ["users", "roles"]
    said = {name: files.get(name, "absent") for name in people}
    modes = set(said.values()) - {"absent"}
    if len(modes) > 1:
        _refuse("modes_mixed", **said)
    if modes == {"delta"} or (not modes and set(files.values()) - {"absent"} == {"delta"}):
        return "delta"
    for name, mode in said.items():
        if mode == "absent":
            _refuse("file_needed", property=f"file.{name}")
    return "bulk"


def _refuse(problem: str, **details: Any) -> NoReturn:
    details = {name: value for name, value in details.items() if value is not None}
    raise Rejected("manifest_invalid", file="manifest.csv", problem=problem, **details)
