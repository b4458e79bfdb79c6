"""Bad input: other sites' forms, cookies that nobody gave out, too much of everything, and text that is no text."""

from urllib.parse import urlencode

import aiohttp
import pytest

from tests.journeys.town import Town, claim
from tests.portal.conftest import Somebody
from tests.portal.site import Site
from tests.portal.ways import sign_in, signed_in, type_username

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("portal"),
]
# One on this machine counts as the same site, so that Lax cookies go along; the other does not.
ELSEWHERE = ("http://localhost:8999/", "http://portal.example/")
SCRIPT = "<script>alert(1)</script>"
MARKUP = '"><img src=x onerror=alert(1)>{{7*7}}'
ODD_TEXTS = {
    "right to left": "\u202eS0123456\u202c",
    "wide": "Ｓ０１２３４５６",
    "beyond the first plane": "𝕊𝟘𝟙𝟚",
    "a heap of accents": "S" + "\u0301" * 60,
    "zero": "S01\x0023456",
    "line ends": "S0123456\r\nSet-Cookie: a=b",
    "half of a pair": "S\ud800",
}


@pytest.mark.parametrize("origin", ELSEWHERE)
async def test_a_form_of_another_site_does_nothing(
    town: Town, portal: Site, somebody: Somebody, origin: str
) -> None:
    pupil = await town.pupil()
    person = await somebody()
    await sign_in(person, pupil.username, await claim(pupil))
    await signed_in(person, pupil.username)
    form = f'<form method="post" action="{portal.url}/ccps/sign-out"><button>Win</button></form>'
    with person.without("another origin"):
        await person.context.route(origin, lambda route: route.fulfill(body=form, content_type="text/html"))
        await person.page.goto(origin)
        await person.page.get_by_role("button", name="Win").click()
        await person.headed("That came from somewhere else")
    assert person.answers[-1].url.startswith(portal.url)
    await person.looks_well()
    await person.open("/ccps/")
    await signed_in(person, pupil.username)


async def test_a_frame_of_another_site_shows_nothing(portal: Site, somebody: Somebody) -> None:
    person = await somebody()
    frame = f'<iframe src="{portal.url}/ccps/sign-in"></iframe>'
    with person.without("another origin", "frame-ancestors", "X-Frame-Options"):
        await person.context.route(
            ELSEWHERE[1], lambda route: route.fulfill(body=frame, content_type="text/html")
        )
        await person.page.goto(ELSEWHERE[1])
        assert not await person.page.frames[1].get_by_role("button").count()


async def test_cookies_that_nobody_gave_out_are_no_cookies(town: Town, somebody: Somebody) -> None:
    """Changed, cut, of another name, of nobody: the browser is that of somebody who comes for the first time."""
    pupil = await town.pupil()
    person = await somebody()
    await sign_in(person, pupil.username, await claim(pupil))
    await signed_in(person, pupil.username)
    cookies = await person.cookies()
    session = cookies["__Host-ccps-session"]
    value = session["value"]
    middle = len(value) // 2
    forged = (
        value[:middle] + ("A" if value[middle] != "A" else "B") + value[middle + 1 :],
        value[:middle],
        value + "AAAA",
        cookies["__Host-ccps-device"]["value"],
        "",
        "A" * 3500,
        "%00%ff",
    )
    for each in forged:
        await person.context.add_cookies([session | {"value": each}])
        await person.open("/ccps/")
        await person.headed("Sign in")
        await person.misses(pupil.username)
    await person.context.add_cookies([session | {"name": "__Host-nist-session"}])
    await person.open("/nist/")
    await person.misses(pupil.username)
    await person.context.add_cookies([session])
    await person.open("/ccps/")
    await signed_in(person, pupil.username)


@pytest.mark.parametrize("typed", [SCRIPT, MARKUP])
async def test_a_script_is_shown_as_the_text_that_it_is(somebody: Somebody, typed: str) -> None:
    person = await somebody()
    opened = []
    person.page.on("dialog", lambda dialog: opened.append(dialog))
    await type_username(person, typed)
    await person.sees(typed)
    await person.back()
    await person.headed("Sign in")
    assert await person.field("username").input_value() == typed
    assert not opened


@pytest.mark.parametrize("typed", ODD_TEXTS.values(), ids=ODD_TEXTS.keys())
async def test_odd_text_gets_a_page(portal: Site, typed: str) -> None:
    async with Outsider(portal) as outsider:
        status, page = await outsider.send("/ccps/sign-in", {"username": typed})
        assert status in (200, 400, 422), page
        assert "</html>" in page
        status, page = await outsider.send("/ccps/sign-in/password", {"password": typed})
        assert status in (200, 400, 401, 422), page
        assert "</html>" in page


@pytest.mark.parametrize("path", ["/ccps/sign-in", "/ccps/sign-in/password", "/ccps/claim"])
async def test_too_much_gets_a_page(portal: Site, path: str) -> None:
    async with Outsider(portal) as outsider:
        for fields in ({"username": "S" * 10**6}, {f"f{number}": "" for number in range(5000)}):
            status, page = await outsider.send(path, fields)
            assert status in (400, 413), page
            assert "</html>" in page
        status, page = await outsider.send(path, b"\xff\xfe{}", "application/json")
        assert status == 415
        assert "</html>" in page


class Outsider:
    """Sends what no browser would, with the headers of one."""

    def __init__(self, portal: Site) -> None:
        self.url = portal.url
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    async def __aenter__(self) -> "Outsider":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    async def send(
        self, path: str, body: dict[str, str] | bytes, kind: str = "application/x-www-form-urlencoded"
    ) -> tuple[int, str]:
        if isinstance(body, dict):
            body = urlencode(body, errors="surrogatepass").encode()
        headers = {"Origin": self.url, "Sec-Fetch-Site": "same-origin", "Content-Type": kind}
        async with self.http.post(f"{self.url}{path}", data=body, headers=headers) as response:
            return response.status, await response.text()
