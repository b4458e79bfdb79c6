"""Attacks on SAML, each mounted as whoever means harm would: against the reading of XML, and against auth's routes."""

import base64
import contextlib
import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from msgspec import structs

from services.auth import saml_xml
from shared.errors import Rejected
from tests.auth.conftest import D, World
from tests.auth.relying import Browser, Gone
from tests.auth.saml_party import (
    ACS,
    ENTITY,
    NAMES,
    RSA_SHA256,
    SSO,
    SamlParty,
    authn_request,
    deflated,
    pair,
    redirect_query,
    sign,
    why,
)  # fmt: skip

NOW = datetime(2026, 9, 1, 8, tzinfo=UTC)
EVIL = "https://evil.example/acs"
DS = f"{{{NAMES['ds']}}}"
SAMLP = f"{{{NAMES['samlp']}}}"

# Signature wrapping (Somorovsky et al., "On Breaking SAML", 2012), all eight shapes, as they look with a request: a
# genuine signed one somewhere in the document, and a forged one where an application would read.


def _parts(signed: str) -> tuple[Any, Any, Any]:
    """A forged request, its signature taken out of it; the genuine one without its signature; the signature."""
    genuine = etree.fromstring(signed)
    signature = genuine.find("ds:Signature", NAMES)
    genuine.remove(signature)
    forged = copy.deepcopy(genuine)
    forged.set("AssertionConsumerServiceURL", EVIL)
    forged.set("ID", "_forged")
    return forged, genuine, signature


def xsw1(signed: str) -> Any:
    forged, genuine, signature = _parts(signed)
    forged.insert(1, signature)
    signature.append(genuine)
    return forged


def xsw2(signed: str) -> Any:
    forged, genuine, signature = _parts(signed)
    forged.insert(1, genuine)
    forged.insert(2, signature)
    return forged


def xsw3(signed: str) -> Any:
    forged, genuine, signature = _parts(signed)
    root = etree.Element(f"{SAMLP}Extensions")
    genuine.insert(1, signature)
    root.extend([forged, genuine])
    return root


def xsw4(signed: str) -> Any:
    forged, genuine, signature = _parts(signed)
    genuine.insert(1, signature)
    forged.append(genuine)
    return forged


def xsw5(signed: str) -> Any:
    forged, genuine, signature = _parts(signed)
    forged.insert(1, signature)
    forged.append(genuine)
    return forged


def xsw6(signed: str) -> Any:
    forged, genuine, signature = _parts(signed)
    forged.insert(1, signature)
    signature.insert(0, genuine)
    return forged


def xsw7(signed: str) -> Any:
    forged, genuine, signature = _parts(signed)
    genuine.insert(1, signature)
    etree.SubElement(forged, f"{SAMLP}Extensions").append(genuine)
    return forged


def xsw8(signed: str) -> Any:
    forged, genuine, signature = _parts(signed)
    forged.insert(1, signature)
    etree.SubElement(signature, f"{DS}Object").append(genuine)
    return forged


PIECES = [
    b"<!---->",
    b"<?x?>",
    b"<!DOCTYPE a>",
    b"&#13;",
    b"&amp;",
    b' ID="_2"',
    b"</saml:Issuer>",
    b"<ds:Signature/>",
]
SHAPES: list[Callable[[str], Any]] = [xsw1, xsw2, xsw3, xsw4, xsw5, xsw6, xsw7, xsw8]


