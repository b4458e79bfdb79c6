"""Who works here: staff with a role, who act as themselves. Whatever these pages ask is asked with their token."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from aiohttp import web

from services.portal import sign_in
from services.portal.backend import Answer, Service
from services.portal.desk import words
from services.portal.languages import N_
from services.portal.visit import SeeOther, Sorry, View, Visit

TOLD_WITHIN = timedelta(minutes=2)


@dataclass(frozen=True)
class Staff:
    """One request of somebody at work. `roles` are those that count now: `desk`, `operator`."""

    visit: Visit
    token: str
    roles: frozenset[str]

    async def ask(self, service: Service, method: str, path: str, body: object = None, **more: Any) -> Answer:
        """Asks a service as this person. A token that has ended leads to signing in, and back here."""
        answer = await self.visit.ask(service, method, path, body, bearer=self.token, **more)
        if answer.status == 401:
            raise _sign_in_again(self.visit)
        return answer

    async def read(self, service: Service, path: str, **query: object) -> Any:
        """What a service answers to a GET. Raises Sorry when that is a refusal."""
        answer = await self.ask(service, "GET", path, query=query)
        if not answer.ok:
            raise sorry(answer)
        return answer.body

    def id_of(self, name: str) -> UUID:
        """An id in the page's address. Raises Sorry for what is none."""
        try:
            return UUID(self.visit.request.match_info[name])
        except ValueError:
            raise sorry(Answer(404)) from None

    @property
    def key(self) -> str:
        """The form's own Idempotency-Key; a new one where it has none that can be."""
        try:
            return str(UUID(self.visit.typed("key")))
        except ValueError:
            return new_key()

    def tell(self, message: str, **values: object) -> None:
        """What the next page says first: a text marked with N_."""
        text = self.visit.text(message, **values)
        self.visit.browser.keep("told", text, self.visit.now + TOLD_WITHIN)

    def page(self, template: str, status: int = 200, **context: Any) -> web.Response:
        """A page with the links of the desk, and what an earlier one had to tell."""
        told = self.visit.browser.find("told", str)
        if told:
            self.visit.browser.forget("told")
        common = {
            "roles": self.roles,
            "told": told,
            "line_word": partial(words.line, self.visit),
            "line_about": partial(words.about, self.visit),
            "batch_word": partial(words.batch, self.visit),
        }
        return self.visit.page(template, status, **common, **context)


async def enter(visit: Visit, role: str = "desk") -> Staff:
    """Whoever has this role. Others are told that they have not; nobody signed in is led to signing in, and back."""
    person = await sign_in.current(visit)
    token = await visit.portal.backend.staff_token(visit.district, person.token)
    if isinstance(token, Answer):
        if token.reason == "role_missing":
            raise _role_missing()
        if token.reason == "subject_token_invalid":
            raise _sign_in_again(visit)
        raise sorry(token)
    if role not in token.scopes:
        raise _role_missing()
    return Staff(visit, token.value, token.scopes)


def staffed(view: Callable[[Staff], Awaitable[web.StreamResponse]], role: str = "desk") -> View:
    """A view of somebody at work, as a page has it."""

    async def guarded(visit: Visit) -> web.StreamResponse:
        return await view(await enter(visit, role))

    return guarded


def sorry(answer: Answer) -> Sorry:
    """The page of a service's refusal that no page of the desk knows better."""
    if answer.status == 404:
        return Sorry(404, N_("Nobody and nothing is on file under this address"), N_("Search again."))
    if answer.status == 403:
        return Sorry(403, N_("Your role does not allow this"), N_("Ask an operator of your district."))
    if answer.status < 500:
        return Sorry(400, N_("That did not work"), N_("Go back to the page and try again."))
    return Sorry(
        503, N_("We will be right back"), N_("Nothing was changed. Try again in a minute."), retry=True
    )


def new_key() -> str:
    """For a form that has not been sent yet."""
    return str(uuid4())


def _role_missing() -> Sorry:
    return Sorry(
        403,
        N_("These pages are for the help desk"),
        N_("Your account has no role for them. An operator of your district can give you one."),
    )


def _sign_in_again(visit: Visit) -> SeeOther:
    visit.browser.forget_person()
    sign_in.come_back(visit, ended=True)
    return SeeOther("/sign-in")
