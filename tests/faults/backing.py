"""A PostgreSQL and a Kafka that may be killed: of this test's own, never the ones that other tests share."""

import asyncio
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

from deploy.local import kafka, postgres
from deploy.local.processes import spawn
from services.cli.client import Json
from tests.journeys.fleet import free_ports
from tests.support.backing import parts

BACK_WITHIN_S = 60


class Backing:
    """Both, started by the local stack's own launchers; each can be killed and started again on the same data."""

    def __init__(self) -> None:
        # Not the test's folder: the unprivileged account that PostgreSQL runs as has to reach it.
        self.folder = Path(tempfile.mkdtemp(prefix="homeroom-faults-"))
        self.folder.chmod(0o755)
        server, broker = parts(self.folder)
        ports = free_ports(3)
        self.server = replace(server, port=ports[0])
        self.broker = replace(broker, port=ports[1], controller_port=ports[2])
        self.parts = {"postgres": self.server, "kafka": self.broker}
        self.processes: dict[str, asyncio.subprocess.Process] = {}

    @property
    def addresses(self) -> Json:
        """As the backing's file says it."""
        return {"postgres": self.server.dsn, "kafka": self.broker.bootstrap}

    async def start(self) -> "Backing":
        for part in self.parts.values():
            await asyncio.to_thread(part.prepare)
        await asyncio.gather(*(self.launch(name) for name in self.parts))
        return self

    async def launch(self, name: str) -> None:
        """Start one part and wait until it answers; TimeoutError when it does not."""
        part = self.parts[name]
        log = self.folder / f"{name}.out"
        self.processes[name] = await spawn(
            part.command(), log=log, env=part.environment(), account=part.account
        )
        answers = postgres.answers if name == "postgres" else kafka.answers
        for _ in range(BACK_WITHIN_S * 4):
            if await answers(self.addresses[name]):
                return
            await asyncio.sleep(0.25)
        raise TimeoutError(f"{name} does not answer: {log.read_text()[-2000:]}")

    async def kill(self, name: str) -> None:
        """SIGKILL: the postmaster's backends notice by themselves, as after a real crash."""
        self.processes[name].kill()
        await self.processes[name].wait()

    async def stop(self) -> None:
        signals = {"postgres": postgres.STOP_SIGNAL, "kafka": signal.SIGKILL}
        for name, process in self.processes.items():
            if process.returncode is None:
                process.send_signal(signals[name])
                await process.wait()
