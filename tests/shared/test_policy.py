"""A district's rules as data: what is read by them, what a file may say, and how files are exchanged."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Rejected, Unavailable
from shared.policies import Policies, PolicyInvalid, load_policy
from shared.policy import Policy, PortalRule, RestRule, UnknownDistrict

FOLDER = Path(__file__).parents[2] / "policies"
NOW = datetime(2026, 8, 3, 9, 14, tzinfo=UTC)
CCPS = load_policy(FOLDER / "ccps.toml")


def reason(number: str, policy: Policy = CCPS) -> str | None:
    try:
        policy.read_number(number)
    except Rejected as refusal:
        return refusal.reason
    return None


class TestNumbers:
    @pytest.mark.parametrize(
        ("typed", "hint"),
        [
            ("0123456", None),
            (" 0123456 ", None),
            ("０１２３４５６", None),
            ("O123456", "number_letter_o"),
            ("o12345o", "number_letter_o"),
            ("S0123456", "number_leading_s"),
            ("s123456", "number_leading_s"),
            ("SO123456", "number_leading_s"),
            ("123456", "number_length"),
            ("00123456", "number_length"),
            ("0", "number_length"),
            ("", "number_malformed"),
            ("S", "number_malformed"),
            ("01234-6", "number_malformed"),
            ("0123 456", "number_malformed"),
            ("٠١٢٣٤٥٦", "number_malformed"),
            ("abcdefg", "number_malformed"),
        ],
    )
    def test_each_mistake_gets_its_own_hint(self, typed: str, hint: str | None) -> None:
        assert reason(typed) == hint

    @given(st.from_regex(r"\A[0-9]{7}\Z"))
    def test_a_number_keeps_its_zeros_and_is_in_its_username(self, number: str) -> None:
        assert CCPS.read_number(number) == number
        assert CCPS.read_username(CCPS.username("student", number).lower()) == ("student", number)

    @given(st.text(max_size=12))
    def test_whatever_is_typed_is_a_number_or_one_of_four_hints(self, typed: str) -> None:
        assert reason(typed) in (
            None,
            "number_letter_o",
            "number_length",
            "number_leading_s",
            "number_malformed",
        )

    def test_a_pattern_may_say_more_than_the_length(self) -> None:
        rule = msgspec.structs.replace(CCPS.number, pattern="0[0-9]{6}")
        assert reason("1234567", msgspec.structs.replace(CCPS, number=rule)) == "number_malformed"

    @pytest.mark.parametrize("typed", ["0123456", "S012345", "T0123456", "SO123456", "", "S", "S0123456x"])
    def test_other_shapes_are_no_username(self, typed: str) -> None:
        assert CCPS.read_username(typed) is None


def claimed_with(typed: str, policy: Policy = CCPS) -> str:
    """What the claim form makes of a number: the number, or the reason why it is none."""
    try:
        return policy.read_any_number(typed)
    except Rejected as refusal:
        return refusal.reason


def published(given: str, policy: Policy = CCPS) -> str:
    """What is made of the employee number that a district's system gave."""
    try:
        return policy.read_employee_number(given)
    except Rejected as refusal:
        return refusal.reason


def with_employees(**rule: object) -> Policy:
    return msgspec.structs.replace(
        CCPS, employee_number=msgspec.structs.replace(CCPS.employee_number, **rule)
    )


