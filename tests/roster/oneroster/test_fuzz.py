"""Whatever the bytes are: an answer, or one refusal that names its place. And no pupil gets lost in between."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from services.roster.events import Assignment
from services.roster.oneroster.cells import ClassFlaw
from services.roster.oneroster.tables import CLASSES, COURSES, ENROLLMENTS, SESSIONS
from shared.errors import Rejected
from shared.reasons import load_reasons
from tests.roster.exports import manifest, table, write_zip
from tests.roster.oneroster.conftest import (
    AVA,
    BEN,
    EVA,
    ORGS,
    ROLES,
    USERS_11,
    USERS_12,
    Seen,
    files_11,
    look,
)

EXPLAINED = load_reasons("services.roster").keys()
OF_EXPORTS = {
    "archive_invalid",
    "archive_too_large",
    "archive_path",
    "manifest_invalid",
    "csv_invalid",
    "rows_too_many",
}
STUDENTS = [AVA, BEN, *([f"u{n}", f"{n:07}", "Doe", "Jo", "s1", "student"] for n in range(3, 9))]

# Bytes and words that mean something to somebody, among those that do not.
MARKS = [b"\xef\xbb\xbf", b"\xff\xfe", b'"', b",", b"\r", b"\n", b"\0", b";", b'""', b"\xe9", b"'", b"\\"]
WORDS = [
    b"u1",
    b"u2",
    b"0123456",
    b"student",
    b"teacher",
    b"s1",
    b"2026-08-03",
    b"tobedeleted",
    b"Ava",
    b"bulk",
]
soup = st.lists(st.sampled_from(MARKS + WORDS) | st.binary(max_size=3), max_size=60).map(b"".join)
words = st.sampled_from(
    ["", " ", "c1", "c2", "y1", "u1", "u2", "t1", "student", "teacher", "tobedeleted", "active", "2026-08-03",
     "2027-05-28", "8/3/26", "ext:a", "s1", "\ud7ff\U0001f9d2"]
)  # fmt: skip
cells = st.sampled_from(
    ["", " ", "x", *(word.decode() for word in WORDS), "active", "8/3/26", "ext:a", "\ud7ff\U0001f9d2"]
)


def answer(content: bytes | dict[str, bytes | str]) -> Seen | Rejected:
    """What is made of an archive, checked for what holds of every answer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.zip"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            write_zip(path, content)
        seen = _look(path)
    if isinstance(seen, Rejected):
        assert seen.reason in OF_EXPORTS
        assert isinstance(seen.details.get("line", 1), int)
        json.dumps(seen.details)
        return seen
    taken = [s.source_id for s in seen.students]
    left = {f.source_id for f in seen.flaws if not f.taken and not isinstance(f, ClassFlaw)}
    assert len(set(taken)) == len(taken)
    assert not left & set(taken)
    for flaw in seen.flaws:
        assert flaw.reason in EXPLAINED
        assert flaw.line >= 2
        assert len(flaw.value or "") <= 80
        json.dumps(flaw.details)
    for student in seen.students:
        whole = student.number and student.last_name and student.first_name
        assert student.gone or student.partial or whole
    for person in (*seen.students, *seen.staff):
        classes = msgspec.json.decode(person.classes or "[]", type=list[Assignment])
        keys = [each.class_id for each in classes]
        assert keys == sorted(set(keys))
        assert {each.role for each in classes} <= {"teacher" if person.kind == "staff" else "student"}
        assert not set(keys) & set(person.unassigned or ())
        assert not (person.classes_whole and person.unassigned)
    return seen


def _look(path: Path) -> Seen | Rejected:
    try:
        return look(path)
    except Rejected as refusal:
        return refusal


@given(st.binary(max_size=200))
def test_any_bytes_are_no_archive(content: bytes) -> None:
    assert isinstance(answer(content), Rejected)


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_archive_is_refused_or_says_the_same(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = write_zip(Path(folder) / "export.zip", files_11(*STUDENTS)).read_bytes()
    where = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.integers(0, 8))
    put = data.draw(st.binary(max_size=8))
    seen = answer(whole[:where] + put + whole[where + cut :])
    assert isinstance(seen, Rejected) or list(seen.by_id) == [s[0] for s in STUDENTS]


@given(users=soup, orgs=soup)
@settings(max_examples=300)
def test_any_bytes_after_a_header(users: bytes, orgs: bytes) -> None:
    header = ",".join(USERS_11).encode()
    answer(files_11(users=header + b"\n" + users, orgs=b"sourcedId,name,type\n" + orgs))
    answer(files_11(users=users, orgs=orgs))


@given(
    says=soup, rows=st.lists(st.tuples(st.sampled_from(["oneroster.version", "file.users", "file.x"]), cells))
)
@settings(max_examples=200)
def test_any_manifest(says: bytes, rows: list[tuple[str, str]]) -> None:
    answer(files_11(AVA, manifest=manifest("1.1", users="bulk", orgs="bulk").encode() + says))
    answer(files_11(AVA, manifest=table([["propertyName", "value"], *rows])))


@given(
    mode=st.sampled_from(["bulk", "delta"]),
    users=st.lists(st.lists(cells, min_size=len(USERS_12) - 1, max_size=len(USERS_12) + 1), max_size=8),
    roles=st.lists(st.lists(cells, min_size=len(ROLES) - 1, max_size=len(ROLES) + 1), max_size=12),
)
@settings(max_examples=500)
def test_any_words_in_the_cells(mode: str, users: list[list[str]], roles: list[list[str]]) -> None:
    answer(
        {
            "manifest.csv": manifest("1.2", users=mode, roles=mode, orgs="bulk"),
            "orgs.csv": table(ORGS),
            "users.csv": table([USERS_12, *users]),
            "roles.csv": table([ROLES, *roles]),
        }
    )


