"""One request of one browser, as the pages see it; and the one path that every request takes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4

import structlog
from aiohttp import hdrs, web

from services.portal import languages, security
from services.portal.backend import Answer, Backend, Policy, Service
from services.portal.browser import Browser, SignedIn
from services.portal.languages import N_
from services.portal.pages import Moment, moments, render
from services.portal.seals import Seals
from services.portal.settings import PortalSettings
from shared import clock, metrics
from shared.log import AccessLine, access_line

FORM_LIMIT_BYTES = 16 * 1024
MAX_FIELDS = 100
FORM_WITHIN_S = 30.0  # longer nobody holds a connection by sending one
PORTAL: web.AppKey["Portal"] = web.AppKey("portal")
OPENED: web.AppKey[set[web.AbstractResource | None]] = web.AppKey("opened")  # what can be asked for with GET

log = structlog.get_logger(__name__)


@dataclass
class Portal:
    """What one process works with."""

    settings: PortalSettings
    seals: Seals
    backend: Backend


class Fields(dict[str, str]):
    """Texts by a form's fields; "" for a field without one."""

    def __missing__(self, field: str) -> str:
        return ""


class Sorry(Exception):
    """A page that only explains: what happened and what to do. `title` and `text` are marked with N_. `code`: what to
    tell the help desk, if there is something."""

    def __init__(
        self,
        status: int,
        title: str,
        text: str,
        *,
        retry: bool = False,
        values: Mapping[str, str] | None = None,
        code: str = "",
    ) -> None:
        super().__init__(title)
        self.status, self.title, self.text, self.retry, self.code = status, title, text, retry, code
        self.values = dict(values or {})


def away() -> Sorry:
    """Nothing can be shown while the service is away that everything stands on."""
    return Sorry(
        503,
        N_("We will be right back"),
        N_("The pages are being looked after. Try again in a minute."),
        retry=True,
    )


