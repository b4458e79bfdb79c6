"""Pages that belong to no feature: the way to a district, languages, static files, the district's colours and logo."""

import re
from urllib.parse import parse_qsl

from aiohttp import web

from services.portal import languages, security
from services.portal.languages import N_
from services.portal.pages import STATIC, asset, render
from services.portal.visit import PORTAL, Page, Sorry, Visit, away, bare, explain, is_district

FOR_GOOD = "public, max-age=31536000, immutable"
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_CODE = re.compile("[A-Z0-9]{4,12}")
_COLOR = re.compile("#[0-9a-fA-F]{6}")


async def static(request: web.Request) -> web.StreamResponse:
    """A file under static/, by the address that `asset` gave it."""
    name = request.match_info["name"]
    file = STATIC / name
    if file.suffix not in _KINDS or not re.fullmatch(r"[a-z0-9-]+\.[a-z]+", name) or not file.is_file():
        raise web.HTTPNotFound
    current = request.path == asset(name)  # an older address is answered with what there is now
    response = web.Response(body=file.read_bytes(), content_type=_KINDS[file.suffix], charset="utf-8")
    response.headers["Cache-Control"] = FOR_GOOD if current else "no-cache"
    return response


async def root(request: web.Request) -> web.StreamResponse:
    """Leads to the district of this portal, or asks for a district's code."""
    district = request.app[PORTAL].settings.district
    if district:
        return web.Response(status=303, headers={"Location": f"/{district}/"})
    return await _find_district(request)


async def _find_district(request: web.Request) -> web.Response:
    typed = dict(parse_qsl(request.query_string)).get("code", "").strip().upper()
    unknown = False
    if typed:
        if _CODE.fullmatch(typed):
            answer = await request.app[PORTAL].backend.ask("auth", "GET", f"/v1/district-codes/{typed}")
            if answer.ok and is_district(district := str(answer.body.get("district", ""))):
                return web.Response(status=303, headers={"Location": f"/{district}/"})
            if answer.status != 404:
                return explain(None, request, away())
        unknown = True
    language = languages.choose(None, request.headers.get("Accept-Language", ""))
    body = render(language, "district.html", bare(language) | {"code": typed[:12], "unknown": unknown})
    return web.Response(status=404 if unknown else 200, text=body, content_type="text/html")


async def without_slash(request: web.Request) -> web.StreamResponse:
    """`/ccps?sign-out` is where auth sends a browser whose application asked for it and showed nothing for it."""
    district = request.match_info["district"].lower()
    if not is_district(district):  # `/\\elsewhere` and `/%2Felsewhere` would lead to another site
        raise web.HTTPNotFound
    ask = "sign-out" if "sign-out" in request.query else ""
    return web.Response(status=303, headers={"Location": f"/{district}/{ask}"})


async def look(visit: Visit) -> web.StreamResponse:
    """The district's colours, as custom properties of CSS."""
    chosen = visit.policy.portal
    colors = {"--accent": chosen.accent, "--accent-dark": chosen.accent_dark}
    rules = "".join(f"{name}:{color};" for name, color in colors.items() if color and _COLOR.fullmatch(color))
    response = web.Response(text=f":root{{{rules}}}\n", content_type="text/css")
    response.headers["Cache-Control"] = "public, max-age=300"
    return response


async def logo(visit: Visit) -> web.StreamResponse:
    answer = await visit.portal.backend.picture(f"/v1/districts/{visit.district}/logo")
    if answer is None:
        raise Sorry(404, N_("Nothing is here"), N_("Check the address, letter by letter."))
    content, kind = answer
    response = web.Response(body=content, content_type=kind)
    response.headers["Cache-Control"] = "public, max-age=3600"
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    return response


async def choose_language(visit: Visit) -> web.StreamResponse:
    code = visit.request.match_info["code"]
    if code in languages.languages():
        visit.browser.keep_language(code)
    back = security.local_path(visit.request.query.get("back", ""), visit.district)
    return visit.go(back.removeprefix(f"/{visit.district}") if back else "/")


PAGES = [
    Page("GET", "/look.css", look),
    Page("GET", "/logo", logo),
    Page("GET", "/language/{code}", choose_language),
]
