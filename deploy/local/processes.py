"""Processes that are found again by pid and birth: never by a pattern, never a stranger that got the pid."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL

import msgspec
import psutil

from deploy.local.account import Account

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ProcessRecord(msgspec.Struct, frozen=True):
    """What is written down about a process so that a later supervisor can tell whether it still runs.

    `birth`: the boot and the tick of the kernel's at which it began. No time of day: clocks are set.
    """

    pid: int
    birth: str

    @classmethod
    def of(cls, pid: int) -> "ProcessRecord":
        """ProcessLookupError: it ended already."""
        return cls(pid, _look_at(pid)[0])

    def alive(self) -> bool:
        try:
            birth, state = _look_at(self.pid)
        except ProcessLookupError:
            return False
        return birth == self.birth and state != "Z"

    def listens_on(self, port: int) -> bool:
        """Whether it is this process that answers there, not a stranger that was quicker."""
        try:
            connections = psutil.Process(self.pid).net_connections("tcp")
        except psutil.Error:
            return False
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)

    def send(self, number: int) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, number: int = signal.SIGTERM, patience_s: float = 20.0) -> None:
        """Ask it to end; after `patience_s` end it."""
        self.send(number)
        if not self.wait(patience_s):
            self.send(signal.SIGKILL)
            self.wait(5.0)

    def wait(self, patience_s: float) -> bool:
        deadline = time.monotonic() + patience_s
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def _look_at(pid: int) -> tuple[str, str]:
    """Birth and state of a process (proc_pid_stat(5): fields 22 and 3). ProcessLookupError: there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None
    fields = stat.rpartition(")")[2].split()  # its name, in brackets, may hold anything
    return f"{BOOT_ID.read_text().strip()} {fields[19]}", fields[0]


async def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str],
    account: Account | None = None,
    cwd: Path | None = None,
) -> asyncio.subprocess.Process:
    """Start a process in a session of its own (a Ctrl-C at the terminal does not reach it); `log` gets its output."""
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *map(str, argv),
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(env),
            cwd=cwd or "/",
            start_new_session=True,
            **(account or Account()).spawn_options(),
        )


class PortTaken(Exception):
    """Somebody took the port between its choice and its use."""


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(wanted: int, taken: frozenset[int] = frozenset(), tries: int = 200) -> int:
    """`wanted`, or the next port that nobody has. OSError: none of `tries`."""
    for port in range(wanted, wanted + tries):
        if port not in taken and port_is_free(port):
            return port
    raise OSError(f"no free port from {wanted} to {wanted + tries - 1}")
