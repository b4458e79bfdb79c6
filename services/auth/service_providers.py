"""Applications that speak SAML: how they are kept."""

from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec

from services.auth import saml_rules
from services.auth.handlers import Auth
from services.auth.saml_rules import ServiceProvider
from services.auth.saml_xml import read_certificate
from shared.auth import EVERY_DISTRICT
from shared.database import Connection, Row, queries
from shared.errors import Rejected

_sql = queries(__package__, "saml.sql")
_oidc = queries(__package__, "oidc.sql")
_clients = queries(__package__)


async def register(auth: Auth, conn: Connection, provider: ServiceProvider, now: datetime) -> str:
    """A new application's id. Raises Rejected application_invalid, client_district_unknown."""
    provider = await _checked(auth, conn, provider)
    client_id, districts = str(uuid4()), list(provider.districts)
    await conn.execute(_clients.insert_client, client_id, provider.name, [], districts, False, None, b"", now)
    await conn.execute(_sql.insert_provider, client_id, *_columns(provider), saml_rules.sector_of(provider))
    return client_id


async def change(auth: Auth, conn: Connection, provider: ServiceProvider) -> None:
    """All that is said of it; its sector stays. Raises Rejected not_found, and as `register`."""
    if await find(conn, provider.client_id) is None:
        raise Rejected("not_found")
    provider = await _checked(auth, conn, provider)
    await conn.execute(_sql.change_provider, provider.client_id, *_columns(provider))
    await conn.execute(
        _oidc.change_client_of_application, provider.client_id, provider.name, list(provider.districts)
    )


async def _checked(auth: Auth, conn: Connection, provider: ServiceProvider) -> ServiceProvider:
    saml_rules.check_provider(provider)
    if unknown := sorted(set(provider.districts) - {EVERY_DISTRICT, *auth.kit.policies.districts}):
        raise Rejected("client_district_unknown", districts=unknown)
    try:
        certificates = tuple(dict.fromkeys(read_certificate(each) for each in provider.certificates))
    except ValueError as error:
        raise Rejected("application_invalid", field="certificates", problem=str(error)[:200]) from None
    await conn.execute(_sql.lock_entity_id, provider.entity_id)
    for row in await conn.fetch(_sql.find_by_entity_id, provider.entity_id):
        if row["client_id"] != provider.client_id and _share(row["districts"], provider.districts):
            raise Rejected("application_invalid", field="entity_id", problem="another application has it")
    return msgspec.structs.replace(provider, certificates=certificates)


def _share(some: Any, others: Any) -> bool:
    return EVERY_DISTRICT in (*some, *others) or not set(some).isdisjoint(others)


def _columns(provider: ServiceProvider) -> tuple[Any, ...]:
    return (
        provider.entity_id,
        msgspec.to_builtins(provider.acs),
        list(provider.certificates),
        provider.name_id,
        provider.email_domain,
        provider.attributes,
        provider.unsolicited,
    )


async def find(conn: Connection, client_id: str) -> ServiceProvider | None:
    """The application of this id, unless it was removed."""
    row = await conn.fetchrow(_sql.find_provider, client_id) if "\0" not in client_id else None
    return _provider(row) if row else None


async def find_serving(conn: Connection, entity_id: str, district: str) -> ServiceProvider | None:
    """The application of this district that is called so."""
    if len(entity_id) > saml_rules.MAX_ENTITY_ID or "\0" in entity_id:
        return None
    for row in await conn.fetch(_sql.find_by_entity_id, entity_id):
        if serves(provider := _provider(row), district):
            return provider
    return None


async def list_all(conn: Connection) -> list[ServiceProvider]:
    return [_provider(row) for row in await conn.fetch(_sql.list_providers)]


def serves(provider: ServiceProvider, district: str) -> bool:
    return district in provider.districts or EVERY_DISTRICT in provider.districts


def _provider(row: Row) -> ServiceProvider:
    return msgspec.convert(dict(row), ServiceProvider)
