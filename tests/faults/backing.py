"""A PostgreSQL and a Kafka that may be killed: of this test's own, never the ones that other tests share."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from deploy.local.backing import Choice, make_kafka, make_postgres
from deploy.local.state import Files
from services.cli.client import Json
from tests.journeys.fleet import die_with_parent, free_ports

BACK_WITHIN_S = 60


class Backing:
    """Both, started by the local stack's own launchers; each can be killed and started again on the same data."""

    def __init__(self) -> None:
        # Not the test's folder: the unprivileged account that PostgreSQL runs as has to reach it.
        self.files = Files(Path(tempfile.mkdtemp(prefix="homeroom-faults-")))
        self.files.make()
        port, *ports = free_ports(3)
        choice = Choice()
        self.server = make_postgres(choice, self.files, port, "backing")
        brokers = dict(zip(("kafka", "controller"), ports, strict=True))
        self.broker = make_kafka(choice, self.files, brokers, lambda done, total: None)
        self.parts: dict[str, Any] = {"postgres": self.server, "kafka": self.broker}
        self.processes: dict[str, asyncio.subprocess.Process] = {}

    @property
    def addresses(self) -> Json:
        """As the backing's file says it."""
        return {"postgres": self.server.dsn, "kafka": self.broker.bootstrap}

    async def start(self) -> "Backing":
        await asyncio.gather(*(self.launch(name) for name in self.parts))
        return self

    async def launch(self, name: str) -> None:
        """Start one part and wait until it answers; TimeoutError when it does not."""
        part, log = self.parts[name], self.files.logs / f"{name}.out"
        with log.open("ab") as output:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *map(str, part.command()), env=part.environment(), cwd="/", stdout=output, stderr=output,
                start_new_session=True, preexec_fn=die_with_parent, **part.account.spawn_options(),
            )  # fmt: skip
        for _ in range(BACK_WITHIN_S * 4):
            if await part.answers():
                return
            await asyncio.sleep(0.25)
        raise TimeoutError(f"{name} does not answer: {log.read_text()[-2000:]}")

    async def kill(self, name: str) -> None:
        """SIGKILL: the postmaster's backends notice by themselves, as after a real crash."""
        self.processes[name].kill()
        await self.processes[name].wait()

    async def stop(self) -> None:
        for name, process in self.processes.items():
            if process.returncode is None:
                process.send_signal(self.parts[name].stop_signal)
                await process.wait()
        shutil.rmtree(self.files.root, ignore_errors=True)
