"""Back-channel logout (OpenID Connect Back-Channel Logout 1.0): applications are told that a session has ended.

The notices lie in a table since the moment in which it ended (sql/0022). Only the address that was registered is asked,
redirects are not followed and the answer is not read; a notice is sent again with growing pauses, for an hour.
"""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import aiohttp
import structlog

from services.auth import applications, oidc_rules, sign_ons
from services.auth.handlers import Auth
from shared import clock
from shared.database import Row, queries

AT_ONCE = 20  # notices that one process has under way
FIRST_PAUSE = timedelta(seconds=10)  # longer than a try may take; doubles
PATIENCE = aiohttp.ClientTimeout(total=5)
LOOK_EVERY_S = 0.5

_sql = queries(__package__, "oidc.sql")
log = structlog.get_logger(__name__)


async def run(auth: Auth) -> None:
    """For ever."""
    async with aiohttp.ClientSession(timeout=PATIENCE, trust_env=False) as http:
        while True:
            if await send(auth, http, clock.now()) < AT_ONCE:
                await asyncio.sleep(LOOK_EVERY_S)


async def send(auth: Auth, http: aiohttp.ClientSession, now: datetime) -> int:
    """Sends the notices that are due, some at once; answers how many there were."""
    async with auth.kit.db.connection() as conn:
        rows = await conn.fetch(_sql.take_notices, now, AT_ONCE, FIRST_PAUSE)
    await asyncio.gather(*(_send(auth, http, row, now) for row in rows))
    return len(rows)


async def _send(auth: Auth, http: aiohttp.ClientSession, row: Row, now: datetime) -> None:
    async with auth.kit.db.connection() as conn:
        application = await applications.find(conn, row["client_id"])
    policy = auth.kit.policies.find(row["district"])
    if policy is None:  # its file is missing: at a later try it may be back
        return
    if application is not None and application.backchannel_logout_uri is not None:
        sub = sign_ons.sub_of(auth, policy, application, row["person_id"])
        issuer = sign_ons.issuer_of(auth, policy.district)
        claims = oidc_rules.logout_token(issuer, application, sub, row["sid"], str(uuid4()), now)
        token = auth.kit.signer.sign("logout+jwt", claims, application.id_token_algorithm)
        problem = await _post(http, application.backchannel_logout_uri, token)
        if problem is not None:
            log.warning("logout_not_told", client=application.client_id, tries=row["tries"], problem=problem)
            return
    await _drop(auth, row["notice_id"])


async def _post(http: aiohttp.ClientSession, uri: str, token: str) -> str | None:
    """What went wrong, if anything did."""
    try:
        async with http.post(uri, data={"logout_token": token}, allow_redirects=False) as response:
            return None if 200 <= response.status < 300 else str(response.status)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return type(error).__name__


async def _drop(auth: Auth, notice_id: UUID) -> None:
    async with auth.kit.db.connection() as conn:
        await conn.execute(_sql.drop_notice, notice_id)
