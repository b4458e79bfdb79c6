"""The data engineer's commands: what is uploaded, what is asked first, what a report says, how it all ends."""

import hashlib
import io
import json
import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli import client
from services.cli import imports as cli_imports
from tests.cli.conftest import Run
from tests.cli.fake import FakeServices

ID = "5c1f0b9e-9d60-4c39-8a4f-0d6c0b7e0004"
OTHER = "5c1f0b9e-9d60-4c39-8a4f-0d6c0b7e0005"
RECEIVED: dict[str, Any] = {
    "import_id": ID, "state": "received", "dry_run": False, "baseline": False, "as_of": "2026-08-03T09:00:00Z",
    "received_at": "2026-08-03T09:00:00Z", "ended_at": None, "file_name": "monday.zip", "bytes": 3, "sha256": "",
    "version": None, "mode": None, "source": None, "author": "sis", "author_name": "SIS", "approved_by": None,
    "approved_by_name": None, "reason": None, "details": {}, "counts": {}, "problems": {}, "passed_over": {},
    "threshold": None, "total": 0, "done": 0,
}  # fmt: skip
RULE = {"approval_above": 200, "approval_above_percent": 5}
PLANNED = RECEIVED | {
    "version": "1.2", "mode": "bulk", "source": "Power", "total": 30,
    "counts": {"added": 2, "unchanged": 27, "withdrawn": 0, "refused": 1}, "problems": {"number_malformed": 1},
    "passed_over": {"staff": 4},
    "threshold": RULE | {"enrolled": 28, "withdrawn": 0, "renumbered": 0, "exceeded": False},
}  # fmt: skip
APPLYING = PLANNED | {"state": "applying", "done": 10}
DONE = PLANNED | {"state": "done", "done": 30}
DRY = PLANNED | {"state": "done", "dry_run": True}
WAITING = PLANNED | {
    "state": "awaiting_approval", "reason": "threshold_exceeded",
    "threshold": RULE | {"enrolled": 28, "withdrawn": 25, "renumbered": 0, "exceeded": True},
}  # fmt: skip
REFUSED = RECEIVED | {
    "state": "refused", "reason": "csv_invalid",
    "details": {"file": "users.csv", "line": 7, "problem": "quotes"},
}  # fmt: skip
PROBLEM = {
    "n": 1, "file": "users.csv", "line": 12, "column": "identifier", "value": "12345", "reason": "number_malformed",
    "details": {"hint": "number_length"}, "source_id": "u1", "taken": False,
}  # fmt: skip


@pytest.fixture
def export(tmp_path: Path) -> Path:
    file = tmp_path / "monday.zip"
    file.write_bytes(b"zip")
    return file


@pytest.fixture
def imports(services: FakeServices) -> FakeServices:
    """No import is open, and an upload is followed to its end."""
    services.answers["GET /imports"] = [(200, {"imports": [DONE]})]
    services.answers["POST /imports"] = [(202, RECEIVED)]
    services.answers[f"GET /imports/{ID}"] = [(200, APPLYING), (200, DONE)]
    services.answers[f"GET /imports/{ID}/problems"] = [(200, {"problems": [PROBLEM], "next_after": None})]
    return services


PULLING = RECEIVED | {"state": "pulling", "pull_full": True, "total": 30, "done": 10}


@pytest.fixture
def pulls(imports: FakeServices) -> FakeServices:
    imports.answers["POST /imports/pulls"] = [(202, PULLING)]
    imports.answers[f"GET /imports/{ID}"] = [(200, PULLING), (200, RECEIVED), (200, DONE)]
    return imports


