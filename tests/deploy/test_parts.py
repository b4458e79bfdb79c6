"""A part is kept running: noticed when it dies, restarted with a back-off, ended by its pid and nothing else."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from deploy.local import parts
from deploy.local.account import Account
from deploy.local.backing import Choice
from deploy.local.parts import Part, rotate
from deploy.local.processes import PortTaken, ProcessRecord, free_port
from deploy.local.state import Files
from deploy.local.supervisor import Supervisor

# Below those that the system gives to clients, and apart from the other workers' of this run.
OWN_PORTS = 21000 + 500 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))

SERVES = """
import socket, time
listening = socket.create_server(("127.0.0.1", {port}))
print("here", flush=True)
time.sleep(60)
"""
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVES
DIES = "import sys; print('gone', flush=True); sys.exit(7)"


class Program:
    """A tiny program that is ready as soon as it has written something."""

    name, stop_signal, account = "program", signal.SIGTERM, Account()

    def __init__(self, code: str, logs: Path) -> None:
        self.code, self.log, self.port = code, logs / "program.log", free_port(OWN_PORTS)

    def command(self) -> list[str | Path]:
        return [sys.executable, "-c", self.code.format(port=self.port)]

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    async def answers(self) -> bool:
        return self.log.exists() and self.log.stat().st_size > 0


@asynccontextmanager
async def running(code: str, logs: Path) -> AsyncIterator[Part]:
    part = Part(Program(code, logs), logs, lambda: None)
    part.start()
    try:
        yield part
    finally:
        await part.stop(patience_s=0.5)


async def until(holds: Callable[[], bool], patience_s: float = 10) -> None:
    async with asyncio.timeout(patience_s):
        while not holds():
            await asyncio.sleep(0.02)


async def test_a_part_that_is_killed_is_started_again(tmp_path: Path) -> None:
    async with running(SERVES, tmp_path) as part:
        await part.wait_ready(10)
        assert part.state.process
        first = part.state.process
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: part.state.restarts == 1 and part.state.state == "running")
        assert part.state.process != first
        assert part.state.last_exit == -signal.SIGKILL


async def test_a_part_that_keeps_dying_is_started_ever_more_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FIRST_PAUSE_S", 0.1)
    async with running(DIES, tmp_path) as part:
        await until(lambda: part.state.restarts == 1)
        began = asyncio.get_running_loop().time()
        await until(lambda: part.state.restarts == 4)
        assert asyncio.get_running_loop().time() - began >= 0.1 + 0.2 + 0.4
        assert (part.state.state, part.state.last_exit) == ("backing-off", 7)
    assert part.state.state == "stopped"


async def test_a_part_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    class Missing(Program):
        def command(self) -> list[str | Path]:
            return [tmp_path / "no-such-program"]

    part = Part(Missing("", tmp_path), tmp_path, lambda: None)
    part.start()
    await until(lambda: part.state.restarts >= 2)
    await part.stop()
    assert part.state.process is None


async def test_a_part_that_does_not_hear_is_ended_by_force(tmp_path: Path) -> None:
    async with running(DEAF, tmp_path) as part:
        await part.wait_ready(10)
        process = part.state.process
    assert process
    assert not process.alive()
    assert part.state.restarts == 0


async def test_a_stranger_on_its_port_is_not_taken_for_the_part(tmp_path: Path) -> None:
    """Another stack may be quicker to take a port, and would answer the same questions."""
    program = Program(SERVES, tmp_path)
    (tmp_path / "program.log").write_text("as if it answered")
    part = Part(program, tmp_path, lambda: None)
    with socket.create_server(("127.0.0.1", program.port)):
        part.start()
        with pytest.raises(PortTaken, match=str(program.port)):
            await part.wait_ready(10)
    await part.stop()


async def test_every_change_of_a_part_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    part = Part(Program(SERVES, tmp_path), tmp_path, lambda: told.append(part.state.state))
    part.start()
    await part.wait_ready(10)
    await part.stop()
    assert told == ["starting", "running", "stopped"]


def test_a_process_is_known_by_its_birth_too() -> None:
    """The kernel gives a pid to another process one day: that one is not ours to end."""
    here = ProcessRecord.of(os.getpid())
    assert here.alive()
    assert not ProcessRecord(here.pid, ProcessRecord.of(1).birth).alive()


def test_a_process_is_known_however_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day at which it began is counted from the boot, which moves with the clock."""
    here = ProcessRecord.of(os.getpid())
    boot = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot + 3600)
    assert here.alive()


async def test_a_full_disk_stops_nobody_from_starting_a_part_again(tmp_path: Path) -> None:
    """And what could not be written down meanwhile is, as soon as it can be."""
    files = Files(tmp_path / "state")
    files.make()
    supervisor = Supervisor(files, Choice())
    part = Part(Program(SERVES, files.logs), files.logs, supervisor.write_down)
    supervisor.stack.parts = [part.state]
    part.start()
    try:
        await part.wait_ready(10)
        in_the_way = files.stack_file.with_name(f".{files.stack_file.name}.new")  # as if there were no room
        in_the_way.mkdir()
        assert part.state.process
        os.kill(part.state.process.pid, signal.SIGKILL)
        await until(lambda: part.state.restarts == 1 and part.state.state == "running")
        in_the_way.rmdir()
        supervisor.tend()
        assert files.read().parts == [part.state]
    finally:
        await part.stop(patience_s=0.5)


async def test_logs_that_cannot_be_set_aside_are_tried_again(tmp_path: Path) -> None:
    files = Files(tmp_path / "state")
    files.make()
    supervisor, log = Supervisor(files, Choice()), files.logs / "part.log"
    log.write_bytes(b"x" * parts.LOG_BYTES)
    in_the_way = files.logs / "part.log.2"
    (files.logs / "part.log.1").write_text("older")
    in_the_way.mkdir()
    (files.logs / "part.log.3").write_text("oldest")
    supervisor.tend()
    in_the_way.rmdir()
    supervisor.tend()
    assert log.stat().st_size == 0


def test_a_process_that_ended_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    record = ProcessRecord.of(process.pid)
    assert record.alive()
    record.send(signal.SIGKILL)
    assert record.wait(5)  # not even while it is a zombie
    process.wait()


def test_a_log_is_bounded_without_being_opened_again(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    with log.open("ab", buffering=0) as writer:
        for round_ in range(6):
            writer.write(b"%d" % round_ * 100)
            rotate(log, limit_bytes=100, kept=3)
            assert log.stat().st_size == 0
        writer.write(b"new")
    assert log.read_bytes() == b"new"
    assert {file.name: file.read_bytes()[:1] for file in tmp_path.glob("part.log.*")} == {
        "part.log.1": b"5",
        "part.log.2": b"4",
        "part.log.3": b"3",
    }


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    log.write_bytes(b"x" * 99)
    rotate(log, limit_bytes=100)
    rotate(tmp_path / "missing.log")
    assert [file.name for file in tmp_path.iterdir()] == ["part.log"]
