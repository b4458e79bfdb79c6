"""Idempotency-Key: a command that is sent twice takes effect once, and both are given the same reply."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from shared.database import LOST_RACE, Connection, Database, queries
from shared.errors import Rejected
from shared.web import Call, Reply, encode

HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255
_ATTEMPTS = 8

_sql = queries("shared", "web.sql")


Again: TypeAlias = Callable[
    [Connection, Mapping[str, str]], Awaitable[Any]
]  # the reply's headers -> its body


async def once(
    call: Call[Any],
    db: Database,
    work: Callable[[Connection], Awaitable[Reply]],
    *,
    shown_once: bool = False,
    again: Again | None = None,
) -> Reply:
    """Runs `work` in one transaction, together with the row that remembers its reply; wakes the relay after it.

    A repeat (same caller, route and key) is given that reply. Raises Rejected `request_in_progress` while the
    first still runs, `idempotency_key_reused` for another request under the same key. Without the header, or
    for a public caller, it is one transaction all the same. Somebody else's append in between makes it run
    again; what `work` rejects leaves nothing behind.

    `shown_once`: the reply holds a secret and is not kept; a repeat is told `reply_withheld`. `again`: its body names
    people and is not kept either; for a repeat it is made again, as things are by then.
    """
    key = key_of(call) if call.caller else None
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with db.transaction() as conn:
                reply = await (_remembered(call, key, conn, work, shown_once, again) if key else work(conn))
        except LOST_RACE:
            if attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(0.005 * attempt)
        else:
            call.kit.store.wake()
            return reply
    raise AssertionError("unreachable")


def key_of(call: Call[Any]) -> str | None:
    """The request's Idempotency-Key. Raises Rejected `idempotency_key_invalid`."""
    values = call.request.headers.getall(HEADER, [])
    if not values:
        return None
    key = values[0]
    if len(values) > 1 or not 1 <= len(key) <= MAX_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        raise Rejected("idempotency_key_invalid")
    return key


async def _remembered(
    call: Call[Any],
    key: str,
    conn: Connection,
    work: Callable[[Connection], Awaitable[Reply]],
    shown_once: bool,
    again: Again | None,
) -> Reply:
    assert call.caller is not None
    caller = f"{call.caller.kind}:{call.caller.district}:{call.caller.subject}"
    route = f"{call.route.method} {call.route.path}"
    digest = hashlib.sha256(call.request.path_qs.encode() + b"\0" + call.raw).digest()
    if not await conn.fetchval(_sql.take_command, f"{caller} {route} {key}"):
        raise Rejected("request_in_progress", retry_after_s=1)
    if row := await conn.fetchrow(_sql.find_command, caller, route, key):
        if row["digest"] != digest:
            raise Rejected("idempotency_key_reused")
        if not row["status"]:
            raise Rejected("reply_withheld")
        body = await again(conn, row["headers"]) if again else row["body"] or None
        return Reply(row["status"], body, row["headers"] | {"Idempotency-Replayed": "true"})
    reply = await work(conn)
    body = b"" if again else encode(reply.body)
    kept = (0, {}, b"") if shown_once else (reply.status, dict(reply.headers), body)
    await conn.execute(_sql.insert_command, caller, route, key, digest, *kept, call.now)
    return reply
