"""One person: who it is on file, how the account stands, why it was refused, what happened; and a code read out."""

import asyncio
from typing import Any
from uuid import UUID

from aiohttp import web

from services.portal.backend import Service
from services.portal.desk import history, words
from services.portal.desk.access import Staff, sorry, staffed
from services.portal.desk.acts import ACTS
from services.portal.desk.standing import standing
from services.portal.languages import N_
from services.portal.visit import Page, Sorry

Json = dict[str, Any]

SERVICES: tuple[Service, ...] = ("roster", "claims", "auth")
SERVICE_OF: dict[str, Service] = {"R": "roster", "C": "claims", "A": "auth"}
AUDIT_LINES = 12
MAX_PARTS = 5  # of one service's timeline, 200 events each


async def show(staff: Staff) -> web.StreamResponse:
    person_id = staff.id_of("person_id")
    account = await staff.read("claims", f"/accounts/{person_id}")
    (on_file, credential, audit), parts = await asyncio.gather(
        asyncio.gather(
            staff.ask("roster", "GET", f"/persons/{person_id}"),
            staff.ask("auth", "GET", f"/accounts/{person_id}"),
            staff.ask("auth", "GET", "/audit", query={"person_id": person_id, "limit": AUDIT_LINES}),
        ),
        asyncio.gather(*(_timeline(staff, service, person_id) for service in SERVICES)),
    )
    known = credential.body if credential.ok else None
    visit = staff.visit
    return staff.page(
        "desk_person.html",
        account=account,
        on_file=on_file.body if on_file.ok else None,
        credential=known,
        standing=standing(visit, account, known),
        acts=[act for act in ACTS if act.is_for(staff, account, known)],
        refusals=_refusals(staff, account, known),
        history=history.timeline(visit, (part for part in parts if part)),
        audit=audit.body["lines"] if audit.ok else None,
        audited=lambda what: history.audited(visit, what),
        told_word=lambda reason: words.told(visit, reason),
        missing=any(answer.status >= 500 for answer in (on_file, credential, audit)),
    )


async def show_refusal(staff: Staff) -> web.StreamResponse:
    """What happened to whoever reads out this code."""
    visit = staff.visit
    reference = visit.request.match_info["reference"].upper()
    service = SERVICE_OF.get(reference[:1])
    if service is None or len(reference) > 20 or not reference.replace("-", "").isalnum():
        raise _no_such_code()
    answer = await staff.ask(service, "GET", f"/refusals/{reference}")
    if answer.status == 404:
        raise _no_such_code()
    if not answer.ok:
        raise sorry(answer)
    refusal = answer.body
    account = None
    if refusal["person_id"]:
        found = await staff.ask("claims", "GET", f"/accounts/{refusal['person_id']}")
        account = found.body if found.ok else None
    return staff.page(
        "desk_refusal.html",
        refusal=refusal,
        account=account,
        told_word=words.told(visit, refusal["reason"]),
        why=words.why(visit, refusal["detail"], _names(account) | refusal.get("on_file", {})),
    )


async def _timeline(staff: Staff, service: Service, person_id: UUID) -> Json | None:
    """A service's events of this person, as far as a page holds them."""
    whole: Json | None = None
    after = 0
    for _ in range(MAX_PARTS):
        answer = await staff.ask(service, "GET", f"/persons/{person_id}/timeline", query={"after": after})
        if not answer.ok:
            break
        if whole is None:
            whole = answer.body
        else:
            whole["events"] += answer.body["events"]
        if answer.body["next_after"] is None:
            break
        after = answer.body["next_after"]
    return whole


def _refusals(staff: Staff, account: Json, credential: Json | None) -> list[Json]:
    """Of claims and of auth, the newest first, each with the truth in sentences."""
    found = [*account["refusals"], *(credential["refusals"] if credential else ())]
    names = _names(account)
    return [
        refusal
        | {
            "told": words.told(staff.visit, refusal["reason"]),
            "why": words.why(staff.visit, refusal["detail"], names),
        }
        for refusal in sorted(found, key=lambda each: str(each["at"]), reverse=True)
    ]


def _names(account: Json | None) -> Json:
    return {name: account[name] for name in ("first_name", "last_name")} if account else {}


def _no_such_code() -> Sorry:
    return Sorry(
        404,
        N_("Nobody was shown this code"),
        N_("Look at each letter. Codes can be looked up for 30 days."),
    )


PAGES = [
    Page("GET", "/desk/people/{person_id}", staffed(show)),
    Page("GET", "/desk/refusals/{reference}", staffed(show_refusal)),
]
