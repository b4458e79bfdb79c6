"""One PostgreSQL and one Kafka for a whole test run: `python -m tests.support.backing FOLDER ANSWER [PID]`.

Runs until SIGTERM, or until process PID (the test run) is gone, then stops both and leaves nothing behind. ANSWER is
written when both are up: {"postgres": superuser DSN, "kafka": "host:port", "pid"}.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import psutil

from deploy.local.backing import Choice, make_kafka, make_postgres
from deploy.local.parts import Part
from deploy.local.processes import free_port
from deploy.local.state import Files

START_PATIENCE_S = 60
# Below those that the system gives to clients, apart from a stack's, and from another run's that begins just now.
OWN_PORTS = 26000 + 10 * (os.getpid() % 290)


async def run(folder: Path, answer: Path, watched: int | None) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    files, choice = Files(folder), Choice()
    files.make()
    ports = {name: free_port(OWN_PORTS + 3 * n) for n, name in enumerate(("postgres", "kafka", "controller"))}
    database = make_postgres(choice, files, ports["postgres"], "backing")
    broker = make_kafka(choice, files, ports, lambda done, total: None)
    parts = [Part(program, files.logs, lambda: None) for program in (database, broker)]
    try:
        for part in parts:
            part.start()
        await asyncio.gather(*(part.wait_ready(START_PATIENCE_S) for part in parts))
        written = answer.with_suffix(".new")
        written.write_text(
            json.dumps({"postgres": database.dsn, "kafka": broker.bootstrap, "pid": os.getpid()})
        )
        written.replace(answer)
        while not stopping.is_set() and (watched is None or psutil.pid_exists(watched)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), 0.5)
    finally:
        await asyncio.gather(*(part.stop() for part in parts))
        answer.unlink(missing_ok=True)
        if watched is not None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None))
