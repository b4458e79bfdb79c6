"""Dead letters: what could not be taken, why, and the two things that can be done about it."""

import re
from uuid import uuid4

from aiohttp import web

from services.portal.backend import SERVICES, Service
from services.portal.desk.access import Staff, sorry, staffed
from services.portal.languages import ENGLISH, N_, translations
from services.portal.visit import Page, Sorry

STATES = {
    "": N_("open"),
    "parked": N_("set aside"),
    "queued": N_("waiting behind another"),
    "applied": N_("taken after all"),
    "discarded": N_("given up"),
}
SHOWN = 100
MAX_REASON = 500
KEY = re.compile("[0-9a-f-]{36}")
OUTCOMES = {
    "applied": N_("It was taken this time."),
    "discarded": N_("It was given up, and whatever waited behind it went on."),
    "parked": N_("It was tried again and still cannot be taken."),
    "queued": N_("It waits behind another one."),
}
REFUSALS = {
    "dead_letter_settled": N_("Somebody was faster: it is settled already."),
    "dead_letter_not_first": N_("Others of the same key stand before it. Look at the first of them."),
    "history_missing": N_("It waits for earlier events, and goes on by itself when they come."),
    "dead_letter_of_ours": N_("This is an event of Homeroom's own. Who runs Homeroom can give it up."),
    "request_in_progress": N_("This was asked a moment ago. Look again soon."),
}


async def show_all(staff: Staff) -> web.StreamResponse:
    query = staff.visit.request.query
    service, state = _service(query.get("service", SERVICES[0])), query.get("state", "")
    after = query.get("after", "")
    if state not in STATES or not (after == "" or (after.isascii() and after.isdecimal())):
        raise _nowhere()
    found = await staff.read(
        service, "/dead-letters", state=state or None, after=after[:18] or None, limit=SHOWN
    )
    return staff.page(
        "operations_letters.html",
        service=service,
        service_choices=[(each, each) for each in SERVICES],
        state=state,
        states=STATES,
        state_choices=[(each, staff.visit.text(text)) for each, text in STATES.items() if each],
        letters=found["dead_letters"],
        next_after=found["next_after"],
    )


async def show(staff: Staff) -> web.StreamResponse:
    return await _page(staff)


async def retry(staff: Staff) -> web.StreamResponse:
    return await _settle(staff, "retry", {})


async def discard(staff: Staff) -> web.StreamResponse:
    reason = staff.visit.typed("reason").strip()
    if not reason:
        return await _page(staff, {"reason": staff.visit.text(N_("Say why, for whoever asks later."))})
    if len(reason) > MAX_REASON:
        return await _page(staff, {"reason": staff.visit.text(N_("That is too long."))})
    return await _settle(staff, "discard", {"reason": reason})


async def _settle(staff: Staff, what: str, body: dict[str, str]) -> web.StreamResponse:
    service, number = _letter(staff)
    answer = await staff.ask(
        service,
        "POST",
        f"/dead-letters/{number}/{what}",
        body,
        headers=once(staff),
    )
    if answer.status == 202:
        staff.tell(N_("It will be tried in a moment."))
    elif answer.ok:
        staff.tell(OUTCOMES[answer.body["state"]])
    elif answer.reason in REFUSALS:
        return await _page(staff, {"": staff.visit.text(REFUSALS[answer.reason])})
    else:
        raise sorry(answer)
    return staff.visit.go(f"/operations/dead-letters/{service}/{number}")


def once(staff: Staff) -> dict[str, str] | None:
    """By the key that the form came with, a double click counts once."""
    key = staff.visit.typed("key")
    return {"Idempotency-Key": key} if KEY.fullmatch(key) else None


async def _page(staff: Staff, errors: dict[str, str] | None = None) -> web.Response:
    service, number = _letter(staff)
    letter = await staff.read(service, f"/dead-letters/{number}")
    return staff.page(
        "operations_letter.html",
        422 if errors else 200,
        service=service,
        letter=letter,
        states=STATES,
        meaning=await meaning(staff, service, letter["reason"]),
        from_district=letter["topic"].endswith(f".enrollments.{staff.visit.district}.v1"),
        key=str(uuid4()),
        errors=errors,
        values=staff.visit.fields,
    )


async def meaning(staff: Staff, service: Service, reason: str) -> list[tuple[str, str]] | None:
    """What a service says of a reason, and what to do: each with the language that it is in. Services speak English;
    roster's words are in the catalogues as well."""
    if not reason.isidentifier():
        return None
    answer = await staff.visit.portal.backend.ask(service, "GET", f"/problems/{reason}")
    if not (answer.ok and isinstance(answer.body, dict) and "next" in answer.body):
        return None
    language, said = staff.visit.language, [answer.body["meaning"], answer.body["next"]]
    found = [(text, translations(language).gettext(text)) for text in said]
    return [(known.replace("`", ""), language if known != text else ENGLISH) for text, known in found]


def _letter(staff: Staff) -> tuple[Service, str]:
    """Which one the address names. Raises Sorry."""
    parts = staff.visit.request.match_info
    number = parts["number"]
    if not (number.isascii() and number.isdecimal() and len(number) < 19):
        raise _nowhere()
    return _service(parts["service"]), number


def _service(named: str) -> Service:
    for service in SERVICES:
        if service == named:
            return service
    raise _nowhere()


def _nowhere() -> Sorry:
    return Sorry(404, N_("Nothing is here"), N_("Check the address, letter by letter."))


ONE = "/operations/dead-letters/{service}/{number}"
PAGES = [
    Page("GET", "/operations/dead-letters", staffed(show_all, "operator")),
    Page("GET", ONE, staffed(show, "operator")),
    Page("POST", f"{ONE}/retry", staffed(retry, "operator")),
    Page("POST", f"{ONE}/discard", staffed(discard, "operator")),
]
