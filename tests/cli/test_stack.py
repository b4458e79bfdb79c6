"""What the stack's commands show, without a stack; tests/deploy/test_stack.py runs the real one."""

import fcntl
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from deploy.local.backing import Choice
from deploy.local.processes import ProcessRecord
from deploy.local.state import Files, PartState, Stack
from services.cli import doctor, stack

Run = Callable[..., int]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setenv("HOMEROOM_STATE_DIR", str(tmp_path / "state"))
    made = Files(tmp_path / "state")
    made.make()
    return made


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            '{"service":"auth","event":"draining","level":"info","time":"2026-11-22T01:56:17.480396Z","seconds":10}',
            "2026-11-22 01:56:17 auth       info     draining  seconds=10",
        ),
        (
            '{"timestamp":"2026-11-22 01:43:03.111 UTC","pid":7,"error_severity":"LOG","message":"ready"}',
            "2026-11-22 01:43:03 auth       log      ready  pid=7",
        ),
        ("Traceback (most recent call last):", "auth       Traceback (most recent call last):"),
        ("[1, 2]", "auth       [1, 2]"),
    ],
)
def test_a_line_of_a_log_is_shown_as_people_read_it(line: str, shown: str) -> None:
    assert stack.pretty("auth", line) == shown


def test_a_log_is_followed_across_its_rotation(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    log.write_text("old\n")
    followed = stack.Followed({"part": log, "missing": tmp_path / "missing.log"})
    with log.open("a") as writer:
        writer.write("one\ntwo\nhal")
    assert list(followed.new_lines()) == [("part", "one"), ("part", "two")]
    with log.open("a") as writer:
        writer.write("f\n")
    assert list(followed.new_lines()) == [("part", "half")]
    assert list(followed.new_lines()) == []
    log.write_text("new\n")
    assert list(followed.new_lines()) == [("part", "new")]


def test_the_last_lines_are_shown_first(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    assert stack.last_lines(log, 5) == []
    log.write_text("".join(f"{n}\n" for n in range(100)))
    assert stack.last_lines(log, 2) == ["98", "99"]
    assert stack.last_lines(log, 0) == []


def test_status_without_a_stack(files: Files, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status") == 0
    assert "never ran" in capsys.readouterr().out
    assert run("status", "--json") == 0
    assert '"state": "stopped"' in capsys.readouterr().out


def test_down_without_a_stack_is_no_failure(
    files: Files, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("down") == 0
    assert "was not running" in capsys.readouterr().out


def test_clean_asks_first(files: Files, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    files.write(Stack())
    assert run("clean") == 1
    assert "not_confirmed" in capsys.readouterr().err
    assert files.root.exists()
    assert run("clean", "--yes") == 0
    assert not files.root.exists()


def test_the_log_of_an_unknown_part_is_refused(
    files: Files, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("logs", "nobody") == 1
    assert "supervisor" in capsys.readouterr().err


def test_there_are_no_logs_where_nothing_ever_ran(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOMEROOM_STATE_DIR", str(tmp_path / "nothing"))
    assert run("logs") == 1
    assert "make up" in capsys.readouterr().err


def test_orphans_come_with_what_to_do(files: Files, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """And the doctor does not take their ports for somebody else's."""
    here = ProcessRecord.of(os.getpid())
    files.write(Stack(state="running", parts=[PartState("kafka", "log", "running", here)]))
    assert run("status") == 0
    assert "orphaned: its supervisor was killed; `make up`" in capsys.readouterr().out
    assert list(doctor.ports(files.read())) == []


def test_who_is_second_in_starting_the_stack_follows_the_first(files: Files) -> None:
    """Two at once: one supervisor gets the folder, and takes a moment to write down that it is there."""
    with files.lock.open("w") as lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = pool.submit(stack.start_supervisor, files)
        while "another supervisor" not in last_words(files) or supervisors():
            time.sleep(0.05)
        with pytest.raises(TimeoutError):
            second.result(timeout=0.5)
        files.write(Stack(state="starting", supervisor=ProcessRecord.of(os.getpid())))
        second.result(timeout=10)


def last_words(files: Files) -> str:
    return "".join(stack.last_lines(files.logs / "supervisor.log", 5))


def supervisors() -> list[int]:
    """Those that this process has started and that run."""
    running = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it ends while we look
            if child.status() != psutil.STATUS_ZOMBIE and "supervisor" in str(child.cmdline()):
                running.append(child.pid)
    return running


def test_wrong_usage_is_status_2(files: Files, run: Run) -> None:
    assert run("status", "--no-such-option") == 2
    assert run("logs", "--lines", "many") == 2


def test_the_doctor_says_what_to_do_about_orphans(
    files: Files, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ProcessRecord.of(os.getpid())
    files.write(Stack(state="running", parts=[PartState("kafka", "log", "running", here)]))
    assert run("doctor") == 1
    captured = capsys.readouterr()
    assert "left running: kafka" in captured.out
    assert "homeroom down" in captured.out
    assert "stack" in captured.err


def test_the_doctor_names_the_setting_that_is_wrong(files: Files) -> None:
    findings = list(doctor.programs(Choice(postgres="/nowhere", java="/bin/false", kafka="/nowhere"), files))
    wrong = {finding.check: finding.advice for finding in findings if not finding.ok}
    assert {check: "HOMEROOM_LOCAL_" in advice for check, advice in wrong.items()} == dict.fromkeys(
        ("postgres", "java", "kafka"), True
    )


def test_what_is_dead_is_shown_so_whatever_a_supervisor_that_hangs_wrote_down(
    files: Files, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    here, gone = ProcessRecord.of(os.getpid()), ProcessRecord(os.getpid(), "of another boot")
    ports = {name: port for port, name in enumerate(("roster", "claims", "auth"), start=1)}
    parts = [PartState("postgres", "log", "running", here), PartState("kafka", "log", "running", gone)]
    files.write(Stack(state="running", supervisor=here, ports=ports, parts=parts))
    assert run("status") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("degraded")
    assert "None" not in shown, "no address of a PostgreSQL that is not there yet"
    assert run("doctor") == 1
    assert "kafka          stopped" in capsys.readouterr().out
