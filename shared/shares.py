"""Which process works on what: every runner's slots are dealt out evenly among the processes of a service.

A process holds a session advisory lock for each slot it works on, and for each runner a shared one that tells the
others how many take part.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable

import structlog

from shared import metrics
from shared.database import Connection, connect, unavailable_when_lost
from shared.errors import Diverged, Unavailable
from shared.runner import NotOwner, Runner, sql
from shared.settings import Settings
from shared.supervisor import is_cancelled

log = structlog.get_logger(__name__)

TICK_S = 1.0  # how often shares are looked at
LEASES_IDLE_TIMEOUT = "10s"  # a process that hangs loses its locks
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 2.0
DIVERGED_PAUSE_S = 15.0  # a repaired history is noticed


class Runners:
    """All runners of one process. `runners()` is asked again at each tick: what it names no more is stopped."""

    def __init__(self, settings: Settings, runners: Callable[[], Iterable[Runner]]) -> None:
        self._settings = settings
        self._runners = runners
        # A backlog must not take the connections that requests are answered with.
        self._turns = asyncio.Semaphore(settings.postgres_connections // 2)
        self._held: dict[str, frozenset[int]] = {}
        self._running: dict[str, tuple[Runner, asyncio.Task[None]]] = {}

    @property
    def states(self) -> dict[str, str]:
        """What each runner of this process is doing, by name."""
        return {name: runner.state for name, (runner, _) in self._running.items()}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._session()
            except Unavailable as error:
                log.warning("leases_lost", error=str(error))
            await asyncio.sleep(FIRST_PAUSE_S)

    async def _session(self) -> None:
        name = f"homeroom-{self._settings.service}-leases"
        conn = await connect(
            self._settings.postgres, application_name=name, idle_session_timeout=LEASES_IDLE_TIMEOUT
        )
        try:
            with unavailable_when_lost(conn):
                while True:
                    await self._share(conn)
                    await asyncio.sleep(TICK_S)
        finally:
            # The locks go with the connection; nothing of ours may go on without them.
            await self._stop(*self._running)
            self._held.clear()
            conn.terminate()

    async def _share(self, conn: Connection) -> None:
        runners = {runner.name: runner for runner in self._runners()}
        for name in self._held.keys() - runners.keys():
            await self._stop(name)
            await conn.fetchval(sql.release_slots, _lock(name), list(self._held.pop(name)))
            await conn.fetchval(sql.leave_process, _lock(name))
        for runner in runners.values():
            await self._balance(conn, runner)

    async def _balance(self, conn: Connection, runner: Runner) -> None:
        """Bring the slots of one runner to an even share and (re)start it on them."""
        name, lock, slots = runner.name, _lock(runner.name), self._settings.partitions
        if name not in self._held:
            await conn.fetchval(sql.join_process, lock)
            self._held[name] = frozenset()
        held = self._held[name]
        share = math.ceil(slots / max(1, await conn.fetchval(sql.count_processes, lock)))
        wanted = held
        if len(held) > share:
            wanted = frozenset(sorted(held)[:share])
        elif len(held) < share:
            others = sorted(set(range(slots)) - held)
            taken = await conn.fetch(sql.take_slots, lock, others, share - len(held))
            wanted = held | {row["slot"] for row in taken}
        if wanted == held:
            return
        await self._stop(name)
        if given_up := held - wanted:
            await conn.fetchval(sql.release_slots, lock, list(given_up))
        self._held[name] = wanted
        log.info("share", consumer=name, slots=sorted(wanted), of=slots)
        if wanted:
            runner.turns = self._turns
            self._running[name] = runner, asyncio.create_task(_keep_running(runner, wanted))

    async def _stop(self, *names: str) -> None:
        tasks = [self._running.pop(name)[1] for name in names if name in self._running]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _keep_running(runner: Runner, slots: frozenset[int]) -> None:
    """Run until cancelled, again after every failure, from the checkpoint."""
    loop = asyncio.get_running_loop()
    pause = FIRST_PAUSE_S
    while True:
        began = loop.time()
        try:
            await runner.run(slots)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            log.warning("consumer_cancelled_by_nobody", consumer=runner.name)
        except Diverged as error:
            runner.state = f"diverged: {error}"
            log.error("consumer_diverged", consumer=runner.name, topic=runner.topic, error=str(error))
            with contextlib.suppress(Unavailable):
                await runner.set_alarm(str(error))
            await asyncio.sleep(DIVERGED_PAUSE_S)
        except (Unavailable, NotOwner) as error:
            if runner.state != str(error):
                log.warning("consumer_waits", consumer=runner.name, error=str(error))
            runner.state = str(error)
        except Exception as error:
            runner.state = f"failed: {type(error).__name__}"
            metrics.worker_failures.labels(runner.name).inc()
            log.error("consumer_failed", consumer=runner.name, exc_info=error)
        pause = FIRST_PAUSE_S if loop.time() - began > 10 else min(pause * 2, LONGEST_PAUSE_S)
        await asyncio.sleep(pause)


def _lock(name: str) -> str:
    """Whose locks these are, among all of the database."""
    return f"homeroom-consumer:{name}"
