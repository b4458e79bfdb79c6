"""The rules of SAML sign-on, given and answered."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.auth import saml_rules
from services.auth.saml_rules import Acs, AuthnRequest, Refused, ServiceProvider
from shared.errors import Rejected

NOW = datetime(2026, 9, 1, 8, tzinfo=UTC)
HERE, ACS = "https://auth.example.org/saml/sso", "https://app.example.org/acs"
LIBRARY = ServiceProvider(
    client_id="c", name="Library", districts=("ccps",), entity_id="https://app.example.org", acs=(Acs(ACS),)
)
REQUEST = AuthnRequest(
    id="_1", version="2.0", issue_instant="2026-09-01T08:00:00Z", issuer=LIBRARY.entity_id, destination=HERE,
    acs_url=ACS,
)  # fmt: skip


class TestRegistering:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("entity_id", "with a blank"),
            ("entity_id", "https://app.example.org/\n"),
            ("entity_id", "x" * 1025),
            ("acs", ()),
            ("acs", (Acs("http://app.example.org/acs"),)),
            ("acs", (Acs("https://app.example.org@evil.example/acs"),)),
            ("acs", (Acs("https://app.example.org\\@evil.example/acs"),)),
            ("acs", (Acs("https://app.example.org/acs#fragment"),)),
            ("acs", (Acs("https://app.example.org/acs;form-action *"),)),
            ("acs", (Acs("javascript:alert(1)"),)),
            ("acs", (Acs(ACS), Acs(f"{ACS}/2"))),  # one index
            ("email_domain", "example.org"),  # and no address is told
            ("attributes", {"mail": "email"}),  # and no domain is there
            ("attributes", {"secret": "password"}),
            ("attributes", {'"><evil': "kind"}),
        ],
    )
    def test_what_cannot_be_is_refused_by_its_field(self, field: str, value: Any) -> None:
        with pytest.raises(Rejected) as refusal:
            saml_rules.check_provider(replace(LIBRARY, **{field: value}))
        named = "email_domain" if value == {"mail": "email"} else field
        assert (refusal.value.reason, refusal.value.details["field"]) == ("application_invalid", named)

    def test_what_can_be_is_not(self) -> None:
        saml_rules.check_provider(LIBRARY)
        saml_rules.check_provider(
            replace(LIBRARY, entity_id="google.com", acs=(Acs("http://localhost:8080/a?b=c"),))
        )
        saml_rules.check_provider(replace(LIBRARY, name_id="email", email_domain="ccps.example.org"))

    @pytest.mark.parametrize(
        ("url", "origin"),
        [
            (ACS, "https://app.example.org"),
            ("https://app.example.org:8443/acs", "https://app.example.org:8443"),
            ("https://app.example.org", "https://app.example.org"),
            ("https://app.example.org?x=/y", "https://app.example.org"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ],
    )
    def test_an_address_has_an_origin(self, url: str, origin: str) -> None:
        assert saml_rules.may_be_answered(url)
        assert saml_rules.origin_of(url) == origin


class TestWhoseRequestItIs:
    def check(self, signed: bool = False, provider: ServiceProvider = LIBRARY, **differing: Any) -> datetime:
        request = replace(REQUEST, **differing)
        return saml_rules.check_request(provider, request, HERE, NOW, signed=signed)

    def test_its_id_must_not_come_again_while_the_request_could(self) -> None:
        assert self.check() == NOW + timedelta(minutes=6)

    @pytest.mark.parametrize(
        "differing",
        [
            {"destination": "https://auth.example.org/saml/sso/"},
            {"destination": "https://auth.example.org/v1/districts/other/saml/sso"},
            {"destination": ""},
            {"id": ""},
            {"id": "x" * 257},
            {"id": "_1\n"},
            {"issue_instant": "2026-09-01T07:54:00Z"},
            {"issue_instant": "2026-09-01T08:01:00Z"},
            {"issue_instant": "2026-09-01T08:00:00"},
            {"issue_instant": "2026-09-01T08:00:00+02:00"},
            {"issue_instant": "2026-13-01T08:00:00Z"},
            {"issue_instant": "now"},
        ],
    )
    def test_what_is_not_for_here_and_now_is_refused(self, differing: Any) -> None:
        with pytest.raises(Rejected, match="saml_request_invalid"):
            self.check(**differing)

    def test_unsigned_where_signed_is_required(self) -> None:
        signs = replace(LIBRARY, certificates=("…",))
        with pytest.raises(Rejected):
            self.check(provider=signs)
        self.check(provider=signs, signed=True)

    def test_what_is_signed_names_where_it_goes(self) -> None:
        self.check(destination=None)
        with pytest.raises(Rejected):
            self.check(destination=None, signed=True)

    def test_fractions_of_a_second_are_moments(self) -> None:
        self.check(issue_instant="2026-09-01T07:59:59.123456789Z")


class TestWhereTheAnswerGoes:
    TWO = replace(LIBRARY, acs=(Acs(ACS, 3), Acs(f"{ACS}/2", 5)))

    def find(self, **differing: Any) -> str:
        return saml_rules.find_acs(self.TWO, replace(REQUEST, **differing))

    def test_to_one_of_the_registered(self) -> None:
        assert self.find(acs_url=None) == ACS
        assert self.find(acs_url=f"{ACS}/2") == f"{ACS}/2"
        assert self.find(acs_url=None, acs_index="5") == f"{ACS}/2"

    @pytest.mark.parametrize(
        "differing",
        [
            {"acs_url": "https://evil.example/acs"},
            {"acs_url": f"{ACS}/"},
            {"acs_url": f"{ACS}?x"},
            {"acs_url": ACS.upper()},
            {"acs_url": ""},
            {"acs_url": None, "acs_index": "0"},
            {"acs_url": None, "acs_index": "05"},
            {"acs_url": ACS, "acs_index": "3"},
            {"acs_url": None, "acs_index": "3", "binding": saml_rules.POST_BINDING},
        ],
    )
    def test_and_nowhere_else(self, differing: Any) -> None:
        with pytest.raises(Rejected, match="acs_unknown"):
            self.find(**differing)


class TestWishes:
    @pytest.mark.parametrize(
        ("contexts", "comparison", "found"),
        [
            ((), "exact", 0),
            ((saml_rules.CONTEXTS[1],), "exact", 1),
            ((saml_rules.CONTEXTS[2], saml_rules.CONTEXTS[0]), "exact", 0),
            ((saml_rules.CONTEXTS[1],), "minimum", 0),
            (("urn:other",), "exact", None),
            (("urn:other",), "minimum", None),
            ((saml_rules.CONTEXTS[0],), "better", None),
            ((saml_rules.CONTEXTS[0],), "nonsense", None),
        ],
    )
    def test_how_somebody_signed_in(self, contexts: Any, comparison: str, found: int | None) -> None:
        request = replace(REQUEST, contexts=contexts, comparison=comparison)
        if found is not None:
            assert saml_rules.check_wishes(LIBRARY, request) == saml_rules.CONTEXTS[found]
        else:
            with pytest.raises(Refused) as refusal:
                saml_rules.check_wishes(LIBRARY, request)
            assert refusal.value.second == saml_rules.NO_CONTEXT

    @pytest.mark.parametrize(
        ("differing", "status"),
        [
            ({"version": "2.1"}, saml_rules.VERSION_MISMATCH),
            ({"binding": saml_rules.REDIRECT_BINDING}, saml_rules.REQUESTER),
            ({"names_subject": True}, saml_rules.REQUESTER),
            ({"name_id_format": "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"}, saml_rules.REQUESTER),
            ({"sp_name_qualifier": "https://other.example.org"}, saml_rules.REQUESTER),
        ],
    )
    def test_what_nobody_gets(self, differing: Any, status: str) -> None:
        with pytest.raises(Refused) as refusal:
            saml_rules.check_wishes(LIBRARY, replace(REQUEST, **differing))
        assert refusal.value.status == status

    @given(st.text(max_size=2000))
    def test_a_relay_state_is_short_or_refused(self, said: str) -> None:
        try:
            assert saml_rules.check_relay_state(said) == said
        except Rejected:
            assert len(said.encode()) > 1024


ABOUT = {"username": "S0123456", "first_name": "Zoë", "kind": "student"}


class TestTelling:
    def test_nothing_is_told_unless_it_is_registered(self) -> None:
        assert saml_rules.attributes(LIBRARY, ABOUT) == {}
        assert saml_rules.name_id(LIBRARY, "pairwise", "S0123456") == "pairwise"

    def test_what_is_has_the_applications_names(self) -> None:
        told = replace(LIBRARY, email_domain="x.org", attributes={"givenName": "first_name", "mail": "email"})
        assert saml_rules.attributes(told, ABOUT) == {"givenName": "Zoë", "mail": "s0123456@x.org"}
