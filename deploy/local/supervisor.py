"""The stack's one supervisor: `python -m deploy.local.supervisor`, started by `homeroom up`, ended by SIGTERM.

It holds the lock of the state folder, ends what a killed supervisor left running, starts PostgreSQL and Kafka, then the
services, makes what they need, starts the portal in front of them, and watches all of them. What it does stands in
`stack.json`; nothing else speaks to it.
"""

import asyncio
import fcntl
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import structlog

from deploy import portal_clients
from deploy.local import backing, provision
from deploy.local.parts import Part, Program, rotate
from deploy.local.processes import PortTaken, ProcessRecord, free_port
from deploy.local.service import Portal, Service
from deploy.local.state import PORTAL, Files, PartState, Step, state_dir
from services.cli.client import SERVICES
from shared.errors import HomeroomError
from shared.folder import fingerprints
from shared.log import configure_logging
from shared.settings import from_environment

WANTED_PORTS = {
    "postgres": 25432,
    "kafka": 29092,
    "controller": 29093,
    "roster": 8101,
    "claims": 8102,
    "auth": 8103,
    PORTAL: 8104,
}
READY_PATIENCE_S = 60.0
TRIES = 4
FOLDER_TAKEN = 75  # exit status: another supervisor has the state folder (EX_TEMPFAIL of sysexits.h)
TEND_EVERY_S = 5.0
ADMIT_EVERY_S = 1.0
OPEN_FILES = 65536

log = structlog.get_logger(__name__)


