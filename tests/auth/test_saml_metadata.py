"""SAML's metadata, both ways; applications as operators register them; keys and their certificates."""

import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from services.auth import saml_metadata
from services.auth.saml_keys import SIGNS_AFTER, SamlKeys
from services.auth.saml_rules import Acs
from shared.errors import Rejected
from shared.keys import make_key
from tests.auth.conftest import ISSUER, D, World
from tests.auth.saml_party import ACS, ENTITY, NAMES, SAML_APPLICATIONS, SamlParty, pair

POST, ARTIFACT = (f"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-{name}" for name in ("POST", "Artifact"))
SAML_2 = NAMES["samlp"]


def service_provider(
    *services: str, certificates: str = "", speaks: str = SAML_2, entity_id: str = ENTITY
) -> str:
    places = services or (f'<md:AssertionConsumerService Binding="{POST}" Location="{ACS}" index="0"/>',)
    return (
        f'<md:EntityDescriptor xmlns:md="{NAMES["md"]}" xmlns:ds="{NAMES["ds"]}" entityID="{entity_id}">'
        f'<md:SPSSODescriptor protocolSupportEnumeration="{speaks}">{certificates}{"".join(places)}'
        "</md:SPSSODescriptor></md:EntityDescriptor>"
    )


def key_descriptor(certificate: str, use: str = ' use="signing"') -> str:
    return (
        f"<md:KeyDescriptor{use}><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{certificate}</ds:X509Certificate>"
        "</ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
    )


class TestOfAnApplication:
    def test_its_names_addresses_and_keys_are_read(self) -> None:
        found = saml_metadata.read(
            service_provider(
                f'<md:AssertionConsumerService Binding="{ARTIFACT}" Location="{ACS}/no" index="0"/>',
                f'<md:AssertionConsumerService Binding="{POST}" Location="{ACS}/2" index="2"/>',
                f'<md:AssertionConsumerService Binding="{POST}" Location="{ACS}" index="3" isDefault="true"/>',
                certificates=key_descriptor(pair().pem)
                + key_descriptor(pair("next").der, use="")
                + key_descriptor(pair("other").der, use=' use="encryption"'),
            )
        )
        assert found.entity_id == ENTITY
        assert found.acs == (Acs(ACS, 3), Acs(f"{ACS}/2", 2))
        assert found.certificates == (pair().der, pair("next").der)

    @pytest.mark.parametrize(
        "said",
        [
            "",
            "<x/>",
            '<!DOCTYPE x [<!ENTITY e "e">]>' + service_provider(),
            service_provider(speaks="urn:oasis:names:tc:SAML:1.1:protocol"),
            service_provider(
                f'<md:AssertionConsumerService Binding="{ARTIFACT}" Location="{ACS}" index="0"/>'
            ),
            service_provider(f'<md:AssertionConsumerService Binding="{POST}" Location="{ACS}" index="x"/>'),
            service_provider(certificates=key_descriptor("no certificate")),
        ],
        ids=["nothing", "other", "entity", "older", "binding", "index", "certificate"],
    )
    def test_what_is_none_is_refused(self, said: str) -> None:
        with pytest.raises(Rejected, match="metadata_invalid"):
            saml_metadata.read(said)

    def test_nor_is_a_weak_key_taken(self) -> None:
        weak = key_descriptor(pair("weak", bits=1024).der)
        with pytest.raises(Rejected, match="metadata_invalid"):
            saml_metadata.read(service_provider(certificates=weak))


class TestOfADistrict:
    async def test_it_says_where_and_by_what_key(self, world: World) -> None:
        async with world.http.get(f"{D}/saml/metadata") as answer:
            assert answer.content_type == "application/samlmetadata+xml"
            root = etree.fromstring(await answer.read())
        assert root.get("entityID") == f"{ISSUER}{D}/saml/metadata"
        places = {each.get("Location") for each in root.iterfind(".//md:SingleSignOnService", NAMES)}
        assert places == {f"{ISSUER}{D}/saml/sso"}
        [certificate] = root.iterfind(".//ds:X509Certificate", NAMES)
        der = x509.load_der_x509_certificate(base64.b64decode(certificate.text or ""))
        der.verify_directly_issued_by(der)

    async def test_a_new_key_is_told_two_weeks_before_it_signs(self, world: World, tmp_path: Path) -> None:
        library, session = await SamlParty.register(world), await world.session(await world.claimed())
        old = await self.certificate(world)
        make_key("saml", tmp_path / "public", tmp_path / "auth", world.now(), "RS256")
        world.auth.saml_keys._looked_at = 0
        new = await self.certificate(world, "?next")
        assert await self.certificate(world) == old
        assert await self.told(world) == [old, new]
        await library.signed_in(session)  # by the key that is found there
        world.later(days=15)
        assert await self.told(world) == [new]
        assert await self.certificate(world) == new
        assert await self.certificate(world, "?next") is None

    def test_a_certificate_is_made_of_its_key_alone(self, world: World) -> None:
        one, other = (SamlKeys(world.kit.settings).current().certificate for _ in range(2))
        assert one == other
        assert one.not_valid_after_utc - one.not_valid_before_utc > timedelta(days=3650)
        assert timedelta(days=1) < SIGNS_AFTER

    async def test_without_a_key_there_is_nothing(self, world: World, tmp_path: Path) -> None:
        for file in (tmp_path / "auth").glob("saml-*"):
            file.unlink()
        answer = await world.ask("GET", "/saml/metadata")
        assert answer.reason == (503, "unavailable")

    async def certificate(self, world: World, query: str = "") -> x509.Certificate | None:
        async with world.http.get(f"{D}/saml/certificate{query}") as answer:
            return x509.load_pem_x509_certificate(await answer.read()) if answer.status == 200 else None

    async def told(self, world: World) -> list[x509.Certificate]:
        async with world.http.get(f"{D}/saml/metadata") as answer:
            root = etree.fromstring(await answer.read())
        found = root.iterfind(".//ds:X509Certificate", NAMES)
        return [x509.load_der_x509_certificate(base64.b64decode(each.text or "")) for each in found]


