"""The dispatcher: in whatever order steps are visited, a browser ends on one that is open, and goes in no circle."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from services.portal import claim, recovery, sign_in
from services.portal.steps import Again, Step, Wizard
from services.portal.visit import Visit

KNOWN = st.sampled_from([None, *range(5)])
VISITS = st.tuples(st.sampled_from(["GET", "POST"]), st.integers(0, 4))


class Surf:
    """A visit as the dispatcher needs it: what the browser knows, and where it was led."""

    def __init__(self, known: int | None) -> None:
        self.known = known
        self.fields: dict[str, str] = {}
        self.shown = ""

    def changes_language(self) -> bool:
        return self.fields.get("language") == "es"

    def go(self, path: str) -> web.Response:
        return web.Response(status=303, headers={"Location": path})

    def page(self, template: str, status: int = 200, **context: Any) -> web.Response:
        self.shown = template
        return web.Response(status=status)


def load(visit: Visit) -> int | None:
    return cast(Surf, visit).known


def keep(visit: Visit, known: int | None) -> None:
    cast(Surf, visit).known = known


async def nothing(visit: Visit, known: int | None) -> Mapping[str, Any]:
    return {}


@st.composite
def wizards(draw: st.DrawFn) -> Wizard[int]:
    """Any table over the states None and 0 to 4, however little sense its steps make; a step may answer anything."""
    states = [None, *range(5)]
    steps = []
    for number in range(draw(st.integers(1, 5))):
        is_open = frozenset(draw(st.sets(st.sampled_from(states))))
        is_done = frozenset(draw(st.sets(st.sampled_from(states))))
        outcome = draw(st.sampled_from([*states, Again()]))

        async def take(visit: Visit, known: int | None, outcome: Any = outcome) -> Any:
            return outcome

        steps.append(
            Step[int](
                f"/{number}",
                f"{number}.html",
                lambda known, there=is_open: known in there,  # type: ignore[misc]
                lambda known, there=is_done: known in there,  # type: ignore[misc]
                nothing,
                take,
            )
        )
    return Wizard(tuple(steps), load, keep)


async def follow(wizard: Wizard[int], surf: Surf, method: str, path: str) -> int:
    """Visits an address and goes where it leads; how often it was led on."""
    views = {(page.method, page.path): page.view for page in wizard.pages()}
    for led in range(len(wizard.steps) + 2):
        response = await views[method, path](cast(Visit, surf))
        if response.status != 303:
            return led
        method, path = "GET", response.headers["Location"]
    raise AssertionError("a circle")


@given(wizards(), KNOWN, st.lists(VISITS, max_size=8))
async def test_any_order_of_visits_ends_on_a_step_that_is_open(
    wizard: Wizard[int], known: int | None, visits: list[tuple[Any, int]]
) -> None:
    surf = Surf(known)
    for method, number in visits:
        step = wizard.steps[number % len(wizard.steps)]
        led = await follow(wizard, surf, method, step.path)
        assert led <= 1 if method == "GET" else led <= 2
        (shown,) = (each for each in wizard.steps if each.template == surf.shown)
        assert shown.open(surf.known) or not any(each.open(surf.known) for each in wizard.steps)


@given(wizards(), KNOWN)
async def test_a_step_that_is_not_open_takes_nothing(wizard: Wizard[int], known: int | None) -> None:
    for page in wizard.pages():
        (step,) = (each for each in wizard.steps if each.path == page.path)
        if page.method == "POST" and not step.open(known):
            surf = Surf(known)
            assert (await page.view(cast(Visit, surf))).status == 303
            assert surf.known == known


@given(wizards(), KNOWN)
async def test_a_form_that_changes_the_language_changes_nothing_else(
    wizard: Wizard[int], known: int | None
) -> None:
    for page in wizard.pages():
        (step,) = (each for each in wizard.steps if each.path == page.path)
        if page.method == "POST" and step.open(known):
            surf = Surf(known)
            surf.fields["language"] = "es"
            assert (await page.view(cast(Visit, surf))).status == 200
            assert (surf.shown, surf.known) == (step.template, known)


# ------------------------------------------------------------------ the portal's own

STATES = {
    "text": st.sampled_from(["", "x"]),
    "moment": st.just(datetime.fromisoformat("2026-08-04T09:00:00+00:00")),
}


def states(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Whatever a struct of a sealed cookie may hold, or nothing."""
    values = {field.name: _values(field.type) for field in msgspec.structs.fields(kind)}
    return st.none() | st.builds(kind, **values)


def _values(kind: Any) -> st.SearchStrategy[Any]:
    if kind is str:
        return STATES["text"]
    return STATES["moment"] if kind is datetime else st.from_type(kind)


WIZARDS = [
    (claim.WIZARD, claim.Claim),
    (recovery.WIZARD, recovery.Recovery),
    (sign_in.WIZARD, sign_in.Typed),
]


@pytest.mark.parametrize(("wizard", "kind"), WIZARDS, ids=lambda each: getattr(each, "__name__", ""))
@given(data=st.data())
def test_whatever_a_browser_knows_there_is_a_step_for_it(
    wizard: Wizard[Any], kind: type[msgspec.Struct], data: st.DataObject
) -> None:
    known = data.draw(states(kind))
    assert wizard.place(known).open(known)
    assert wizard.steps[0].open(known), "the beginning is open to everybody"
    assert wizard.place(None) is wizard.steps[0]


@pytest.mark.parametrize(("wizard", "kind"), WIZARDS, ids=lambda each: getattr(each, "__name__", ""))
def test_every_step_has_its_own_address_and_page(wizard: Wizard[Any], kind: type[msgspec.Struct]) -> None:
    for names in ([step.path for step in wizard.steps], [step.template for step in wizard.steps]):
        assert len(set(names)) == len(names)
