"""The description of a service is what its routes do, and every reason is explained."""

from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from services.describe import PROJECT, described, documents
from shared.health import describe
from shared.life import SERVICES
from shared.openapi import refusals_of
from shared.problems import KIT_REFUSALS
from shared.reasons import load_reasons
from shared.service import Kit, all_routes, kit_routes
from tests.shared.toy import SPEC


class TestOfAToy:
    @pytest.fixture
    def document(self, kit: Kit) -> dict[str, Any]:
        return describe("toy", SPEC.package, all_routes(kit))

    def test_it_is_valid(self, document: dict[str, Any]) -> None:
        OpenAPIV31SpecValidator(document).validate()

    def test_a_route_says_whom_it_takes(self, document: dict[str, Any]) -> None:
        desk = document["paths"]["/v1/districts/{district}/desk"]["get"]
        assert desk["security"] == [{"client": []}]
        assert desk["description"] == "Scope: `desk` or `operator`"
        assert "security" not in document["paths"]["/v1/codes/{code}"]["get"]

    def test_a_route_lists_its_reasons_by_status(self, document: dict[str, Any]) -> None:
        told = document["paths"]["/v1/districts/{district}/notes"]["post"]["responses"]
        reasons = told["403"]["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"][
            "reason"
        ]
        assert reasons["enum"] == ["district_forbidden", "scope_missing", "toy_refused"]
        assert "The toy would not." in told["403"]["description"]
        assert "Retry-After" in told["503"]["headers"]

    def test_parameters_are_described(self, document: dict[str, Any]) -> None:
        echo = document["paths"]["/v1/districts/{district}/echo"]["post"]
        assert {p["name"]: p["in"] for p in echo["parameters"]} == {
            "district": "path",
            "dry_run": "query",
            "limit": "query",
        }
        person = document["paths"]["/v1/districts/{district}/persons/{person_id}"]["get"]["parameters"]
        assert person[1]["schema"]["format"] == "uuid"

    def test_operations_have_names_of_their_own(self, document: dict[str, Any]) -> None:
        ids = [o["operationId"] for path in document["paths"].values() for o in path.values()]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("service", SERVICES)
class TestOfEachService:
    def test_its_description_is_valid(self, service: str) -> None:
        found = described(service)
        OpenAPIV31SpecValidator(describe(service, found.spec.package, found.routes)).validate()

    def test_every_reason_is_explained_and_none_in_vain(self, service: str) -> None:
        told = {reason for route in described(service).routes for reason in refusals_of(route)}
        explained = load_reasons(f"services.{service}")
        assert sorted(told - explained.keys()) == []
        files = [*(PROJECT / "services" / service).rglob("*.py"), PROJECT / "shared" / "letter.py"]
        source = "".join(file.read_text() for file in files)
        told |= {reason for reason in explained if f'"{reason}"' in source}  # of dead letters
        assert sorted(explained.keys() - load_reasons().keys() - told) == []


def test_every_reason_of_the_kit_is_explained_and_none_in_vain(kit: Kit) -> None:
    explained = load_reasons().keys()
    told = KIT_REFUSALS.keys() | {reason for route in kit_routes(kit) for reason in refusals_of(route)}
    assert sorted(told - explained) == []
    # What only a service with intakes refuses, the toy has no route for.
    told |= {
        reason for service in SERVICES for route in described(service).routes for reason in refusals_of(route)
    }
    assert sorted(explained - told) == []


def test_no_description_depends_on_how_a_python_keeps_docstrings() -> None:
    for service in SERVICES:
        found = described(service)
        schemas = describe(service, found.spec.package, found.routes)["components"]["schemas"]
        assert [name for name, each in schemas.items() if "\n  " in each.get("description", "")] == []


def test_what_is_written_down_is_what_the_code_says() -> None:
    """`python -m services.describe` writes it."""
    stale = [
        str(file.relative_to(PROJECT))
        for file, content in documents().items()
        if not file.exists() or file.read_text() != content
    ]
    assert stale == []
