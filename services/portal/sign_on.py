"""Single sign-on: an application waits, auth has sent the browser here, somebody signs in and goes on to it."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from aiohttp import web

from services.portal import account, security, sign_in
from services.portal.languages import N_
from services.portal.sign_in import MAX_USERNAME, Typed
from services.portal.visit import Page, Sorry, Visit

MAX_NAME = 60
MAX_WORD = 128
REFUSALS = {"saml_request_invalid", "application_unknown", "acs_unknown", "authorization_ended"}


class Waiting(msgspec.Struct, frozen=True):
    """What auth tells of an application that waits."""

    application: str
    prompts: tuple[str, ...]
    expires_at: datetime
    login_hint: str | None = None


class Form(msgspec.Struct, frozen=True):
    """What an application that speaks SAML is posted, and the origin of the address that it is posted to."""

    application: str
    acs: str
    origin: str
    saml_response: str
    relay_state: str | None


async def sign_on(visit: Visit) -> web.StreamResponse:
    authorization = _authorization(visit.request.query.get("authorization", ""))
    waiting = await find(visit, authorization)
    path = f"/sign-on?authorization={authorization}"
    if visit.signed_in is None:
        return _sign_in(visit, authorization, waiting)
    if visit.signed_in.must_change:
        return visit.go(account.with_next(visit, "/account/password", path))
    if "select_account" in waiting.prompts and visit.browser.find("sign-on", UUID) != authorization:
        return visit.page(
            "sign_on_account.html", application=waiting.application, authorization=authorization
        )
    answer = await visit.ask(
        "auth", "POST", f"/authorizations/{authorization}/acceptance", bearer=visit.signed_in.token
    )
    if answer.ok:
        visit.browser.forget("sign-on")
        return _onward(visit, waiting, answer.body["location"])
    if answer.reason == "sign_in_again":
        username = visit.signed_in.username
        return _sign_in(visit, authorization, waiting, username=username, entered=True, again=True)
    if answer.status == 401:
        visit.browser.forget_person()
        return _sign_in(visit, authorization, waiting, ended=True)
    raise _sorry(answer.status)


async def answer(visit: Visit) -> web.StreamResponse:
    """What a browser brings to an application that speaks SAML: a form."""
    if visit.request.method == "HEAD":  # the word counts once
        return web.Response()
    word = visit.request.query.get("answer", "")[:MAX_WORD]
    found = await visit.ask("auth", "POST", "/saml/answers", {"answer": word})
    if not found.ok:
        raise _sorry(found.status)
    form = msgspec.convert(found.body, Form)
    response = visit.page("sign_on_answer.html", form=form)
    # Browsers hold to `form-action` whatever the form's address redirects to, and applications go on to other hosts of
    # theirs from there (decision 38). Nothing of this page is anybody else's to write.
    response.headers["Content-Security-Policy"] = security.policy(form.origin, "https:")
    return response


async def refused(visit: Visit) -> web.StreamResponse:
    """Auth does not know to whom an answer would belong: nobody goes anywhere."""
    reason = visit.request.query.get("reason", "")
    if reason not in REFUSALS:
        raise _sorry(404)
    text = N_("Go back to the app that you came from, and start again.")
    raise Sorry(400, N_("That did not work"), text, code=reason)


async def choose(visit: Visit) -> web.StreamResponse:
    """Whose account it is to be, where the application wants that asked."""
    authorization = _authorization(visit.typed("authorization"))
    waiting = await find(visit, authorization)
    if visit.signed_in is not None and visit.typed("account") == "another":
        await visit.ask("auth", "DELETE", "/sessions/current", bearer=visit.signed_in.token)
        sign_in.leave_nothing(visit, response := visit.go("/sign-in"))
        _sign_in(visit, authorization, waiting, hint=False)
        return response
    visit.browser.keep("sign-on", authorization, waiting.expires_at)
    return visit.go(f"/sign-on?authorization={authorization}")


async def find(visit: Visit, authorization: UUID) -> Waiting:
    """Raises Sorry."""
    answer = await visit.ask("auth", "GET", f"/authorizations/{authorization}")
    if not answer.ok:
        raise _sorry(answer.status)
    return msgspec.convert(answer.body, Waiting)


def _authorization(said: str) -> UUID:
    try:
        return UUID(said)
    except ValueError:
        raise _sorry(404) from None


def _sorry(status: int) -> Sorry:
    if status >= 500:
        return Sorry(
            503, N_("We will be right back"), N_("Wait a minute, then load this page again."), retry=True
        )
    return Sorry(
        404, N_("This sign-in is over"), N_("Go back to the app that you came from, and start again.")
    )


def _sign_in(
    visit: Visit, authorization: UUID, waiting: Waiting, *, hint: bool = True, **known: Any
) -> web.Response:
    """To the first screen, and back here. Whoever signs in there has chosen an account."""
    hinted = waiting.login_hint or "" if hint else ""
    typed = Typed(
        next=f"/sign-on?authorization={authorization}",
        application=waiting.application[:MAX_NAME],
        username=hinted if len(hinted) <= MAX_USERNAME else "",
    )
    visit.browser.keep("sign-on", authorization, waiting.expires_at)
    sign_in.keep(visit, msgspec.structs.replace(typed, **known))
    return visit.go("/sign-in/password" if known.get("entered") else "/sign-in")


def _onward(visit: Visit, waiting: Waiting, location: str) -> web.Response:
    """Back to auth, and from there to the application. After a form of ours browsers hold redirects to `form-action`
    of the content security policy, which names no other site: there a page leads on."""
    if visit.request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return web.Response(status=303, headers={"Location": location})
    return visit.page("sign_on_onward.html", application=waiting.application, location=location)


PAGES = [
    Page("GET", "/sign-on", sign_on),
    Page("POST", "/sign-on", choose),
    Page("GET", "/sign-on/answer", answer),
    Page("GET", "/sign-on/refused", refused),
]
