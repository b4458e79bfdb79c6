"""Who has not claimed yet: figures by school, grade or class, as a chart and a table, down to the pupils themselves."""

from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from services.portal.desk.access import Staff, staffed
from services.portal.visit import Page

Json = dict[str, Any]

BY = ("school", "grade")
BY_IN_SCHOOL = ("grade", "class")
MAX_NAME = 255
PAGE = 100


async def show_figures(staff: Staff) -> web.StreamResponse:
    query = staff.visit.request.query
    school = query.get("school", "")[:MAX_NAME] or None
    ways = BY_IN_SCHOOL if school else BY
    by = query.get("by", "")
    by = by if by in ways else ways[0]
    found = await staff.read("claims", "/unclaimed", by=by, school=school)
    figures = found["figures"]
    if by == "school":
        figures.sort(key=lambda figure: -figure["unclaimed"])
    if by == "grade":
        figures.sort(key=lambda figure: _grade(figure["grade"] or ""))
    return staff.page(
        "desk_unclaimed.html",
        by=by,
        school=school,
        ways=[(way, staff.visit.url("/desk/unclaimed") + _query(by=way, school=school)) for way in ways],
        rows=[_row(staff, figure, by, school) for figure in figures],
        whole={name: sum(figure[name] for figure in figures) for name in ("persons", "claimed", "unclaimed")},
    )


async def show_pupils(staff: Staff) -> web.StreamResponse:
    """Those of a school, a grade or a class who have not claimed."""
    query = staff.visit.request.query
    wanted = {name: query[name][:MAX_NAME] for name in ("school", "grade", "class_id") if query.get(name)}
    if not wanted:
        return staff.visit.go("/desk/unclaimed")
    found = await staff.read(
        "claims", "/directory", **wanted, claimed="false", limit=PAGE, after=query.get("after") or None
    )
    title = query.get("title", "")[:MAX_NAME]
    more = _query(**wanted, title=title, after=found["next_after"]) if found["next_after"] else None
    return staff.page(
        "desk_unclaimed_pupils.html",
        persons=found["persons"],
        more=more,
        school=wanted.get("school"),
        grade=wanted.get("grade"),
        title=title,
        back=_query(school=wanted.get("school"), by="class" if "class_id" in wanted else None),
    )


def _row(staff: Staff, figure: Json, by: str, school: str | None) -> Json:
    """A figure, what it is called, and where it leads: of a school to its grades, otherwise to the pupils."""
    if by == "class":
        label = figure["title"] or figure["class_id"]
        query = _query(class_id=figure["class_id"], school=school, title=label)
    else:
        label = figure[by] or ""
        query = _query(school=school or figure.get("school"), grade=figure.get("grade"))
    path = "/desk/unclaimed" if by == "school" and label else "/desk/unclaimed/pupils"
    return figure | {"label": label, "address": staff.visit.url(path) + query if label else None}


def _grade(grade: str) -> tuple[int, str]:
    """Kindergarten (KG, K) and whatever else is no number comes before the first grade."""
    return (int(grade), "") if grade.isascii() and grade.isdecimal() else (-1, grade)


def _query(**said: str | None) -> str:
    given = {name: value for name, value in said.items() if value}
    return f"?{urlencode(given)}" if given else ""


PAGES = [
    Page("GET", "/desk/unclaimed", staffed(show_figures)),
    Page("GET", "/desk/unclaimed/pupils", staffed(show_pupils)),
]
