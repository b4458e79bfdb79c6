"""The first page: for whoever is signed in, what they came for; for everybody else, signing in."""

from aiohttp import web
from msgspec.structs import replace

from services.portal import sign_in
from services.portal.backend import Answer
from services.portal.browser import SignedIn
from services.portal.visit import Page, Visit


async def home(visit: Visit) -> web.StreamResponse:
    if visit.signed_in is None:
        return visit.go("/sign-in")
    signed_in = await sign_in.current(visit)
    if signed_in.must_change:
        return visit.go("/account/password")
    return visit.page("home.html", at_work=await works_here(visit, signed_in))


async def works_here(visit: Visit, signed_in: SignedIn) -> bool:
    """Whether the help desk's pages are for them: asked once a session, and never of a pupil, so that a school's pupils
    cost auth nothing. The desk's pages ask for themselves; this is about showing the way to them."""
    if signed_in.at_work is not None or is_pupil(visit, signed_in.username):
        return bool(signed_in.at_work)
    token = await visit.portal.backend.staff_token(visit.district, signed_in.token)
    at_work = not isinstance(token, Answer)
    if isinstance(token, Answer) and token.reason != "role_missing":
        return False  # nobody could say now
    visit.browser.keep("session", replace(signed_in, at_work=at_work), signed_in.expires_at)
    return at_work


def is_pupil(visit: Visit, username: str) -> bool:
    """By the shape that the district gives to pupils' usernames."""
    prefix, number = visit.policy.username_prefix, visit.policy.number
    digits = username[len(prefix) :]
    return username.startswith(prefix) and digits.isdecimal() and len(digits) == number.digits


PAGES = [Page("GET", "/", home)]
