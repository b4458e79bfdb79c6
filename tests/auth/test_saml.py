"""Signing in to applications that speak SAML, through auth as it stands, with its own PostgreSQL."""

from datetime import datetime, timedelta
from typing import Any

from tests.auth.conftest import ISSUER, World
from tests.auth.relying import Browser
from tests.auth.saml_party import ACS, ENTITY, D, SamlParty, form_of, pair, read, redeem, sign, why

PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"


class TestSigningIn:
    async def test_somebody_signs_in_by_redirect(self, world: World) -> None:
        library, session = await SamlParty.register(world), await world.session(await world.claimed())
        browser = Browser(world)
        form = await library.page(browser, await browser.go(library.link()), session)
        assert (form["application"], form["acs"], form["relay_state"]) == ("Library", ACS, "rs")
        assert form["origin"] == "https://library.example.org"
        found = read(world, form["saml_response"])
        assert found.statuses == ["Success"]
        assert found.response.get("Destination") == ACS
        assert found.response.get("InResponseTo") == library.sent[0]
        assert found.text("saml:Issuer") == f"{ISSUER}{D}/saml/metadata"
        assert found.attributes == {}
        confirmed = found.find(".//saml:SubjectConfirmationData")
        assert (confirmed.get("Recipient"), confirmed.get("InResponseTo")) == (ACS, library.sent[0])
        assert found.text(".//saml:Audience") == ENTITY
        conditions = found.find(".//saml:Conditions")
        began, ends = (moment(conditions.get(name)) for name in ("NotBefore", "NotOnOrAfter"))
        assert began < world.now() < ends <= world.now() + timedelta(minutes=5)
        assert confirmed.get("NotOnOrAfter") == conditions.get("NotOnOrAfter")
        name = found.find(".//saml:NameID")
        assert (name.get("Format"), name.get("SPNameQualifier")) == (PERSISTENT, ENTITY)
        context = found.text(".//saml:AuthnContextClassRef") or ""
        assert context.endswith(":PasswordProtectedTransport")

    async def test_somebody_signs_in_by_a_signed_form(self, world: World) -> None:
        library = await SamlParty.register(world, pair())
        session, browser = await world.session(await world.claimed()), Browser(world)
        gone = await library.post(browser, sign(library.request(), pair()))
        found = read(world, (await library.page(browser, gone, session))["saml_response"])
        assert found.statuses == ["Success"]

    async def test_a_signed_query_counts(self, world: World) -> None:
        library = await SamlParty.register(world, pair())
        session = await world.session(await world.claimed())
        assert (await library.signed_in(session)).statuses == ["Success"]

    async def test_a_browser_that_is_signed_in_is_answered_at_once(self, world: World) -> None:
        library, session = await SamlParty.register(world), await world.session(await world.claimed())
        browser = Browser(world)
        first = await library.signed_in(session, browser)
        gone = await browser.go(library.link(IsPassive="true"))
        second = read(world, (await form_of(world, gone))["saml_response"])
        for path in (".//saml:NameID",):
            assert first.text(path) == second.text(path)
        one, other = (each.find(".//saml:AuthnStatement").get("SessionIndex") for each in (first, second))
        assert one == other

    async def test_names_are_of_one_application_alone(self, world: World) -> None:
        session = await world.session(await world.claimed())
        library = await SamlParty.register(world)
        other = await SamlParty.register(world, entity_id="https://other.example.org", acs=[{"url": ACS}])
        found = await library.signed_in(session)
        again = await other.signed_in(session, issuer="https://other.example.org")
        assert found.text(".//saml:NameID") != again.text(".//saml:NameID")

    async def test_an_application_is_told_what_it_is_registered_for(self, world: World) -> None:
        library = await SamlParty.register(
            world, name_id="email", email_domain="students.example.org",
            attributes={"urn:oid:2.5.4.42": "first_name", "mail": "email", "role": "kind"},
        )  # fmt: skip
        found = await library.signed_in(await world.session(await world.claimed()))
        assert found.text(".//saml:NameID") == "s0123456@students.example.org"
        assert found.attributes == {
            "urn:oid:2.5.4.42": "Mary-Ann", "mail": "s0123456@students.example.org", "role": "student",
        }  # fmt: skip

    async def test_addresses_are_chosen_by_index(self, world: World) -> None:
        acs = [{"url": ACS, "index": 4}, {"url": f"{ACS}/beta", "index": 7}]
        library, session = (
            await SamlParty.register(world, acs=acs),
            await world.session(await world.claimed()),
        )
        wanted = {"AssertionConsumerServiceURL": None, "AssertionConsumerServiceIndex": "7"}
        found = await library.signed_in(session, **wanted)
        assert found.response.get("Destination") == f"{ACS}/beta"
        found = await library.signed_in(session, AssertionConsumerServiceURL=None)
        assert found.response.get("Destination") == ACS

    async def test_force_authn_wants_a_new_session(self, world: World) -> None:
        library, pupil = await SamlParty.register(world), await world.claimed()
        browser, old = Browser(world), await world.session(pupil)
        await library.signed_in(old, browser)
        world.later(seconds=2)
        gone = await browser.go(library.link(ForceAuthn="true"))
        authorization = gone.query["authorization"]
        answer = await world.ask("POST", f"/authorizations/{authorization}/acceptance", bearer=old)
        assert answer.reason == (403, "sign_in_again")
        form = await library.page(browser, gone, await world.session(pupil))
        assert read(world, form["saml_response"]).statuses == ["Success"]


