"""How a district's event becomes a command, and the reasons that it is told instead."""

from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.roster.api import REFUSALS
from services.roster.decider import (
    AssignClass,
    CorrectPerson,
    EnrollPerson,
    Mark,
    UnassignClass,
    VoidEnrollment,
    WithdrawPerson,
)
from services.roster.events import Assignment
from services.roster.ingress import TYPES, Statement, understand
from shared.errors import Rejected
from shared.messages import Cause
from tests.roster.given import DISTRICT, ENROLLED, NOON, POLICY, at, cloud_event, parsed

LONGEST = "n" * 255


def read(event: dict[str, Any], **given: Any) -> Statement:
    return understand(
        parsed(event), DISTRICT, POLICY, **({"received_at": NOON, "cause": Cause("journey")} | given)
    )


def refusal(event: dict[str, Any]) -> Rejected:
    with pytest.raises(Rejected) as refused:
        read(event)
    return refused.value


def test_an_enrollment_is_a_command() -> None:
    event = cloud_event(
        id="event 1", school=" Mundy's Mill Middle ", grade="07", entered_at="2026-08-02T09:14:00-04:00"
    )
    statement = read(event)
    assert statement.command == EnrollPerson(
        mark=Mark(NOON, "event 1"),
        source_id="p1",
        number="0123456",
        last_name="De La Cruz",
        first_name="Mary-Ann",
        school="Mundy's Mill Middle",
        grade="07",
        entered_at=at(-22 - 46 / 60),
        received_at=NOON,
        enrollment_id="event 1",
    )
    assert statement.cause == Cause("journey", "event 1")


def test_a_correction_says_only_what_it_says() -> None:
    command = read(
        cloud_event("StudentCorrected", id="e", first_name="Marianne", grade="", school=None)
    ).command
    assert command == CorrectPerson(mark=Mark(NOON, "e"), source_id="p1", first_name="Marianne")


def test_a_withdrawal_happened_when_the_event_says_and_never_in_the_future() -> None:
    def left(**said: Any) -> Any:
        command = read(cloud_event("StudentWithdrawn", time=at(-1), **said)).command
        assert isinstance(command, WithdrawPerson)
        return command.withdrawn_at

    assert left() == at(-1)
    assert left(withdrawn_at="2026-08-01T12:00:00Z") == at(-48)
    assert left(withdrawn_at="2027-08-01T12:00:00Z") == NOON


def test_a_void_names_its_enrollment() -> None:
    command = read(cloud_event("EnrollmentVoided", id="e", enrollment_id="event 1")).command
    assert command == VoidEnrollment(mark=Mark(NOON, "e"), source_id="p1", enrollment_id="event 1")


def test_an_employment_is_a_command_too() -> None:
    event = cloud_event("StaffEmployed", id="event 1", school="North", role=" teacher ", employment_id="hr-7")
    assert read(event).command == EnrollPerson(
        mark=Mark(NOON, "event 1"),
        source_id="t1",
        kind="staff",
        number="e12345",
        last_name="Okafor",
        first_name="Grace",
        school="North",
        role="teacher",
        received_at=NOON,
        enrollment_id="hr-7",
    )
    assert read(cloud_event("StaffEmployed", id="event 1")).command.enrollment_id == "event 1"  # type: ignore[attr-defined]


def test_staff_is_corrected_and_leaves_in_its_own_words() -> None:
    corrected = read(cloud_event("StaffCorrected", id="e", number="E54321", role="principal")).command
    assert corrected == CorrectPerson(
        mark=Mark(NOON, "e"), source_id="p1", kind="staff", number="e54321", role="principal"
    )
    left = read(cloud_event("StaffLeft", id="e", left_at="2026-08-01T12:00:00Z", reason="retired")).command
    assert left == WithdrawPerson(
        mark=Mark(NOON, "e"), source_id="p1", kind="staff", withdrawn_at=at(-48), reason="retired"
    )


@pytest.mark.parametrize(
    ("said", "number"), [("E12345", "e12345"), ("12345", "e12345"), (" e12345 ", "e12345")]
)
def test_an_employee_number_has_one_form(said: str, number: str) -> None:
    command = read(cloud_event("StaffEmployed", number=said)).command
    assert isinstance(command, EnrollPerson)
    assert command.number == number


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("e1234", "number_length"),
        ("e1234O", "number_letter_o"),
        ("0123456", "number_length"),
        (12345, "number_not_text"),
    ],
)
def test_a_malformed_employee_number_gets_its_hint(said: Any, hint: str) -> None:
    for type in ("StaffEmployed", "StaffCorrected"):
        refused = refusal(cloud_event(type, number=said))
        assert (refused.reason, refused.details["hint"]) == ("number_malformed", hint)


