"""What roster is made of."""

from aiohttp import web

from services.roster import api, classes_api, imports_api
from services.roster.consumer import MERGE_WAITS_S, end_merge_waits, intakes
from services.roster.events import CODEC
from services.roster.handlers import OUTCOMES
from services.roster.import_worker import ImportWorker
from services.roster.imports import EXPIRING
from services.roster.projections import PERSON
from services.roster.pulls import PullWorker
from shared.service import Kit, ServiceSpec
from shared.service import create_app as create
from shared.settings import Settings
from shared.supervisor import Worker, every
from shared.web import Route


def routes(kit: Kit) -> list[Route]:
    return [*api.routes(kit), *classes_api.routes(kit), *imports_api.routes(kit)]


def workers(kit: Kit) -> list[Worker]:
    return [
        Worker("imports", "projector", ImportWorker(kit).run),
        Worker("pulls", "projector", PullWorker(kit).run),
        Worker("merge-waits", "projector", every(MERGE_WAITS_S, lambda: end_merge_waits(kit))),
    ]


SPEC = ServiceSpec(
    name="roster",
    package="services.roster",
    codec=CODEC,
    routes=routes,
    projections=[PERSON],
    intakes=intakes,
    workers=workers,
    expiring=[OUTCOMES, *EXPIRING],
)


def create_app(settings: Settings) -> web.Application:
    return create(SPEC, settings)
