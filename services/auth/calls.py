"""What the routes of auth have in common: what is typed, who asks, and the base of each feature's routes."""

from abc import ABC, abstractmethod
from typing import Annotated, Any

import msgspec
from aiohttp import hdrs
from msgspec import Meta
from multidict import CIMultiDict

from services.auth.authorizing import Onward
from services.auth.handlers import Auth, Occasion
from shared.web import Body, Call, Reply, Route

DISTRICT = "/v1/districts/{district}"
# Refusals of wrong credentials and recoveries leave at a multiple of this after the request came.
UNIFORM_S = 0.1
PASSWORD_REFUSALS = {
    "password_short": 422, "password_long": 422, "password_common": 422, "password_used_before": 422,
}  # fmt: skip

Username = Annotated[str, Meta(max_length=255)]
# What no rule reads; a rule's own bounds have their own reasons.
Typed = Annotated[str, Meta(max_length=4096)]
DeskTicket = Annotated[
    str, Meta(min_length=1, max_length=64, description="The help desk's own ticket number.")
]


class PasswordBody(Body, frozen=True, kw_only=True):
    password: Typed


class DeskBody(Body, frozen=True, kw_only=True):
    desk_ticket: DeskTicket | None = None


class DeskQuery(DeskBody, frozen=True, kw_only=True):
    """The same, where there is no body."""


class ReturnQuery(msgspec.Struct, frozen=True):
    accepted: str


class Feature(ABC):
    """The routes of one feature, one method for each, and their table."""

    def __init__(self, auth: Auth) -> None:
        self.auth = auth

    @abstractmethod
    def routes(self) -> list[Route]: ...


def occasion(call: Call[Any]) -> Occasion:
    return Occasion(call.policy, call.now, call.cause)


def actor(call: Call[Any]) -> str:
    assert call.caller is not None
    return call.caller.subject


def redirect(onward: Onward) -> Reply:
    """A browser goes on."""
    headers = CIMultiDict({hdrs.LOCATION: onward.location})
    for cookie in onward.cookies:
        headers.add(hdrs.SET_COOKIE, cookie)
    return Reply(303, None, headers)