class TestEmployeeNumbers:
    @pytest.mark.parametrize(
        ("typed", "outcome"),
        [
            ("e99999", "e99999"),
            (" E99999 ", "e99999"),
            ("ｅ９９９９９", "e99999"),
            ("0123456", "0123456"),
            ("e9999O", "number_letter_o"),
            ("eo9999", "number_letter_o"),
            ("99999", "number_without_e"),
            ("e9999", "number_length"),
            ("e0123456", "number_length"),
            ("e9999x", "number_malformed"),
            ("e", "number_malformed"),
            ("S0123456", "number_leading_s"),
            ("S99999", "number_leading_s"),
            ("9999", "number_length"),
            ("9999O", "number_letter_o"),
            ("", "number_malformed"),
            ("٩٩٩٩٩", "number_malformed"),
        ],
    )
    def test_the_claim_form_takes_either_number_and_hints_at_the_one_that_was_meant(
        self, typed: str, outcome: str
    ) -> None:
        assert claimed_with(typed) == outcome

    def test_a_hint_tells_how_the_number_it_is_about_looks(self) -> None:
        for typed, details in (("e999", {"digits": 5, "prefix": "e"}), ("999", {"digits": 7})):
            with pytest.raises(Rejected) as refused:
                CCPS.read_any_number(typed)
            assert refused.value.details == details

    @pytest.mark.parametrize(
        ("given", "outcome"),
        [
            ("e99999", "e99999"),
            ("E99999", "e99999"),
            ("99999", "e99999"),
            ("9999O", "number_letter_o"),
            ("e9999", "number_length"),
            ("0123456", "number_length"),
            ("x99999", "number_malformed"),
        ],
    )
    def test_a_district_system_may_leave_the_prefix_out(self, given: str, outcome: str) -> None:
        assert published(given) == outcome

    @given(st.from_regex(r"\A[eE][0-9]{5}\Z"))
    def test_it_is_the_username_in_whatever_case(self, number: str) -> None:
        found = CCPS.read_any_number(number)
        assert CCPS.username("staff", found) == found == number.lower()
        assert CCPS.read_username(number) == ("staff", found)

    def test_a_district_without_a_prefix_tells_them_apart_by_their_length(self) -> None:
        plain = with_employees(prefix="")
        assert claimed_with("99999", plain) == published("99999", plain) == "99999"
        assert plain.read_username("99999") == ("staff", "99999")
        assert claimed_with("9999", plain) == "number_length"

    @given(st.text(max_size=12))
    def test_no_number_is_of_both_kinds(self, typed: str) -> None:
        named = CCPS.read_username(typed)
        assert named is None or CCPS.read_any_number(named[1]) == named[1]


def answer(question: str, typed: str) -> str:
    found = CCPS.question(question)
    assert found is not None
    try:
        accepted = found.accept(typed, NOW)
    except Rejected as refusal:
        whose = "!" if refusal.details["question"] == question else "? another question's"
        return f"{whose} {refusal.details['hint']}"
    assert found.fold(typed) == accepted
    return accepted


class TestAnswers:
    @pytest.mark.parametrize("typed", ["May", " may ", "MAYO", "5", "05", "may."])
    def test_a_month_is_known_by_name_abbreviation_and_number(self, typed: str) -> None:
        assert answer("birth_month", typed) == "5"

    @pytest.mark.parametrize(
        ("typed", "month"),
        [
            ("ene", "1"),
            ("Sept.", "9"),
            ("setiembre", "9"),
            ("dic", "12"),
            ("aug", "8"),
            ("ago", "8"),
            ("marzo", "3"),
        ],
    )
    def test_months_are_known_in_both_languages(self, typed: str, month: str) -> None:
        assert answer("birth_month", typed) == month

    @pytest.mark.parametrize("typed", ["13", "0", "ma", "ju", "", "Maytober", "5.5", "-5", "005"])
    def test_what_is_no_month_is_refused(self, typed: str) -> None:
        assert answer("birth_month", typed) == "! not_a_month"

    @pytest.mark.parametrize(
        ("typed", "outcome"),
        [
            ("2011", "2011"),
            (" 2011 ", "2011"),
            ("1900", "1900"),
            ("2026", "2026"),
            ("1899", "! not_a_year"),
            ("2027", "! not_a_year"),
            ("11", "! not_a_year"),
            ("twenty", "! not_a_year"),
            ("²⁰¹¹", "2011"),
        ],
    )
    def test_a_year_has_bounds(self, typed: str, outcome: str) -> None:
        assert answer("birth_year", typed) == outcome

    @pytest.mark.parametrize(
        ("typed", "outcome"),
        [
            ("Fall", "fall"),
            ("otoño", "fall"),
            ("OTONO", "fall"),
            ("autumn", "! not_a_choice"),
            ("", "! not_a_choice"),
        ],
    )
    def test_a_choice_is_one_of_its_list_in_either_language(self, typed: str, outcome: str) -> None:
        assert answer("favorite_season", typed) == outcome

    @pytest.mark.parametrize(
        ("typed", "outcome"),
        [
            ("Jo", "jo"),
            ("J", "! too_short"),
            ("  J  ", "! too_short"),
            ("x" * 255, "x" * 255),
            ("x" * 256, "! too_long"),
            ("Wítty   Mouse", "witty mouse"),
            ("nul\0", "! control_character"),
        ],
    )
    def test_a_text_has_bounds(self, typed: str, outcome: str) -> None:
        assert answer("school_password", typed) == outcome

    @given(st.sampled_from(CCPS.questions), st.text(max_size=30))
    def test_what_is_accepted_is_what_a_later_try_is_folded_to(self, question: object, typed: str) -> None:
        answer(question.id, typed)  # type: ignore[attr-defined]