class SeeOther(Exception):
    """Raised, or returned through `Visit.go`: the browser goes to another page of the district."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass
class Visit:
    """One request. `path` arguments are within the district: `/claim`."""

    request: web.Request
    portal: Portal
    district: str
    policy: Policy
    browser: Browser
    language: str
    now: datetime
    correlation_id: str
    fields: dict[str, str] = field(default_factory=dict)  # of the form that was sent

    @property
    def signed_in(self) -> SignedIn | None:
        return self.browser.signed_in

    @property
    def moment(self) -> Moment:
        return moments(self.language, self.policy.time_zone, self.now)

    def url(self, path: str) -> str:
        return f"/{self.district}{path}"

    def go(self, path: str) -> web.Response:
        """The browser asks for another page, with GET: so Back and Refresh never send a form again."""
        return web.Response(status=303, headers={hdrs.LOCATION: self.url(path)})

    def text(self, message: str, **values: object) -> str:
        """A text marked with N_, in the language of the visit."""
        return languages.translations(self.language).gettext(message) % values

    def page(self, template: str, status: int = 200, **context: Any) -> web.Response:
        """A page. `errors` (field → text, already translated) is empty unless given."""
        for name in ("errors", "values"):
            context[name] = Fields(context.get(name) or {})
        body = render(self.language, template, self._known() | context)
        return web.Response(status=status, text=body, content_type="text/html")

    def _known(self) -> dict[str, Any]:
        """What every template may use."""
        return {
            "lang": self.language,
            "district": self.district,
            "name_of_district": self.policy.names.in_(self.language),
            "look": self.policy.portal,
            "policy": self.policy,
            "languages": [
                (code, languages.native_name(code), self._language_url(code))
                for code in languages.languages()
            ],
            "url": self.url,
            "person": self.signed_in,
            "path": self.request.path,
            "moment": self.moment,
            "now": self.now,
        }

    async def ask(self, service: Service, method: str, path: str, body: object = None, **more: Any) -> Answer:
        """Asks a service about this district (`path` is within it), as the browser's own doing."""
        headers = dict(more.pop("headers", None) or {})
        headers.setdefault("traceparent", f"00-{self.correlation_id.replace('-', '')}-{uuid4().hex[:16]}-00")
        if service == "auth":
            headers |= await self._origin()
        return await self.portal.backend.ask(
            service, method, f"/v1/districts/{self.district}{path}", body, headers=headers, **more
        )

    async def _origin(self) -> dict[str, str]:
        """Which browser it is, for auth's budgets and for "where am I signed in"."""
        said = self.request.headers.get(hdrs.USER_AGENT, "")[:500]
        found = {"User-Agent": "".join(sign for sign in said if " " <= sign <= "~")}
        token = await self.portal.backend.own_token(self.district)
        if token is not None:
            address = security.browser_address(self.request, self.portal.settings.proxies)
            quoted = f'"[{address}]"' if ":" in address else f'"{address}"'
            found |= {"Homeroom-Client": token, hdrs.FORWARDED: f"for={quoted}"}
        if self.browser.device:
            found["Homeroom-Device"] = self.browser.device
        return found

    async def read_form(self, limit_bytes: int = FORM_LIMIT_BYTES) -> dict[str, str]:
        """The fields of a form. Raises Sorry for what no page of ours sends. A zero, which no service takes for
        text, is the sign that HTML has for it."""
        if self.request.content_type != "application/x-www-form-urlencoded":
            raise Sorry(415, N_("That did not work"), N_("Go back to the page and try again."))
        try:
            async with asyncio.timeout(FORM_WITHIN_S):
                raw = await self.request.content.read(limit_bytes + 1)
                while len(raw) <= limit_bytes and not self.request.content.at_eof():
                    raw += await self.request.content.read(limit_bytes + 1 - len(raw))
        except TimeoutError:
            raise Sorry(408, N_("That did not work"), N_("Go back to the page and try again.")) from None
        if len(raw) > limit_bytes:
            raise Sorry(
                413, N_("That was too much"), N_("What was typed is too long. Go back and make it shorter.")
            )
        try:
            pairs = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
            )
        except ValueError:
            raise Sorry(400, N_("That did not work"), N_("Go back to the page and try again.")) from None
        self.fields = {name: value.replace("\r\n", "\n").replace("\0", "\ufffd") for name, value in pairs}
        return self.fields

    @property
    def here(self) -> str:
        """The address within the district at which this browser can look at what it sees again: a form that is only
        sent is looked at where it was."""
        request = self.request
        if request.method == "POST" and request.match_info.route.resource not in request.app[OPENED]:
            seen = security.path_of(request.headers.get(hdrs.REFERER, ""))
        else:
            seen = request.path_qs if request.method != "POST" else request.rel_url.raw_path
        path = security.local_path(seen, self.district)
        return path.removeprefix(f"/{self.district}") if path else "/"

    def typed(self, name: str) -> str:
        return self.fields.get(name, "")

    def changes_language(self) -> bool:
        """Whether the form was sent for the sake of the language that it names; which is spoken from now on."""
        code = self.typed("language")
        if code not in languages.languages():
            return False
        self.language = code
        self.browser.keep_language(code)
        return True

    def _language_url(self, code: str) -> str:
        return self.url(f"/language/{code}?{urlencode({'back': self.url(self.here)})}")


def bare(language: str) -> dict[str, Any]:
    """The same of a page that belongs to no district."""
    return {"lang": language, "errors": Fields(), "values": Fields()}


