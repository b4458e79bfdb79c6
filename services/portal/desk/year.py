"""A new school year: a school's pupils, or all of the district's, claim again. Looked at first; staff is spared."""

from typing import Any

from aiohttp import web

from services.portal.backend import Answer
from services.portal.desk import words
from services.portal.desk.access import Staff, new_key, sorry, staffed
from services.portal.desk.tickets import begun, wrong_ticket
from services.portal.languages import N_
from services.portal.visit import Page

Json = dict[str, Any]

EVERYBODY, SCHOOL = "all", "school:"  # how a form says whom it means; a school may be called anything
CAN_BE_ASKED = ("school_unknown", "nobody_claimed", "invalid_body")


async def show(staff: Staff) -> web.StreamResponse:
    """Whom one could mean, with how many accounts each has to reset."""
    return await _form(staff)


async def preview(staff: Staff) -> web.StreamResponse:
    """What it would come to, school by school; nothing is changed."""
    if errors := _wrong(staff):
        return await _form(staff, errors)
    answer = await staff.ask("claims", "POST", "/reset-batches", _body(staff), query={"dry_run": "true"})
    if not answer.ok:
        return await _refused(staff, answer)
    found = answer.body
    return staff.page(
        "desk_year_preview.html",
        found=found,
        schools=sorted(found["schools"], key=lambda of: of["school"] or ""),
        whom=_whom(staff),
        ticket=_ticket(staff),
        key=new_key(),
    )


async def begin(staff: Staff) -> web.StreamResponse:
    """What was looked at is asked for; sent twice with the same key, it is done once."""
    if errors := _wrong(staff):
        return await _form(staff, errors)
    answer = await staff.ask(
        "claims", "POST", "/reset-batches", _body(staff), headers={"Idempotency-Key": staff.key}
    )
    return begun(staff, answer) if answer.ok else await _refused(staff, answer)


async def _refused(staff: Staff, answer: Answer) -> web.Response:
    if answer.reason in CAN_BE_ASKED:
        return await _form(staff, {"whom": words.refused(staff.visit, answer.reason)})
    return await _form(staff, None, answer)


async def _form(
    staff: Staff, errors: dict[str, str] | None = None, refused: Answer | None = None
) -> web.Response:
    found = await staff.ask(
        "claims", "POST", "/reset-batches", {"all_students": True}, query={"dry_run": "true"}
    )
    if not found.ok:
        raise sorry(found)
    status = 422 if errors else 200
    if refused is not None:
        status = refused.status if refused.status in (403, 409, 503) else 422
    schools = sorted((of for of in found.body["schools"] if of["school"]), key=lambda of: of["school"])
    return staff.page(
        "desk_year.html",
        status,
        total=found.body["total"],
        choices=[(SCHOOL + of["school"], of["school"], of["total"]) for of in schools],
        everybody=EVERYBODY,
        whom=_whom(staff),
        ticket=_ticket(staff),
        errors=errors or {},
        refused=words.refused(staff.visit, refused.reason) if refused else None,
        open_batch=refused.body.get("batch_id") if refused else None,
    )


def _wrong(staff: Staff) -> dict[str, str]:
    """In the order of the form."""
    errors, whom = {}, _whom(staff)
    if whom != EVERYBODY and not whom.removeprefix(SCHOOL):
        errors["whom"] = staff.visit.text(N_("Choose who is meant."))
    return errors | wrong_ticket(staff, _ticket(staff))


def _body(staff: Staff) -> Json:
    whom = _whom(staff)
    meant = {"all_students": True} if whom == EVERYBODY else {"school": whom.removeprefix(SCHOOL)}
    return meant | {"desk_ticket": _ticket(staff)}


def _whom(staff: Staff) -> str:
    whom = staff.visit.typed("whom")
    return whom if whom == EVERYBODY or whom.startswith(SCHOOL) else ""


def _ticket(staff: Staff) -> str:
    return staff.visit.typed("ticket").strip()


PAGES = [
    Page("GET", "/desk/year", staffed(show)),
    Page("POST", "/desk/year", staffed(begin)),
    Page("POST", "/desk/year/preview", staffed(preview)),
    Page("GET", "/desk/year/preview", staffed(show)),
]