class TestSignatureWrapping:
    def test_the_genuine_one_counts(self) -> None:
        signed = sign(authn_request(NOW), pair())
        proven = saml_xml.signed_by(saml_xml.parse(signed.encode()), [pair().der])
        assert saml_xml.read_request(proven).acs_url == ACS

    @pytest.mark.parametrize("same_id", [False, True])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_every_shape_is_refused(self, shape: Callable[[str], Any], same_id: bool) -> None:
        signed = sign(authn_request(NOW), pair())
        wrapped = shape(signed)
        if same_id:
            genuine = etree.fromstring(signed).get("ID")
            for each in wrapped.iter(f"{SAMLP}AuthnRequest"):
                each.set("ID", genuine)
        assert EVIL in etree.tostring(wrapped).decode()
        with pytest.raises(Rejected, match="saml_request_invalid"):
            saml_xml.signed_by(saml_xml.parse(etree.tostring(wrapped)), [pair().der])

    @pytest.mark.parametrize("shape", SHAPES)
    async def test_nor_does_it_lead_anywhere(self, world: World, shape: Callable[[str], Any]) -> None:
        library = await SamlParty.register(world, pair())
        wrapped = etree.tostring(shape(sign(library.request(), pair()))).decode()
        gone = await library.post(Browser(world), wrapped)
        assert why(gone) == "saml_request_invalid"

    @pytest.mark.parametrize(
        "much",
        [
            "<ds:SignedInfo " + " ".join(f'a{n}="x"' for n in range(4500)),
            "<ds:SignedInfo " + " ".join(f'xmlns:a{n}="x"' for n in range(2400)),
            "<ds:SignedInfo>" + "<a/>" * 5000,
        ],
        ids=["attributes", "namespaces", "elements"],
    )
    def test_what_takes_long_to_canonicalize(self, much: str) -> None:
        """It is refused before anything is made of it."""
        signed = sign(authn_request(NOW), pair())
        heavy = signed.replace("<ds:SignedInfo", much if much.endswith(">") else f"{much} ", 1)
        root = saml_xml.parse(heavy.encode())
        with pytest.raises(Rejected) as refusal:
            saml_xml.signed_by(root, [pair().der])
        assert "too many" in refusal.value.details["problem"]

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_whatever_is_changed_counts_for_nothing(self, data: st.DataObject) -> None:
        """Some bytes of a signed request are put in place of others: it is refused, or says what it said."""
        raw = sign(authn_request(NOW, ID="_1"), pair()).encode()
        start = data.draw(st.integers(0, len(raw) - 1))
        end = data.draw(st.integers(start, min(len(raw), start + 40)))
        some = data.draw(st.one_of(st.binary(max_size=20), st.sampled_from(PIECES)))
        try:
            proven = saml_xml.signed_by(saml_xml.parse(raw[:start] + some + raw[end:]), [pair().der])
            said = saml_xml.read_request(proven)
        except Rejected:
            return
        assert (said.id, said.issuer, said.acs_url, said.destination) == ("_1", ENTITY, ACS, SSO)

    @given(st.binary(max_size=300), st.text(max_size=300))
    def test_whatever_comes_is_read_or_refused(self, raw: bytes, said: str) -> None:
        for read in (
            lambda: saml_xml.read_request(saml_xml.parse(raw)),
            lambda: saml_xml.parse(saml_xml.inflate(base64.b64encode(raw).decode())),
            lambda: saml_xml.inflate(said),
            lambda: saml_xml.decode(said),
            lambda: saml_xml.query_is_signed_by(said, [pair().der]),
        ):
            with contextlib.suppress(Rejected):
                read()

    def test_what_was_changed_after_it_was_signed(self) -> None:
        signed = sign(authn_request(NOW), pair()).replace(ACS, EVIL)
        with pytest.raises(Rejected):
            saml_xml.signed_by(saml_xml.parse(signed.encode()), [pair().der])

    def test_two_signatures(self) -> None:
        root = etree.fromstring(sign(authn_request(NOW), pair()))
        root.append(copy.deepcopy(root.find("ds:Signature", NAMES)))
        with pytest.raises(Rejected):
            saml_xml.signed_by(root, [pair().der])

    def test_a_transform_that_leaves_something_out(self) -> None:
        signed = sign(authn_request(NOW), pair())
        xpath = "http://www.w3.org/TR/1999/REC-xpath-19991116"
        with pytest.raises(Rejected):
            saml_xml.signed_by(
                saml_xml.parse(signed.replace(f"{NAMES['ds']}enveloped-signature", xpath).encode()),
                [pair().der],
            )


