"""The routes of roles, and of an account as the help desk sees it here."""

from typing import Any

from msgspec import Struct

from services.auth import roles
from services.auth.calls import DISTRICT, DeskBody, DeskQuery, Feature, actor, occasion
from services.auth.roles import Holder, Standing
from shared.auth import Scope
from shared.errors import Rejected
from shared.policy import ROLES, Role
from shared.web import Call, Reply, Route


class Holders(Struct, frozen=True):
    holders: list[Holder]


class Roles(Feature):
    """For operators, who give roles, and for desks, who see them."""

    async def show_account(self, call: Call[None]) -> Reply:
        assert call.caller is not None
        person_id, by = call.uuid("person_id"), call.caller.rank
        return Reply(200, await roles.show(self.auth, occasion(call), person_id, by=by))

    async def show_holders(self, call: Call[None]) -> Reply:
        return Reply(200, Holders(await roles.holders(self.auth, occasion(call))))

    async def grant_role(self, call: Call[DeskBody]) -> Reply:
        assert call.caller is not None
        person_id, ticket = call.uuid("person_id"), call.body.desk_ticket
        own = call.caller.who == str(person_id)
        await roles.grant(
            self.auth, occasion(call), person_id, _role(call), actor=actor(call), own=own, desk_ticket=ticket
        )
        return Reply(204)

    async def revoke_role(self, call: Call[None]) -> Reply:
        person_id, ticket = call.uuid("person_id"), call.query.desk_ticket
        await roles.revoke(
            self.auth, occasion(call), person_id, _role(call), actor=actor(call), desk_ticket=ticket
        )
        return Reply(204)

    def routes(self) -> list[Route]:
        person = f"{DISTRICT}/accounts/{{person_id}}"
        unknown = {"person_unknown": 404}
        return [
            Route(
                "GET", person, self.show_account,
                summary="One account as auth knows it: its roles, sessions, pauses and refusals.",
                caller=Scope("desk", "operator"), success={200: Standing}, refusals=unknown,
            ),
            Route(
                "GET", f"{DISTRICT}/roles", self.show_holders,
                summary="Who has a role in the district, and since when.",
                caller=Scope("operator"), success={200: Holders},
            ),
            Route(
                "PUT", f"{person}/roles/{{role}}", self.grant_role, audit="grant_role",
                summary="Give a member of the staff a role, `desk` or `operator`; it ends when they leave, are"
                " suspended or reset.",
                caller=Scope("operator"), body=DeskBody, success={204: None},
                refusals={
                    **unknown, "not_staff": 409, "role_own": 403, "has_left": 409, "not_claimed": 409,
                    "account_suspended": 403,
                },
            ),
            Route(
                "DELETE", f"{person}/roles/{{role}}", self.revoke_role, audit="revoke_role",
                summary="Take a role back. Auth takes no token of it any more, the other services within five minutes.",
                caller=Scope("operator"), query=DeskQuery, success={204: None}, refusals=unknown,
            ),
        ]  # fmt: skip


def _role(call: Call[Any]) -> Role:
    """The role of the path; another word names nothing that exists."""
    for role in ROLES:
        if role == call.path["role"]:
            return role
    raise Rejected("not_found")
