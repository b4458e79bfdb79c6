"""A town for the journeys: one fleet of services for all of them, and pupils nobody has seen before for each."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.journeys.town import Town, new_town


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def town(backing: dict[str, str]) -> AsyncIterator[Town]:
    async with new_town(backing) as town:
        yield town