class TestKeysAndAlgorithms:
    def refused(self, signed: str, *certificates: str) -> None:
        with pytest.raises(Rejected, match="saml_request_invalid"):
            saml_xml.signed_by(saml_xml.parse(signed.encode()), certificates or [pair().der])

    def test_a_key_that_the_signature_brings_along(self) -> None:
        self.refused(sign(authn_request(NOW), pair("evil"), always_add_key_value=True))
        self.refused(sign(authn_request(NOW), pair("evil")), pair().der, pair("next").der)

    def test_one_of_two_keys_is_enough(self) -> None:
        signed = saml_xml.parse(sign(authn_request(NOW), pair()).encode())
        saml_xml.signed_by(signed, [pair("next").der, pair().der])

    def test_a_certificate_is_a_key_whatever_its_dates_are(self) -> None:
        old = pair("old", days=1)
        saml_xml.signed_by(saml_xml.parse(sign(authn_request(NOW), old).encode()), [old.der])

    @pytest.mark.parametrize(
        ("known", "weak"),
        [
            (RSA_SHA256, "http://www.w3.org/2000/09/xmldsig#rsa-sha1"),
            (RSA_SHA256, "http://www.w3.org/2000/09/xmldsig#hmac-sha1"),
            (RSA_SHA256, "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"),
            (RSA_SHA256, "http://www.w3.org/2000/09/xmldsig#none"),
            (RSA_SHA256, ""),
            ("http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2000/09/xmldsig#sha1"),
        ],
    )
    def test_weak_algorithms(self, known: str, weak: str) -> None:
        self.refused(sign(authn_request(NOW), pair()).replace(known, weak))

    @pytest.mark.parametrize(
        "algorithm",
        [
            "http://www.w3.org/2000/09/xmldsig#rsa-sha1", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256",
            "none", "", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
        ],
    )  # fmt: skip
    def test_weak_algorithms_of_a_query(self, algorithm: str) -> None:
        covered = f"SAMLRequest={quote_plus(deflated(authn_request(NOW)))}&SigAlg={quote_plus(algorithm)}"
        if "hmac" in algorithm:
            mac = hmac.HMAC(pair().pem.encode(), hashes.SHA256())
            mac.update(covered.encode())
            signature = mac.finalize()
        else:
            signature = pair().key.sign(covered.encode(), padding.PKCS1v15(), hashes.SHA1())
        query = f"{covered}&Signature={quote_plus(base64.b64encode(signature).decode())}"
        with pytest.raises(Rejected):
            saml_xml.query_is_signed_by(query, [pair().der])

    def test_a_query_that_was_changed(self) -> None:
        query = redirect_query(authn_request(NOW), "here", pair())
        assert saml_xml.query_is_signed_by(query, [pair("next").der, pair().der])
        others = redirect_query(authn_request(NOW), "here", pair()).partition("&")[0]
        for changed in (
            query.replace("RelayState=here", "RelayState=there"),
            query.replace("&RelayState=here", ""),
            query.replace("RelayState=here", "RelayState=here&RelayState=there"),
            f"{others}&{query.partition('&')[2]}",
            query.replace("&Signature=", "&Signature=AAAA"),
            query.partition("&Signature=")[0],
        ):
            with pytest.raises(Rejected):
                saml_xml.query_is_signed_by(changed, [pair().der])

    def test_a_weak_key_is_not_registered(self) -> None:
        with pytest.raises(ValueError, match="RSA"):
            saml_xml.read_certificate(pair("weak", bits=1024).pem)
        assert saml_xml.read_certificate(pair().pem) == saml_xml.read_certificate(pair().der) == pair().der


ENTITIES = '<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


