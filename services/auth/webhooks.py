"""The audit for districts that cannot read Kafka: each line by HTTP, signed as Standard Webhooks says, at least once.

Which address, and of what it is told, is in the district's policy; the secret is a file. Lines wait in `webhook_line`
since the statement that wrote them. Only that address is asked, redirects are not followed and answers are not read.
One that takes nothing is left alone for longer and longer, five minutes at most, and no other district waits for it.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
import msgspec
import structlog
from prometheus_client import Gauge

from services.auth.audit_topic import RequestAnswered
from services.auth.handlers import Auth
from shared import clock
from shared.database import Database, Row, queries
from shared.messages import JSON_CONTENT_TYPE, rfc3339
from shared.policy import WebhookRule

AT_ONCE = 20  # lines that one process has under way to one district
DISTRICTS_AT_ONCE = 20
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=5)
GONE, GONE_PAUSE = 410, timedelta(days=1)  # the address wants no more: who runs it changes the policy
PATIENCE = aiohttp.ClientTimeout(total=5)  # shorter than the first pause
LOOK_EVERY_S, FOLLOW_EVERY_S, COUNT_EVERY_S = 0.5, 30.0, 5.0
COUNTED = 100_000
SECRET_PREFIX, SECRET_MIN_BYTES, SECRET_MAX_BYTES = "whsec_", 24, 64

_untold = Gauge("homeroom_webhook_lines", "Lines of the audit that districts' webhooks have not taken yet.")
_sql = queries(__package__, "webhooks.sql")
log = structlog.get_logger(__name__)


class SecretUnread(Exception):
    """There is no secret to sign with; the message says why, and never what is in the file."""


async def run(auth: Auth) -> None:
    """For ever."""
    followed: set[str] | None = None
    follow_at, loop = 0.0, asyncio.get_running_loop()
    async with aiohttp.ClientSession(timeout=PATIENCE, trust_env=False) as http:
        while True:
            rules = wanted(auth)
            if rules.keys() != followed or loop.time() >= follow_at:
                await follow(auth, clock.now())
                followed, follow_at = set(rules), loop.time() + FOLLOW_EVERY_S
            if not rules or await send(auth, http, clock.now()) < AT_ONCE:
                await asyncio.sleep(LOOK_EVERY_S)


def wanted(auth: Auth) -> dict[str, WebhookRule]:
    """The districts that are told."""
    found = ((district, auth.kit.policies.find(district)) for district in auth.kit.policies.districts)
    return {district: policy.webhook for district, policy in found if policy and policy.webhook}


async def follow(auth: Auth, now: datetime) -> None:
    """Lines are kept for whom a policy names, and for who is served without one no more. A district whose policy is
    missing at the moment keeps what waits."""
    on, served = list(wanted(auth)), auth.kit.policies.districts
    off = [district for district in served if district not in on and auth.kit.policies.find(district)]
    async with auth.kit.db.connection() as conn:
        await conn.execute(_sql.follow, on, off, now)


async def send(auth: Auth, http: aiohttp.ClientSession, now: datetime) -> int:
    """A round for each district that is due, side by side; the most lines that one of them had."""
    limit = asyncio.Semaphore(DISTRICTS_AT_ONCE)

    async def round_of(district: str, rule: WebhookRule) -> int:
        async with limit:
            return await _round(auth, http, district, rule, now)

    return max(await asyncio.gather(*(round_of(*each) for each in wanted(auth).items())), default=0)


async def _round(
    auth: Auth, http: aiohttp.ClientSession, district: str, rule: WebhookRule, now: datetime
) -> int:
    async with auth.kit.db.connection() as conn:
        if not await conn.fetchval(_sql.is_due, district, now):
            return 0
        lines = await conn.fetch(_sql.take_lines, district, now, AT_ONCE, FIRST_PAUSE, LONGEST_PAUSE)
    if not lines:
        return 0
    unwanted = [line["audit_id"] for line in lines if rule.events and line["what"] not in rule.events]
    to_tell = [line for line in lines if line["audit_id"] not in unwanted]
    problems = await _tell(auth, http, district, rule, to_tell, now)
    told = [line["audit_id"] for line, problem in zip(to_tell, problems, strict=True) if problem is None]
    async with auth.kit.db.transaction() as conn:
        await conn.execute(_sql.drop_lines, [*told, *unwanted])
        if told:
            await conn.execute(_sql.went_well, district, now)
        if told or not to_tell:
            return len(lines)
        least = GONE_PAUSE if str(GONE) in problems else timedelta(0)
        tries = await conn.fetchval(_sql.went_wrong, district, now, FIRST_PAUSE, LONGEST_PAUSE, least)
    log.warning("webhook_not_taken", district=district, problem=problems[0], rounds=tries)
    return 0


async def _tell(
    auth: Auth,
    http: aiohttp.ClientSession,
    district: str,
    rule: WebhookRule,
    lines: Sequence[Row],
    now: datetime,
) -> list[str | None]:
    """What went wrong with each."""
    try:
        keys = read_secret(auth.kit.settings.webhook_secret_dir, district)
    except SecretUnread as error:
        return [str(error)] * len(lines)
    return await asyncio.gather(*(_post(http, rule.url, *message(line, keys, now)) for line in lines))


async def _post(http: aiohttp.ClientSession, url: str, headers: dict[str, str], body: bytes) -> str | None:
    try:
        async with http.post(url, data=body, headers=headers, allow_redirects=False) as response:
            return None if 200 <= response.status < 300 else str(response.status)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return type(error).__name__


def message(line: Row, keys: Sequence[bytes], now: datetime) -> tuple[dict[str, str], bytes]:
    """Headers and body of a line (Standard Webhooks, 1.0): its id and its body are the same at every try."""
    data = RequestAnswered(**{name: line[name] for name in RequestAnswered.__struct_fields__})
    body = msgspec.json.encode({"type": f"audit.{data.what}", "timestamp": rfc3339(data.at), "data": data})
    said = str(line["event_id"]), str(int(now.timestamp()))
    headers = {
        "Content-Type": JSON_CONTENT_TYPE,
        "User-Agent": "Homeroom",
        "webhook-id": said[0],
        "webhook-timestamp": said[1],
        "webhook-signature": " ".join(sign(key, *said, body) for key in keys),
    }
    return headers, body


def sign(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    signature = hmac.digest(key, b".".join((message_id.encode(), timestamp.encode(), body)), hashlib.sha256)
    return f"v1,{base64.b64encode(signature).decode()}"


def read_secret(folder: Path | None, district: str) -> list[bytes]:
    """The keys of a district's file, one a line, each of them signs: two while a secret is turned. Raises
    SecretUnread."""
    if folder is None:
        raise SecretUnread("HOMEROOM_WEBHOOK_SECRET_DIR is not set")
    try:
        lines = (folder / district).read_text().split()
        keys = [base64.b64decode(line.removeprefix(SECRET_PREFIX), validate=True) for line in lines]
    except (OSError, binascii.Error, UnicodeDecodeError) as error:
        raise SecretUnread(f"the secret: {type(error).__name__}") from None
    if not keys or any(not SECRET_MIN_BYTES <= len(key) <= SECRET_MAX_BYTES for key in keys):
        raise SecretUnread(f"the secret: {SECRET_MIN_BYTES} to {SECRET_MAX_BYTES} bytes in base64 are needed")
    return keys


async def count(db: Database) -> None:
    """For operators: how many lines wait."""
    async with db.connection() as conn:
        _untold.set(await conn.fetchval(_sql.count_untold, COUNTED))