View = Callable[[Visit], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Page:
    """One line of a table of pages. `path` is within the district. A POST's form is read before the view runs."""

    method: Literal["GET", "POST"]
    path: str
    view: View
    form_limit_bytes: int = FORM_LIMIT_BYTES


def add_pages(app: web.Application, pages: list[Page]) -> None:
    by_path: dict[str, web.Resource] = {}
    app[OPENED] = set()
    for page in pages:
        path = "/{district}" + page.path
        resource = by_path[path] = by_path.get(path) or app.router.add_resource(path)
        resource.add_route(page.method, _endpoint(page))
        if page.method == "GET":
            resource.add_route("HEAD", _endpoint(page))
            app[OPENED].add(resource)


def _endpoint(page: Page) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def endpoint(request: web.Request) -> web.StreamResponse:
        return await _run(request, page)

    return endpoint


async def _run(request: web.Request, page: Page) -> web.StreamResponse:
    if (rightly_spelled := _spelled_otherwise(request)) is not None:
        return rightly_spelled
    portal, now, started = request.app[PORTAL], clock.now(), time.perf_counter()
    visit: Visit | None = None
    correlation_id = str(uuid4())
    structlog.contextvars.bind_contextvars(correlation_id=correlation_id)
    try:
        visit = await _begin(request, portal, now, correlation_id)
        if page.method == "POST":
            if not security.from_own_page(request, portal.settings.portal_url):
                raise Sorry(
                    403, N_("That came from somewhere else"), N_("Open the page again and try once more.")
                )
            await visit.read_form(page.form_limit_bytes)
        response = await page.view(visit)
    except SeeOther as elsewhere:
        assert visit is not None
        response = visit.go(elsewhere.path)
    except Sorry as refusal:
        response = explain(visit, request, refusal, correlation_id)
    except web.HTTPException:
        raise
    except Exception:
        log.exception("page_failed")
        sorry = Sorry(
            500,
            N_("Something went wrong on our side"),
            N_("Nothing was lost. Try again in a minute."),
            retry=True,
        )
        response = explain(visit, request, sorry, correlation_id)
    if visit is not None:
        visit.browser.write(response)
    _observe(request, visit, response.status, correlation_id, time.perf_counter() - started)
    return response


def _spelled_otherwise(request: web.Request) -> web.Response | None:
    """Districts are written in small letters; whoever types CCPS is led there."""
    district = request.match_info["district"]
    small = district.lower()
    if request.method == "POST" or small == district or not is_district(small):
        return None
    rest = request.rel_url.raw_path_qs.removeprefix(f"/{district}")
    return web.Response(status=303, headers={hdrs.LOCATION: f"/{small}{rest}"})


def is_district(said: str) -> bool:
    """Whether this can be the name of a district in an address."""
    return len(said) <= 32 and said.isascii() and said.replace("-", "").isalnum()


async def _begin(request: web.Request, portal: Portal, now: datetime, correlation_id: str) -> Visit:
    district = request.match_info["district"]
    if not is_district(district):
        raise Sorry(404, N_("Nothing is here"), N_("Check the address, letter by letter."))
    try:
        policy = await portal.backend.policy(district)
    except TimeoutError:
        raise away() from None
    if policy is None:
        raise Sorry(404, N_("Nothing is here"), N_("Check the address, letter by letter."))
    browser = Browser(request, portal.seals, district, now)
    language = languages.choose(browser.find("language", str), request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
    return Visit(request, portal, district, policy, browser, language, now, correlation_id)


def explain(
    visit: Visit | None, request: web.Request, sorry: Sorry, correlation_id: str = ""
) -> web.Response:
    """The page of a Sorry; without a district it is a bare one."""
    language = (
        visit.language if visit else languages.choose(None, request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
    )
    context = {"sorry": sorry, "reference": correlation_id[:8] if sorry.status >= 500 else sorry.code}
    if visit is not None:
        response = visit.page("sorry.html", sorry.status, **context)
    else:
        body = render(language, "sorry.html", bare(language) | context)
        response = web.Response(status=sorry.status, text=body, content_type="text/html")
    if sorry.retry:
        response.headers["Retry-After"] = "10"
    return response


def _observe(
    request: web.Request, visit: Visit | None, status: int, correlation_id: str, seconds: float
) -> None:
    resource = request.match_info.route.resource
    path = resource.canonical if resource is not None else "unmatched"
    metrics.observe_request(request.method, path, status, None, seconds)
    access_line(
        AccessLine(
            service="portal",
            time=clock.now(),
            district=visit.district if visit else "",
            correlation_id=correlation_id,
            method=request.method,
            route=path,
            status=status,
            ms=round(seconds * 1000, 2),
            reason=None,
        )
    )
