"""Applications: how they are kept, and how one shows at the OAuth endpoints that it is itself."""

import secrets
from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec

from services.auth import oidc_rules, tokens
from services.auth.handlers import Auth
from services.auth.oidc_rules import Application
from services.auth.passwords import token_hash
from shared.auth import EVERY_DISTRICT
from shared.database import Connection, Row, queries
from shared.errors import Rejected

_sql = queries(__package__, "oidc.sql")
_clients = queries(__package__)


async def register(
    auth: Auth, conn: Connection, application: Application, now: datetime
) -> tuple[str, str | None]:
    """A new application's id, and its secret if it has one, shown once. Raises Rejected application_invalid,
    client_district_unknown."""
    application = _checked(auth, application)
    client_id, secret = str(uuid4()), None
    if application.authentication == "secret":
        secret = tokens.SECRET_PREFIX + secrets.token_urlsafe(32)
    districts, kept = list(application.districts), b"" if secret is None else token_hash(secret)
    await conn.execute(
        _clients.insert_client, client_id, application.name, [], districts, False, None, kept, now
    )
    sector = application.sector or oidc_rules.sector_of(
        msgspec.structs.replace(application, client_id=client_id)
    )
    await conn.execute(
        _sql.insert_application, client_id, application.type, *_columns(application), application.authentication,
        sector, application.registered_by,
    )  # fmt: skip
    return client_id, secret


async def change(auth: Auth, conn: Connection, application: Application) -> None:
    """All that is said of it; its type, how it shows who it is, and its sector stay. Raises Rejected not_found, and as
    `register`."""
    known = await find(conn, application.client_id)
    if known is None:
        raise Rejected("not_found")
    application = _checked(
        auth,
        msgspec.structs.replace(
            application, type=known.type, authentication=known.authentication, sector=known.sector
        ),
    )
    await conn.execute(_sql.change_application, application.client_id, *_columns(application))
    await conn.execute(
        _sql.change_client_of_application,
        application.client_id,
        application.name,
        list(application.districts),
    )


def _checked(auth: Auth, application: Application) -> Application:
    oidc_rules.check_application(application)
    if application.id_token_algorithm not in auth.kit.signer.algorithms():
        raise Rejected(
            "application_invalid", field="id_token_algorithm", problem="there is no key of it here"
        )
    known = {EVERY_DISTRICT, *auth.kit.policies.districts}
    if unknown := sorted(set(application.districts) - known):
        raise Rejected("client_district_unknown", districts=unknown)
    return application


def _columns(application: Application) -> tuple[Any, ...]:
    return (
        list(application.redirect_uris),
        list(application.post_logout_redirect_uris),
        list(application.scopes),
        application.pkce,
        application.id_token_algorithm,
        application.access_token_minutes,
        application.backchannel_logout_uri,
        list(application.keys),
        application.pushed,
    )


async def find(conn: Connection, client_id: str) -> Application | None:
    """The application of this id, unless it was removed."""
    row = await conn.fetchrow(_sql.find_application, client_id) if "\0" not in client_id else None
    return _application(row) if row else None


async def list_all(conn: Connection) -> list[Application]:
    return [_application(row) for row in await conn.fetch(_sql.list_applications)]


def _application(row: Row) -> Application:
    return msgspec.convert(dict(row), Application)


def serves(application: Application, district: str) -> bool:
    return district in application.districts or EVERY_DISTRICT in application.districts


async def authenticate(
    auth: Auth, district: str, authorization: list[str], form: dict[str, str | None], now: datetime
) -> Application:
    """The application that a request to an OAuth endpoint comes from, in the way that it was registered for: by its
    secret, or by its id alone where it can keep none. Raises Rejected invalid_client, unauthorized_client."""
    client_id = form.get("client_id") or ""
    method: oidc_rules.Authentication = "none"
    if authorization or form.get("client_secret") is not None:
        client_id = (await tokens.authenticate(auth, authorization, form, now)).client_id
        method = "secret"
    async with auth.kit.db.connection() as conn:
        application = await find(conn, client_id)
    if application is None or application.authentication != method:
        raise Rejected("invalid_client")
    if not serves(application, district):
        raise Rejected("unauthorized_client")
    return application
