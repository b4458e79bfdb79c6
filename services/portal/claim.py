"""Claiming an account: names and number, a password, three questions. The cookie `claim` is all that is known of it.

A claim belongs to a browser, not to a tab. Its forms name the person, and the password, that they were shown for: what
another tab did meanwhile is explained, and never mixed up with it.
"""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from aiohttp import web

from services.portal import passwords, questions, sign_in
from services.portal.backend import Answer, moment
from services.portal.languages import N_
from services.portal.steps import Again, Step, Wizard
from services.portal.visit import Page, Visit

NAMES = ("last_name", "first_name")
MAX_KEPT_NAME = (
    60  # characters; a longer one is shortened where it is shown, and typed again where it is asked
)
SEED_LIFE = timedelta(hours=12)
# After a claim ended its names are still known, so that beginning again is short; the number is asked again.
KEPT_AFTER = timedelta(minutes=10)
SAVING_AGAIN_S = 2

# All of them at once: claims names the first that it meets.
LEFT_EMPTY = {
    "last_name": N_("Type your last name."),
    "first_name": N_("Type your first name."),
    "number": N_("Type your number."),
}
# Refusals of the first step at their field; those of `NOTICES` and `OVER` are told by claim_refused.html.
AT_NUMBER = {
    "number_letter_o": N_("There is a letter O in it. Type the number 0 (zero)."),
    "number_length": N_("A student number has %(digits)s digits. Keep the zero in front."),
    "number_leading_s": N_("Leave out the %(letter)s. Type only the numbers."),
    "number_without_e": N_("Staff: type the %(staff)s in front of the number."),
    "number_malformed": N_("Type only the number, as your school gave it to you."),
}
AT_NAME = {
    ("name_missing", "last_name"): LEFT_EMPTY["last_name"],
    ("name_missing", "first_name"): LEFT_EMPTY["first_name"],
    ("name_long", "last_name"): N_("That is too long. Type only your last name."),
    ("name_long", "first_name"): N_("That is too long. Type only your first name."),
}
NOTICES = frozenset(
    {"claim_refused", "waiting_period", "account_claimed", "account_suspended", "claims_exhausted"}
)
# Refusals after which a claim cannot go on, and as what they are told.
OVER = {
    "claim_expired": "expired",
    "token_expired": "expired",
    "token_invalid": "expired",
    "token_missing": "expired",
    "not_found": "expired",
    "claim_superseded": "superseded",
    "claim_rejected": "rejected",
    "account_suspended": "account_suspended",
}
AT_CODE = {
    "code_required": N_("Type the code that the help desk gave you."),
    "code_wrong": N_("This code does not work. Look at each letter, or ask for a new code."),
}
PASSWORD_LOST = frozenset({"password_replaced", "password_missing", "if_match_missing"})


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """`etag`: of the password that auth has taken. `told`: what the next page has to explain. `over`: why it cannot go
    on. `saving`: auth has everything, and claims' word is still to come."""

    claim_id: str
    ticket: str
    username: str
    last_name: str
    first_name: str
    expires_at: datetime
    code_required: bool = False
    etag: str = ""
    saving: bool = False
    completed: bool = False
    told: str = ""
    over: str = ""

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}"[:MAX_KEPT_NAME]

    def ended(self, why: str) -> "Claim":
        return msgspec.structs.replace(self, over=why, ticket="", etag="", saving=False, told="")


def load(visit: Visit) -> Claim | None:
    known = visit.browser.find("claim", Claim)
    if known and not known.over and not known.completed and known.expires_at <= visit.now:
        return known.ended("expired")
    return known


def keep(visit: Visit, known: Claim | None) -> None:
    if known is None:
        visit.browser.forget("claim")
    else:
        visit.browser.keep("claim", known, known.expires_at + KEPT_AFTER)


def is_open(known: Claim | None) -> bool:
    return known is not None and not known.over


def has_password(known: Claim | None) -> bool:
    return known is not None and is_open(known) and known.etag != ""


def is_sealed(known: Claim | None) -> bool:
    return known is not None and (known.saving or known.completed)


