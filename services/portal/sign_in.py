"""Signing in, on two screens (the second always comes, whatever was typed on the first), and out."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec.structs import replace

from services.portal import security
from services.portal.backend import Answer, Policy, moment
from services.portal.browser import SignedIn
from services.portal.languages import N_
from services.portal.steps import Again, Step, Wizard
from services.portal.visit import Page, SeeOther, Sorry, Visit

FIRST_SCREEN_LIFE = timedelta(minutes=10)
APPLICATION_WAITS = timedelta(minutes=30)
MAX_USERNAME = 64


class Typed(msgspec.Struct, frozen=True):
    """What the first screen heard. `next`: the page of this district that the person was on the way to. `application`:
    the name of the one that waits behind it. `ended`: a session that was there is not good any more. `again`: it is,
    but the application wants the password once more."""

    username: str = ""
    next: str = "/"
    entered: bool = False
    application: str = ""
    ended: bool = False
    again: bool = False


def load(visit: Visit) -> Typed | None:
    return visit.browser.find("sign-in", Typed)


def keep(visit: Visit, known: Typed | None) -> None:
    if known is None:
        visit.browser.forget("sign-in")
    else:
        life = APPLICATION_WAITS if known.application else FIRST_SCREEN_LIFE
        visit.browser.keep("sign-in", known, visit.now + life)


def expect(visit: Visit, username: str) -> None:
    """Fills in the first screen for who has just claimed the account or found the way back to it."""
    keep(visit, replace(load(visit) or Typed(), username=username, entered=False, ended=False, again=False))


async def show_username(visit: Visit, known: Typed | None) -> Mapping[str, Any]:
    return {"typed": visit.typed("username") or (known.username if known else "")}


async def take_username(visit: Visit, known: Typed | None) -> Again | Typed:
    username = with_prefix(visit.typed("username").strip(), visit.policy)
    if not username:
        return Again({"username": visit.text(N_("Type your username."))})
    if len(username) > MAX_USERNAME:
        return Again({"username": visit.text(N_("That is too long for a username."))})
    return replace(known or Typed(), username=username, entered=True, ended=False, again=False)


def with_prefix(typed: str, policy: Policy) -> str:
    """A student's number alone is what many type, who have just claimed with it: it is their username but for the
    letter in front, which the next screen shows."""
    alone = typed.isascii() and typed.isdecimal() and len(typed) == policy.number.digits
    return policy.username_prefix + typed if alone else typed


async def show_password(visit: Visit, known: Typed | None) -> Mapping[str, Any]:
    assert known is not None
    return {"username": known.username, "values": {}}


async def take_password(visit: Visit, known: Typed | None) -> Again | web.StreamResponse:
    assert known is not None
    answer = await visit.ask(
        "auth", "POST", "/sessions", {"username": known.username, "password": visit.typed("password")}
    )
    if not answer.ok:
        return refused(visit, answer)
    keep(visit, None)
    if visit.signed_in is not None:  # one browser, one session
        await visit.ask("auth", "DELETE", "/sessions/current", bearer=visit.signed_in.token)
    begin(visit, answer)
    return visit.go(known.next)


def begin(visit: Visit, answer: Answer) -> None:
    """A session that auth has opened becomes this browser's. What is left of whoever used it before is forgotten: but
    the application that waits, whose account is chosen now."""
    body = answer.body
    until = moment(body["expires_at"])
    assert until is not None
    visit.browser.forget_person(but="sign-on")
    visit.browser.keep_device(body.get("device"))
    signed_in = SignedIn(
        body["session"], UUID(body["person_id"]), body["username"], until, bool(body.get("must_change"))
    )
    visit.browser.keep("session", signed_in, until)


def refused(visit: Visit, answer: Answer) -> Again:
    """Why auth did not let somebody in, over the form."""
    if isinstance(answer.body, dict):
        visit.browser.keep_device(answer.body.get("device"))
    wait_s = answer.retry_after_s if answer.status == 429 else 0
    return Again(
        status=answer.status if answer.status in (401, 403, 429, 503) else 422,
        context={"refusal": answer.reason, "reference": answer.reference, "wait_s": wait_s},
    )


async def current(visit: Visit) -> SignedIn:
    """Who is signed in, asked of auth. Nobody: SeeOther to signing in, and back here afterwards."""
    signed_in = visit.signed_in
    if signed_in is not None:
        answer = await visit.ask("auth", "GET", "/sessions/current", bearer=signed_in.token)
        if answer.ok:
            return signed_in
        if answer.status >= 500:
            raise Sorry(
                503,
                N_("We will be right back"),
                N_("You are still signed in. Try again in a minute."),
                retry=True,
            )
        visit.browser.forget_person()
    come_back(visit, ended=signed_in is not None)
    raise SeeOther("/sign-in")


def come_back(visit: Visit, *, ended: bool) -> None:
    """Whoever signs in now gets back to this page. `ended`: they were signed in."""
    keep(visit, Typed(next=visit.here, ended=ended))


async def again(visit: Visit) -> web.StreamResponse:
    """Not you?"""
    known = load(visit)
    keep(visit, replace(known, username="", entered=False, again=False) if known else None)
    return visit.go("/sign-in")


async def sign_out(visit: Visit) -> web.StreamResponse:
    """Ends the session, and everything that this browser keeps of whoever used it."""
    if visit.signed_in is not None:
        await visit.ask("auth", "DELETE", "/sessions/current", bearer=visit.signed_in.token)
    return leave_nothing(visit, visit.go("/goodbye"))


def leave_nothing(visit: Visit, response: web.Response) -> web.Response:
    """The last answer to a browser whose session has ended: nothing of the person stays there."""
    visit.browser.forget_person()
    response.headers["Clear-Site-Data"] = security.EVERYTHING_BUT_COOKIES
    return response


async def ask_whether(visit: Visit) -> web.StreamResponse:
    """An application asked for it, and nothing showed that it was the person who did."""
    if visit.signed_in is None:
        return visit.go("/goodbye")
    return visit.page("sign_out.html")


async def goodbye(visit: Visit) -> web.StreamResponse:
    return visit.page("goodbye.html", everywhere="everywhere" in visit.request.query)


WIZARD = Wizard[Typed](
    steps=(
        Step(
            "/sign-in", "sign_in_username.html", open=lambda known: True,
            done=lambda known: known is not None and known.entered, show=show_username, take=take_username,
        ),
        Step(
            "/sign-in/password", "sign_in_password.html",
            open=lambda known: known is not None and known.entered, done=lambda known: False,
            show=show_password, take=take_password,
        ),
    ),
    load=load,
    keep=keep,
)  # fmt: skip
PAGES = [
    *WIZARD.pages(),
    Page("POST", "/sign-in/again", again),
    Page("GET", "/sign-out", ask_whether),
    Page("POST", "/sign-out", sign_out),
    Page("GET", "/goodbye", goodbye),
]
