"""The first page: for whoever is signed in, what they came for; for everybody else, signing in."""

from aiohttp import web

from services.portal import sign_in
from services.portal.visit import Page, Visit


async def home(visit: Visit) -> web.StreamResponse:
    if visit.signed_in is None:
        return visit.go("/sign-in")
    await sign_in.current(visit)
    return visit.page("home.html")


PAGES = [Page("GET", "/", home)]