def is_completed(known: Claim | None) -> bool:
    return known is not None and known.completed


# ---- who are you ----


async def show_names(visit: Visit, known: Claim | None) -> Mapping[str, Any]:
    if visit.browser.find("claim-seed", str) is None:
        visit.browser.keep("claim-seed", secrets.token_urlsafe(16), visit.now + SEED_LIFE)
    context: dict[str, Any] = {"refusal": "", "told": {}, "reference": "", "going_on": None}
    if known and visit.request.method == "GET":
        kept = {"last_name": known.last_name, "first_name": known.first_name}
        context["values"] = {name: text for name, text in kept.items() if len(text) < MAX_KEPT_NAME}
        if known.over:
            context["refusal"] = known.over
        else:
            context["going_on"] = visit.url(WIZARD.place(known).path)
    return context


async def take_names(visit: Visit, known: Claim | None) -> Again | Claim:
    seed = visit.browser.find("claim-seed", str)
    if seed is None:
        return Again(context={"refusal": "no_cookies"})
    typed = {name: visit.typed(name) for name in (*NAMES, "number")}
    if left_empty := {name: visit.text(LEFT_EMPTY[name]) for name, said in typed.items() if not said.strip()}:
        return Again(left_empty)
    answer = await visit.ask(
        "claims", "POST", "/claims", typed, headers={"Idempotency-Key": key(seed, typed)}
    )
    if known and known.completed and known.username == answer.body.get("username"):
        return known  # claimed already: a moment ago, by this very browser
    if not answer.ok:
        return _names_refused(visit, answer)
    body, kept = answer.body, {name: typed[name].strip() for name in NAMES}
    claim_id, expires_at = str(body["claim_id"]), moment(body["expires_at"])
    assert expires_at is not None
    if known and known.claim_id == claim_id and not known.over:
        return known  # a double click, a second tab
    return Claim(
        claim_id=claim_id,
        ticket=body["ticket"],
        username=body["username"],
        last_name=kept["last_name"][:MAX_KEPT_NAME],
        first_name=kept["first_name"][:MAX_KEPT_NAME],
        expires_at=expires_at,
        code_required=bool(body["code_required"]),
    )


