"""The first day as it goes: claims and sign-ins a minute, for a screen on the wall."""

import asyncio
from typing import Any

from aiohttp import web

from services.portal.backend import Answer
from services.portal.desk.access import Staff, staffed
from services.portal.visit import Page

Json = dict[str, Any]

MINUTES = 60
IN_THE_TABLE = 15
REFRESH_S = 5


async def show(staff: Staff) -> web.StreamResponse:
    said = {"minutes": MINUTES}
    claims, sign_ins, figures = await asyncio.gather(
        staff.ask("claims", "GET", "/activity", query=said),
        staff.ask("auth", "GET", "/activity", query=said),
        staff.ask("claims", "GET", "/unclaimed", query={"by": "grade"}),
    )
    of_auth = {minute["at"]: minute for minute in _minutes(sign_ins)}
    none = {"done": 0, "refused": 0}
    rows = [(minute["at"], minute, of_auth.get(minute["at"], none)) for minute in reversed(_minutes(claims))]
    return staff.page(
        "desk_first_day.html",
        claims=_counts(claims),
        sign_ins=_counts(sign_ins),
        rows=rows[:IN_THE_TABLE],
        persons=_sum(figures, "persons"),
        claimed=_sum(figures, "claimed"),
        refresh_s=REFRESH_S,
    )


def _minutes(answer: Answer) -> list[Json]:
    return list(answer.body["minutes"]) if answer.ok else []


def _counts(answer: Answer) -> list[int] | None:
    """Done in each minute, the present one last; None while the service is away."""
    return [minute["done"] for minute in _minutes(answer)] if answer.ok else None


def _sum(figures: Answer, name: str) -> int | None:
    return sum(figure[name] for figure in figures.body["figures"]) if figures.ok else None


PAGES = [Page("GET", "/desk/first-day", staffed(show))]
