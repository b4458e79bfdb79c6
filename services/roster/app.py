"""What roster is made of."""

import asyncio

from aiohttp import web

from services.roster.api import routes
from services.roster.consumer import intakes
from services.roster.events import CODEC
from services.roster.handlers import forget_outcomes
from services.roster.projections import PERSON
from shared import clock
from shared.service import Kit, ServiceSpec
from shared.service import create_app as create
from shared.settings import Settings
from shared.supervisor import Worker

FORGET_EVERY_S, FORGET_PAUSE_S, FORGET_ROWS = 3600.0, 0.1, 1000


def workers(kit: Kit) -> list[Worker]:
    async def forget() -> None:
        """Old outcomes go in small steps, so that no lock is held for long."""
        while True:
            async with kit.db.connection() as conn:
                gone = await forget_outcomes(conn, clock.now(), limit=FORGET_ROWS)
            await asyncio.sleep(FORGET_PAUSE_S if gone == FORGET_ROWS else FORGET_EVERY_S)

    return [Worker("forget-outcomes", "projector", forget)]


SPEC = ServiceSpec(
    name="roster",
    package="services.roster",
    codec=CODEC,
    routes=routes,
    projections=[PERSON],
    intakes=intakes,
    workers=workers,
)


def create_app(settings: Settings) -> web.Application:
    return create(SPEC, settings)
