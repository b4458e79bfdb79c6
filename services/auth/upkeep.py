"""What auth does by itself: resting questions are announced, what has expired goes, the first operator client is
made."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec

from services.auth import recovery, tokens
from services.auth.handlers import Auth
from shared import clock, metrics
from shared.database import queries
from shared.log import get_logger
from shared.supervisor import Worker

EXPIRING = (
    "staging", "session", "recovery", "recovery_code", "wrong_password", "recovery_try", "previous_secret",
)  # fmt: skip
EXPIRE_EVERY_S = 60.0
EXPIRE_ROWS = 500
ANNOUNCE_EVERY_S = 2.0
ANNOUNCE_ROWS = 100
LAST_TRY_MAY_TAKE = timedelta(seconds=5)
BOOTSTRAP_EVERY_S = 10.0
BOOTSTRAP_CLIENT = "bootstrap_client"

_sql = queries(__package__)
log = get_logger(__name__)


def workers(auth: Auth) -> list[Worker]:
    found = [
        Worker("expire", "projector", _repeatedly(EXPIRE_EVERY_S, lambda: expire(auth))),
        Worker("announce-rests", "projector", _repeatedly(ANNOUNCE_EVERY_S, lambda: announce(auth))),
    ]
    if auth.kit.settings.bootstrap_client_file is not None and "api" in auth.kit.settings.roles:
        # Whoever finds auth ready may ask for the operator's token at once.
        auth.kit.readiness.waits_for(BOOTSTRAP_CLIENT, "starting")
        found.append(Worker("bootstrap", "api", _repeatedly(BOOTSTRAP_EVERY_S, lambda: bootstrap(auth))))
    return found


def _repeatedly(every_s: float, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        while True:
            await work()
            await asyncio.sleep(every_s)

    return run


async def expire(auth: Auth) -> None:
    """Deletes what has expired, in steps that hold no lock for long. Nothing depends on when: readers look at the
    time."""
    for table in EXPIRING:
        statement, deleted = getattr(_sql, f"expire_{table}"), EXPIRE_ROWS
        while deleted == EXPIRE_ROWS:
            async with auth.kit.db.connection() as conn:
                answer = await conn.execute(statement, clock.now(), EXPIRE_ROWS)
            deleted = int(answer.rpartition(" ")[2])
            metrics.expired.labels(table).inc(deleted)


async def announce(auth: Auth) -> None:
    now = clock.now()
    await recovery.announce_rests(auth, now, now - LAST_TRY_MAY_TAKE, ANNOUNCE_ROWS)


async def bootstrap(auth: Auth) -> None:
    """Looks again and again: the file may come later, or name another client."""
    file = auth.kit.settings.bootstrap_client_file
    assert file is not None
    try:
        if await tokens.ensure_bootstrap_client(auth, file, clock.now()):
            log.info("bootstrap_client_made")
        auth.kit.readiness.has(BOOTSTRAP_CLIENT)
    except (OSError, msgspec.MsgspecError) as error:
        auth.kit.readiness.waits_for(BOOTSTRAP_CLIENT, f"its file cannot be read: {type(error).__name__}")
