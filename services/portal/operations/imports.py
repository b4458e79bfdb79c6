"""Imports of the SIS's exports: what one means, row by row what was not taken, and letting one go on that waits."""

from typing import Any
from uuid import UUID, uuid4

from aiohttp import web

from services.portal.desk.access import Staff, sorry, staffed
from services.portal.languages import N_
from services.portal.operations.letters import meaning, once
from services.portal.visit import Page, Sorry

STATES = {
    "pulling": N_("being fetched"),
    "received": N_("being read"),
    "awaiting_approval": N_("waits for a second person"),
    "applying": N_("being applied"),
    "done": N_("finished"),
    "refused": N_("refused"),
    "cancelled": N_("stopped"),
    "failed": N_("failed"),
}
KINDS = {
    "added": N_("new to the district"),
    "returned": N_("enrolled again"),
    "withdrawn": N_("no longer here"),
    "corrected": N_("another name"),
    "renumbered": N_("another number, and so another username"),
    "moved": N_("another school, grade or role"),
    "reassigned": N_("other classes"),
    "linked": N_("known already, now from the export"),
    "baseline": N_("known already, and now without a wait"),
    "unchanged": N_("as they were"),
    "refused": N_("rows that were not taken"),
    "remarks": N_("values that were left out"),
    "shared_numbers": N_("people under a number that another one has"),
}
FIELDS = {
    "last_name": N_("Last name"),
    "first_name": N_("First name"),
    "number": N_("Number"),
    "school": N_("School"),
    "grade": N_("Grade"),
    "role": N_("Role"),
}
LISTED = tuple(kind for kind in KINDS if kind not in ("unchanged", "refused", "remarks", "shared_numbers"))
RUNNING = ("pulling", "received", "applying")
FIRST_PROBLEMS = 20
REASONS_TOLD = 8
ROWS_SHOWN = 100  # of a page of the service's, which a phone could not show at once
REFUSALS = {
    "approver_is_author": N_("You asked for this import yourself. Somebody else has to let it go on."),
    "person_required": N_("Only a person with an account of their own can let it go on."),
    "import_ended": N_("It has ended already."),
}


async def show(staff: Staff) -> web.StreamResponse:
    return await _page(staff)


async def approve(staff: Staff) -> web.StreamResponse:
    path = _path(staff)
    answer = await staff.ask("roster", "POST", f"{path}/approval", headers=once(staff))
    if answer.ok:
        staff.tell(N_("It goes on."))
        return staff.visit.go(f"/operations{path}")
    return await _refused(staff, answer)


async def cancel(staff: Staff) -> web.StreamResponse:
    path = _path(staff)
    answer = await staff.ask("roster", "DELETE", path)
    if answer.ok:
        staff.tell(N_("It was stopped. What was applied stays."))
        return staff.visit.go(f"/operations{path}")
    return await _refused(staff, answer)


async def _refused(staff: Staff, answer: Any) -> web.StreamResponse:
    if answer.reason not in REFUSALS:
        raise sorry(answer)
    return await _page(staff, {"": staff.visit.text(REFUSALS[answer.reason])})


async def _page(staff: Staff, errors: dict[str, str] | None = None) -> web.Response:
    path = _path(staff)
    found = await staff.read("roster", path)
    problems: list[dict[str, Any]] = []
    if found["problems"] or found["counts"].get("remarks"):
        problems = (await staff.read("roster", f"{path}/problems"))["problems"][:FIRST_PROBLEMS]
    return staff.page(
        "operations_import.html",
        422 if errors else 200,
        found=found,
        states=STATES,
        kinds=KINDS,
        listed=LISTED,
        running=found["state"] in RUNNING,
        problems=problems,
        in_all=sum(found["problems"].values()) + found["counts"].get("remarks", 0),
        meanings=await _meanings(staff, problems),
        meaning=await meaning(staff, "roster", found["reason"]) if found["reason"] else None,
        key=str(uuid4()),
        errors=errors,
    )


async def show_problems(staff: Staff) -> web.StreamResponse:
    path = _path(staff)
    found = await staff.read("roster", f"{path}/problems", after=_after(staff))
    return staff.page(
        "operations_problems.html",
        import_id=path.rpartition("/")[2],
        problems=found["problems"][:ROWS_SHOWN],
        next_after=_next_after(found["problems"], found["next_after"]),
        meanings=await _meanings(staff, found["problems"][:ROWS_SHOWN]),
    )


async def show_changes(staff: Staff) -> web.StreamResponse:
    path, kind = _path(staff), staff.visit.request.query.get("kind", "")
    if kind and kind not in LISTED:
        raise _nowhere()
    found = await staff.read("roster", f"{path}/changes", kind=kind or None, after=_after(staff))
    return staff.page(
        "operations_changes.html",
        import_id=path.rpartition("/")[2],
        kind=kind,
        kinds=KINDS,
        kind_choices=[(each, staff.visit.text(KINDS[each])) for each in LISTED],
        changes=found["changes"][:ROWS_SHOWN],
        fields=FIELDS,
        next_after=_next_after(found["changes"], found["next_after"]),
    )


async def _meanings(staff: Staff, problems: list[dict[str, Any]]) -> dict[str, list[tuple[str, str]]]:
    """What roster says of the reasons among these problems."""
    reasons = list(dict.fromkeys(str(problem["reason"]) for problem in problems))[:REASONS_TOLD]
    told = {reason: await meaning(staff, "roster", reason) for reason in reasons}
    return {reason: said for reason, said in told.items() if said}


def _path(staff: Staff) -> str:
    """Of the import that the address names. Raises Sorry."""
    try:
        return f"/imports/{UUID(staff.visit.request.match_info['import_id'])}"
    except ValueError:
        raise _nowhere() from None


def _after(staff: Staff) -> str | None:
    after = staff.visit.request.query.get("after", "")
    return after if after.isascii() and after.isdecimal() and len(after) < 10 else None


def _next_after(rows: list[dict[str, Any]], next_after: int | None) -> int | None:
    """Where the next page goes on, after the rows that are shown."""
    return rows[ROWS_SHOWN - 1]["n"] if len(rows) > ROWS_SHOWN else next_after


def _nowhere() -> Sorry:
    return Sorry(404, N_("Nothing is here"), N_("Check the address, letter by letter."))


ONE = "/operations/imports/{import_id}"
PAGES = [
    Page("GET", ONE, staffed(show, "operator")),
    Page("POST", f"{ONE}/approval", staffed(approve, "operator")),
    Page("POST", f"{ONE}/stop", staffed(cancel, "operator")),
    Page("GET", f"{ONE}/problems", staffed(show_problems, "operator")),
    Page("GET", f"{ONE}/changes", staffed(show_changes, "operator")),
]