class TestXml:
    @pytest.mark.parametrize(
        "raw",
        [
            ENTITIES + authn_request(NOW, text="&e;"),
            f'<!DOCTYPE r [<!ENTITY l0 "ha">{LAUGHS}]>' + authn_request(NOW, text="&l9;"),
            '<!DOCTYPE r SYSTEM "http://evil.example/dtd">' + authn_request(NOW),
            f'<?xml version="1.0" encoding="utf-16"?>{authn_request(NOW)}',
            authn_request(NOW, text="&undefined;"),
            "<a>" * 1000,
            "",
            "no XML at all",
            "\0",
        ],
        ids=["entity", "laughs", "dtd", "encoding", "undefined", "deep", "empty", "text", "nul"],
    )
    def test_is_taken_plain_or_not_at_all(self, raw: str) -> None:
        encoded = raw.encode()
        if "utf-16" in raw:  # what it says of its encoding does not count
            assert saml_xml.read_request(saml_xml.parse(encoded)).issuer == ENTITY
            encoded = raw.encode("utf-16")
        with pytest.raises(Rejected, match="saml_request_invalid"):
            saml_xml.parse(encoded)

    def test_a_document_type_in_another_encoding(self) -> None:
        """UTF-7 hides the signs that are looked for."""
        hidden = ENTITIES.replace("<", "+ADw-").replace(">", "+AD4-")
        raw = f'<?xml version="1.0" encoding="UTF-7"?>{hidden}{authn_request(NOW)}'
        with pytest.raises(Rejected):
            saml_xml.parse(raw.encode())

    @pytest.mark.parametrize("between", ["<!---->", "<?x?>", "<b/>"])
    def test_something_within_a_name(self, between: str) -> None:
        """Where a reader might see the first half alone."""
        root = saml_xml.parse(authn_request(NOW, text=f"{ENTITY}{between}.evil.example").encode())
        with pytest.raises(Rejected):
            saml_xml.read_request(root)

    def test_a_signed_name_with_a_comment_is_the_whole_name(self) -> None:
        signed = sign(authn_request(NOW, issuer=f"{ENTITY}.evil.example"), pair())
        commented = signed.replace(f"{ENTITY}.evil", f"{ENTITY}<!---->.evil")
        root = saml_xml.parse(commented.encode())
        with pytest.raises(Rejected):
            saml_xml.read_request(root)
        proven = saml_xml.signed_by(root, [pair().der])
        assert saml_xml.read_request(proven).issuer == f"{ENTITY}.evil.example"

    def test_a_huge_one(self) -> None:
        with pytest.raises(Rejected):
            saml_xml.parse(authn_request(NOW, "<!--" + "x" * 70_000 + "-->").encode())

    def test_a_small_one_that_unpacks_to_a_huge_one(self) -> None:
        bomb = deflated(b"<a>" + b" " * 50_000_000 + b"</a>")
        assert len(bomb) < 100_000
        with pytest.raises(Rejected, match="saml_request_invalid"):
            saml_xml.inflate(bomb)

    @pytest.mark.parametrize("said", ["", "!", "AAAA", base64.b64encode(b"<a/>").decode(), "x" * 200_000])
    def test_what_is_not_deflated(self, said: str) -> None:
        with pytest.raises(Rejected):
            saml_xml.inflate(said)

    def test_what_stands_behind_the_end(self) -> None:
        packed = base64.b64decode(deflated(authn_request(NOW)))
        with pytest.raises(Rejected):
            saml_xml.inflate(base64.b64encode(packed + b"more").decode())

    @pytest.mark.parametrize(
        "inside",
        [
            f"<saml:Issuer>{ENTITY}</saml:Issuer>",
            "<samlp:NameIDPolicy/><samlp:NameIDPolicy/>",
            "<samlp:RequestedAuthnContext/><samlp:RequestedAuthnContext/>",
        ],
    )
    def test_what_is_said_twice(self, inside: str) -> None:
        with pytest.raises(Rejected):
            saml_xml.read_request(saml_xml.parse(authn_request(NOW, inside).encode()))