class TestRegistering:
    async def listed(self, world: World) -> Any:
        answer = await world.ask("GET", SAML_APPLICATIONS, bearer=world.token("operator"))
        return answer.body["applications"]

    async def test_by_its_metadata(self, world: World) -> None:
        metadata = service_provider(certificates=key_descriptor(pair().pem))
        body = {"name": "Library", "districts": ["ccps"], "metadata": metadata}
        answer = await world.ask("POST", SAML_APPLICATIONS, body, bearer=world.token("operator"))
        assert answer.status == 201, answer
        [found] = await self.listed(world)
        assert found == {
            "id": answer.body["id"], "name": "Library", "districts": ["ccps"], "entity_id": ENTITY,
            "acs": [{"url": ACS, "index": 0}], "certificates": [pair().der], "name_id": "persistent",
            "email_domain": None, "attributes": {}, "unsolicited": False, "sector": ENTITY,
        }  # fmt: skip
        library = SamlParty(world, answer.body["id"], pair())
        assert (await library.signed_in(await world.session(await world.claimed()))).statuses == ["Success"]

    @pytest.mark.parametrize(
        ("said", "field"),
        [
            ({"metadata": service_provider()}, "metadata"),  # and an entity id besides
            ({"entity_id": None}, "entity_id"),
            ({"certificates": ["nonsense"]}, "certificates"),
            ({"acs": [{"url": "https://x.example.org/#"}]}, "acs"),
            ({"name_id": "email"}, "email_domain"),
        ],
    )
    async def test_what_cannot_be(self, world: World, said: Any, field: str) -> None:
        answer = await SamlParty.ask(world, **said)
        assert answer.reason == (422, "application_invalid")
        assert answer.body["field"] == field

    async def test_an_entity_id_is_one_applications(self, world: World) -> None:
        library = await SamlParty.register(world)
        assert (await SamlParty.ask(world)).body["field"] == "entity_id"
        assert (await SamlParty.ask(world, districts=["*"])).body["field"] == "entity_id"
        await world.ask(
            "DELETE", f"/v1/operations/clients/{library.client_id}", bearer=world.token("operator")
        )
        await SamlParty.register(world)

    async def test_it_is_changed(self, world: World) -> None:
        library, session = await SamlParty.register(world), await world.session(await world.claimed())
        before = await library.signed_in(session)
        body = {
            "name": "Shelf", "districts": ["ccps"], "entity_id": "https://shelf.example.org", "acs": [{"url": ACS}],
            "attributes": {"who": "name"},
        }  # fmt: skip
        path = f"{SAML_APPLICATIONS}/{library.client_id}"
        assert (await world.ask("PUT", path, body, bearer=world.token("operator"))).status == 204
        after = await library.signed_in(session, issuer="https://shelf.example.org")
        assert after.attributes == {"who": "Mary-Ann O'Neil"}
        assert before.text(".//saml:NameID") == after.text(".//saml:NameID")  # people stay who they are
        answer = await world.ask("PUT", f"{path}x", body, bearer=world.token("operator"))
        assert answer.reason == (404, "not_found")

    async def test_only_an_operator_does(self, world: World) -> None:
        body = {"name": "Library", "districts": ["ccps"], "metadata": service_provider()}
        answer = await world.ask("POST", SAML_APPLICATIONS, body, bearer=world.token("desk"))
        assert answer.reason == (403, "scope_missing")


def test_what_is_written_can_be_read_again() -> None:
    certificate = pair().certificate
    root = etree.fromstring(
        saml_metadata.write("https://x.example.org", "https://x.example.org/sso", [certificate])
    )
    assert root.findtext(".//ds:X509Certificate", None, NAMES) == pair().der
    assert base64.b64decode(pair().der) == certificate.public_bytes(Encoding.DER)
