"""What is refused of an archive, and how little of it is read for that."""

import random
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.roster.oneroster.archive import Limits, open_archive
from shared.errors import Rejected
from tests.roster.exports import write_zip
from tests.roster.oneroster.conftest import AVA, BEN, Read, files_11, look

MEBIBYTE = 1024**2


@contextmanager
def refused(reason: str, **details: Any) -> Iterator[None]:
    """Refused with this, in a second and with a few MiB."""
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(Rejected) as caught:
            yield
        assert time.process_time() - began < 1
        assert tracemalloc.get_traced_memory()[1] < 16 * MEBIBYTE
    finally:
        tracemalloc.stop()
    assert caught.value.reason == reason
    assert caught.value.details == caught.value.details | details


def entry(name: str, **attributes: Any) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


def plus(path: Path, info: zipfile.ZipInfo, content: str = "") -> Path:
    """A good export with one entry more."""
    with zipfile.ZipFile(write_zip(path, files_11(AVA)), "a") as archive:
        archive.writestr(info, content)
    return path


class TestWhatIsNoArchive:
    @pytest.mark.parametrize("content", [b"", b"PK\3\4", b"sourcedId,status\r\n", bytes(100_000)])
    def test_other_bytes(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "export.zip"
        path.write_bytes(content)
        with refused("archive_invalid", problem="not_a_zip"):
            look(path)

    def test_an_archive_that_was_cut_off(self, tmp_path: Path) -> None:
        path = write_zip(tmp_path / "export.zip", files_11(AVA))
        path.write_bytes(path.read_bytes()[:-30])
        with refused("archive_invalid", problem="not_a_zip"):
            look(path)

    def test_a_file_in_it_that_was_damaged(self, tmp_path: Path) -> None:
        path = write_zip(tmp_path / "export.zip", files_11(AVA, *([f"x{n}", *BEN[1:]] for n in range(500))))
        content = bytearray(path.read_bytes())
        middle = content.index(b"users.csv") + 400
        content[middle : middle + 8] = bytes(8)
        path.write_bytes(content)
        with refused("archive_invalid", problem="damaged", file="users.csv"):
            look(path)

    def test_one_with_a_password(self, tmp_path: Path) -> None:
        path = plus(tmp_path / "export.zip", entry("secret.csv"))
        content = bytearray(path.read_bytes())
        content[content.rindex(b"PK\1\2") + 8] |= 1
        path.write_bytes(content)
        with refused("archive_invalid", problem="encrypted", file="secret.csv"):
            look(path)

    def test_one_that_is_packed_in_a_rare_way(self, tmp_path: Path) -> None:
        path = plus(tmp_path / "export.zip", entry("a.csv", compress_type=zipfile.ZIP_LZMA), "a")
        with refused("archive_invalid", problem="method", file="a.csv"):
            look(path)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("/etc/users.csv", "absolute"),
            ("C:/users.csv", "absolute"),
            ("../users.csv", "parent"),
            ("a/../../users.csv", "parent"),
            ("export\\users.csv", "separator"),
            ("users.csv\0.txt", "separator"),
            ("USERS.CSV", "twice"),
        ],
    )
    def test_that_no_export_has(self, tmp_path: Path, name: str, problem: str) -> None:
        path = plus(tmp_path / "export.zip", entry("x" * len(name)))
        path.write_bytes(path.read_bytes().replace(b"x" * len(name), name.encode()))
        with refused("archive_path", problem=problem, name=name):
            look(path)

    def test_a_link(self, tmp_path: Path) -> None:
        path = plus(tmp_path / "export.zip", entry("users", external_attr=0o120777 << 16), "/etc/passwd")
        with refused("archive_path", problem="link", name="users"):
            look(path)

    def test_a_name_twice(self, tmp_path: Path) -> None:
        with pytest.warns(UserWarning, match="Duplicate name"):
            path = plus(tmp_path / "export.zip", entry("users.csv"))
        with refused("archive_path", problem="twice", name="users.csv"):
            look(path)

    def test_a_folder_within_and_what_desktops_add_are_nothing(self, read: Read) -> None:
        files = {f"July/OneRoster/{name}": content for name, content in files_11(AVA).items()}
        seen = read(
            files | {"__MACOSX/July/OneRoster/._manifest.csv": "", "July/.DS_Store": "", "July/note.txt": ""}
        )
        assert list(seen.by_id) == ["u1"]
        assert seen.passed_over == {"unknown_files": 1}

    def test_two_exports_in_one_archive_are_none(self, tmp_path: Path) -> None:
        files = {f"{folder}/{name}": text for folder in "ab" for name, text in files_11(AVA).items()}
        with refused("manifest_invalid", problem="several"):
            look(write_zip(tmp_path / "export.zip", files))


