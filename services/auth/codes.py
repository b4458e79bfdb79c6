"""The help desk's one-time code: it opens a recovery, and lets staff claim where the district asks for one."""

import secrets
import unicodedata
from datetime import datetime, timedelta
from uuid import UUID

from services.auth import decider
from services.auth.decider import State
from services.auth.handlers import Auth, Occasion, find_person, record
from shared.database import Connection, queries
from shared.transact import Outcome

# Fifty bits, without letters that are taken for others: not to be guessed in the minutes that a code lives.
CODE_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE_LENGTH = 10
_MISREAD = str.maketrans("OIL", "011")

_sql = queries(__package__)


async def issue_code(
    auth: Auth, conn: Connection, on: Occasion, person_id: UUID, actor: str, desk_ticket: str | None, by: int
) -> tuple[str, datetime]:
    """A one-time code, in place of any before it; shown once. `by`: the rank of whoever gives it. Raises Rejected
    person_unknown, role_not_below, not_claimed, account_suspended."""
    person, _ = await find_person(conn, on.district, person_id)
    code = "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))
    expires_at = on.now + timedelta(minutes=on.policy.recovery.code_minutes)
    to_claim = on.policy.claim_needs_code(person.kind)

    async def put(conn: Connection, outcome: Outcome[State]) -> None:
        await conn.execute(
            _sql.put_code, person_id, on.district, code_hash(auth, person_id, code), actor, expires_at
        )

    await record(
        auth,
        on,
        person_id,
        lambda state, _: decider.issue_code(state, actor, desk_ticket, expires_at, to_claim=to_claim, by=by),
        conn=conn,
        then=put,
    )
    return f"{code[:5]}-{code[5:]}", expires_at


def code_hash(auth: Auth, person_id: UUID | None, typed: str) -> bytes:
    """As it is read out: capitals or not, hyphens and blanks anywhere, O for 0, I and L for 1."""
    letters = [c for c in unicodedata.normalize("NFKC", typed).upper() if c.isalnum()]
    return auth.hasher.peppers.keyed("code", str(person_id), "".join(letters).translate(_MISREAD))
