"""One PostgreSQL and one Kafka for a whole test run: `python -m tests.support.backing FOLDER ANSWER [PID]`.

Runs until SIGTERM, or until process PID (the test run) is gone, then stops both and leaves nothing behind. ANSWER is
written when both are up: {"postgres": superuser DSN, "kafka": "host:port", "pid"}.
"""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
from pathlib import Path

import psutil

from deploy.local import kafka, postgres
from deploy.local.account import Account
from deploy.local.processes import free_port, spawn

START_PATIENCE_S = 60


def parts(folder: Path) -> tuple[postgres.Postgres, kafka.Kafka]:
    """Both launchers with everything below `folder`, which the unprivileged account must be able to enter."""
    account = Account.choose()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    copies = folder / "runtime"
    jars = account.reachable(kafka.fetch_jars(kafka.jar_folder()), "complete", copies)
    java = account.reachable(kafka.bundled_java(), "bin/java", copies) / "bin/java"
    install = account.reachable(postgres.bundled_binaries(), "bin/postgres", copies)
    # Far from the ports of a stack that may run beside the tests.
    port, broker, controller = free_port(35432), free_port(39092), free_port(39192)
    return (
        postgres.Postgres(
            install, folder / "postgres/data", folder / "logs/postgres", port, "backing", account
        ),
        kafka.Kafka(java, jars, folder / "kafka/data", broker, controller, account),
    )


async def run(folder: Path, answer: Path, watched: int | None) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    database, broker = parts(folder)
    database.prepare()
    broker.prepare()
    log = folder / "logs/backing.log"
    running = []
    try:
        for part in (database, broker):
            running.append(await spawn(part.command(), log=log, env=part.environment(), account=part.account))
        async with asyncio.timeout(START_PATIENCE_S):
            while not (await postgres.answers(database.dsn) and await kafka.answers(broker.bootstrap)):
                await asyncio.sleep(0.1)
        written = answer.with_suffix(".new")
        written.write_text(
            json.dumps({"postgres": database.dsn, "kafka": broker.bootstrap, "pid": os.getpid()})
        )
        written.replace(answer)
        while not stopping.is_set() and (watched is None or psutil.pid_exists(watched)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), 0.5)
    finally:
        for process in reversed(running):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(postgres.STOP_SIGNAL if process is running[0] else kafka.STOP_SIGNAL)
            try:
                await asyncio.wait_for(process.wait(), 15)
            except TimeoutError:
                process.kill()
                await process.wait()
        answer.unlink(missing_ok=True)
        if watched is not None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # "not yet" is no news while it starts
    asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None))