class Supervisor:
    """One run of the stack in one state folder."""

    def __init__(self, files: Files, choice: backing.Choice) -> None:
        self.files, self.choice = files, choice
        self.stack = files.read()
        self.parts: list[Part] = []
        self.credentials = provision.make_secrets(files)
        self.superuser_dsn = choice.postgres_dsn or ""
        self._written = True

    async def run(self, stopping: asyncio.Event) -> None:
        """Start everything, watch it until told to stop, stop everything. Raises what made the start fail."""
        tasks = [
            asyncio.create_task(work)
            for work in (
                self._start_somewhere(),
                stopping.wait(),
                self._keep_tending(),
                self._keep_admitting(),
            )
        ]
        starting, told, *_ = tasks
        try:
            await asyncio.wait([starting, told], return_when=asyncio.FIRST_COMPLETED)
            if not told.done():
                starting.result()
                self._become("running")
                await told
        except Exception as error:
            cause = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            self.stack.error = str(cause) or type(cause).__name__
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._stop()

    async def _start_somewhere(self) -> None:
        """Start, and begin again on other ports when somebody was quicker to take one."""
        leftovers = self.stack.leftovers()
        self.stack.supervisor = ProcessRecord.of(os.getpid())
        self.stack.state, self.stack.steps, self.stack.error = "starting", [], None
        self.files.write(self.stack)  # who cannot write down that it is there does not start
        if leftovers:
            async with self._step("end what an earlier supervisor left running"):
                await asyncio.to_thread(stop_leftovers, leftovers)
        for attempt in range(1, TRIES + 1):
            try:
                await self._start()
                return
            except* PortTaken as taken:
                if attempt == TRIES:
                    raise
                log.warning("port_taken", error=str(taken.exceptions[0]))
                await self._stop_parts()

    async def _start(self) -> None:
        self.stack.parts = []
        self.stack.ports = choose_ports(self.stack.ports)
        self.stack.kafka = self.choice.kafka_bootstrap or f"127.0.0.1:{self.stack.ports['kafka']}"
        async with asyncio.TaskGroup() as both:
            both.create_task(self._start_postgres())
            both.create_task(self._start_kafka())
        async with self._step("databases and roles"):
            await provision.make_databases(
                self.superuser_dsn, self.credentials, ours=self.choice.postgres_dsn is None
            )
            self.stack.postgres = provision.describe_postgres(self.superuser_dsn, self.credentials)
        async with self._step("roster, claims and auth"):
            await self._launch([self._service(name) for name in SERVICES])
        await self._fill()
        async with self._step("the portal"):
            await self._launch([Portal(PORTAL, self.files, self.stack.ports)])

    async def _start_postgres(self) -> None:
        if self.choice.postgres_dsn:
            return
        async with self._step("PostgreSQL"):
            port, password = self.stack.ports["postgres"], self.credentials.postgres
            made = await asyncio.to_thread(backing.make_postgres, self.choice, self.files, port, password)
            self.superuser_dsn = made.dsn
            await self._launch([made], made.log_file)

    async def _start_kafka(self) -> None:
        if self.choice.kafka_bootstrap:
            return
        async with self._step("Apache Kafka") as step:
            loop = asyncio.get_running_loop()

            def progress(done: int, total: int) -> None:
                loop.call_soon_threadsafe(self._detail, step, f"{done} of {total} jars")

            ports = self.stack.ports
            made = await asyncio.to_thread(backing.make_kafka, self.choice, self.files, ports, progress)
            self._detail(step, "")
            await self._launch([made])

    def _service(self, name: str) -> Service:
        dsn = provision.database_dsn(self.superuser_dsn, name, self.credentials.roles[name])
        return Service(name, self.files, self.stack.ports, dsn, self.stack.kafka)

    async def _fill(self) -> None:
        """What is in the stack from its first start on: auth's clients, and the sample district."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
            homeroom = provision.connect(http, self.stack.urls(), self.stack.kafka, self.credentials)
            async with self._step("clients"):
                await provision.make_clients(homeroom, self.credentials)
                self.files.keep(self.credentials)
                provision.admit_portal(self.files, self.credentials)
                await self._admit_portal()
            if not self.stack.sample:
                async with self._step("sample district: 2,000 pupils, their classes, the staff"):
                    await provision.publish_sample(homeroom.site.settings())
                    self.stack.sample = True
            async with self._step("read models up to date") as step:
                await provision.caught_up(homeroom, lambda detail: self._detail(step, detail))

    async def _launch(self, programs: Sequence[Program], log_file: Path | None = None) -> None:
        """Start these parts and wait until all of them answer. TimeoutError names who did not."""
        parts = [Part(program, self.files.logs, self.write_down, log_file) for program in programs]
        for part in parts:
            self.parts.append(part)
            self.stack.parts.append(part.state)
            part.start()
        for part in parts:
            try:
                await part.wait_ready(READY_PATIENCE_S)
            except TimeoutError:
                name = part.program.name
                why = f"{name} did not answer within {READY_PATIENCE_S:.0f} s: see its log, {part.output}"
                raise TimeoutError(why) from None

    async def _stop(self) -> None:
        self._become("stopping")
        await self._stop_parts()
        self._become("failed" if self.stack.error else "stopped")

    async def _stop_parts(self) -> None:
        """Whoever asks before whoever is asked, so that each can drain: the portal, the services, the databases."""
        for names in ((PORTAL,), SERVICES, tuple(part.program.name for part in self.parts)):
            stopping = [part for part in self.parts if part.program.name in names]
            await asyncio.gather(*(part.stop() for part in stopping))
            self.parts = [part for part in self.parts if part not in stopping]

    async def _keep_tending(self) -> None:
        while True:
            self.tend()
            await asyncio.sleep(TEND_EVERY_S)

    def tend(self) -> None:
        """Keep every log bounded, and write down what could not be before."""
        for file in [*self.files.logs.glob("*.log"), *self.files.logs.glob("*/*.json")]:
            try:
                rotate(file)
            except OSError as error:
                log.error("log_not_rotated", file=file.name, error=str(error))
        if not self._written:
            self.write_down()

    async def _keep_admitting(self) -> None:
        """The portal gets a client of its own in a district that is added while the stack runs."""
        known: dict[str, tuple[int, ...]] | None = None
        while True:
            await asyncio.sleep(ADMIT_EVERY_S)
            seen = fingerprints(_policies(), "*.toml")
            if self.stack.state != "running" or seen == known:
                continue
            try:
                made = await self._admit_portal()
            except (
                HomeroomError,
                OSError,
                aiohttp.ClientError,
            ) as error:  # auth is away, or knows it in a moment
                log.warning("portal_not_admitted", error=str(error) or repr(error))
                continue
            known = seen
            if made:
                log.info("portal_admitted", districts=made)

    async def _admit_portal(self) -> list[str]:
        return await portal_clients.make_clients(self.files.root, _policies(), self.stack.urls()["auth"])

    def _become(self, state: str) -> None:
        self.stack.state = state
        self.write_down()
        log.info("stack", state=state)

    def write_down(self) -> None:
        """What `homeroom status` shows. That the disk is full must stop nobody from watching the parts."""
        try:
            self.files.write(self.stack)
        except OSError as error:
            log.error("state_not_written", error=str(error))
            self._written = False
        else:
            self._written = True

    @asynccontextmanager
    async def _step(self, name: str) -> AsyncIterator[Step]:
        """Announce what is being done, and write down how long it took."""
        step, began = Step(name), time.monotonic()
        self.stack.steps.append(step)
        self.write_down()
        try:
            yield step
        except PortTaken:
            self.stack.steps.remove(step)
            raise
        step.seconds = round(time.monotonic() - began, 2)
        self.write_down()
        log.info("step_done", step=name, seconds=step.seconds)

    def _detail(self, step: Step, detail: str) -> None:
        step.detail = detail
        self.write_down()


def _policies() -> Path:
    return from_environment(service="supervisor", postgres="", kafka="").policy_dir


def choose_ports(before: dict[str, int]) -> dict[str, int]:
    """The ports of the last start where they are still free, others where somebody took them. OSError: none left."""
    chosen: dict[str, int] = {}
    for name, wanted in WANTED_PORTS.items():
        chosen[name] = free_port(before.get(name, wanted), frozenset(chosen.values()))
    return chosen


def stop_leftovers(parts: Sequence[PartState]) -> None:
    """End the processes of a supervisor that was killed, all at the same time."""
    processes = [part.process for part in parts if part.process]
    with ThreadPoolExecutor(len(processes)) as pool:
        list(pool.map(lambda process: process.stop(), processes))


async def main() -> None:
    files = Files(state_dir())
    files.make()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with files.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another supervisor has this state folder", file=sys.stderr)
            sys.exit(FOLDER_TAKEN)
        await Supervisor(files, backing.Choice.of(os.environ)).run(stopping)


def allow_open_files() -> None:
    """A broker holds many files open; the soft limit of a shell is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


if __name__ == "__main__":
    configure_logging("supervisor")
    allow_open_files()
    try:
        asyncio.run(main())
    except Exception:
        log.exception("stack_failed")
        sys.exit(1)
