"""The routes of the way back in."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from services.auth import codes, devices, recovery
from services.auth.calls import (
    DISTRICT,
    PASSWORD_REFUSALS,
    UNIFORM_S,
    DeskBody,
    DeskQuery,
    Feature,
    PasswordBody,
    Username,
    actor,
    occasion,
)
from services.auth.decider import Answer
from services.auth.recovery import RecoveryBegun
from shared.auth import PUBLIC, RECOVERY, Scope
from shared.database import Connection
from shared.errors import Rejected
from shared.once import once
from shared.web import Body, Call, Reply, Route


class ProofBody(Body, frozen=True, kw_only=True):
    """Either the answers to the questions, or the help desk's one-time code."""

    answers: Annotated[list[Answer], Meta(max_length=50)] | None = None
    code: Annotated[str, Meta(max_length=64)] | None = None


class RecoveryBody(Body, frozen=True, kw_only=True):
    username: Username


class CodeIssued(msgspec.Struct, frozen=True):
    """`code` is shown once; it is typed where the answers would go, or with the password of a claim."""

    code: str
    expires_at: datetime


class Recoveries(Feature):
    """For whoever forgot a password, and for a desk that helps."""

    async def begin_recovery(self, call: Call[RecoveryBody]) -> Reply:
        return Reply(201, await recovery.begin(self.auth, occasion(call), call.body.username))

    async def answer_recovery(self, call: Call[ProofBody]) -> Reply:
        await devices.origin(call, self.auth.hasher.peppers)
        recovery_id, body = _recovery(call), call.body
        if body.code is not None and body.answers is None:
            person_id = await recovery.enter_code(self.auth, occasion(call), recovery_id, body.code)
        elif body.answers is not None and body.code is None:
            person_id = await recovery.answer(self.auth, occasion(call), recovery_id, body.answers)
        else:
            raise Rejected("invalid_body", field="$", problem="either `answers` or `code`")
        call.noted["person_id"] = person_id
        return Reply(200, {"state": "opened"})

    async def recover(self, call: Call[PasswordBody]) -> Reply:
        peppers = self.auth.hasher.peppers
        device = (await devices.origin(call, peppers)).device or devices.new(call.now)
        call.noted["person_id"] = await recovery.put_password(
            self.auth, occasion(call), _recovery(call), call.body.password, device
        )
        return Reply(204, None, {devices.HEADER: devices.issue(peppers, call.policy, device, call.now)})

    async def issue_code(self, call: Call[DeskBody]) -> Reply:
        async def work(conn: Connection) -> Reply:
            assert call.caller is not None
            person_id, ticket, by = call.uuid("person_id"), call.body.desk_ticket, call.caller.rank
            code, expires_at = await codes.issue_code(
                self.auth, conn, occasion(call), person_id, actor(call), ticket, by
            )
            return Reply(201, CodeIssued(code, expires_at))

        return await once(call, call.kit.db, work, shown_once=True)

    async def lift_lockout(self, call: Call[None]) -> Reply:
        await recovery.lift_lockout(
            self.auth, occasion(call), call.uuid("person_id"), actor(call), call.query.desk_ticket
        )
        return Reply(204)

    def routes(self) -> list[Route]:
        recovery_, person = f"{DISTRICT}/recoveries/{{recovery_id}}", f"{DISTRICT}/accounts/{{person_id}}"
        uniform = {"recovery_refused": UNIFORM_S}
        return [
            Route(
                "POST", f"{DISTRICT}/recoveries", self.begin_recovery,
                summary="Forgot my password: three questions, whether the username exists or not.",
                caller=PUBLIC, body=RecoveryBody, success={201: RecoveryBegun},
                refusals={"recovery_refused": 403}, uniform_s=uniform,
            ),
            Route(
                "POST", f"{recovery_}/answers", self.answer_recovery, audit="prove_recovery",
                summary="Open a recovery by its answers, or by the help desk's code.",
                caller=RECOVERY, body=ProofBody, success={200: dict[str, str]},
                refusals={"recovery_refused": 403, "answers_wrong_count": 422, "answer_invalid": 422},
                uniform_s=uniform,
            ),
            Route(
                "PUT", f"{recovery_}/password", self.recover, audit="recover",
                summary="The new password of an opened recovery; every session ends.",
                caller=RECOVERY, body=PasswordBody, success={204: None},
                refusals={**PASSWORD_REFUSALS, "recovery_refused": 403}, uniform_s=uniform,
            ),
            Route(
                "POST", f"{person}/recovery-codes", self.issue_code, audit="issue_code",
                summary="A one-time code: opens a recovery at once, or lets staff claim where the policy asks for one.",
                caller=Scope("desk"), body=DeskBody, success={201: CodeIssued},
                refusals={
                    "person_unknown": 404, "not_claimed": 409, "account_suspended": 403, "role_not_below": 403,
                },
            ),
            Route(
                "DELETE", f"{person}/lockout", self.lift_lockout, audit="lift_lockout",
                summary="Forget the wrong passwords and answers of an account.",
                caller=Scope("desk"), query=DeskQuery, success={204: None}, refusals={"person_unknown": 404},
            ),
        ]  # fmt: skip


def _recovery(call: Call[Any]) -> UUID:
    """The recovery of the path, if it is the ticket's."""
    assert call.caller is not None
    recovery_id = call.uuid("recovery_id")
    if call.caller.subject != str(recovery_id):
        raise Rejected("not_found")
    return recovery_id