@pytest.mark.parametrize(
    ("said", "reason"), [("2026-08-03", "leaving_time_ambiguous"), ("soon", "leaving_time_malformed")]
)
def test_the_moment_of_leaving_is_a_moment(said: str, reason: str) -> None:
    assert refusal(cloud_event("StaffLeft", left_at=said)).reason == reason


def test_a_class_is_assigned_to_who_teaches_it_and_to_who_is_in_it() -> None:
    said = {
        "class_id": "c 1",
        "title": "Algebra",
        "begins_on": "2026-08-03",
        "ends_on": "2027-05-28",
        "school": " ",
    }
    days = {"begins_on": date(2026, 8, 3), "ends_on": date(2027, 5, 28)}
    for role, kind in (("teacher", "staff"), ("student", "student")):
        command = read(cloud_event("ClassAssigned", id="e", role=role, **said)).command
        assignment = Assignment(class_id="c 1", role=role, title="Algebra", **days)  # type: ignore[arg-type]
        assert command == AssignClass(mark=Mark(NOON, "e"), source_id="p1", kind=kind, assignment=assignment)  # type: ignore[arg-type]
    taken = read(cloud_event("ClassUnassigned", id="e", class_id="c 1")).command
    assert taken == UnassignClass(mark=Mark(NOON, "e"), source_id="p1", class_id="c 1")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"role": "aide"}, "data_invalid"),
        ({"class_id": " "}, "field_empty"),
        ({"title": "t" * 256}, "field_too_long"),
        ({"begins_on": "8/3/2026"}, "date_malformed"),
        ({"ends_on": "2026-02-30"}, "date_malformed"),
        ({"ends_on": "2026-08-03T00:00:00Z"}, "date_malformed"),
    ],
)
def test_a_class_that_cannot_be_read_says_why(said: dict[str, str], reason: str) -> None:
    assert (
        refusal(cloud_event("ClassAssigned", **{"class_id": "c1", "role": "teacher"} | said)).reason == reason
    )


def test_the_brokers_time_counts_where_the_event_has_none() -> None:
    assert read(cloud_event(time=None)).command.mark.time == NOON


def test_a_clock_that_runs_ahead_does_not_win_for_ever() -> None:
    assert read(cloud_event(time=at(1000))).command.mark.time == NOON


@pytest.mark.parametrize(
    "name", ["O", LONGEST, "D'Angelo-Smith Jr.", "José  Núñez", "李", "Al‑Amin", "X Æ A-12"]
)
def test_names_are_taken_as_they_are(name: str) -> None:
    command = read(cloud_event(last_name=name)).command
    assert isinstance(command, EnrollPerson)
    assert command.last_name == name


def test_names_are_kept_composed_and_trimmed() -> None:
    command = read(cloud_event(last_name=" Nu\u0301n\u0303ez\u00a0")).command
    assert isinstance(command, EnrollPerson)
    assert command.last_name == "Núñez"


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        ("012345", "number_length"),
        ("01234567", "number_length"),
        ("O123456", "number_letter_o"),
        ("S0123456", "number_leading_s"),
        ("01234-6", "number_malformed"),
        ("", "number_malformed"),
        (123456, "number_not_text"),
        (None, "number_not_text"),
        (["0123456"], "number_not_text"),
    ],
)
def test_a_malformed_number_gets_its_hint(number: Any, hint: str) -> None:
    for type in ("StudentEnrolled", "StudentCorrected"):
        if (type, number) != ("StudentCorrected", None):
            refused = refusal(cloud_event(type, number=number))
            assert (refused.reason, refused.details["hint"]) == ("number_malformed", hint)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("2026-08-03T09:14:00", "entry_time_ambiguous"),
        ("2026-08-03", "entry_time_ambiguous"),
        ("20260803", "entry_time_ambiguous"),
        ("yesterday", "entry_time_malformed"),
        ("", "entry_time_malformed"),
        ("2026-13-03T09:14:00Z", "entry_time_malformed"),
        ("0001-01-01T00:00:00+14:00", "entry_time_malformed"),
        ("9999-12-31T23:59:59-14:00", "entry_time_malformed"),
    ],
)
def test_an_entry_time_is_one_moment(said: str, reason: str) -> None:
    refused = refusal(cloud_event(entered_at=said))
    assert (refused.reason, refused.details) == (reason, {"expected": "2026-08-03T09:14:00-04:00"})


def test_a_withdrawal_time_is_one_moment() -> None:
    assert (
        refusal(cloud_event("StudentWithdrawn", withdrawn_at="2026-08-03")).reason
        == "withdrawal_time_ambiguous"
    )
    assert refusal(cloud_event("StudentWithdrawn", withdrawn_at="soon")).reason == "withdrawal_time_malformed"


