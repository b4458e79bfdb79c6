"""Composition: what a service states about itself (`ServiceSpec`), what it is given (`Kit`), and its process."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
import uvloop
from aiohttp import web

from shared import district_operations, health, operations, timeline
from shared.actors import Actors
from shared.auth import Authenticator, Tokens
from shared.consumer import Intake, Reaction
from shared.database import Connection, Database
from shared.errors import Diverged, Unavailable
from shared.event_store import EventStore
from shared.expiry import Expiring
from shared.history import Disagreement
from shared.kafka import Topic
from shared.keys import KeyRing, Signer
from shared.life import live
from shared.log import configure_logging
from shared.messages import EventCodec
from shared.policies import Policies
from shared.projection import Projection
from shared.quick import TABLE, table_of
from shared.relay import Relay
from shared.server import listening
from shared.settings import Settings, SettingsInvalid, from_environment, unknown_variables
from shared.shares import Runners
from shared.supervisor import Readiness, Worker
from shared.web import KIT, Route, add_routes, boundary

log = structlog.get_logger(__name__)

LARGEST_BODY_BYTES = 8 * 1024 * 1024
# Python's own thresholds cost a projector a third of its time: it keeps thousands of young objects alive.
GC_THRESHOLDS = (50_000, 20, 50)


async def _nothing_on_file(conn: Connection, refusal: timeline.Refusal) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class ServiceSpec:
    """A service, as it describes itself.

    The functions are called once, when the process starts; `intakes` again and again, since districts are added.
    `topics` are those beside its history that it writes.
    `on_file` is asked whenever the help desk looks a refusal up: what the read models say now of what differed then.
    """

    name: str
    package: str
    codec: EventCodec
    routes: Callable[["Kit"], Sequence[Route]]
    inline: Sequence[Projection[Any]] = ()
    projections: Sequence[Projection[Any]] = ()
    reactions: Callable[["Kit"], Sequence[Reaction]] = lambda kit: ()
    intakes: Callable[["Kit"], Sequence[Intake]] = lambda kit: ()
    workers: Callable[["Kit"], Sequence[Worker]] = lambda kit: ()
    expiring: Sequence[Expiring] = ()
    topics: Callable[[Settings], Sequence[Topic]] = lambda settings: ()
    on_file: Callable[[Connection, timeline.Refusal], Awaitable[dict[str, Any]]] = _nothing_on_file

    @property
    def has_intakes(self) -> bool:
        """Whether districts publish to this service; which ones changes while it runs."""
        return self.intakes is not ServiceSpec.intakes


@dataclass
class Kit:
    """What a service works with. `authenticators` may be added to in `routes` (auth adds "session")."""

    spec: ServiceSpec
    settings: Settings
    db: Database
    relay: Relay
    store: EventStore
    policies: Policies
    keys: KeyRing
    signer: Signer
    tokens: Tokens
    readiness: Readiness
    actors: Actors
    authenticators: dict[str, Authenticator]
    diverged: Mapping[int, Disagreement] = field(default_factory=dict)
    runners: Runners | None = None  # what reads topics in this process, once it does
    audit: Callable[[Any, Any], None] = lambda call, told: (
        None
    )  # what came of a request whose route has an `audit`
    own: Any = None  # what the service's own routes, reactions and workers share

    def admit(self, route: Route) -> None:
        """Whether the service can answer at all. Raises Unavailable, Diverged."""
        if not route.needs_store:
            return
        if missing := self.readiness.lacks("migrations"):
            raise Unavailable(missing)
        if route.despite_divergence:
            return
        if self.diverged:
            raise Diverged("the topic knows events that the store lacks")
        if missing := self.readiness.lacks("history"):
            raise Unavailable(missing)


def build_kit(spec: ServiceSpec, settings: Settings) -> Kit:
    """Everything that a service is made of. Nothing is connected to yet."""
    db = Database(
        settings.postgres, max_size=settings.postgres_connections, application_name=f"homeroom-{spec.name}"
    )
    relay = Relay(settings)
    keys = KeyRing(settings.key_dir)
    tokens = Tokens(keys, issuer=settings.issuer, service=spec.name)
    on_append = relay.wake if "relay" in settings.roles else _nothing
    return Kit(
        spec=spec,
        settings=settings,
        db=db,
        relay=relay,
        store=EventStore(db, spec.codec, settings.partitions, spec.inline, on_append),
        policies=Policies(settings.policy_dir),
        keys=keys,
        signer=Signer(settings.signing_key_dir, spec.name),
        tokens=tokens,
        readiness=Readiness("migrations", "topics", "history", "policies", "postgres", "kafka"),
        actors=Actors(db),
        authenticators={"client": tokens.client, "ticket": tokens.ticket, "recovery": tokens.recovery},
    )


def create_app(spec: ServiceSpec, settings: Settings) -> web.Application:
    """The application of one process: its routes, and (in its cleanup context) everything that its roles do."""
    app = build_app(build_kit(spec, settings))
    app.cleanup_ctx.append(live)
    return app


def build_app(kit: Kit) -> web.Application:
    """The routes of a service over its kit, with nothing running beside them."""
    app = web.Application(middlewares=[boundary], client_max_size=LARGEST_BODY_BYTES)
    app[KIT] = kit
    routes = all_routes(kit) if "api" in kit.settings.roles else kit_routes(kit)
    add_routes(app, routes)
    app[TABLE] = table_of(routes)
    health.add_routes(app, kit, routes)
    return app


def all_routes(kit: Kit) -> list[Route]:
    """A service's own table of routes and the kit's."""
    return [*kit.spec.routes(kit), *kit_routes(kit)]


def kit_routes(kit: Kit) -> list[Route]:
    """What every service answers the help desk and operators, whatever the roles of this process."""
    return [*timeline.routes(kit), *operations.routes(kit), *district_operations.routes(kit)]


def _nothing() -> None:
    """Without a relay in this process there is nobody to wake: the others poll."""


def main(spec: ServiceSpec) -> None:
    """A service's process: `python -m services.claims`. Ends with status 2 when the environment does not hold."""
    try:
        settings = from_environment(service=spec.name)
        configure_logging(spec.name, level=settings.log_level, form=settings.log_format)
        if misspelt := unknown_variables(os.environ):
            log.warning("settings_unknown", variables=misspelt)
        gc.set_threshold(*GC_THRESHOLDS)
        uvloop.run(_serve(spec, settings))
    except SettingsInvalid as error:
        print(f"homeroom {spec.name}: {error}", file=sys.stderr)
        sys.exit(2)


async def _serve(spec: ServiceSpec, settings: Settings) -> None:
    """Answers requests until SIGTERM or SIGINT; then no new ones, and the running ones may finish."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    app = create_app(spec, settings)
    async with listening(app, settings.http_host, settings.http_port, drain_s=settings.drain_seconds) as port:
        log.info("listening", host=settings.http_host, port=port, roles=list(settings.roles))
        gc.freeze()
        await stop.wait()
        log.info("draining", seconds=settings.drain_seconds)
    log.info("stopped")
