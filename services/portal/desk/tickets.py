"""Resets of many: a ticket is pasted, looked at, confirmed, watched and reported; some lists wait for a colleague."""

import csv
import io
from typing import Any
from uuid import UUID

from aiohttp import web

from services.portal.backend import Answer
from services.portal.desk import words
from services.portal.desk.access import Staff, new_key, sorry, staffed
from services.portal.desk.acts import MAX_TICKET, SPENT
from services.portal.languages import N_
from services.portal.visit import Page, Visit

Json = dict[str, Any]

PASTED_LIMIT_BYTES = 256 * 1024
LATEST = 20
PAGE = 200  # lines of a long list on one page
REPORT_PAGE = 2_000
MAX_REPORT_PAGES = 100
CAN_BE_ASKED = ("lines_missing", "lines_too_many", "nobody_claimed", "invalid_body")
# What claims leaves out of a line where there is nothing to say.
BLANK = dict.fromkeys(("person_id", "username", "name", "reference", "sessions_ended"))
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would take for one


async def show_tickets(staff: Staff) -> web.StreamResponse:
    """Where lines are pasted, and the last lists. `person`: the line of this one is there already."""
    lines = ""
    person = staff.visit.request.query.get("person", "")
    if _is_id(person):
        found = await staff.ask("claims", "GET", f"/accounts/{person}")
        if found.ok:
            account = found.body
            lines = f"{account['first_name']} {account['last_name']} {account['number']}"
    return await _tickets(staff, lines=lines)


async def preview(staff: Staff) -> web.StreamResponse:
    """What each line would come to; nothing is changed."""
    visit = staff.visit
    lines, ticket = visit.typed("lines"), visit.typed("ticket").strip()
    if errors := _wrong(staff, lines, ticket):
        return await _tickets(staff, errors, lines, ticket)
    answer = await staff.ask(
        "claims", "POST", "/reset-batches", _body(lines, ticket), query={"dry_run": "true"}
    )
    if not answer.ok:
        return await _refused(staff, answer, lines, ticket)
    found = answer.body
    pasted = lines.split("\n")
    found["lines"] = [BLANK | line for line in found["lines"]]
    matched = [line for line in found["lines"] if line["state"] == "matched"]
    return staff.page(
        "desk_preview.html",
        found=found,
        pasted=[pasted[line["line"] - 1].strip() for line in found["lines"]],
        matched=len(matched),
        lines=lines,
        ticket=ticket,
        key=new_key(),
    )


async def begin(staff: Staff) -> web.StreamResponse:
    """What was looked at is asked for; sent twice with the same key, it is done once."""
    lines, ticket = staff.visit.typed("lines"), staff.visit.typed("ticket").strip()
    if errors := _wrong(staff, lines, ticket):
        return await _tickets(staff, errors, lines, ticket)
    answer = await staff.ask(
        "claims", "POST", "/reset-batches", _body(lines, ticket), headers={"Idempotency-Key": staff.key}
    )
    return begun(staff, answer) if answer.ok else await _refused(staff, answer, lines, ticket)


def begun(staff: Staff, answer: Answer) -> web.Response:
    """To the list that was asked for."""
    if answer.body["state"] == "awaiting_approval":
        staff.tell(N_("The list waits for a colleague, who approves it under “To approve”."))
    else:
        staff.tell(N_("The reset has begun."))
    return staff.visit.go(f"/desk/tickets/{answer.body['batch_id']}")


async def show_batch(staff: Staff) -> web.StreamResponse:
    """How far a list is; it looks again by itself while something is under way."""
    return await _batch(staff)


async def change_batch(staff: Staff) -> web.StreamResponse:
    """Approve, take back, or try again what failed."""
    path, visit = f"/reset-batches/{staff.id_of('batch_id')}", staff.visit
    headers = {"Idempotency-Key": staff.key}
    wanted = visit.typed("act")
    if wanted == "approve":
        answer = await staff.ask("claims", "POST", f"{path}/approval", headers=headers)
        done = N_("You have approved the list. The reset has begun.")
    elif wanted == "retry":
        answer = await staff.ask("claims", "POST", f"{path}/retry", headers=headers)
        done = N_("What failed is tried again.")
    elif wanted == "cancel":
        answer = await staff.ask("claims", "DELETE", path)
        done = N_("The list was taken back. What is done stays done.")
    else:
        return visit.go(f"/desk/tickets/{staff.id_of('batch_id')}")
    if not answer.ok:
        return await _batch(staff, answer)
    staff.tell(done)
    return visit.go(f"/desk/tickets/{staff.id_of('batch_id')}")


