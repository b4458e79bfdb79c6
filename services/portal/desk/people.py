"""Whom the desk looks for: by number, username, name, or the code that somebody was shown."""

import re
from typing import Any

from aiohttp import web

from services.portal.desk.access import Staff, sorry, staffed
from services.portal.languages import N_
from services.portal.visit import Page

# As it is written, and as it is read out: C 7K3M 9QX. Without the first blank it might be a name (Carla Ann).
REFERENCE = re.compile(r"([RCA])[-\s]+([0-9A-Z]{4})[-\s]+([0-9A-Z]{3})")
MAX_SEARCH = 100


async def find(staff: Staff) -> web.StreamResponse:
    query = staff.visit.request.query
    sought, after = query.get("search", "").strip(), query.get("after")
    if not sought:
        return _page(staff, sought)
    if reference := REFERENCE.fullmatch(sought.upper()):
        return staff.visit.go(f"/desk/refusals/{'-'.join(reference.groups())}")
    if len(sought) > MAX_SEARCH:
        return _page(staff, sought[:MAX_SEARCH], wrong=staff.visit.text(N_("That is too long for a name.")))
    answer = await staff.ask("claims", "GET", "/directory", query={"search": sought, "after": after})
    if answer.reason in ("search_short", "invalid_query"):
        return _page(staff, sought, wrong=staff.visit.text(N_("Type more of the name or number.")))
    if not answer.ok:
        raise sorry(answer)
    persons = answer.body["persons"]
    if len(persons) == 1 and after is None:
        return staff.visit.go(f"/desk/people/{persons[0]['person_id']}")
    return _page(staff, sought, persons, answer.body["next_after"])


def _page(
    staff: Staff,
    sought: str,
    persons: list[dict[str, Any]] | None = None,
    more: str | None = None,
    *,
    wrong: str | None = None,
) -> web.Response:
    return staff.page(
        "desk_people.html",
        422 if wrong else 200,
        sought=sought,
        persons=persons,
        more=more,
        errors={"search": wrong} if wrong else {},
    )


PAGES = [Page("GET", "/desk", staffed(find))]