class TestUnasked:
    async def test_a_tile_signs_in_where_that_is_registered(self, world: World) -> None:
        library = await SamlParty.register(world, unsolicited=True)
        session, browser = await world.session(await world.claimed()), Browser(world)
        gone = await browser.go(f"{D}/saml/applications/{library.client_id}?RelayState=shelf")
        form = await library.page(browser, gone, session)
        found = read(world, form["saml_response"])
        assert form["relay_state"] == "shelf"
        assert found.response.get("InResponseTo") is None
        assert found.find(".//saml:SubjectConfirmationData").get("InResponseTo") is None

    async def test_elsewhere_it_does_not(self, world: World) -> None:
        library = await SamlParty.register(world)
        for client_id in (library.client_id, "unknown"):
            gone = await Browser(world).go(f"{D}/saml/applications/{client_id}")
            assert why(gone) == "application_unknown"


class TestRefusalsThatTheApplicationIsTold:
    async def told(self, world: World, inside: str = "", **differing: Any) -> list[str]:
        library = await SamlParty.register(world)
        form = await form_of(world, await Browser(world).go(library.link(inside=inside, **differing)))
        found = read(world, form["saml_response"])
        assert found.find("saml:Assertion") is None
        assert found.response.get("InResponseTo") == library.sent[0]
        return found.statuses

    async def test_nobody_is_signed_in_and_nobody_may_be_asked(self, world: World) -> None:
        assert await self.told(world, IsPassive="1") == ["Responder", "NoPassive"]

    async def test_another_version(self, world: World) -> None:
        assert await self.told(world, Version="1.1") == ["VersionMismatch"]

    async def test_another_binding(self, world: World) -> None:
        binding = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Artifact"
        assert await self.told(world, ProtocolBinding=binding) == ["Requester", "UnsupportedBinding"]

    async def test_a_name_that_it_is_not_registered_for(self, world: World) -> None:
        policy = '<samlp:NameIDPolicy Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"/>'
        assert await self.told(world, policy) == ["Requester", "InvalidNameIDPolicy"]

    async def test_a_proof_that_nobody_has(self, world: World) -> None:
        context = (
            "<samlp:RequestedAuthnContext><saml:AuthnContextClassRef>"
            "urn:oasis:names:tc:SAML:2.0:ac:classes:X509</saml:AuthnContextClassRef></samlp:RequestedAuthnContext>"
        )
        assert await self.told(world, context) == ["Responder", "NoAuthnContext"]

    async def test_by_a_form_too(self, world: World) -> None:
        library = await SamlParty.register(world)
        gone = await library.post(Browser(world), library.request(Version="1.0"))
        assert read(world, (await form_of(world, gone))["saml_response"]).statuses == ["VersionMismatch"]


class TestAnswers:
    async def test_an_answer_is_given_once(self, world: World) -> None:
        library, session = await SamlParty.register(world), await world.session(await world.claimed())
        browser = Browser(world)
        await library.signed_in(session, browser)
        gone = await browser.go(library.link())
        assert (await redeem(world, gone)).status == 200
        assert (await redeem(world, gone)).reason == (400, "authorization_ended")

    async def test_it_ends_with_its_minute_its_session_and_its_application(self, world: World) -> None:
        library, pupil = await SamlParty.register(world), await world.claimed()
        browser = Browser(world)
        await library.signed_in(await world.session(pupil), browser)
        late = await browser.go(library.link())
        world.later(minutes=2)
        assert (await redeem(world, late)).status == 400
        orphan = await browser.go(library.link())
        await world.ask(
            "DELETE", f"/v1/operations/clients/{library.client_id}", bearer=world.token("operator")
        )
        assert (await redeem(world, orphan)).status == 400
        library = await SamlParty.register(world)
        ended = await browser.go(library.link())
        await world.suspend(pupil)
        assert (await redeem(world, ended)).reason == (400, "authorization_ended")

    async def test_it_is_written_down(self, world: World) -> None:
        library, pupil = await SamlParty.register(world), await world.claimed()
        await library.signed_in(await world.session(pupil))
        await world.auth.trail.write(world.kit.db)
        [line] = await world.fetch("SELECT * FROM audit WHERE what = 'saml_answer'")
        assert (line["outcome"], line["person_id"], line["client"]) == (
            "done",
            pupil.person_id,
            library.client_id,
        )


def moment(said: str) -> datetime:
    return datetime.fromisoformat(said)