class TestRequests:
    async def told(self, world: World, library: SamlParty, **differing: Any) -> str:
        """What the person is told, by either binding; never is a browser sent to an address of the request."""
        gone = await Browser(world).go(library.link(**differing))
        request = library.request(**differing)
        posted = await library.post(Browser(world), sign(request, library.by) if library.by else request)
        assert why(gone) == why(posted)
        return why(gone)

    @pytest.mark.parametrize("signs", [False, True])
    @pytest.mark.parametrize(
        ("differing", "reason"),
        [
            ({"AssertionConsumerServiceURL": EVIL}, "acs_unknown"),
            ({"AssertionConsumerServiceURL": f"{ACS}#"}, "acs_unknown"),
            ({"AssertionConsumerServiceURL": None, "AssertionConsumerServiceIndex": "9"}, "acs_unknown"),
            ({"issuer": "https://evil.example"}, "application_unknown"),
            ({"issuer": f"{ENTITY}/"}, "application_unknown"),
            ({"issuer": "x" * 2000}, "application_unknown"),
            ({"Destination": SSO.replace("ccps", "other")}, "saml_request_invalid"),
            ({"IssueInstant": "2020-01-01T00:00:00Z"}, "saml_request_invalid"),
            ({"ID": ""}, "saml_request_invalid"),
        ],
    )
    async def test_what_is_not_its_own(self, world: World, signs: bool, differing: Any, reason: str) -> None:
        library = await SamlParty.register(world, pair() if signs else None)
        assert await self.told(world, library, **differing) == reason

    async def test_a_replay(self, world: World) -> None:
        for by in (None, pair()):
            library = await SamlParty.register(world, by, entity_id=f"{ENTITY}/{by is None}")
            request = library.request(issuer=f"{ENTITY}/{by is None}")
            link = f"{D}/saml/sso?{redirect_query(request, None, by)}"
            assert (await Browser(world).go(link)).status == 303
            again = await Browser(world).go(link)
            assert why(again) == "saml_request_invalid"
            gone = await library.post(Browser(world), sign(request, by) if by else request)
            assert why(gone) == "saml_request_invalid"

    async def test_a_form_goes_on_once(self, world: World) -> None:
        library, browser = await SamlParty.register(world), Browser(world)
        gone = await library.post(browser, library.request())
        assert (await browser.go(gone.location)).status == 303
        assert why(await browser.go(gone.location)) == "authorization_ended"

    async def test_unsigned_where_signed_is_required(self, world: World) -> None:
        library = await SamlParty.register(world, pair())
        unsigned = SamlParty(world, library.client_id)
        assert await self.told(world, unsigned) == "saml_request_invalid"

    async def test_a_signature_of_the_other_binding_does_not_count(self, world: World) -> None:
        library = await SamlParty.register(world, pair())
        within = sign(library.request(), pair())
        gone = await Browser(world).go(f"{D}/saml/sso?{redirect_query(within)}")
        assert why(gone) == "saml_request_invalid"

    async def test_a_signed_request_of_another_application(self, world: World) -> None:
        await SamlParty.register(world, pair())
        other = await SamlParty.register(world, pair("other"), entity_id="https://other.example.org")
        assert await self.told(world, other) == "saml_request_invalid"  # says that it is the library

    async def test_an_application_of_another_district(self, world: World) -> None:
        answer = await SamlParty.ask(world, districts=["elsewhere"])
        assert answer.reason == (422, "client_district_unknown")
        library = await SamlParty.register(world)
        gone = await Browser(world).go(library.link().replace("/ccps/", "/other/"))
        assert gone.status == 404

    async def test_parameters_given_twice(self, world: World) -> None:
        library = await SamlParty.register(world)
        gone = await Browser(world).go(f"{library.link()}&RelayState=there")
        assert why(gone) == "saml_request_invalid"

    async def test_a_relay_state_is_bounded(self, world: World) -> None:
        library = await SamlParty.register(world)
        gone = await Browser(world).go(library.link(relay_state="x" * 1025))
        assert why(gone) == "saml_request_invalid"
        assert (await Browser(world).go(library.link(relay_state="x" * 1024))).status == 303

    async def test_a_relay_state_is_given_back_as_it_was(self, world: World) -> None:
        library, session = await SamlParty.register(world), await world.session(await world.claimed())
        browser, said = Browser(world), "\"><script>alert(1)</script>&=%\u00e9'"
        form = await library.page(browser, await browser.go(library.link(relay_state=said)), session)
        assert form["relay_state"] == said

    async def test_a_huge_form(self, world: World) -> None:
        library = await SamlParty.register(world)
        gone = await library.post(Browser(world), library.request(f"<!--{'x' * 60_000}-->"))
        assert gone.status == 303
        gone = await library.post(Browser(world), library.request(f"<!--{'x' * 70_000}-->"))
        assert why(gone) == "saml_request_invalid"
        gone = await library.post(Browser(world), library.request(f"<!--{'x' * 200_000}-->"))
        assert gone.status == 413

    async def test_without_a_portal_auth_says_it_itself(self, world: World) -> None:
        library = await SamlParty.register(world)
        world.kit.settings = structs.replace(world.kit.settings, portal_url=None)
        gone = await Browser(world).go(library.link(AssertionConsumerServiceURL=EVIL))
        assert (gone.status, "acs_unknown" in gone.text, gone.location) == (400, True, "")
        for differing in ({}, {"IsPassive": "true"}):
            assert (await Browser(world).go(library.link(**differing))).status == 503