class TestBombs:
    def test_a_file_that_inflates_beyond_measure(self, tmp_path: Path) -> None:
        bomb = files_11(AVA) | {"users.csv": "sourcedId\n" + "0" * 20 * MEBIBYTE}
        path = write_zip(tmp_path / "export.zip", bomb)
        with refused("archive_too_large", problem="ratio", file="users.csv"):
            look(path)

    def test_one_that_lies_about_it_ends_where_it_said(self, tmp_path: Path) -> None:
        path = tmp_path / "export.zip"
        write_zip(path, files_11(AVA) | {"users.csv": "sourcedId\n" + "0" * 20 * MEBIBYTE})
        content = path.read_bytes()
        said = struct.pack("<L", 20 * MEBIBYTE + 10)
        assert content.count(said) == 2
        path.write_bytes(content.replace(said, struct.pack("<L", 3_000)))
        with refused("archive_invalid", problem="damaged", file="users.csv"):
            look(path)

    def test_a_file_of_two_gigabytes(self, tmp_path: Path) -> None:
        path = write_zip(tmp_path / "export.zip", files_11(AVA, BEN))
        content = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            said = struct.pack("<L", archive.getinfo("users.csv").file_size)
        path.write_bytes(content.replace(said, struct.pack("<L", 2 * 1024 * MEBIBYTE)))
        with refused("archive_too_large", problem="file", file="users.csv", limit=512 * MEBIBYTE):
            look(path)

    def test_more_entries_than_any_export_has(self, tmp_path: Path) -> None:
        files = files_11(AVA) | {f"{n}.csv": "" for n in range(1000)}
        path = write_zip(tmp_path / "export.zip", files)
        with refused("archive_too_large", problem="entries", limit=1000):
            look(path)

    def test_a_directory_that_would_fill_the_memory(self, tmp_path: Path) -> None:
        """Refused before it is read: three million entries take some hundred bytes each, once they are objects."""
        path = tmp_path / "export.zip"
        header = b"PK\1\2" + bytes(42)
        entries = 700_000
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, entries & 0xFFFF, entries & 0xFFFF, 46 * entries, 0, 0)
        with path.open("wb") as file:
            for _ in range(70):
                file.write(header * 10_000)
            file.write(end)
        with refused("archive_too_large", problem="directory", limit=MEBIBYTE):
            look(path)

    def test_entries_that_share_their_bytes(self, tmp_path: Path) -> None:
        """One kernel of zeros, which a thousand entries point to."""
        kernel = zlib.compress(bytes(100_000), wbits=-15)
        local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, len(kernel), 100_000, 1, 0) + b"a"
        directory = b"".join(
            struct.pack(
                "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 0, 0, len(kernel), 100_000, 3, 0, 0, 0, 0, 0, 0
            )
            + b"%03d" % n
            for n in range(900)
        )
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 900, 900, len(directory), len(local + kernel), 0)
        path = tmp_path / "export.zip"
        path.write_bytes(local + kernel + directory + end)
        with refused("archive_invalid", problem="overlapping"):
            look(path)

    def test_an_archive_over_the_bound(self, tmp_path: Path) -> None:
        path = tmp_path / "export.zip"
        with path.open("wb") as file:
            file.truncate(300 * MEBIBYTE)
        with refused("archive_too_large", problem="archive", limit=256 * MEBIBYTE):
            look(path)

    def test_a_folder_has_the_same_bounds(self, tmp_path: Path) -> None:
        for name, content in files_11(AVA).items():
            (tmp_path / name).write_text(str(content))
        with (tmp_path / "users.csv").open("a") as file:
            file.truncate(600 * MEBIBYTE)
        with refused("csv_invalid", problem="nul", file="users.csv"):
            look(tmp_path)
        with refused("archive_too_large", problem="file", limit=20):
            look(tmp_path, file_bytes=20)
        with refused("archive_too_large", problem="entries", limit=2):
            look(tmp_path, entries=2)


def test_what_is_read_comes_in_pieces(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(MEBIBYTE)
    path = write_zip(tmp_path / "export.zip", files_11() | {"users.csv": content})
    with open_archive(path, Limits()) as archive:
        pieces = list(archive.pieces("users.csv"))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= 64 * 1024
