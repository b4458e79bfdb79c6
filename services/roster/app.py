"""What roster is made of."""

from aiohttp import web

from services.roster.api import routes
from services.roster.consumer import intakes
from services.roster.events import CODEC
from services.roster.handlers import OUTCOMES
from services.roster.projections import PERSON
from shared.service import ServiceSpec
from shared.service import create_app as create
from shared.settings import Settings

SPEC = ServiceSpec(
    name="roster",
    package="services.roster",
    codec=CODEC,
    routes=routes,
    projections=[PERSON],
    intakes=intakes,
    expiring=[OUTCOMES],
)


def create_app(settings: Settings) -> web.Application:
    return create(SPEC, settings)