def test_a_pull_is_asked_for_and_followed_to_its_report(
    pulls: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("import", "pull", "--full", "--yes") == 0
    [sent] = pulls.requests("POST /imports/pulls")
    assert sent.query == {"full": "true"}
    assert sent.headers["Idempotency-Key"]
    shown = capsys.readouterr().out
    assert "is done" in shown
    assert "applied" not in shown


def test_a_pull_is_reported_first_and_asked_about(
    pulls: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    pulls.answers[f"GET /imports/{ID}"] = [(200, PULLING), (200, DRY)]
    assert run("import", "pull") == 1  # nobody is there who could say yes
    [sent] = pulls.requests("POST /imports/pulls")
    assert sent.query == {"dry_run": "true"}
    assert "nothing was changed" in capsys.readouterr().out


def test_a_pull_that_the_sis_refuses_says_what_to_do(
    pulls: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = RECEIVED | {
        "file_name": None,
        "state": "refused",
        "reason": "provider_refused",
        "details": {"asked": "token", "status": 401},
    }
    pulls.answers[f"GET /imports/{ID}"] = [(200, refused)]
    assert run("import", "pull", "--dry-run") == 1
    told = capsys.readouterr()
    assert "provider_refused" in told.err
    assert "\nas of 2026" in told.out
    assert "secret is wrong" in told.out + told.err


def test_a_pull_under_way_is_shown_as_such(
    pulls: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("import", "show", ID) == 0
    shown = capsys.readouterr().out
    assert "is being pulled from the SIS" in shown
    assert "applied" not in shown


def test_an_export_is_uploaded_and_followed_to_its_report(
    imports: FakeServices, run: Run, export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("import", str(export), "--yes", "--as-of", "2026-08-03T05:00:00-04:00") == 0
    [sent] = imports.requests("POST /imports")
    assert sent.body == "zip"
    assert sent.headers["Content-Type"] == "application/zip"
    assert sent.query == {"as_of": "2026-08-03T05:00:00-04:00", "file_name": "monday.zip"}
    shown = capsys.readouterr().out
    for words in (
        "is done",
        "added",
        "users.csv:12 identifier '12345'",
        "number_malformed",
        "number_length",
        "staff",
    ):
        assert words in shown


def test_a_dry_run_changes_nothing(
    imports: FakeServices, run: Run, export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imports.answers[f"GET /imports/{ID}"] = [(200, DRY)]
    assert run("import", str(export), "--dry-run") == 0
    [sent] = imports.requests("POST /imports")
    assert sent.query["dry_run"] == "true"
    assert "nothing was changed" in capsys.readouterr().out


class Terminal(io.StringIO):
    """Where somebody sits who answers."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "status", "uploads"), [("y\n", 0, 2), ("n\n", 1, 1)])
def test_on_a_terminal_it_plans_and_asks_before_it_applies(
    imports: FakeServices, run: Run, export: Path, monkeypatch: pytest.MonkeyPatch,
    answer: str, status: int, uploads: int,
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    imports.answers["POST /imports"] = [(202, DRY), (202, DONE)]
    assert run("import", str(export)) == status
    sent = imports.requests("POST /imports")
    assert [s.query.get("dry_run") for s in sent] == ["true", None][:uploads]


def test_without_a_terminal_nothing_is_applied_without_a_yes(
    imports: FakeServices, run: Run, export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imports.answers["POST /imports"] = [(202, DRY)]
    assert run("import", str(export)) == 1
    assert "--yes" in capsys.readouterr().err
    assert len(imports.requests("POST /imports")) == 1
    assert run("import", str(export), "--json") == 2


def test_a_plan_that_is_refused_is_not_asked_about(
    imports: FakeServices, run: Run, export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imports.answers["POST /imports"] = [(202, REFUSED | {"dry_run": True})]
    assert run("import", str(export)) == 1
    told = capsys.readouterr().err
    for words in ("csv_invalid", "line: 7", "not from a spreadsheet"):
        assert words in told


def test_an_import_that_waits_says_for_whom_and_how(
    imports: FakeServices, run: Run, export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imports.answers[f"GET /imports/{ID}"] = [(200, WAITING)]
    assert run("import", str(export), "--yes") == 1
    shown = capsys.readouterr()
    assert "threshold_exceeded" in shown.err
    for words in (
        "withdraws 25",
        f"homeroom import approve {ID}",
        f"homeroom import cancel {ID}",
        "--changes withdrawn",
    ):
        assert words in shown.out


def test_a_baseline_is_an_operators(imports: FakeServices, run: Run, export: Path) -> None:
    assert run("import", str(export), "--yes", "--baseline") == 0
    assert imports.requests("POST /imports")[0].query["baseline"] == "true"


def test_a_folder_is_zipped_always_alike(imports: FakeServices, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for name in ("users.csv", "manifest.csv", "notes.txt"):
        (folder / name).write_text(name)
    digests = set()
    for _ in range(2):
        report = RECEIVED | {"state": "done"}
        imports.answers["POST /imports"] = [(202, report)]
        assert run("import", str(folder), "--yes", "--json") == 0
        digests.add(imports.requests("POST /imports")[-1].body)
        os.utime(folder / "users.csv", (0, 0))
    assert len(digests) == 1
    assert "manifest.csv" in digests.pop()


def test_what_is_zipped_of_a_folder_are_its_csv_files(tmp_path: Path) -> None:
    from services.cli.imports import _zipped

    for name in ("users.csv", "notes.txt"):
        (tmp_path / name).write_text(name)
    with _zipped(tmp_path) as file, zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["users.csv"]
        assert archive.read("users.csv") == b"users.csv"


def test_a_second_run_follows_the_same_import(imports: FakeServices, run: Run, export: Path) -> None:
    """So an interrupted command can simply be given again."""
    ours = APPLYING | {"sha256": hashlib.sha256(b"zip").hexdigest()}
    imports.answers["GET /imports"] = [(200, {"imports": [ours]})]
    imports.answers[f"GET /imports/{ID}"] = [(200, DONE)]
    assert run("import", str(export), "--yes") == 0
    assert imports.requests("POST /imports") == []


def test_another_ones_dry_run_is_waited_for(imports: FakeServices, run: Run, export: Path) -> None:
    theirs = RECEIVED | {"import_id": OTHER, "dry_run": True}
    imports.answers["GET /imports"] = [(200, {"imports": [theirs]}), (200, {"imports": [DRY]})]
    imports.answers[f"GET /imports/{OTHER}"] = [(200, DRY)]
    assert run("import", str(export), "--yes") == 0
    assert len(imports.requests("POST /imports")) == 1


def test_another_import_that_is_open_is_named(
    imports: FakeServices, run: Run, export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imports.answers["GET /imports"] = [(200, {"imports": [WAITING | {"import_id": OTHER}]})]
    assert run("import", str(export), "--yes") == 1
    told = capsys.readouterr().err
    for words in ("import_running", OTHER, "awaiting_approval", "homeroom import"):
        assert words in told
    assert imports.requests("POST /imports") == []


def test_a_broken_upload_is_sent_again_under_the_same_key(
    imports: FakeServices, run: Run, export: Path
) -> None:
    imports.answers["POST /imports"] = [(0, None), (503, {"reason": "unavailable"}), (202, RECEIVED)]
    assert run("import", str(export), "--yes") == 0
    keys = {sent.headers["Idempotency-Key"] for sent in imports.requests("POST /imports")}
    assert (len(imports.requests("POST /imports")), len(keys)) == (3, 1)


@pytest.fixture
def heard() -> Iterator[None]:
    """Interruptions are heard, also where the tests run in a shell's background, which has them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_an_interrupted_command_leaves_the_import_running(
    imports: FakeServices, run: Run, export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> tuple[int, Any]:
        os.kill(os.getpid(), signal.SIGINT)
        return 200, APPLYING

    imports.answers[f"GET /imports/{ID}"] = [interrupt, (200, APPLYING)]
    assert run("import", str(export), "--yes") == 130
    assert f"homeroom import show {ID}" in capsys.readouterr().err
    assert not [asked for asked in imports.asked if asked.method == "DELETE"]


def test_an_import_is_followed_across_a_restart_of_roster(
    imports: FakeServices,
    run: Run,
    export: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(client, "TRIES", 1)
    monkeypatch.setattr(cli_imports, "POLL_AWAY_S", 0.01)
    away: list[Any] = [(0, None), (503, {"reason": "unavailable"}), (502, "a proxy's page"), (503, None)]
    imports.answers[f"GET /imports/{ID}"] = [(200, APPLYING), *away, (200, APPLYING), *away, (200, DONE)]
    assert run("import", str(export), "--yes") == 0
    assert capsys.readouterr().err.count("does not answer") == 2


def test_when_roster_stays_away_it_is_said_how_to_go_on(
    imports: FakeServices,
    run: Run,
    export: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(client, "TRIES", 1)
    monkeypatch.setattr(cli_imports, "POLL_AWAY_S", 0.01)
    monkeypatch.setattr(cli_imports, "AWAY_S", 0.1)
    imports.answers[f"GET /imports/{ID}"] = [(200, APPLYING), (503, {"reason": "unavailable"})]
    assert run("import", str(export), "--yes") == 1
    told = capsys.readouterr().err
    for words in ("import_unwatched", ID, "goes on at the server", "homeroom import show"):
        assert words in told


def test_a_history_that_diverged_is_not_waited_for(
    imports: FakeServices,
    run: Run,
    export: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(client, "TRIES", 1)
    imports.answers[f"GET /imports/{ID}"] = [(200, APPLYING), (503, {"reason": "history_diverged"})]
    assert run("import", str(export), "--yes") == 1
    assert "history_diverged" in capsys.readouterr().err


def test_the_last_import_is_shown_and_others_are_listed(
    imports: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    imports.answers[f"GET /imports/{ID}"] = [(200, DONE)]
    assert run("import", "show") == 0
    assert ID in capsys.readouterr().out
    assert run("import", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [DONE]
    assert run("import", "list") == 0
    assert "added 2, unchanged 27, refused 1" in capsys.readouterr().out
    imports.answers["GET /imports"] = [(200, {"imports": []})]
    assert run("import", "show") == 1
    assert "import_unknown" in capsys.readouterr().err


def test_changes_are_shown_person_by_person(
    imports: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {"number": "0123456", "last_name": "Cruz", "status": "enrolled"}
    changes = [
        {"n": 1, "kinds": ["withdrawn"], "state": "applied", "source_id": "u1", "file": None, "line": None,
         "before": before, "after": {"gone": "absent"}, "assigned": [], "unassigned": [], "reason": None,
         "details": {}},
        {"n": 2, "kinds": ["corrected"], "state": "refused", "source_id": "u2", "file": "users.csv", "line": 3,
         "before": before, "after": {"number": "0123456", "last_name": "De La Cruz"}, "assigned": [], "unassigned": [],
         "reason": "field_empty", "details": {}},
        {"n": 3, "kinds": ["reassigned"], "state": "applied", "source_id": "u3", "file": "users.csv", "line": 4,
         "before": before, "after": before, "assigned": ["c1"], "unassigned": ["c2", "c3"], "reason": None,
         "details": {}},
    ]  # fmt: skip
    imports.answers[f"GET /imports/{ID}/changes"] = [(200, {"changes": changes, "next_after": None})]
    assert run("import", "show", ID, "--changes", "withdrawn") == 0
    shown = capsys.readouterr().out
    for words in (
        "not in the export: gone absent",
        "users.csv:3: last_name Cruz → De La Cruz, field_empty",
        "users.csv:4: into c1, out of c2, out of c3",
    ):
        assert words in shown
    assert imports.requests(f"GET /imports/{ID}/changes")[0].query["kind"] == "withdrawn"
    assert run("import", "show", ID, "--changes", "all", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert run("import", "show", ID, "--problems") == 0
    assert "users.csv:12" in capsys.readouterr().out
    assert run("import", "show", ID, "--problems", "--changes", "all") == 2


def test_a_second_person_approves_and_sees_the_end(
    imports: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    imports.answers[f"POST /imports/{ID}/approval"] = [
        (202, APPLYING | {"approved_by": "lee", "approved_by_name": "Ms. Lee"})
    ]
    assert run("import", "approve", ID) == 0
    assert "is done" in capsys.readouterr().out
    imports.answers[f"POST /imports/{ID}/approval"] = [(403, {"reason": "person_required"})]
    assert run("import", "approve", ID) == 1


def test_an_import_is_cancelled(imports: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    imports.answers[f"DELETE /imports/{ID}"] = [(200, None)]
    imports.answers[f"GET /imports/{ID}"] = [(200, APPLYING | {"state": "cancelled"})]
    assert run("import", "cancel", ID) == 0
    assert "10 of 30" in capsys.readouterr().out


def test_a_file_that_is_not_there(
    imports: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("import", "/nowhere/export.zip", "--yes") == 1
    assert "file_unreadable" in capsys.readouterr().err
