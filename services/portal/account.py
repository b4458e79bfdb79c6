"""What somebody who is signed in may do with the account: another password, and seeing where else it is open."""

from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from msgspec.structs import replace

from services.portal import passwords, security, sign_in
from services.portal.backend import Answer
from services.portal.browser import SignedIn
from services.portal.languages import N_
from services.portal.visit import Page, Sorry, Visit


async def show_password(visit: Visit) -> web.StreamResponse:
    return _form(visit, await sign_in.current(visit))


async def change_password(visit: Visit) -> web.StreamResponse:
    signed_in = await sign_in.current(visit)
    errors = dict(passwords.typed_twice(visit, "new", "again"))
    if not visit.typed("current"):
        errors = {"current": visit.text(N_("Type the password that you have now."))} | errors
    if errors:
        return _form(visit, signed_in, 422, errors=errors)
    body = {"current": visit.typed("current"), "new": visit.typed("new")}
    answer = await visit.ask("auth", "PUT", "/password", body, bearer=signed_in.token)
    if not answer.ok:
        return await _refused(visit, signed_in, answer)
    if signed_in.must_change:
        visit.browser.keep("session", replace(signed_in, must_change=False), signed_in.expires_at)
    return visit.go(with_next(visit, "/account/password/changed", onward(visit)))


async def _refused(visit: Visit, signed_in: SignedIn, answer: Answer) -> web.StreamResponse:
    if answer.status == 401:
        await sign_in.current(visit)  # which leads to signing in, and back here
    if answer.reason == "authentication_failed":
        wrong = visit.text(N_("This is not the password that you have now. Capital letters count."))
        return _form(visit, signed_in, 403, errors={"current": wrong})
    if text := passwords.not_taken(visit, answer):
        return _form(visit, signed_in, 422, errors={"new": text})
    wait_s = answer.retry_after_s if answer.status == 429 else 0
    status = answer.status if answer.status in (403, 429) else 503
    return _form(visit, signed_in, status, refusal=answer.reason, wait_s=wait_s)


def _form(visit: Visit, signed_in: SignedIn, status: int = 200, **context: Any) -> web.Response:
    """The page on which the password is changed. What was typed is never sent back to it."""
    known: dict[str, Any] = {
        "refusal": "",
        "wait_s": 0,
        "action": visit.url(with_next(visit, "/account/password", onward(visit))),
    }
    return visit.page("account_password.html", status, must_change=signed_in.must_change, **(known | context))


async def changed(visit: Visit) -> web.StreamResponse:
    await sign_in.current(visit)
    return visit.page("account_changed.html", next=onward(visit))


def onward(visit: Visit) -> str:
    """The page of the district that somebody with a temporary password was on the way to."""
    asked = security.local_path(visit.request.query.get("next", ""), visit.district)
    return asked.removeprefix(f"/{visit.district}") if asked else "/"


def with_next(visit: Visit, path: str, onward: str) -> str:
    return path if onward == "/" else f"{path}?{urlencode({'next': visit.url(onward)})}"


async def list_sessions(visit: Visit) -> web.StreamResponse:
    signed_in = await sign_in.current(visit)
    answer = await visit.ask("auth", "GET", "/sessions", bearer=signed_in.token)
    if not answer.ok:
        raise Sorry(
            503,
            N_("We will be right back"),
            N_("You are still signed in. Try again in a minute."),
            retry=True,
        )
    return visit.page("account_sessions.html", sessions=answer.body["sessions"])


async def sign_out_everywhere(visit: Visit) -> web.StreamResponse:
    signed_in = await sign_in.current(visit)
    answer = await visit.ask("auth", "DELETE", "/sessions", bearer=signed_in.token)
    if not answer.ok and answer.status != 401:
        raise Sorry(
            503,
            N_("We will be right back"),
            N_("You are still signed in. Try again in a minute."),
            retry=True,
        )
    return sign_in.leave_nothing(visit, visit.go("/goodbye?everywhere"))


async def keep_alive(visit: Visit) -> web.StreamResponse:
    """Somebody is there: asked by the script of every page, in place of a page that they would have asked for."""
    if visit.signed_in is None:
        return web.Response(status=401)
    answer = await visit.ask("auth", "GET", "/sessions/current", bearer=visit.signed_in.token)
    if answer.status == 401:
        visit.browser.forget_person()
    return web.Response(status=204 if answer.ok else answer.status)


async def idle(visit: Visit) -> web.StreamResponse:
    """Where the script leads when nobody was there. Whoever comes from elsewhere is signed in still, and is asked."""
    if visit.signed_in is not None and not security.from_own_link(
        visit.request, visit.portal.settings.portal_url
    ):
        return visit.go("/sign-out")
    if visit.signed_in is not None:
        await visit.ask("auth", "DELETE", "/sessions/current", bearer=visit.signed_in.token)
    visit.browser.forget_person()
    return sign_in.leave_nothing(visit, visit.page("idle.html"))


PAGES = [
    Page("GET", "/account/password", show_password),
    Page("POST", "/account/password", change_password),
    Page("GET", "/account/password/changed", changed),
    Page("GET", "/account/sessions", list_sessions),
    Page("POST", "/account/sessions/end", sign_out_everywhere),
    Page("POST", "/keep-alive", keep_alive),
    Page("GET", "/idle", idle),
]
