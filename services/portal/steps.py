"""A wizard is a table of steps, and this dispatcher: it alone decides which step a browser is at.

A step says where it lies, what must have happened before it, what it shows and what it does with what was sent. It
never leads to another step: it answers what the wizard knows now, and the dispatcher leads to the first step that
this opens. So Back, Refresh, a second tab and an address typed by hand all end on a page that makes sense. A form that
only changes the language is shown again with what was typed.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from aiohttp import web

from services.portal.visit import Page, Visit

S = TypeVar("S")  # what the wizard knows: a struct in a sealed cookie; None at its beginning


@dataclass(frozen=True)
class Again:
    """The step is shown again: what was typed cannot be taken. `errors`: field → text, in the visit's language."""

    errors: Mapping[str, str] = field(default_factory=dict)
    status: int = 422
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step(Generic[S]):
    """`open` says whether a browser that knows this may be here; `done`, whether there is nothing left to do here.

    `show` answers what the template needs, `take` `Again` or what the wizard knows from now on (None: begin again);
    either may answer a whole response of its own."""

    path: str
    template: str
    open: Callable[[S | None], bool]
    done: Callable[[S | None], bool]
    show: Callable[[Visit, S | None], Awaitable[Mapping[str, Any] | web.StreamResponse]]
    take: Callable[[Visit, S | None], Awaitable[Again | S | web.StreamResponse | None]] | None = None


@dataclass(frozen=True)
class Wizard(Generic[S]):
    """`load` reads what this browser knows, `keep` writes it (None forgets it)."""

    steps: tuple[Step[S], ...]
    load: Callable[[Visit], S | None]
    keep: Callable[[Visit, S | None], None]

    def pages(self) -> list[Page]:
        found = []
        for step in self.steps:
            found.append(Page("GET", step.path, self._shows(step)))
            if step.take is not None:
                found.append(Page("POST", step.path, self._takes(step)))
        return found

    def place(self, known: S | None) -> Step[S]:
        """The first step that is open and not done yet; when all are done, the last that is open."""
        there = [step for step in self.steps if step.open(known)] or [self.steps[0]]
        return next((step for step in there if not step.done(known)), there[-1])

    def _shows(self, step: Step[S]) -> Callable[[Visit], Awaitable[web.StreamResponse]]:
        async def view(visit: Visit) -> web.StreamResponse:
            known = self.load(visit)
            if not step.open(known) and self.place(known) is not step:
                return visit.go(self.place(known).path)
            return await self._page(visit, step, known, Again(status=200))

        return view

    def _takes(self, step: Step[S]) -> Callable[[Visit], Awaitable[web.StreamResponse]]:
        assert step.take is not None
        take = step.take

        async def view(visit: Visit) -> web.StreamResponse:
            known = self.load(visit)
            if not step.open(known):
                return visit.go(self.place(known).path)
            if visit.changes_language():
                return await self._page(visit, step, known, Again(status=200))
            outcome = await take(visit, known)
            if isinstance(outcome, web.StreamResponse):
                return outcome
            if isinstance(outcome, Again):
                return await self._page(visit, step, self.load(visit), outcome)
            self.keep(visit, outcome)
            return visit.go(self.place(outcome).path)

        return view

    async def _page(self, visit: Visit, step: Step[S], known: S | None, again: Again) -> web.StreamResponse:
        shown = await step.show(visit, known)
        if isinstance(shown, web.StreamResponse):
            return shown
        context = {"values": visit.fields, **shown, **again.context}
        names = [each.path for each in self.steps]
        return visit.page(
            step.template,
            again.status,
            errors=again.errors,
            known=known,
            step=names.index(step.path) + 1,
            steps=len(names),
            **context,
        )
