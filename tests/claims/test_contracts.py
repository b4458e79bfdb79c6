"""What others build on: the routes' description, and the contracts of the events that claims reads."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

from services.claims import api
from services.claims.consumer import AUTH
from services.claims.projections import ROSTER
from shared.messages import EventCodec
from shared.reasons import load_reasons
from tests.claims.conftest import World

CONTRACTS = Path(__file__).parents[2] / "contracts" / "events"
FOREIGN = [(codec, name) for codec in (ROSTER, AUTH) for name in codec.types]


async def test_the_description_of_the_routes_is_valid(world: World) -> None:
    async with world.http.get("/openapi.json") as response:
        document = await response.json()
    assert response.status == 200
    validate(document)
    described = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    assert {(route.method, route.path) for route in api.routes(world.kit)} <= described


async def test_every_refusal_is_explained(world: World) -> None:
    explained = load_reasons("services.claims")
    refusals = {reason for route in api.routes(world.kit) for reason in route.refusals}
    assert refusals <= explained.keys()
    of_lines = {"reset_failed"}  # what became of one account of a batch: no answer of a route
    assert explained.keys() - load_reasons().keys() <= refusals | of_lines


@pytest.mark.parametrize(("codec", "name"), FOREIGN, ids=[name for _, name in FOREIGN])
def test_what_is_read_of_a_foreign_event_is_in_its_contract(codec: EventCodec, name: str) -> None:
    """Nothing is asked for that the producer does not promise; what it may leave out has a default here."""
    contract = json.loads((CONTRACTS / codec.service / f"{name}.v1.json").read_text())
    assert_read(contract, codec.types[name])


def assert_read(contract: dict[str, Any], struct: type[msgspec.Struct]) -> None:
    for field in msgspec.structs.fields(struct):
        assert field.name in contract["properties"], field.name
        assert field.name in contract["required"] or not field.required, field.name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            assert_read(contract["properties"][field.name], field.type)
