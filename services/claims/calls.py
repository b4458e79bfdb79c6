"""What the routes of claims have in common: a desk's request, and who asks."""

from typing import Annotated, Any

from msgspec import Meta

from services.claims.handlers import Asked
from shared.web import Body, Call

DISTRICT = "/v1/districts/{district}"
DeskTicket = Annotated[
    str, Meta(min_length=1, max_length=64, description="The help desk's own ticket number.")
]


class DeskBody(Body, frozen=True, kw_only=True):
    desk_ticket: DeskTicket | None = None


def asked_of(call: Call[Any], desk_ticket: str | None = None) -> Asked:
    """Who asks, when, and for which of the help desk's tickets."""
    caller = call.caller
    assert caller is not None
    return Asked(caller.subject, caller.who, caller.rank, caller.human, desk_ticket, call.now, call.cause)
