"""One supervised process: started, watched until it answers, restarted with a back-off when it dies."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL
from typing import Protocol

import structlog

from deploy.local.account import Account
from deploy.local.processes import PortTaken, ProcessRecord, port_is_free, spawn
from deploy.local.state import PartState

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 15.0
STEADY_S = 30.0  # who ran this long and dies begins again with the shortest pause
READY_POLL_S = 0.1
STOP_PATIENCE_S = 20.0
LOG_BYTES, LOGS_KEPT = 8 * 2**20, 3

log = structlog.get_logger(__name__)


class Program(Protocol):
    """What can be a part: PostgreSQL, Kafka, a service."""

    @property
    def name(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def stop_signal(self) -> int: ...
    @property
    def account(self) -> Account: ...
    def command(self) -> Sequence[str | Path]: ...
    def environment(self) -> Mapping[str, str]: ...
    async def answers(self) -> bool: ...


class Part:
    """A program kept running. `changed` is called whenever `state` was changed; `log_file` is where people look."""

    def __init__(
        self, program: Program, logs: Path, changed: Callable[[], None], log_file: Path | None = None
    ) -> None:
        self.program, self.output, self._changed = program, logs / f"{program.name}.log", changed
        self.state = PartState(program.name, str(log_file or self.output))
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._answers, self._port_taken = asyncio.Event(), False

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self.program.name)

    async def wait_ready(self, patience_s: float) -> None:
        """TimeoutError: it did not answer in time. PortTaken: it cannot."""
        async with asyncio.timeout(patience_s):
            while not self._answers.is_set():
                if self._port_taken:
                    raise PortTaken(f"{self.program.name} cannot have port {self.program.port}: it is taken")
                await asyncio.sleep(READY_POLL_S)

    async def stop(self, patience_s: float = STOP_PATIENCE_S) -> None:
        """End the process: asked to for `patience_s`, then by force."""
        self._stopping.set()
        if self._task is None:
            return
        if self._process is not None and self._process.returncode is None:
            self._signal(self.program.stop_signal)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._process.wait()), patience_s)
            self._signal(SIGKILL)
            await self._process.wait()
        self._task.cancel()
        await asyncio.wait([self._task])
        self._set("stopped")

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._live()
            if self._stopping.is_set():
                return
            self._port_taken = not self._answers.is_set() and not port_is_free(self.program.port)
            self._answers.clear()
            if time.monotonic() - began > STEADY_S:
                pause_s = FIRST_PAUSE_S
            self.state.restarts += 1
            self.state.last_exit = code
            self._set("backing-off")
            log.warning("part_died", part=self.program.name, exit=code, pause_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _live(self) -> int:
        """One life of the process: its exit status."""
        try:
            self._process = await spawn(
                self.program.command(),
                log=self.output,
                env=self.program.environment(),
                account=self.program.account,
            )
        except OSError as error:
            log.error("part_cannot_start", part=self.program.name, error=str(error))
            return -1
        with contextlib.suppress(ProcessLookupError):
            self.state.process = ProcessRecord.of(self._process.pid)
        self._set("starting")
        watching = asyncio.create_task(self._watch())
        try:
            return await self._process.wait()
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        # Not asked before it listens: then a stranger may answer, and clients log that nobody does.
        while not (self._listens() and await self.program.answers()):
            await asyncio.sleep(READY_POLL_S)
        self._answers.set()
        self._set("running")

    def _listens(self) -> bool:
        return self.state.process is not None and self.state.process.listens_on(self.program.port)

    def _set(self, state: str) -> None:
        self.state.state = state
        self._changed()

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def rotate(file: Path, limit_bytes: int = LOG_BYTES, kept: int = LOGS_KEPT) -> None:
    """Bound a log that others append to: copy it aside and empty it, so that nobody has to open it again."""
    if not file.exists() or file.stat().st_size < limit_bytes:
        return
    for number in range(kept - 1, 0, -1):
        older = file.with_name(f"{file.name}.{number}")
        if older.exists():
            older.replace(file.with_name(f"{file.name}.{number + 1}"))
    shutil.copyfile(file, file.with_name(f"{file.name}.1"))
    with file.open("r+b") as emptied:
        emptied.truncate()
