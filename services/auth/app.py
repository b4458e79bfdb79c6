"""Everything that auth is made of."""

from aiohttp import web

from services.auth import api, audit_topic, consumer, upkeep
from services.auth.breached import Breached
from services.auth.events import CODEC
from services.auth.handlers import Auth
from services.auth.passwords import Hasher, HashPool, Peppers
from services.auth.projections import CREDENTIAL, PERSON
from shared.service import Kit, ServiceSpec
from shared.service import create_app as create
from shared.settings import Settings, SettingsInvalid


def auth_of(kit: Kit) -> Auth:
    """What this application's routes, reactions and workers share. Raises SettingsInvalid."""
    if kit.own is None:
        file = kit.settings.pepper_file
        if file is None:
            raise SettingsInvalid("not set: HOMEROOM_PEPPER_FILE")
        breached = kit.settings.breached_passwords_file
        hasher = Hasher(Peppers.read(file), HashPool(), file=file)
        kit.own = Auth(kit, hasher, breached=Breached(breached) if breached else None)
    assert isinstance(kit.own, Auth)
    return kit.own


SPEC = ServiceSpec(
    name="auth",
    package="services.auth",
    codec=CODEC,
    inline=[CREDENTIAL],
    projections=[PERSON],
    routes=lambda kit: api.routes(auth_of(kit)),
    reactions=lambda kit: consumer.reactions(auth_of(kit)),
    workers=lambda kit: upkeep.workers(auth_of(kit)),
    expiring=upkeep.EXPIRING,
    topics=lambda settings: [audit_topic.topic(settings)],
)


def create_app(settings: Settings) -> web.Application:
    """The application of one auth process, with the roles that its settings name."""
    return create(SPEC, settings)