class TestSignIn:
    def test_wrong_passwords_bring_a_growing_pause_that_has_an_end(self) -> None:
        pauses = [CCPS.sign_in.pause(n, known=True).total_seconds() for n in range(12)]
        assert pauses == [0, 0, 0, 0, 2, 4, 8, 16, 32, 60, 60, 60]
        assert CCPS.sign_in.pause(10**9, known=True) == timedelta(seconds=60)
        assert CCPS.sign_in.pause(10**9, known=False) == timedelta(seconds=600)


class TestFiles:
    def test_the_districts_own_policy_holds(self) -> None:
        assert load_policy(FOLDER / "ccps.toml").district == "ccps"
        assert (CCPS.claim_delay("student"), CCPS.claim_delay("staff")) == (timedelta(hours=24), timedelta(0))
        assert len(CCPS.questions) == 8

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            ('prefix = "e", digits = 5', 'prefix = "", digits = 7', "a student's number or username"),
            ('prefix = "e", digits = 5', 'prefix = "s", digits = 7', "a student's number or username"),
            ('prefix = "e", digits = 5', 'prefix = "e5", digits = 5', "employee_number.prefix"),
            ('pattern = "[0-9]{5}"', 'pattern = "[0-9"', "employee_number.pattern"),
            ("claim_delay_hours = 24", "claim_delay_hours = -1", "claim_delay_hours"),
            ("claim_delay_hours = 24", 'claim_delay_hours = "24"', "claim_delay_hours"),
            ("claim_delay_hours = 24", "", "claim_delay_hours"),
            ("claim_delay_hours", "claim_dely_hours", "claim_dely_hours"),
            ('name_case = "exact"', 'name_case = "loose"', "loose"),
            ("America/New_York", "America/Clayton", "America/Clayton"),
            ('pattern = "[0-9]{7}"', 'pattern = "["', "number.pattern"),
            ('"apple", "banana", "orange", "peach"]', '"apple", "Apple", "b", "c"]', "favorite_fruit"),
            ('"verano", "invierno", "otoño", "primavera"]', '"verano"]', "differ in length"),
            ('id = "middle_name"', 'id = "birth_month"', "used twice"),
            ("questions_required = 3", "questions_required = 9", "only 8 questions"),
            ("origins = []", 'origins = ["https://x.example/path"]', "no web origin"),
            ('accent = "#1f5f8b"', 'accent = "#5b9bd5"', "contrast of 2.96:1"),
            ('accent_dark = "#8cc4ec"', 'accent_dark = "#1f5f8b"', "choose a lighter one"),
            ('accent = "#1f5f8b"', 'accent = "#1F5F8B; }"', "portal.accent"),
            ('logo = "ccps.svg"', 'logo = "../ccps.svg"', "portal.logo"),
            ("https://mail.example.org/", "javascript:alert(1)", "portal.resources[2].url"),
            ("https://mail.example.org/", "http://mail.example.org/", "portal.resources[2].url"),
            ('icon = "mail"', 'icon = "✉"', "portal.resources[2].icon"),
            ("idle_warning_seconds = 60", "idle_warning_seconds = 19", "idle_warning_seconds"),
            ("idle_minutes = 60", "idle_minutes = 1", "not below `session.idle_minutes`"),
            ('code = "JPRQQH"', 'code = "JPRQQH', "cannot be read"),
            ('code = "JPRQQH"', 'extends = "nowhere"\ncode = "JPRQQH"', "cannot be read"),
            ('code = "JPRQQH"', 'extends = "ccps"\ncode = "JPRQQH"', "circle"),
            ('code = "JPRQQH"', 'district = "x"\ncode = "JPRQQH"', "file's name"),
        ],
    )
    def test_what_does_not_hold_is_said(self, tmp_path: Path, old: str, new: str, problem: str) -> None:
        text = (FOLDER / "ccps.toml").read_text()
        assert old in text
        file = tmp_path / "ccps.toml"
        file.write_text(text.replace(old, new, 1))
        with pytest.raises(PolicyInvalid) as refused:
            load_policy(file)
        assert problem in " ".join(refused.value.problems)

    def test_a_second_district_states_what_differs(self, tmp_path: Path) -> None:
        (tmp_path / "ccps.toml").write_text((FOLDER / "ccps.toml").read_text())
        own = (
            'extends = "ccps"\ncode = "ABCDEF"\ntime_zone = "America/Chicago"\nnames = {en = "B", es = "B"}\n'
        )
        (tmp_path / "second.toml").write_text(own + "claim_delay_hours = 48\npassword.min_length = 12\n")
        second = load_policy(tmp_path / "second.toml")
        assert (second.district, second.claim_delay_hours) == ("second", 48)
        assert (second.password.min_length, second.password.max_length) == (12, CCPS.password.max_length)
        assert second.questions == CCPS.questions

    def test_names_and_code_are_never_inherited(self, tmp_path: Path) -> None:
        (tmp_path / "ccps.toml").write_text((FOLDER / "ccps.toml").read_text())
        (tmp_path / "second.toml").write_text('extends = "ccps"\n')
        with pytest.raises(PolicyInvalid, match="names"):
            load_policy(tmp_path / "second.toml")

    def test_nobody_inherits_whose_pupils_are_imported(self, tmp_path: Path) -> None:
        rest = (
            '\n[imports.rest]\nurl = "https://sis.example.org"\ntoken_url = "https://sis.example.org/token"\n'
        )
        (tmp_path / "ccps.toml").write_text(
            (FOLDER / "ccps.toml").read_text() + rest + 'client_id = "homeroom"\n'
        )
        assert load_policy(tmp_path / "ccps.toml").imports.rest is not None
        own = (
            'extends = "ccps"\ncode = "ABCDEF"\ntime_zone = "America/Chicago"\nnames = {en = "B", es = "B"}\n'
        )
        (tmp_path / "second.toml").write_text(own + "imports.reports_kept = 5\n")
        second = load_policy(tmp_path / "second.toml").imports
        assert (second.rest, second.reports_kept) == (None, 5)
        assert second.approval_above == CCPS.imports.approval_above

    def test_nobody_inherits_who_is_told_of_the_audit(self, tmp_path: Path) -> None:
        hook = '\n[webhook]\nurl = "https://events.example.org/h?k=1"\nevents = ["sign_in"]\n'
        (tmp_path / "ccps.toml").write_text((FOLDER / "ccps.toml").read_text() + hook)
        assert load_policy(tmp_path / "ccps.toml").webhook is not None
        (tmp_path / "second.toml").write_text(
            'extends = "ccps"\ncode = "ABCDEF"\ntime_zone = "America/Chicago"\nnames = {en = "B", es = "B"}\n'
        )
        assert load_policy(tmp_path / "second.toml").webhook is None

    def test_nobody_inherits_the_look_of_another_district(self, tmp_path: Path) -> None:
        text = (FOLDER / "ccps.toml").read_text()
        (tmp_path / "ccps.toml").write_text(text.replace("warning_seconds = 60", "warning_seconds = 45"))
        own = (
            'extends = "ccps"\ncode = "ABCDEF"\ntime_zone = "America/Chicago"\nnames = {en = "B", es = "B"}\n'
        )
        (tmp_path / "second.toml").write_text(own + 'portal.accent = "#005500"\n')
        second = load_policy(tmp_path / "second.toml").portal
        assert (second.logo, second.help, second.resources) == (None, None, [])
        assert (second.accent, second.accent_dark) == ("#005500", None)
        assert second.idle_warning_seconds == 45

    def test_a_policy_without_a_look_has_one(self, tmp_path: Path) -> None:
        text = (FOLDER / "ccps.toml").read_text()
        begin, end = text.index("[portal]"), text.index("# Where the SIS answers")
        (tmp_path / "ccps.toml").write_text(text[:begin] + text[end:])
        assert load_policy(tmp_path / "ccps.toml").portal == PortalRule()

    @pytest.mark.parametrize(
        "url", ["https://a.example.org/x?y=1#z", "https://a.example.org", "http://127.0.0.1:8000?x"]
    )
    def test_a_link_may_have_a_query(self, tmp_path: Path, url: str) -> None:
        text = (FOLDER / "ccps.toml").read_text().replace("https://mail.example.org/", url)
        (tmp_path / "ccps.toml").write_text(text)
        assert url in [each.url for each in load_policy(tmp_path / "ccps.toml").portal.resources]