def key(seed: str, typed: Mapping[str, str]) -> str:
    """The Idempotency-Key of what was typed in this browser.

    A double click, Refresh and a second tab find the same claim, which costs the account none of its claims a day. The
    seed is random and lies sealed in this browser alone: nobody else's request meets this claim.
    """
    parts = [seed, *(value.strip() for value in typed.values())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _names_refused(visit: Visit, answer: Answer) -> Again:
    reason, body = answer.reason, answer.body
    field = str(body.get("field", ""))
    if reason in AT_NUMBER:
        policy = visit.policy
        text = visit.text(
            AT_NUMBER[reason],
            digits=policy.number.digits,
            letter=policy.username_prefix,
            staff=policy.employee_number.prefix,
        )
        return Again({"number": text})
    if (reason, field) in AT_NAME:
        return Again({field: visit.text(AT_NAME[reason, field])})
    if reason not in NOTICES:
        return unavailable(answer)
    if reason == "account_claimed":
        sign_in.expect(visit, str(body["username"]))
    return Again(
        status=answer.status,
        context={"refusal": reason, "told": body, "reference": answer.reference},
    )


def unavailable(answer: Answer) -> Again:
    """Nothing that the person did: the same page, with what was typed, and "We will be right back"."""
    return Again(status=503, context={"refusal": "unavailable", "reference": answer.reference})


# ---- a password ----


async def show_password(visit: Visit, known: Claim | None) -> Mapping[str, Any]:
    assert known is not None
    return {"values": {"code": visit.typed("code")}, "refusal": known.told, "reference": ""}


async def take_password(visit: Visit, known: Claim | None) -> Again | Claim | web.StreamResponse:
    assert known is not None
    if other := _of_somebody_else(visit, known):
        return other
    code = visit.typed("code").strip()
    if errors := passwords.typed_twice(visit, "password", "again"):
        return Again(errors)
    body = {"password": visit.typed("password")} | ({"code": code} if code else {})
    answer = await visit.ask("auth", "PUT", f"/claims/{known.claim_id}/password", body, bearer=known.ticket)
    if answer.ok:
        return msgspec.structs.replace(known, etag=answer.headers["ETag"], told="")
    if text := passwords.not_taken(visit, answer):
        return Again({"password": text})
    if answer.reason in AT_CODE:
        return Again({"code": visit.text(AT_CODE[answer.reason])}, status=403)
    if answer.reason == "claim_passwords_used_up":
        # The last one that was taken still counts; without one the claim is at its end.
        return msgspec.structs.replace(known, told="used_up") if known.etag else known.ended("used_up")
    return await _stopped(visit, known, answer)


# ---- three questions ----


async def show_questions(visit: Visit, known: Claim | None) -> Mapping[str, Any]:
    assert known is not None
    asked = questions.ask_all(visit.policy, visit.language)
    return {
        "questions": asked,
        "pairs": [(each.id, each.text) for each in asked],
        "refusal": known.told,
        "reference": "",
    }


async def take_questions(visit: Visit, known: Claim | None) -> Again | Claim | web.StreamResponse:
    assert known is not None
    if other := _of_somebody_else(visit, known):
        return other
    if visit.typed("etag") != known.etag:  # chosen in another tab since this page was shown
        return msgspec.structs.replace(known, etag="", told="replaced")
    numbers = range(1, visit.policy.questions_required + 1)
    answers = [
        {"question": visit.typed(f"question-{n}"), "answer": visit.typed(f"answer-{n}")} for n in numbers
    ]
    errors = {}
    for n, each in zip(numbers, answers, strict=True):
        if not each["question"]:
            errors[f"question-{n}"] = visit.text(N_("Choose question %(number)s."), number=n)
        elif not each["answer"].strip():
            errors[f"answer-{n}"] = visit.text(N_("Type your answer to question %(number)s."), number=n)
    if errors:
        return Again(errors)
    answer = await visit.ask(
        "auth", "PUT", f"/claims/{known.claim_id}/answers", {"answers": answers},
        bearer=known.ticket, headers={"If-Match": known.etag},
    )  # fmt: skip
    if answer.ok:
        completed = answer.status == 200
        return msgspec.structs.replace(known, saving=not completed, completed=completed, told="")
    if answer.reason in ("answer_invalid", "answers_repeated", "answers_wrong_count"):
        return Again(_answers_refused(visit, answer, [each["question"] for each in answers]))
    if answer.reason in PASSWORD_LOST:
        return msgspec.structs.replace(known, etag="", told="replaced")
    return await _stopped(visit, known, answer)


def _answers_refused(visit: Visit, answer: Answer, chosen: list[str]) -> dict[str, str]:
    if answer.reason == "answer_invalid":
        question, text = questions.wording(visit, answer)
        n = chosen.index(question) + 1 if question in chosen else 1
        return {f"answer-{n}": text}
    if answer.reason == "answers_repeated":
        twice = next((n for n, each in enumerate(chosen, 1) if each in chosen[: n - 1]), len(chosen))
        return {f"question-{twice}": visit.text(N_("You have this question already. Choose another one."))}
    # The district asks for more, or fewer, since the page was shown: it is shown as it is now.
    return {"": visit.text(N_("The questions are others now. Look at all of them once more."))}


# ---- saving, done ----


async def show_saving(visit: Visit, known: Claim | None) -> web.StreamResponse:
    """Auth has everything, and has waited a while itself. The page asks for itself until there is an end."""
    assert known is not None
    answer = await visit.ask("auth", "GET", f"/claims/{known.claim_id}", bearer=known.ticket)
    after = _stands(known, answer)
    if after is not None and not after.saving:
        keep(visit, after)
        return visit.go(WIZARD.place(after).path)
    response = visit.page("claim_saving.html", known=known)
    response.headers["Refresh"] = str(SAVING_AGAIN_S)  # also without scripts
    return response


async def show_done(visit: Visit, known: Claim | None) -> Mapping[str, Any]:
    assert known is not None
    return {}


def _stands(known: Claim, answer: Answer) -> Claim | None:
    """The claim as auth says that it stands; None: it cannot say."""
    if not answer.ok:
        return known.ended(OVER[answer.reason]) if answer.reason in OVER else None
    state = answer.body["state"]
    if state == "completed":
        return msgspec.structs.replace(known, completed=True, saving=False)
    if state == "open":
        return msgspec.structs.replace(known, saving=bool(answer.body.get("sealed")))
    if state == "expired":
        return known.ended("expired")
    return known.ended(OVER.get(str(answer.body.get("reason")), "rejected"))


async def _stopped(visit: Visit, known: Claim, answer: Answer) -> Again | Claim:
    """A refusal that is not about what was typed: the claim is over, or done, or nobody can say now."""
    if answer.reason == "claim_sealed":
        standing = await visit.ask("auth", "GET", f"/claims/{known.claim_id}", bearer=known.ticket)
        after = _stands(known, standing)
        return unavailable(standing) if after is None else msgspec.structs.replace(after, told="sealed")
    if answer.reason == "claim_rejected":
        why = OVER.get(str(answer.body.get("cause")), "rejected")
        if why == "rejected":
            sign_in.expect(visit, known.username)
        return known.ended(why)
    if answer.reason in OVER:
        return known.ended(OVER[answer.reason])
    return unavailable(answer)


def _of_somebody_else(visit: Visit, known: Claim) -> web.StreamResponse | None:
    """A form about another person than whom this browser knows by now: another tab has begun for them since."""
    if visit.typed("username") == known.username:
        return None
    return visit.page("claim_other.html", 409, known=known, on=visit.url(WIZARD.place(known).path))


async def to_sign_in(visit: Visit) -> web.StreamResponse:
    """The end of a claim is the beginning of a sign-in, with the username filled in."""
    known = load(visit)
    if known is None or not known.completed:
        return visit.go(WIZARD.place(known).path)
    keep(visit, None)
    sign_in.expect(visit, known.username)
    return visit.go("/sign-in")


async def card(visit: Visit) -> web.StreamResponse:
    """What to keep: the username and where to sign in. Never the password."""
    known = load(visit)
    done = known if known and known.completed else None
    person = visit.signed_in
    if done is None and person is None:
        return visit.go(WIZARD.place(known).path)
    return visit.page(
        "claim_card.html",
        username=done.username if done else person.username if person else "",
        name=done.name if done else "",
        address=visit.portal.settings.portal_url.partition("://")[2] + visit.url("/"),
        back=visit.url("/claim/done" if done else "/"),
    )


async def again(visit: Visit) -> web.StreamResponse:
    """Not you? The claim stays what it was: unclaimed, and open to be begun by whoever it belongs to."""
    keep(visit, None)
    visit.browser.forget("claim-seed")
    return visit.go("/claim")


WIZARD = Wizard[Claim](
    steps=(
        Step("/claim", "claim_names.html", open=lambda known: True, done=is_open, show=show_names, take=take_names),
        Step(
            "/claim/password", "claim_password.html",
            open=lambda known: is_open(known) and not is_sealed(known),
            done=lambda known: has_password(known) or is_sealed(known),
            show=show_password, take=take_password,
        ),
        Step(
            "/claim/questions", "claim_questions.html",
            open=lambda known: has_password(known) and not is_sealed(known), done=is_sealed,
            show=show_questions, take=take_questions,
        ),
        Step(
            "/claim/saving", "claim_saving.html",
            open=lambda known: known is not None and known.saving, done=is_completed, show=show_saving,
        ),
        Step("/claim/done", "claim_done.html", open=is_completed, done=lambda known: False, show=show_done),
    ),
    load=load,
    keep=keep,
)  # fmt: skip
PAGES = [
    *WIZARD.pages(),
    Page("POST", "/claim/sign-in", to_sign_in),
    Page("GET", "/claim/card", card),
    Page("POST", "/claim/again", again),
]