@given(
    where=st.integers(0, 400),
    cut=st.integers(0, 40),
    put=st.sampled_from(["", '"', '""', ",", "\n", '",', ',"', '"\n']),
    quoted=st.booleans(),
)
@settings(max_examples=1000)
@example(where=50, cut=0, put='"', quoted=False)
def test_no_pupil_is_lost_by_damage_to_a_file(where: int, cut: int, put: str, quoted: bool) -> None:
    """Everybody in a bulk file is taken, or told as not taken, or a row is told of which nobody can tell whose it is.

    Except whose id itself was damaged: that cannot be seen by anybody.
    """
    content = table([USERS_11, *STUDENTS], end="\n", quoted=quoted)
    where = min(where, len(content) - 1)
    lost = content[where : where + cut]
    assume(
        "\n" not in lost[1:] and "\n" not in lost[:-1]
    )  # whole rows that are missing are for the threshold
    damaged = content[:where] + put + content[where + cut :]
    expected = {s[0] for s in STUDENTS if _says(damaged, s[0], quoted)}
    seen = answer(files_11(users=damaged))
    if isinstance(seen, Seen):
        left = {f.source_id for f in seen.flaws}
        assert None in left or expected <= left | set(seen.by_id)


CLASS_FILES = {
    "classes": CLASSES.columns,
    "enrollments": ENROLLMENTS.columns,
    "academicSessions": SESSIONS.columns,
    "courses": COURSES.columns,
}


def with_classes(mode: str, files: Mapping[str, bytes | str]) -> dict[str, bytes | str]:
    """An export with these files beside its users."""
    modes = {"users": "bulk", "orgs": "bulk"} | dict.fromkeys(files, mode)
    named = {f"{name}.csv": content for name, content in files.items()}
    return files_11(AVA, BEN, EVA, manifest=manifest("1.1", **modes)) | named


@given(mode=st.sampled_from(["bulk", "delta"]), data=st.data())
@settings(max_examples=300)
def test_any_words_in_the_files_of_classes(mode: str, data: st.DataObject) -> None:
    """Whatever they say, nobody is lost by it."""
    rows = {
        name: data.draw(
            st.lists(st.lists(words, min_size=len(columns) - 1, max_size=len(columns) + 1), max_size=6)
        )
        for name, columns in CLASS_FILES.items()
    }
    files = {name: table([CLASS_FILES[name], *rows[name]]) for name in CLASS_FILES}
    seen = answer(with_classes(mode, files))
    assert isinstance(seen, Rejected) or seen.by_id.keys() == {AVA[0], BEN[0], EVA[0]}


@given(classes=soup, members=soup)
@settings(max_examples=200)
def test_any_bytes_in_the_files_of_classes(classes: bytes, members: bytes) -> None:
    header = {name: (",".join(columns) + "\n").encode() for name, columns in CLASS_FILES.items()}
    answer(
        with_classes(
            "bulk", {"classes": header["classes"] + classes, "enrollments": header["enrollments"] + members}
        )
    )
    answer(with_classes("bulk", {"classes": classes, "enrollments": members}))


@given(
    where=st.integers(0, 400),
    cut=st.integers(0, 40),
    put=st.sampled_from(["", '"', '""', ",", "\n", '",', ',"', '"\n']),
    quoted=st.booleans(),
)
@settings(max_examples=500)
def test_no_class_is_lost_by_damage_to_a_file(where: int, cut: int, put: str, quoted: bool) -> None:
    """Each enrollment is taken, or its user is spared, or told as unknown, with the class where that is."""
    pairs = [(user, key) for user in ("u1", "u2") for key in ("c1", "c2", "c3")]
    rows = [[*pair, "student", "", "2026-08-03", "2027-05-28"] for pair in pairs]
    content = table([ENROLLMENTS.columns, *rows], end="\n", quoted=quoted)
    where = min(where, len(content) - 1)
    lost = content[where : where + cut]
    assume("\n" not in lost[1:] and "\n" not in lost[:-1])  # whole rows that are missing cannot be seen
    damaged = content[:where] + put + content[where + cut :]
    keys = [["c1", "A", "", "", "", ""], ["c2", "B", "", "", "", ""], ["c3", "C", "", "", "", ""]]
    files = {"classes": table([CLASSES.columns, *keys]), "enrollments": damaged}
    seen = answer(with_classes("bulk", files))
    if isinstance(seen, Rejected):
        return
    unknown = {f.value for f in seen.flaws if f.reason in ("user_unknown", "class_unknown")}
    for user, key in pairs:
        person = seen.by_id[user]
        held = {a.class_id for a in msgspec.json.decode(person.classes or "[]", type=list[Assignment])}
        mark = f'"{user}","{key}","student",' if quoted else f"{user},{key},student,"
        if f"\n{mark}" in damaged and person.classes_whole:
            assert key in held or unknown, (user, key)


def _says(content: str, user: str, quoted: bool) -> bool:
    mark = f'\n"{user}",' if quoted else f"\n{user},"
    return mark in content


def test_a_stray_entry_is_not_read() -> None:
    """Content that would be refused does no harm where nothing reads it."""
    assert isinstance(answer(files_11(AVA) | {"classes.csv": b"\0\xff", "x/users.csv": b"\0"}), Seen)
