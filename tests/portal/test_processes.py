"""The portal's processes keep nothing: they can be restarted, and there can be several."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.journeys.town import Town, claim
from tests.portal.conftest import Somebody
from tests.portal.site import Site
from tests.portal.ways import sign_in, signed_in, type_username

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("portal"),
]


@pytest_asyncio.fixture(loop_scope="session")
async def pair(town: Town) -> AsyncIterator[Site]:
    """Two processes, each of which is asked in turn."""
    site = Site(town, processes=2)
    try:
        yield await site.start()
    finally:
        await site.stop()


async def test_a_restart_between_two_screens_is_not_noticed(
    town: Town, portal: Site, somebody: Somebody
) -> None:
    pupil = await town.pupil()
    password = await claim(pupil)
    person = await somebody()
    await type_username(person, pupil.username)
    await portal.restart()
    await person.fill(password=password)
    await person.press("Go")
    await signed_in(person, pupil.username)
    await portal.restart()
    await person.page.reload()
    await signed_in(person, pupil.username)


async def test_of_two_processes_each_goes_on_where_the_other_was(
    town: Town, pair: Site, somebody: Somebody
) -> None:
    pupil = await town.pupil()
    person = await somebody(pair.url)
    await sign_in(person, pupil.username, await claim(pupil))
    for _ in range(4):
        await signed_in(person, pupil.username)
        await person.page.reload()
    await person.press("Sign out")
    for _ in range(2):
        await person.open("/ccps/")
        await person.headed("Sign in")
    counts = [part.log.read_text().count('"status":200') for part in pair.parts]
    assert all(counts), pair.logs()
