"""The rules of single sign-on, given and answered."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.auth import oidc_rules
from services.auth.oidc_rules import Application, Asked, Subject
from shared.errors import Rejected
from shared.policies import load_policy

NOW = datetime(2026, 9, 1, 8, tzinfo=UTC)
POLICY = load_policy(Path(__file__).parents[2] / "policies" / "ccps.toml")
BACK = "https://app.example.org/back"
WEB = Application(
    client_id="c", name="Library", districts=("ccps",), type="web", redirect_uris=(BACK,), scopes=oidc_rules.SCOPES
)  # fmt: skip
PHONE = replace(
    WEB, type="native", authentication="none", redirect_uris=("http://127.0.0.1/back", "http://[::1]:9/b")
)
ASKED = {
    "response_type": "code", "scope": "openid", "code_challenge": "x" * 43, "code_challenge_method": "S256"
}  # fmt: skip


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


class TestAsking:
    def test_what_was_asked_for_is_what_is_granted(self) -> None:
        asked = oidc_rules.accept_request(
            WEB, BACK, ASKED | {"state": "s", "max_age": "0", "prompt": "login"}, []
        )
        assert asked == Asked(
            redirect_uri=BACK,
            scopes=("openid",),
            state="s",
            challenge="x" * 43,
            prompts=("login",),
            max_age_s=0,
        )

    def test_scopes_that_the_application_has_not_are_not_given(self) -> None:
        fewer = replace(WEB, scopes=("openid", "profile"))
        assert oidc_rules.accept_scopes("school openid nonsense profile", fewer) == ("openid", "profile")

    @given(st.dictionaries(st.sampled_from([*ASKED, "prompt", "max_age", "state", "request"]), st.text()))
    def test_whatever_is_asked_is_accepted_or_refused_with_a_reason(self, more: dict[str, str]) -> None:
        try:
            asked = oidc_rules.accept_request(WEB, BACK, ASKED | more, [])
        except Rejected as refusal:
            assert refusal.reason.startswith(("invalid_", "unsupported_", "request_"))  # noqa: PT017
        else:
            assert asked.challenge is not None
            assert "openid" in asked.scopes

    @given(st.text())
    def test_no_address_but_the_registered_is_answered(self, uri: str) -> None:
        if uri not in WEB.redirect_uris:
            with pytest.raises(Rejected, match="redirect_uri_unknown"):
                oidc_rules.find_redirect(WEB, uri)

    @given(st.integers(0, 99999))
    def test_a_phone_listens_on_any_port(self, port: int) -> None:
        for uri in (f"http://127.0.0.1:{port}/back", f"http://[::1]:{port}/b"):
            assert oidc_rules.find_redirect(PHONE, uri) == uri


class TestAnswering:
    @pytest.mark.parametrize(
        ("asked", "signed_in", "answers"),
        [
            ({}, NOW - minutes(300), True),
            ({"prompts": ("login",)}, NOW - minutes(1), False),
            ({"prompts": ("login",)}, NOW, True),
            ({"prompts": ("login",)}, NOW + minutes(1), True),
            ({"max_age_s": 600}, NOW - minutes(8), True),
            ({"max_age_s": 600}, NOW - minutes(8.1), False),
            ({"max_age_s": 0}, NOW - minutes(0.1), False),
            ({"max_age_s": 0}, NOW + minutes(1), True),
            ({"max_age_s": 10**9, "prompts": ("login",)}, NOW - minutes(1), False),
        ],
    )
    def test_which_session_is_an_answer(
        self, asked: dict[str, Any], signed_in: datetime, answers: bool
    ) -> None:
        """Asked at eight, answered two minutes later."""
        given = Asked(redirect_uri=BACK, scopes=("openid",), **asked)
        assert oidc_rules.session_answers(given, NOW, signed_in, NOW + minutes(2)) is answers

    def test_nothing_is_told_that_was_not_asked_for(self) -> None:
        subject = Subject(
            sub="s",
            username="S0123456",
            kind="student",
            number="0123456",
            first_name="Mary-Ann",
            last_name="O'Neil",
        )
        told = oidc_rules.claims_of(subject, ("openid",), POLICY)
        assert told == {"sub": "s"}
        told = oidc_rules.claims_of(subject, ("openid", "school"), POLICY)
        assert told == {"sub": "s", "district": "ccps", "kind": "student", "number": "0123456"}

    def test_a_refreshed_token_has_fewer_scopes_on_request_and_never_more(self) -> None:
        granted = ("openid", "profile")
        assert oidc_rules.narrowed(granted, None) == granted
        assert oidc_rules.narrowed(granted, "profile openid") == granted
        assert oidc_rules.narrowed(granted, "openid") == ("openid",)
        for wanted in ("school", "openid school", "", " "):
            with pytest.raises(Rejected, match="invalid_scope"):
                oidc_rules.narrowed(granted, wanted)


def test_one_host_is_one_sector_and_a_phone_is_one_by_itself() -> None:
    assert oidc_rules.sector_of(WEB) == "app.example.org"
    assert oidc_rules.sector_of(replace(WEB, redirect_uris=("http://127.0.0.1:80/x",))) == "127.0.0.1"
    assert oidc_rules.sector_of(PHONE) == "c"