class TestPeople:
    async def test_nobody_goes_on_in_another_browser(self, world: World) -> None:
        """What one browser began, another cannot end: nobody is signed in by somebody's link."""
        library, session = await SamlParty.register(world), await world.session(await world.claimed())
        gone = await Browser(world).go(library.link())
        authorization = gone.query["authorization"]
        answer = await world.ask("POST", f"/authorizations/{authorization}/acceptance", bearer=session)
        elsewhere: Gone = await Browser(world).go(answer.body["location"])
        assert why(elsewhere) == "authorization_ended"

    async def test_the_way_back_of_the_other_protocol_does_not_count(self, world: World) -> None:
        library, session = await SamlParty.register(world), await world.session(await world.claimed())
        browser = Browser(world)
        gone = await browser.go(library.link())
        authorization = gone.query["authorization"]
        answer = await world.ask("POST", f"/authorizations/{authorization}/acceptance", bearer=session)
        other = answer.body["location"].replace("/saml/", "/")
        assert "authorization_ended" in (await browser.go(other)).text
        assert (await browser.go(answer.body["location"])).status == 303

    async def test_the_suspended_and_the_unclaimed_get_no_assertion(self, world: World) -> None:
        library, pupil = await SamlParty.register(world), await world.claimed()
        browser = Browser(world)
        await library.signed_in(await world.session(pupil), browser)
        await world.suspend(pupil)
        gone = await browser.go(library.link())
        assert "authorization=" in gone.location  # the browser is as one that is not signed in
        unclaimed = await world.enroll("0765432", last="Doe")
        for who in (pupil, unclaimed):
            assert (await world.sign_in(who.username)).status in (401, 403)

    async def test_an_application_of_saml_is_none_of_oauth(self, world: World) -> None:
        library = await SamlParty.register(world)
        query = f"client_id={library.client_id}&redirect_uri={ACS}&response_type=code&scope=openid"
        gone = await Browser(world).go(f"{D}/authorize?{query}")
        assert "application_unknown" in gone.text
        answer = await world.form(
            "/token", grant_type="authorization_code", client_id=library.client_id, code="x"
        )
        assert answer.reason == (401, "invalid_client")

    async def test_a_name_is_written_as_text(self, world: World) -> None:
        library = await SamlParty.register(world, attributes={"last": "last_name"})
        pupil = await world.claimed(last="O'Neil </saml:AttributeValue><x>")
        found = await library.signed_in(await world.session(pupil))
        assert found.attributes == {"last": "O'Neil </saml:AttributeValue><x>"}

    async def test_a_word_that_nobody_was_given(self, world: World) -> None:
        for said in ("", "x", "\u00e9"):
            assert (await world.ask("POST", "/saml/answers", {"answer": said})).status == 400
