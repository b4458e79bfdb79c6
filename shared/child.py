"""Child processes of our own code: how one begins, and how it ends."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

END_TIMEOUT_S = 10.0


@asynccontextmanager
async def running(module: str) -> AsyncIterator[Process]:
    """`python -m module`, with pipes to its stdin and from its stdout. Whoever leaves this in peace has heard all that
    it had to say: then it has a while to end by itself. If anything is raised, or it does not end, it is killed. Either
    way it has ended afterwards, and `returncode` says how."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdin=PIPE, stdout=PIPE, cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    try:
        yield process
        await ended(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(process: Process) -> int | None:
    """The status of a process that is about to end: killing one that is ending already would lose what it ended with.
    None: it does not end."""
    with suppress(TimeoutError):
        return await asyncio.wait_for(process.wait(), END_TIMEOUT_S)
    return None
