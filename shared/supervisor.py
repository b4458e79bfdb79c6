"""The parts of a process that run for ever, started again when they fail; and what the process is waiting for."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from shared import metrics
from shared.errors import Unavailable
from shared.settings import Role

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 3.0  # what came back is used again well within 10 seconds
GOOD_RUN_S = 30.0


@dataclass(frozen=True)
class Worker:
    """Something that a role does for ever. `run` may raise whatever it likes, and is then called again."""

    name: str
    role: Role
    run: Callable[[], Awaitable[None]]


def every(pause_s: float, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """For a worker that does the same thing again and again, with a pause after each time."""

    async def run() -> None:
        while True:
            await work()
            await asyncio.sleep(pause_s)

    return run


async def supervise(worker: Worker) -> None:
    """Runs a worker until cancelled: a failure is logged, and after a growing pause it runs again."""
    clock = asyncio.get_running_loop().time
    failures = 0
    while True:
        started = clock()
        try:
            await worker.run()
            log.warning("worker_returned", worker=worker.name)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            log.warning("worker_cancelled_by_nobody", worker=worker.name)
        except Unavailable as error:
            log.warning("worker_waits", worker=worker.name, dependency=error.dependency)
        except Exception:
            log.exception("worker_failed", worker=worker.name)
        metrics.worker_failures.labels(worker.name).inc()
        failures = 1 if clock() - started > GOOD_RUN_S else failures + 1
        longest = min(FIRST_PAUSE_S * 2 ** min(failures, 10), LONGEST_PAUSE_S)
        await asyncio.sleep(random.uniform(longest / 2, longest))


def is_cancelled() -> bool:
    """Whether a CancelledError is meant for the running task. Kafka's client lets some out that nobody sent."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Readiness:
    """What this process is waiting for, and why. Ready when it waits for nothing."""

    def __init__(self, *missing: str) -> None:
        self._missing = dict.fromkeys(missing, "starting")
        self._changed = asyncio.Event()

    @property
    def missing(self) -> dict[str, str]:
        return dict(self._missing)

    def waits_for(self, what: str, why: str) -> None:
        if self._missing.get(what) != why:
            log.warning("missing", what=what, why=why)
        self._missing[what] = why
        metrics.missing.labels(what).set(1)

    def has(self, what: str) -> None:
        if self._missing.pop(what, None) is not None:
            log.info("present", what=what)
        metrics.missing.labels(what).set(0)
        self._changed.set()

    def lacks(self, *any_of: str) -> str | None:
        """The first of these that is missing."""
        for what in any_of:
            if what in self._missing:
                return what
        return None

    async def wait(self, *for_these: str) -> None:
        """Until none of these is missing; without names, until nothing is."""
        while self.lacks(*(for_these or self._missing)):
            self._changed.clear()
            await self._changed.wait()
