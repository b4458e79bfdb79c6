"""A zip file, or a folder, as the files of one export. What is refused is refused before much of it was read.

Nothing is ever extracted, so a name in an archive cannot become a path. Names are looked at all the same: who makes
an archive with `..` in it, or with one name twice, wants two readers to see two different exports.
"""

import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from shared.errors import Rejected

PIECE_BYTES = 64 * 1024
STRANGERS = ("__macosx", ".ds_store", "thumbs.db", "desktop.ini")  # what desktops leave behind


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of anything is read at most. `ratio`: bytes inflated from one byte; exports of pupils come to 30."""

    archive_bytes: int = 256 * 1024**2
    directory_bytes: int = 1024**2
    entries: int = 1000
    file_bytes: int = 512 * 1024**2
    ratio: int = 200
    rows: int = 2_000_000
    line_characters: int = 64 * 1024
    record_lines: int = 100
    role_flaws: int = 10_000


class Archive(Protocol):
    """`names`: the files beside manifest.csv, in lower case. `elsewhere`: how many files lie in other folders."""

    names: frozenset[str]
    elsewhere: int

    def pieces(self, name: str) -> Iterator[bytes]:
        """The content of a file, in pieces. Raises Rejected when it is broken or too large."""
        ...


@contextmanager
def open_archive(path: Path, limits: Limits) -> Iterator[Archive]:
    """The export at a path. Raises Rejected: archive_invalid, archive_too_large, archive_path, manifest_invalid."""
    if path.is_dir():
        yield Folder(path, limits)
        return
    size = path.stat().st_size
    if size > limits.archive_bytes:
        raise Rejected("archive_too_large", problem="archive", bytes=size, limit=limits.archive_bytes)
    with _Bounded(path, limits.directory_bytes) as file:
        with _explained():
            opened = zipfile.ZipFile(file)
        with opened:
            yield Zip(opened, size, limits)


class Zip:
    def __init__(self, opened: zipfile.ZipFile, size: int, limits: Limits) -> None:
        self._opened, self._limits = opened, limits
        entries = opened.infolist()
        if len(entries) > limits.entries:
            raise Rejected("archive_too_large", problem="entries", entries=len(entries), limit=limits.entries)
        for entry in entries:
            _check_entry(entry)
        if sum(entry.compress_size for entry in entries) > size:
            raise Rejected("archive_invalid", problem="overlapping")
        files = [e for e in entries if not e.is_dir() and not _stranger(e.filename)]
        folder = _folder_of_manifest([e.filename for e in files])
        self._entries = {
            entry.filename.removeprefix(folder).lower(): entry
            for entry in files
            if entry.filename.startswith(folder) and "/" not in entry.filename.removeprefix(folder)
        }
        self.names = frozenset(self._entries)
        self.elsewhere = len(files) - len(self._entries)

    def pieces(self, name: str) -> Iterator[bytes]:
        entry, limits = self._entries[name], self._limits
        if entry.file_size > limits.file_bytes:
            raise Rejected(
                "archive_too_large", problem="file", file=name, bytes=entry.file_size, limit=limits.file_bytes
            )
        if entry.file_size > limits.ratio * entry.compress_size + PIECE_BYTES:
            raise Rejected("archive_too_large", problem="ratio", file=name, limit=limits.ratio)
        with _explained(name), self._opened.open(entry) as file:
            # What is inflated ends at the size that was looked at above, and a wrong checksum tells a lie about it.
            while piece := file.read(PIECE_BYTES):
                yield piece


class Folder:
    """A folder of the machine that reads it: its owner's own, so links in it are followed."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._limits = limits
        found: dict[str, Path] = {}
        for count, file in enumerate(path.iterdir()):
            if count >= limits.entries:
                raise Rejected("archive_too_large", problem="entries", limit=limits.entries)
            if not file.is_file() or _stranger(file.name):
                continue
            if file.name.lower() in found:
                raise Rejected("archive_path", problem="twice", name=file.name[:80])
            found[file.name.lower()] = file
        self._files, self.names, self.elsewhere = found, frozenset(found), 0
        _folder_of_manifest(list(found))

    def pieces(self, name: str) -> Iterator[bytes]:
        read = 0
        with self._files[name].open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                read += len(piece)
                if read > self._limits.file_bytes:
                    raise Rejected(
                        "archive_too_large", problem="file", file=name, limit=self._limits.file_bytes
                    )
                yield piece


def _check_entry(entry: zipfile.ZipInfo) -> None:
    # As the archive has it: the library cuts a name at NUL and turns another system's separators.
    name = entry.orig_filename
    kind = stat.S_IFMT(entry.external_attr >> 16)
    problem = None
    if name.startswith("/") or name[1:2] == ":":
        problem = "absolute"
    elif "\\" in name or "\0" in name:
        problem = "separator"
    elif ".." in name.split("/"):
        problem = "parent"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        problem = "link"
    if problem:
        raise Rejected("archive_path", problem=problem, name=name[:80])
    if entry.flag_bits & 0x41:
        raise Rejected("archive_invalid", problem="encrypted", file=name[:80])
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Rejected("archive_invalid", problem="method", file=name[:80])


def _folder_of_manifest(names: list[str]) -> str:
    """The folder of the archive that is the export: "" or one that ends with "/". Desktops zip a folder as such."""
    lower = [name.lower() for name in names]
    if len(set(lower)) < len(lower):
        twice = next(name for name in reversed(names) if lower.count(name.lower()) > 1)
        raise Rejected("archive_path", problem="twice", name=twice[:80])
    found = [name for name in names if name.lower().rpartition("/")[2] == "manifest.csv"]
    if len(found) != 1:
        raise Rejected("manifest_invalid", problem="several" if found else "missing", file="manifest.csv")
    return found[0][: -len("manifest.csv")]


def _stranger(name: str) -> bool:
    parts = name.lower().split("/")
    return parts[0] == STRANGERS[0] or parts[-1] in STRANGERS or parts[-1].startswith("._")


class _Bounded(io.FileIO):
    """A file of which nothing is read at once that would not fit: so the directory of an archive has a bound."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path, "rb")
        self._limit = limit
        self._size = self.seek(0, io.SEEK_END)

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self._size - self.tell() if size is None or size < 0 else size
        if wanted > self._limit:
            raise Rejected("archive_too_large", problem="directory", limit=self._limit)
        return super().read(wanted)


@contextmanager
def _explained(file: str | None = None) -> Iterator[None]:
    """Whatever the library makes of bytes that are no zip file, or of a damaged one, as one refusal."""
    where: dict[str, Any] = {} if file is None else {"file": file}
    try:
        yield
    except zlib.error as error:
        raise Rejected("archive_invalid", problem="damaged", detail=str(error)[:200], **where) from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, OverflowError, OSError) as error:
        problem = "damaged" if file else "not_a_zip"
        raise Rejected("archive_invalid", problem=problem, detail=str(error)[:200], **where) from None