def rest(**changes: object) -> RestRule:
    stated = {
        "url": "https://sis.example.org/v1p2",
        "token_url": "https://sis.example.org/token",
        "client_id": "h",
    }
    return msgspec.convert(stated | changes, RestRule)


class TestPulls:
    @pytest.mark.parametrize(
        "file", ["../sis.pem", "/etc/sis.pem", "riverdale", ".pem", "a/b.pem", "sis.pem\n"]
    )
    def test_the_authoritys_file_lies_beside_the_secret_and_is_no_secret(self, file: str) -> None:
        assert rest(ca_file="sis-ca.pem").ca_file == "sis-ca.pem"
        with pytest.raises(msgspec.ValidationError):
            rest(ca_file=file)

    @pytest.mark.parametrize(
        ("now", "slot"),
        [
            ("2026-08-03T09:29:59Z", "2026-08-02T16:00:00Z"),
            ("2026-08-03T09:30:00Z", "2026-08-03T09:30:00Z"),  # half past five in New York
            ("2026-08-03T15:59:00Z", "2026-08-03T09:30:00Z"),
            ("2026-08-04T03:30:00Z", "2026-08-03T16:00:00Z"),  # still the evening before
            ("2026-12-03T12:00:00Z", "2026-12-03T10:30:00Z"),  # in winter an hour later
        ],
    )
    def test_the_last_moment_of_the_schedule(self, now: str, slot: str) -> None:
        rule = rest(at=["05:30", "12:00"])
        assert rule.last_slot(CCPS.zone, datetime.fromisoformat(now)) == datetime.fromisoformat(slot)

    def test_the_hour_that_a_year_lacks_and_the_one_it_has_twice(self) -> None:
        """On 8 March 2026 New York has no half past two, on 1 November 2026 it has half past one twice."""
        for rule, day in (
            (rest(at=["02:30"]), datetime(2026, 3, 8, tzinfo=UTC)),
            (rest(at=["01:30"]), datetime(2026, 11, 1, tzinfo=UTC)),
        ):
            hours = [rule.last_slot(CCPS.zone, day + timedelta(hours=4, minutes=15 * n)) for n in range(96)]
            assert len(set(hours)) == 2  # the day before, and once on this one

    def test_without_times_there_is_no_schedule(self) -> None:
        assert rest().last_slot(CCPS.zone, datetime.now(UTC)) is None

    @pytest.mark.parametrize(
        "url",
        [
            "http://sis.example.org", "ftp://sis.example.org", "https://u:p@sis.example.org", "https://sis.example.org?a=1",
            "https://sis.example.org/#a", "https://sis.example.org\n", "http://127.0.0.1.example.org/", "",
        ],
    )  # fmt: skip
    def test_an_address_is_one_with_tls_and_nothing_in_it(self, url: str) -> None:
        for field in ("url", "token_url"):
            with pytest.raises(msgspec.ValidationError):
                rest(**{field: url})

    @pytest.mark.parametrize(
        "url", ["https://sis.example.org:8443/a/b", "http://127.0.0.1:8080/a", "http://localhost"]
    )
    def test_on_this_machine_it_may_do_without(self, url: str) -> None:
        assert rest(url=url).url == url

    @pytest.mark.parametrize("at", [["5:30"], ["24:00"], ["05:60"], ["noon"]])
    def test_a_time_of_the_day_is_written_with_four_digits(self, at: list[str]) -> None:
        with pytest.raises(msgspec.ValidationError):
            rest(at=at)


