"""Tickets: what carries an open claim from call to call, and from claims to auth, which never call each other."""

from datetime import datetime

from services.claims.handlers import Opened
from shared.auth import CLAIM_TYP
from shared.keys import Signer
from shared.policy import Policy


def issue(signer: Signer, opened: Opened, policy: Policy, now: datetime) -> str:
    """The ticket of a claim, good until the claim expires. Raises Unavailable while there is no key to sign with."""
    claim, pupil = opened.claim, opened.pupil
    return signer.sign(
        CLAIM_TYP,
        {
            "iss": "homeroom-claims",
            "aud": ["claims", "auth"],
            "sub": str(pupil.person_id),
            "jti": str(claim.claim_id),
            "district": policy.district,
            "generation": claim.generation,
            "username": policy.username(pupil.kind, pupil.number),
            "code_required": policy.claim_needs_code(pupil.kind),
            "iat": int(now.timestamp()),
            "exp": int(claim.expires_at.timestamp()),
        },
    )
