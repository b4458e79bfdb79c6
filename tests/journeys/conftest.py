"""A town for the journeys: one fleet of services for all of them, and pupils nobody has seen before for each."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest_asyncio

from services.cli.client import Homeroom
from tests.journeys.fleet import Fleet
from tests.journeys.town import Town


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def town(backing: dict[str, str]) -> AsyncIterator[Town]:
    with tempfile.TemporaryDirectory(prefix="homeroom-journeys-") as folder:
        fleet = Fleet(backing, Path(folder))
        try:
            await fleet.start()
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
                homeroom = Homeroom(fleet.site(), http)
                async with Town(fleet, homeroom) as town:
                    yield town
        except Exception as error:
            error.add_note(fleet.logs())
            raise
        finally:
            await fleet.stop()