async def report(staff: Staff) -> web.StreamResponse:
    """All lines, for a spreadsheet or the ticket."""
    batch_id, visit = staff.id_of("batch_id"), staff.visit
    written = io.StringIO()
    table = csv.writer(written)
    heads = (
        N_("Line"),
        N_("Name"),
        N_("Username"),
        N_("State"),
        N_("Remark"),
        N_("Code"),
        N_("Sessions that ended"),
    )
    table.writerow([visit.text(head) for head in heads])
    after: int | None = 0
    for _ in range(MAX_REPORT_PAGES):
        page = await staff.read("claims", f"/reset-batches/{batch_id}", after=after, limit=REPORT_PAGE)
        for line in page["lines"]:
            table.writerow([_cell(value) for value in _row(visit, line)])
        after = page["next_after"]
        if after is None:
            break
    response = web.Response(body=written.getvalue().encode("utf-8-sig"), content_type="text/csv")
    response.charset = "utf-8"
    name = f"reset-{visit.district}-{batch_id}.csv"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


async def show_waiting(staff: Staff) -> web.StreamResponse:
    """Lists that wait for a second person."""
    found = await staff.read("claims", "/reset-batches", waiting="true", limit=100)
    return staff.page("desk_waiting.html", batches=found["batches"])


async def _tickets(
    staff: Staff,
    errors: dict[str, str] | None = None,
    lines: str = "",
    ticket: str = "",
    refused: Answer | None = None,
) -> web.Response:
    found = await staff.ask("claims", "GET", "/reset-batches", query={"limit": LATEST})
    status = 422 if errors else 200
    if refused is not None:
        status = refused.status if refused.status in (403, 409, 503) else 422
    return staff.page(
        "desk_tickets.html",
        status,
        batches=found.body["batches"] if found.ok else None,
        errors=errors or {},
        lines=lines,
        ticket=ticket,
        refused=words.refused(staff.visit, refused.reason) if refused else None,
        open_batch=refused.body.get("batch_id") if refused else None,
    )


async def _refused(staff: Staff, answer: Answer, lines: str, ticket: str) -> web.Response:
    if answer.reason in CAN_BE_ASKED:
        return await _tickets(staff, {"lines": words.refused(staff.visit, answer.reason)}, lines, ticket)
    return await _tickets(staff, None, lines, ticket, answer)


async def _batch(staff: Staff, refused: Answer | None = None) -> web.Response:
    after = staff.visit.request.query.get("after", "0")
    if not after.isdecimal() or len(after) > 9:
        after = "0"
    path = f"/reset-batches/{staff.id_of('batch_id')}"
    answer = await staff.ask("claims", "GET", path, query={"after": after, "limit": PAGE})
    if not answer.ok:
        raise sorry(answer)
    batch = answer.body
    batch["lines"] = [BLANK | line for line in batch["lines"]]
    status = 200
    if refused is not None:
        status = refused.status if refused.status in (403, 409, 503) else 422
    return staff.page(
        "desk_batch.html",
        status,
        batch=batch,
        settled=sum(batch["counts"].get(state, 0) for state in ("done", "skipped", "failed")),
        refused=words.refused(staff.visit, refused.reason) if refused else None,
        reason=refused.reason if refused else "",
        key=new_key() if refused is None or refused.reason in SPENT else staff.key,
    )


def _wrong(staff: Staff, lines: str, ticket: str) -> dict[str, str]:
    """In the order of the form."""
    errors = wrong_ticket(staff, ticket)
    if not lines.strip():
        errors["lines"] = staff.visit.text(N_("Paste at least one line."))
    return errors


def wrong_ticket(staff: Staff, ticket: str) -> dict[str, str]:
    """What is wrong with the number that was typed, if anything."""
    if not ticket:
        return {"ticket": staff.visit.text(N_("Type the number of the ticket."))}
    if len(ticket) > MAX_TICKET:
        return {"ticket": staff.visit.text(N_("That is too long for a ticket."))}
    return {}


def _body(lines: str, ticket: str) -> Json:
    """The lines with their places as pasted: claims counts from the first, blank ones too."""
    return {"lines": lines.split("\n"), "desk_ticket": ticket}


def _row(visit: Visit, line: Json) -> list[object]:
    state, remark = words.line(visit, line["state"])[0], words.about(visit, line)
    return [
        line["line"], line.get("name"), line.get("username"), state, remark, line.get("reference"),
        line.get("sessions_ended"),
    ]  # fmt: skip


def _cell(value: object) -> str:
    """As text that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _is_id(said: str) -> bool:
    try:
        return bool(UUID(said))
    except ValueError:
        return False


PAGES = [
    Page("GET", "/desk/tickets", staffed(show_tickets)),
    Page("POST", "/desk/tickets", staffed(begin), PASTED_LIMIT_BYTES),
    Page("POST", "/desk/tickets/preview", staffed(preview), PASTED_LIMIT_BYTES),
    Page("GET", "/desk/tickets/preview", staffed(show_tickets)),
    Page("GET", "/desk/tickets/{batch_id}", staffed(show_batch)),
    Page("POST", "/desk/tickets/{batch_id}", staffed(change_batch)),
    Page("GET", "/desk/tickets/{batch_id}/report.csv", staffed(report)),
    Page("GET", "/desk/waiting", staffed(show_waiting)),
]
