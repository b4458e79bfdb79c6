"""Staff act with their own accounts: a portal exchanges the session of somebody who has a role for an access token of
the shape that clients have (RFC 8693), so that every service knows who acts.

Two things are shown: the session, and the secret of a client with the scope `exchange`. A session that was stolen
from a browser opens no desk by itself.
"""

from datetime import timedelta

from services.auth import decider
from services.auth.handlers import Auth, Occasion, find_person
from services.auth.passwords import token_hash
from services.auth.session_checks import find_session
from services.auth.tokens import Client, Issued, sign
from shared.errors import Rejected

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = (
    "urn:ietf:params:oauth:token-type:access_token"  # what a session is taken as, and what is given
)
SCOPE = "exchange"
LIFE = timedelta(minutes=5)  # how long a service other than auth may believe a session that has ended


async def exchange(auth: Auth, on: Occasion, client: Client, session_token: str, scope: str | None) -> Issued:
    """A token for the person of a session, with what was asked for or all that their roles give; it ends with the
    session, or sooner. Raises Rejected unauthorized_client, subject_token_invalid, role_missing, invalid_scope."""
    if not client.serves(on.district) or SCOPE not in client.scopes:
        raise Rejected("unauthorized_client")
    session = await find_session(auth, on.policy, session_token, on.now)
    if session is None:
        raise Rejected("subject_token_invalid")
    async with auth.kit.db.connection() as conn:
        person, state = await find_person(conn, on.district, session.person_id)
    scopes = decider.may_act(state, (scope or "").split(), employed=person.status == "enrolled")
    claims = {
        "sub": str(session.person_id),
        "person": str(session.person_id),
        "username": session.username,
        "name": f"{person.first_name} {person.last_name}",
        "human": True,
        "client_id": client.client_id,
        "act": {"sub": client.client_id},
        "sid": token_hash(session_token).hex(),
        "scope": " ".join(scopes),
        "districts": [on.district],
    }
    ends_at = min(on.now + LIFE, session.expires_at, session.idle_expires_at)
    return sign(auth, on.district, claims, on.now, ends_at)
