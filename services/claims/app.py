"""Everything that claims is made of."""

from aiohttp import web

from services.claims import api, consumer, desk
from services.claims.departures import SuspensionWorker
from services.claims.events import CODEC
from services.claims.projections import ACCOUNT, ADMISSION
from services.claims.reset_worker import ResetWorker
from shared.service import Kit, ServiceSpec
from shared.service import create_app as create
from shared.settings import Settings
from shared.supervisor import Worker


def workers(kit: Kit) -> list[Worker]:
    return [
        Worker("resets", "projector", ResetWorker(kit.store).run),
        Worker("suspensions", "projector", SuspensionWorker(kit.store, kit.policies).run),
    ]


SPEC = ServiceSpec(
    name="claims",
    package="services.claims",
    codec=CODEC,
    inline=[ACCOUNT],
    projections=[ADMISSION],
    routes=api.routes,
    reactions=consumer.reactions,
    workers=workers,
    on_file=desk.on_file,
)


def create_app(settings: Settings) -> web.Application:
    """The application of one claims process, with the roles that its settings name."""
    return create(SPEC, settings)