class TestFolder:
    @pytest.fixture
    def policies(self, tmp_path: Path) -> Policies:
        (tmp_path / "ccps.toml").write_text((FOLDER / "ccps.toml").read_text())
        policies = Policies(tmp_path)
        assert policies.refresh()
        return policies

    def rewrite(self, policies: Policies, old: str, new: str) -> bool:
        file = policies.folder / "ccps.toml"
        file.write_text(file.read_text().replace(old, new))
        return policies.refresh()

    def test_a_changed_file_is_read_again(self, policies: Policies) -> None:
        assert not policies.refresh()
        assert self.rewrite(policies, "claim_delay_hours = 24", "claim_delay_hours = 36")
        assert policies.get("ccps").claim_delay_hours == 36

    def test_a_broken_file_never_replaces_a_good_one(self, policies: Policies) -> None:
        assert self.rewrite(policies, "claim_delay_hours = 24", "claim_delay_hours = x")
        assert policies.get("ccps").claim_delay_hours == 24
        assert policies.problems["ccps"]
        assert self.rewrite(policies, "claim_delay_hours = x", "claim_delay_hours = 12")
        assert policies.get("ccps").claim_delay_hours == 12
        assert policies.problems == {}

    def test_a_base_that_changes_changes_what_extends_it(self, policies: Policies) -> None:
        own = 'extends = "ccps"\ncode = "ABCDEF"\ntime_zone = "UTC"\nnames = {en = "B", es = "B"}\n'
        (policies.folder / "second.toml").write_text(own)
        policies.refresh()
        self.rewrite(policies, "claim_delay_hours = 24", "claim_delay_hours = 30")
        assert policies.get("second").claim_delay_hours == 30

    def test_a_folder_that_is_emptied_changes_nothing(self, policies: Policies) -> None:
        (policies.folder / "ccps.toml").unlink()
        assert not policies.refresh()
        assert policies.get("ccps")

    def test_an_unknown_district_and_one_that_never_held_are_told_apart(self, policies: Policies) -> None:
        with pytest.raises(UnknownDistrict):
            policies.get("nowhere")
        (policies.folder / "broken.toml").write_text("code = ")
        policies.refresh()
        with pytest.raises(Unavailable):
            policies.get("broken")

    def test_two_districts_cannot_share_a_code(self, policies: Policies) -> None:
        own = 'extends = "ccps"\ncode = "JPRQQH"\ntime_zone = "UTC"\nnames = {en = "B", es = "B"}\n'
        (policies.folder / "second.toml").write_text(own)
        policies.refresh()
        assert policies.districts == ["ccps"]
        assert "JPRQQH" in policies.problems["second"][0]

    def test_an_app_finds_its_district_by_code(self, policies: Policies) -> None:
        found = policies.by_code(" jprqqh ")
        assert found is not None
        assert found.district == "ccps"
        assert policies.by_code("XXXXXX") is None
