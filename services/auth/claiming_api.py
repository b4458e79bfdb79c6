"""The routes of a claim's last two steps."""

import re
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from aiohttp import hdrs
from msgspec import Meta

from services.auth import claiming
from services.auth.calls import DISTRICT, PASSWORD_REFUSALS, Feature, PasswordBody, occasion
from services.auth.claiming import Standing
from services.auth.decider import Answer, Claim
from shared.auth import TICKET
from shared.errors import Rejected
from shared.web import Body, Call, Reply, Route

ANSWER_REFUSALS = {"answers_wrong_count": 422, "answers_repeated": 422, "answer_invalid": 422}
CLAIM_REFUSALS = {
    "claim_sealed": 409, "claim_expired": 409, "claim_superseded": 409, "claim_rejected": 409,
    "account_suspended": 403,
}  # fmt: skip


class ClaimPasswordBody(PasswordBody, frozen=True, kw_only=True):
    """`code`: the help desk's, where the claim was opened with `code_required`; until it was right once."""

    code: Annotated[str, Meta(max_length=64)] | None = None


class AnswersBody(Body, frozen=True, kw_only=True):
    answers: Annotated[list[Answer], Meta(max_length=50)]


class Claiming(Feature):
    """For the holder of a claim's ticket."""

    async def put_password(self, call: Call[ClaimPasswordBody]) -> Reply:
        body = call.body
        etag = await claiming.put_password(self.auth, occasion(call), _claim(call), body.password, body.code)
        return Reply(200, None, {"ETag": f'"{etag}"'})

    async def put_answers(self, call: Call[AnswersBody]) -> Reply:
        etags = _etags(call)
        standing = await claiming.put_answers(
            self.auth, occasion(call), _claim(call), etags, call.body.answers
        )
        if standing.state == "completed":
            return Reply(200, standing)
        return Reply(202, standing, {"Location": f"/v1/districts/{call.district}/claims/{standing.claim_id}"})

    async def show_claim(self, call: Call[None]) -> Reply:
        return Reply(200, await claiming.claim_standing(self.auth, occasion(call), _claim(call)))

    def routes(self) -> list[Route]:
        claim = f"{DISTRICT}/claims/{{claim_id}}"
        return [
            Route(
                "PUT", f"{claim}/password", self.put_password,
                summary="A claim's password; its ETag is for the answers. Replaces the one before.",
                caller=TICKET, body=ClaimPasswordBody, success={200: None},
                refusals={**PASSWORD_REFUSALS, **CLAIM_REFUSALS, "claim_passwords_used_up": 409,
                          "code_required": 403, "code_wrong": 403},
            ),
            Route(
                "PUT", f"{claim}/answers", self.put_answers,
                summary="A claim's answers, which complete it. 200: sign in now. 202: ask at the Location.",
                caller=TICKET, body=AnswersBody, success={200: Standing, 202: Standing},
                refusals={
                    **ANSWER_REFUSALS, **CLAIM_REFUSALS,
                    "password_missing": 409, "password_replaced": 412, "if_match_missing": 428,
                },
            ),
            Route(
                "GET", claim, self.show_claim,
                summary="How the claim of this ticket stands here: completed means that signing in works.",
                caller=TICKET, success={200: Standing},
            ),
        ]  # fmt: skip


def _claim(call: Call[Any]) -> Claim:
    """What the ticket says, if it is the one of this claim."""
    assert call.caller is not None
    ticket = call.caller.claims
    if ticket.get("jti") != str(call.uuid("claim_id")):
        raise Rejected("not_found")
    try:
        return Claim(
            claim_id=call.uuid("claim_id"),
            person_id=UUID(call.caller.subject),
            generation=int(ticket["generation"]),
            username=str(ticket["username"]),
            expires_at=datetime.fromtimestamp(ticket["exp"], call.now.tzinfo),
            code_required=bool(ticket.get("code_required")),
        )
    except (KeyError, ValueError):
        raise Rejected("token_invalid") from None


def _etags(call: Call[Any]) -> frozenset[str]:
    """The strong tags of If-Match, or `*`."""
    header = ",".join(call.request.headers.getall(hdrs.IF_MATCH, []))
    if not header.strip():
        raise Rejected("if_match_missing")
    return frozenset(["*"] if header.strip() == "*" else re.findall(r'(?:^|,)\s*"([^"]*)"', header))