@pytest.mark.parametrize(
    ("changes", "reason", "details"),
    [
        ({"last_name": ""}, "field_empty", {"field": "last_name"}),
        ({"first_name": " \t "}, "field_empty", {"field": "first_name"}),
        ({"first_name": LONGEST + "n"}, "field_too_long", {"field": "first_name", "limit": 255}),
        ({"last_name": "De\nLa Cruz"}, "field_control_character", {"field": "last_name"}),
        ({"last_name": "De\x00La Cruz"}, "field_control_character", {"field": "last_name"}),
        ({"school": "A\x1bB"}, "field_control_character", {"field": "school"}),
        ({"source_id": ""}, "field_empty", {"field": "source_id"}),
        ({"source_id": "p" * 256}, "field_too_long", {"field": "source_id", "limit": 255}),
        ({"enrollment_id": " "}, "field_empty", {"field": "enrollment_id"}),
        ({"district": "elsewhere"}, "district_mismatch", {"expected": "ccps"}),
        (
            {"last_name": 7},
            "data_invalid",
            {"field": "$.last_name", "problem": "Expected `str`, got `int`"},
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(
    changes: dict[str, Any], reason: str, details: dict[str, Any]
) -> None:
    refused = refusal(cloud_event(**changes))
    assert (refused.reason, refused.details) == (reason, details)


@pytest.mark.parametrize("missing", ["source_id", "last_name", "number"])
def test_what_is_missing_is_named(missing: str) -> None:
    event = cloud_event()
    del event["data"][missing]
    refused = refusal(event)
    assert refused.reason == "data_invalid"
    assert missing in refused.details["problem"]


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": 1e999}'])
def test_data_that_is_no_json_is_refused(data: bytes) -> None:
    event = msgspec.structs.replace(parsed(cloud_event()), data=data)
    with pytest.raises(Rejected, match="data_not_json"):
        understand(event, DISTRICT, POLICY, received_at=NOON, cause=Cause("journey"))


def test_data_of_another_kind_is_refused() -> None:
    for kind in ("text/csv", "application/xml; charset=utf-8", ""):
        assert refusal(cloud_event() | {"datacontenttype": kind}).reason == "data_not_json"
    read(cloud_event() | {"datacontenttype": "Application/JSON; charset=utf-8"})


def test_an_unknown_type_is_told_the_known_ones() -> None:
    refused = refusal(cloud_event("GuardianNamed"))
    assert refused.reason == "type_unknown"
    assert "StudentEnrolled" in refused.details["known"]


def test_the_id_has_to_be_storable() -> None:
    assert refusal(cloud_event(id="e" * 256)).details == {"field": "id", "limit": 255}
    assert refusal(cloud_event(id=" ")).details == {"field": "id"}


def test_the_district_may_be_said_if_it_is_the_same() -> None:
    assert read(cloud_event(district="ccps")).command.source_id == "p1"
    assert refusal(cloud_event() | {"district": "elsewhere"}).reason == "district_mismatch"


def test_a_baseline_is_not_the_events_to_say() -> None:
    said, given = read(cloud_event(baseline=True)), read(cloud_event(), baseline=True)
    assert isinstance(said.command, EnrollPerson)
    assert isinstance(given.command, EnrollPerson)
    assert not said.command.baseline
    assert given.command.baseline


def test_the_digest_is_of_what_is_said_not_of_how() -> None:
    one = cloud_event(id="e")
    spelt_otherwise = one | {"data": dict(reversed(one["data"].items())), "time": "2026-08-03T08:00:00-04:00"}
    assert read(one).digest == read(spelt_otherwise).digest
    for other in (
        cloud_event(id="e", grade="08"),
        cloud_event(id="e", time=at(1)),
        one | {"source": "/other"},
    ):
        assert read(other).digest != read(one).digest


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
fields = st.sampled_from(
    [*ENROLLED, "entered_at", "enrollment_id", "withdrawn_at", "school", "district", "reason"]
)


@given(
    st.sampled_from(sorted(TYPES)),
    st.dictionaries(fields, anything | st.sampled_from(["", " ", "2026-08-03"])),
)
def test_whatever_is_said_is_a_command_or_a_reason(type: str, said: dict[str, Any]) -> None:
    """And the command holds only what PostgreSQL can hold."""
    event = msgspec.structs.replace(parsed(cloud_event(type)), data=msgspec.json.encode(ENROLLED | said))
    told: object
    try:
        told = understand(event, DISTRICT, POLICY, received_at=NOON, cause=Cause("journey")).command
    except Rejected as refusal:
        reason, told = refusal.reason, refusal.details
    else:
        reason = None
    assert reason is None or reason in REFUSALS
    assert b"\\u0000" not in msgspec.json.encode(told)


@given(st.binary(max_size=200))
def test_whatever_the_data_is_it_is_a_command_or_a_reason(data: bytes) -> None:
    event = msgspec.structs.replace(parsed(cloud_event()), data=data)
    with pytest.raises(Rejected) as refused:
        understand(event, DISTRICT, POLICY, received_at=NOON, cause=Cause("journey"))
    assert refused.value.reason in REFUSALS
