"""The way back in, "Forgot my password": the three questions or the help desk's code, then a new password.

What is known of it is the cookie `recovery`. Nothing here tells whether a username exists: auth asks everybody three
questions, and has one refusal whatever was wrong.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from aiohttp import web
from msgspec.structs import replace

from services.portal import passwords, questions, sign_in
from services.portal.backend import Answer, moment
from services.portal.languages import N_
from services.portal.steps import Again, Step, Wizard
from services.portal.visit import Page, Visit

KEPT_AFTER = timedelta(minutes=10)  # the username, when the time was over, so that beginning again is short
DEVICE = "Homeroom-Device"

# Refusals after which a recovery cannot go on.
OVER = frozenset({"token_expired", "token_invalid", "token_missing", "not_found"})


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """`questions`: ids of those that are asked. `over`: why it cannot go on, and `reference` of that refusal."""

    recovery_id: str
    ticket: str
    username: str
    questions: list[str]
    expires_at: datetime
    proved: bool = False
    done: bool = False
    over: str = ""
    reference: str = ""

    def ended(self, why: str, reference: str = "") -> "Recovery":
        return replace(self, over=why, reference=reference, ticket="", proved=False)


def load(visit: Visit) -> Recovery | None:
    known = visit.browser.find("recovery", Recovery)
    if known and not known.over and not known.done and known.expires_at <= visit.now:
        return known.ended("expired")
    return known


def keep(visit: Visit, known: Recovery | None) -> None:
    if known is None:
        visit.browser.forget("recovery")
    else:
        visit.browser.keep("recovery", known, known.expires_at + KEPT_AFTER)


def is_open(known: Recovery | None) -> bool:
    return known is not None and not known.over


def is_proved(known: Recovery | None) -> bool:
    return known is not None and is_open(known) and known.proved


def is_done(known: Recovery | None) -> bool:
    return known is not None and known.done


async def show_username(visit: Visit, known: Recovery | None) -> Mapping[str, Any]:
    """Filled in with whom the browser knows already: from the last try, or from the screens of signing in."""
    asked = sign_in.load(visit)
    username = known.username if known else asked.username if asked else ""
    return {
        "typed": visit.typed("username") or username,
        "refusal": known.over if known else "",
        "reference": known.reference if known else "",
    }


async def take_username(visit: Visit, known: Recovery | None) -> Again | Recovery:
    username = sign_in.with_prefix(visit.typed("username").strip(), visit.policy)
    if not username:
        return Again({"username": visit.text(N_("Type your username."))})
    if len(username) > sign_in.MAX_USERNAME:
        return Again({"username": visit.text(N_("That is too long for a username."))})
    answer = await visit.ask("auth", "POST", "/recoveries", {"username": username})
    if not answer.ok:
        return refused(answer)
    body, expires_at = answer.body, moment(answer.body["expires_at"])
    assert expires_at is not None
    return Recovery(
        recovery_id=str(body["recovery_id"]),
        ticket=body["ticket"],
        username=username,
        questions=[each["id"] for each in body["questions"]],
        expires_at=expires_at,
    )


async def show_questions(visit: Visit, known: Recovery | None) -> Mapping[str, Any]:
    assert known is not None
    return {"questions": _asked(visit, known), "refusal": "", "reference": ""}


def _asked(visit: Visit, known: Recovery) -> list[questions.Asked]:
    return [each for each in questions.ask_all(visit.policy, visit.language) if each.id in known.questions]


async def take_questions(visit: Visit, known: Recovery | None) -> Again | Recovery | web.StreamResponse:
    """Answers, or a code: they are two forms of one page."""
    assert known is not None
    if other := _of_somebody_else(visit, known):
        return other
    by_code = "code" in visit.fields
    asked = [] if by_code else _asked(visit, known)
    numbers = range(1, len(asked) + 1)
    if by_code and not visit.typed("code").strip():
        return Again({"code": visit.text(N_("Type the code."))})
    errors = {
        f"answer-{n}": visit.text(N_("Type your answer to question %(number)s."), number=n)
        for n in numbers
        if not visit.typed(f"answer-{n}").strip()
    }
    if errors:
        return Again(errors)
    answers = [
        {"question": each.id, "answer": visit.typed(f"answer-{n}")}
        for n, each in zip(numbers, asked, strict=True)
    ]
    proof = {"code": visit.typed("code").strip()} if by_code else {"answers": answers}
    answer = await visit.ask(
        "auth", "POST", f"/recoveries/{known.recovery_id}/answers", proof, bearer=known.ticket
    )
    if answer.ok:
        return replace(known, proved=True)
    if answer.reason == "answer_invalid":
        question, text = questions.wording(visit, answer)
        place = next((n for n, each in enumerate(asked, 1) if each.id == question), 1)
        return Again({f"answer-{place}": text})
    if answer.reason == "answers_wrong_count":  # the district's questions are others since: asked anew
        return known.ended("changed")
    return known.ended("expired") if answer.reason in OVER else refused(answer)


async def show_password(visit: Visit, known: Recovery | None) -> Mapping[str, Any]:
    return {"values": {}, "refusal": "", "reference": ""}


async def take_password(visit: Visit, known: Recovery | None) -> Again | Recovery | web.StreamResponse:
    assert known is not None
    if other := _of_somebody_else(visit, known):
        return other
    if errors := passwords.typed_twice(visit, "password", "again"):
        return Again(errors)
    answer = await visit.ask(
        "auth", "PUT", f"/recoveries/{known.recovery_id}/password",
        {"password": visit.typed("password")}, bearer=known.ticket,
    )  # fmt: skip
    if answer.ok:
        visit.browser.keep_device(answer.headers.get(DEVICE))
        return replace(known, done=True)
    if text := passwords.not_taken(visit, answer):
        return Again({"password": text})
    if answer.reason == "recovery_refused":  # closed meanwhile, or too many passwords
        return known.ended("recovery_refused", answer.reference)
    return known.ended("expired") if answer.reason in OVER else refused(answer)


async def show_done(visit: Visit, known: Recovery | None) -> Mapping[str, Any]:
    return {}


def refused(answer: Answer) -> Again:
    """The one refusal of every recovery; or nobody can say now, and nothing that was typed is lost."""
    told = answer.reason == "recovery_refused"
    return Again(
        status=403 if told else 503,
        context={"refusal": answer.reason if told else "unavailable", "reference": answer.reference},
    )


def _of_somebody_else(visit: Visit, known: Recovery) -> web.StreamResponse | None:
    """A form about another person than whom this browser knows by now: another tab has begun for them since."""
    if visit.typed("username") == known.username:
        return None
    return visit.page("forgot_other.html", 409, known=known, on=visit.url(WIZARD.place(known).path))


async def to_sign_in(visit: Visit) -> web.StreamResponse:
    known = load(visit)
    if known is None or not known.done:
        return visit.go(WIZARD.place(known).path)
    keep(visit, None)
    sign_in.expect(visit, known.username)
    return visit.go("/sign-in")


async def again(visit: Visit) -> web.StreamResponse:
    """Not you?"""
    keep(visit, None)
    sign_in.keep(visit, None)
    return visit.go("/forgot")


WIZARD = Wizard[Recovery](
    steps=(
        Step(
            "/forgot", "forgot_username.html",
            open=lambda known: True, done=is_open, show=show_username, take=take_username,
        ),
        Step(
            "/forgot/questions", "forgot_questions.html",
            open=lambda known: is_open(known) and not is_done(known),
            done=lambda known: is_proved(known) or is_done(known), show=show_questions, take=take_questions,
        ),
        Step(
            "/forgot/password", "forgot_password.html",
            open=lambda known: is_proved(known) and not is_done(known), done=is_done,
            show=show_password, take=take_password,
        ),
        Step("/forgot/done", "forgot_done.html", open=is_done, done=lambda known: False, show=show_done),
    ),
    load=load,
    keep=keep,
)  # fmt: skip
PAGES = [
    *WIZARD.pages(),
    Page("POST", "/forgot/sign-in", to_sign_in),
    Page("POST", "/forgot/again", again),
]
