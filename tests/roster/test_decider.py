"""The roster's rules, as given / when / then."""

import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given as examples_of
from hypothesis import strategies as st

from services.roster import decider
from services.roster.decider import (
    AssignClass,
    Command,
    CorrectPerson,
    EnrollPerson,
    ExportedClasses,
    Mark,
    MissInExport,
    Said,
    State,
    UnassignClass,
    VoidEnrollment,
    WithdrawPerson,
)
from services.roster.events import (
    Assignment,
    ClassesChanged,
    EnrollmentVoided,
    Identity,
    NameCorrected,
    NumberChanged,
    PlacementChanged,
    StaffEmployed,
    StaffLeft,
    StudentEnrolled,
    StudentWithdrawn,
)
from shared.errors import Rejected
from shared.messages import Event
from shared.policy import Kind
from shared.testing import recorded
from tests.roster.given import NOON, POLICY, at


def mark(hours: float, event_id: str = "") -> Mark:
    return Mark(at(hours), event_id or f"event at {hours}")


def enroll(hours: float = 0, enrollment_id: str = "e1", **said: Any) -> EnrollPerson:
    told: dict[str, Any] = {
        "number": "0123456",
        "last_name": "De La Cruz",
        "first_name": "Mary-Ann",
        "received_at": at(hours),
    }
    return EnrollPerson(mark=mark(hours), source_id="p1", enrollment_id=enrollment_id, **(told | said))


def correct(hours: float, **said: Any) -> CorrectPerson:
    return CorrectPerson(mark=mark(hours), source_id="p1", **said)


def withdraw(hours: float, reason: str | None = None) -> WithdrawPerson:
    return WithdrawPerson(mark=mark(hours), source_id="p1", withdrawn_at=at(hours), reason=reason)


def void(hours: float, enrollment_id: str = "e1") -> VoidEnrollment:
    return VoidEnrollment(mark=mark(hours), source_id="p1", enrollment_id=enrollment_id)


def named(hours: float, **said: Any) -> EnrollPerson:
    """The export of that hour has the person."""
    return enroll(hours, decider.EXPORT, **said)


def missing(hours: float, reason: str = decider.ABSENT) -> MissInExport:
    return MissInExport(mark=mark(hours), source_id="p1", reason=reason)


def identity(**other: str) -> Identity:
    told = {"source_id": "p1", "number": "0123456", "last_name": "De La Cruz", "first_name": "Mary-Ann"}
    return Identity(**(told | other))


class Person:
    """A person's stream, as the handlers keep it: `tell` decides, records and remembers the marks."""

    def __init__(self) -> None:
        self.state: State = decider.initial
        self.said = Said()
        self.recorded: list[Event] = []

    def tell(self, command: Command) -> list[Event]:
        events = decider.decide(self.state, self.said, command, POLICY)
        self.said = decider.hear(self.said, command)
        self.record(events)
        return events

    def record(self, events: Sequence[Event]) -> None:
        for event in events:
            self.recorded.append(event)
            self.state = decider.evolve(self.state, recorded(event, len(self.recorded), service="roster"))


def given(*commands: Command) -> Person:
    person = Person()
    for command in commands:
        person.tell(command)
    return person


def enrolled(person: Person) -> bool:
    """As a reader sees it: told so last, by an enrollment that counts."""
    return person.state.enrolled and person.state.basis is not None


# --- Enrolling


def test_the_first_enrollment_is_recorded_with_its_basis() -> None:
    """Without an entry time the wait counts from when it was received."""
    assert given().tell(enroll(school="Mundy's Mill Middle", grade="07")) == [
        StudentEnrolled(
            enrollment_id="e1",
            identity=identity(),
            school="Mundy's Mill Middle",
            grade="07",
            received_at=NOON,
            basis=NOON,
            baseline=False,
            current=True,
        )
    ]


@pytest.mark.parametrize(
    ("entered_hours_ago", "counts"),
    [
        pytest.param(0, "entered", id="now"),
        pytest.param(25, "entered", id="yesterday"),
        pytest.param(720, "entered", id="as far back as is believed"),
        pytest.param(720.001, "received", id="further back: a start date is no entry time"),
        pytest.param(-0.001, "received", id="in the future"),
    ],
)
def test_the_entry_time_counts_where_it_is_believed(entered_hours_ago: float, counts: str) -> None:
    entered_at = at(-entered_hours_ago)
    [event] = given().tell(enroll(entered_at=entered_at))
    assert isinstance(event, StudentEnrolled)
    assert event.entered_at == entered_at
    assert event.basis == (entered_at if counts == "entered" else NOON)


def test_the_same_enrollment_again_changes_nothing() -> None:
    person = given(enroll(0))
    assert person.tell(enroll(0)) == []
    assert person.tell(enroll(5)) == []


def test_the_same_enrollment_can_turn_out_to_count_from_earlier() -> None:
    person = given(enroll(0))
    [event] = person.tell(enroll(1, entered_at=at(-30)))
    assert isinstance(event, StudentEnrolled)
    assert event.basis == at(-30)
    assert person.state.basis == at(-30)


def test_the_same_enrollment_never_counts_from_later() -> None:
    person = given(enroll(0, entered_at=at(-30)))
    assert person.tell(enroll(1, entered_at=at(-2))) == []
    assert person.state.basis == at(-30)


def test_a_second_enrollment_is_recorded_and_the_earliest_counts() -> None:
    person = given(enroll(0, "e1"))
    [event] = person.tell(enroll(48, "e2", school="Elsewhere Elementary"))
    assert isinstance(event, StudentEnrolled)
    assert event.current
    assert person.state.basis == NOON
    assert person.state.school == "Elsewhere Elementary"


def test_an_older_enrollment_counts_for_the_basis_and_changes_nothing_else() -> None:
    person = given(enroll(0, "e2", first_name="Marianne"))
    [event] = person.tell(enroll(-48, "e1", first_name="Mary-Ann"))
    assert isinstance(event, StudentEnrolled)
    assert not event.current
    assert person.state.identity == identity(first_name="Marianne")
    assert person.state.basis == at(-48)


def test_an_older_enrollment_still_tells_what_no_newer_statement_spoke_of() -> None:
    person = given(enroll(0, "e2"))
    events = person.tell(enroll(-48, "e1", school="Mundy's Mill Middle"))
    assert [type(e) for e in events] == [StudentEnrolled, PlacementChanged]
    assert person.state.school == "Mundy's Mill Middle"


def test_a_baseline_enrollment_stays_one_when_it_is_published_again() -> None:
    person = given(enroll(0, baseline=True))
    assert person.tell(enroll(1)) == []
    assert person.state.baseline


def test_an_enrollment_can_become_a_baseline() -> None:
    """Even by the very same event: an operator takes over pupils who were published already."""
    person = given(enroll(0))
    [event] = person.tell(enroll(0, baseline=True))
    assert isinstance(event, StudentEnrolled)
    assert event.baseline


def test_a_source_that_invents_enrollments_is_stopped() -> None:
    person = given(*(enroll(n, f"e{n}") for n in range(decider.MAX_ENROLLMENTS)))
    with pytest.raises(Rejected, match="enrollments_too_many"):
        person.tell(enroll(1000, "one more"))
    with pytest.raises(Rejected, match="enrollments_too_many"):
        person.tell(void(1000, "one more"))
    assert person.tell(void(1000, "e7")) == [EnrollmentVoided(enrollment_id="e7")]


# --- Correcting


def test_a_name_is_corrected() -> None:
    person = given(enroll(0))
    assert person.tell(correct(1, first_name="Marianne")) == [
        NameCorrected(identity=identity(first_name="Marianne"))
    ]


def test_a_number_is_changed_and_the_person_stays() -> None:
    person = given(enroll(0))
    assert person.tell(correct(1, number="0999999")) == [NumberChanged(identity=identity(number="0999999"))]


def test_name_and_number_at_once_are_two_facts() -> None:
    events = given(enroll(0)).tell(correct(1, number="0999999", last_name="Cruz"))
    after = identity(number="0999999", last_name="Cruz")
    assert events == [NameCorrected(identity=after), NumberChanged(identity=after)]


def test_another_school_keeps_the_grade() -> None:
    person = given(enroll(0, school="A", grade="07"))
    assert person.tell(correct(1, school="B")) == [PlacementChanged(school="B", grade="07")]


def test_a_correction_to_what_is_already_known_changes_nothing() -> None:
    assert given(enroll(0)).tell(correct(1, first_name="Mary-Ann")) == []


def test_an_older_correction_changes_nothing() -> None:
    person = given(enroll(0), correct(2, first_name="Marianne"))
    assert person.tell(correct(1, first_name="Mary Ann")) == []


def test_a_confirmation_that_recorded_nothing_still_outranks_what_is_older() -> None:
    person = given(enroll(0), correct(2, first_name="Mary-Ann"))
    assert person.tell(correct(1, first_name="Wrong")) == []


def test_at_the_same_moment_the_greater_event_id_counts() -> None:
    b = CorrectPerson(mark=Mark(at(1), "b"), source_id="p1", first_name="Bea")
    a = CorrectPerson(mark=Mark(at(1), "a"), source_id="p1", first_name="Ana")
    for order in ((a, b), (b, a)):
        person = given(enroll(0), *order)
        assert person.state.identity == identity(first_name="Bea")


def test_a_restated_enrollment_corrects_as_well() -> None:
    person = given(enroll(0))
    assert person.tell(enroll(1, last_name="Cruz")) == [NameCorrected(identity=identity(last_name="Cruz"))]


def test_part_of_a_person_nobody_enrolled_is_refused() -> None:
    for command in (correct(1, first_name="Mary-Ann"), correct(1, school="A")):
        with pytest.raises(Rejected, match="person_unknown"):
            given().tell(command)
        with pytest.raises(Rejected, match="person_unknown"):
            given(withdraw(0)).tell(command)


def test_a_complete_correction_may_come_before_the_enrollment() -> None:
    person = given(correct(1, number="0123456", last_name="Cruz", first_name="Mary-Ann"))
    [event] = person.tell(enroll(0))
    assert isinstance(event, StudentEnrolled)
    assert event.current
    assert event.identity == identity(last_name="Cruz")


# --- Leaving, and coming back


def test_a_pupil_is_withdrawn() -> None:
    person = given(enroll(0))
    assert person.tell(withdraw(1, "moved")) == [StudentWithdrawn(withdrawn_at=at(1), reason="moved")]
    assert not enrolled(person)


def test_withdrawn_twice_is_withdrawn_once() -> None:
    person = given(enroll(0), withdraw(1))
    later = WithdrawPerson(mark=mark(2), source_id="p1", withdrawn_at=at(1))
    assert person.tell(later) == []


def test_a_withdrawal_older_than_the_enrollment_is_history() -> None:
    person = given(enroll(2))
    assert person.tell(withdraw(1)) == []
    assert enrolled(person)


def test_a_withdrawn_pupil_returns() -> None:
    person = given(enroll(0, "e1"), withdraw(1))
    [event] = person.tell(enroll(2, "e2"))
    assert isinstance(event, StudentEnrolled)
    assert event.current
    assert enrolled(person)
    assert person.state.basis == NOON


def test_a_pupil_returns_under_the_same_enrollment() -> None:
    person = given(enroll(0), withdraw(1))
    [event] = person.tell(enroll(2))
    assert isinstance(event, StudentEnrolled)
    assert event.current
    assert event.basis == NOON


def test_an_enrollment_from_before_the_withdrawal_does_not_bring_back() -> None:
    person = given(enroll(0, "e1"), withdraw(2))
    [event] = person.tell(enroll(1, "e2"))
    assert isinstance(event, StudentEnrolled)
    assert not event.current
    assert not enrolled(person)


def test_withdrawn_before_enrolled_is_told_again_after_the_enrollment() -> None:
    """So that a reader may pass over what comes before the first enrollment."""
    person = given(withdraw(2, "moved"))
    first, second = person.tell(enroll(1))
    assert isinstance(first, StudentEnrolled)
    assert second == StudentWithdrawn(withdrawn_at=at(2), reason="moved")


def test_a_withdrawal_of_another_district_era_does_not_stop_a_later_enrollment() -> None:
    """A transfer may deliver the withdrawal before the enrollment."""
    person = given(withdraw(0))
    [event] = person.tell(enroll(1))
    assert isinstance(event, StudentEnrolled)
    assert enrolled(person)


# --- Voiding


def test_a_voided_enrollment_no_longer_counts() -> None:
    person = given(enroll(0, "e1"), enroll(5, "e2"))
    assert person.tell(void(6, "e1")) == [EnrollmentVoided(enrollment_id="e1")]
    assert person.state.basis == at(5)


def test_voided_twice_is_voided_once() -> None:
    assert given(enroll(0), void(1)).tell(void(2)) == []


def test_a_void_may_come_before_its_enrollment() -> None:
    person = given(void(1))
    events = person.tell(enroll(0))
    assert [type(e) for e in events] == [StudentEnrolled, EnrollmentVoided]
    assert person.state.basis is None
    assert not enrolled(person)


def test_an_enrollment_of_a_known_person_that_was_voided_early_is_not_told() -> None:
    person = given(enroll(0, "e1"), void(1, "e2"))
    assert person.tell(enroll(0.5, "e2")) == []


def test_voiding_the_return_withdraws_again() -> None:
    person = given(enroll(0, "e1"), withdraw(1, "moved"), enroll(2, "e2"))
    assert person.tell(void(3, "e2")) == [
        EnrollmentVoided(enrollment_id="e2"),
        StudentWithdrawn(withdrawn_at=at(1), reason="moved"),
    ]


def test_an_enrollment_after_everything_was_voided_is_current() -> None:
    person = given(enroll(5, "e2"), void(6, "e2"))
    [event] = person.tell(enroll(0, "e1"))
    assert isinstance(event, StudentEnrolled)
    assert event.current
    assert enrolled(person)


# --- Exports


def test_who_is_no_longer_in_the_export_is_withdrawn_as_of_its_moment() -> None:
    person = given(named(0))
    assert person.tell(missing(24)) == [StudentWithdrawn(withdrawn_at=at(24), reason="absent")]
    assert not enrolled(person)


def test_who_is_missing_again_was_withdrawn_already() -> None:
    for reason in ("absent", "tobedeleted"):
        assert given(named(0), missing(24, reason)).tell(missing(48, reason)) == []
    assert given(enroll(0), withdraw(1, "moved")).tell(missing(24, "disabled")) == []


def test_an_export_takes_nobody_away_whom_no_export_has_named() -> None:
    """The district may publish some of its pupils another way."""
    assert given(enroll(0)).tell(missing(24)) == []
    assert given().tell(missing(24)) == []


def test_what_an_export_says_of_a_pupil_counts_however_the_pupil_came() -> None:
    person = given(enroll(0))
    assert person.tell(missing(24, "disabled")) == [StudentWithdrawn(withdrawn_at=at(24), reason="disabled")]


def test_who_was_enrolled_after_the_export_was_made_is_not_missing() -> None:
    person = given(named(0), enroll(25))
    assert person.tell(missing(24)) == []
    assert enrolled(person)


def test_an_older_export_takes_nobody_away_whom_a_newer_one_has_named() -> None:
    assert given(named(24)).tell(missing(0)) == []


def test_who_is_in_the_export_again_returns_with_the_old_basis() -> None:
    person = given(named(0), missing(24))
    [event] = person.tell(named(48))
    assert isinstance(event, StudentEnrolled)
    assert (event.current, event.basis) == (True, NOON)
    assert enrolled(person)


def test_a_void_of_the_exports_enrollment_takes_out_until_the_next_export() -> None:
    person = given(named(0))
    assert person.tell(void(12, decider.EXPORT)) == [StudentWithdrawn(withdrawn_at=at(12), reason="voided")]
    assert person.tell(void(12, decider.EXPORT)) == []
    [event] = person.tell(named(24))
    assert isinstance(event, StudentEnrolled)
    assert (event.current, event.basis) == (True, NOON)
    assert enrolled(person)
    assert person.tell(named(48)) == []


def test_a_void_that_is_older_than_the_last_export_is_no_news() -> None:
    person = given(named(0), named(24))
    assert person.tell(void(12, decider.EXPORT)) == []
    assert enrolled(person)


def test_a_void_of_the_exports_enrollment_leaves_the_others_alone() -> None:
    person = given(enroll(0), named(1), void(2, decider.EXPORT))
    assert enrolled(person)
    person.tell(void(3))
    assert not enrolled(person)
    assert person.recorded[-1] == StudentWithdrawn(withdrawn_at=at(2), reason="voided")


def test_an_export_that_comes_after_a_newer_void_brings_nobody_in() -> None:
    person = given(void(12, decider.EXPORT), named(0))
    assert [type(event) for event in person.recorded] == [StudentEnrolled, StudentWithdrawn]
    assert not enrolled(person)
    person.tell(named(24))
    assert enrolled(person)


def test_a_statement_older_than_the_export_that_missed_the_pupil_brings_nobody_back() -> None:
    """Also when the pupil had left before, and the export only confirmed it."""
    for left in ([], [withdraw(6)]):
        person = given(named(0), *left, missing(24))
        person.tell(enroll(12, "e2"))
        assert not enrolled(person)


@pytest.mark.parametrize(
    ("affected", "enrolled", "waits"),
    [(0, 0, False), (5, 100, False), (6, 100, True), (200, 50_000, False), (201, 50_000, True), (1, 1, True)],
)
def test_an_import_that_takes_many_away_waits_for_a_second_person(
    affected: int, enrolled: int, waits: bool
) -> None:
    assert decider.needs_second_person(affected, enrolled, POLICY) == waits


# --- Staff


def employ(hours: float = 0, employment_id: str = "e1", **said: Any) -> EnrollPerson:
    return enroll(hours, employment_id, **({"kind": "staff", "number": "e12345"} | said))


def leave(hours: float, reason: str | None = None) -> WithdrawPerson:
    return WithdrawPerson(
        mark=mark(hours), source_id="p1", kind="staff", withdrawn_at=at(hours), reason=reason
    )


def test_who_is_employed_is_recorded_as_staff() -> None:
    (told,) = Person().tell(employ(school="North", role="teacher", entered_at=at(-2)))
    assert told == StaffEmployed(
        enrollment_id="e1",
        identity=identity(number="e12345"),
        school="North",
        role="teacher",
        entered_at=at(-2),
        received_at=at(0),
        basis=at(-2),
        baseline=False,
        current=True,
    )


def test_who_leaves_comes_back_with_another_employment() -> None:
    person = given(employ(0, "e1"), leave(1, "retired"))
    assert person.recorded[-1] == StaffLeft(left_at=at(1), reason="retired")
    assert not enrolled(person)
    person.tell(employ(2, "e2"))
    assert enrolled(person)
    assert person.state.basis == at(0)


def test_a_correction_of_staff_says_so() -> None:
    person = given(employ(0, role="aide"))
    said = {"kind": "staff", "number": "e54321", "last_name": "Cruz", "role": "teacher"}
    assert person.tell(correct(1, **said)) == [
        NameCorrected(identity=identity(number="e54321", last_name="Cruz"), kind="staff"),
        NumberChanged(identity=identity(number="e54321", last_name="Cruz"), kind="staff"),
        PlacementChanged(role="teacher"),
    ]


def test_an_employment_that_never_was_counts_for_nothing() -> None:
    person = given(employ(0, "e1"), leave(1), employ(2, "e2"))
    assert person.tell(void(3, "e2")) == [EnrollmentVoided(enrollment_id="e2"), StaffLeft(left_at=at(1))]


@pytest.mark.parametrize(
    "before",
    [[employ(0)], [leave(0)], [correct(0, kind="staff", number="e1", last_name="A", first_name="B")]],
    ids=["employed", "left", "corrected"],
)
@pytest.mark.parametrize(
    "said", [enroll(1), correct(1, first_name="Ann"), withdraw(1)], ids=lambda c: type(c).__name__
)
def test_whoever_was_spoken_of_as_staff_is_no_student(before: list[Command], said: Command) -> None:
    person = given(*before)
    with pytest.raises(Rejected) as refused:
        person.tell(said)
    assert (refused.value.reason, refused.value.details) == ("kind_differs", {"known_as": "staff"})


@pytest.mark.parametrize(
    "said", [employ(1), correct(1, kind="staff", role="aide"), leave(1)], ids=lambda c: type(c).__name__
)
def test_a_student_does_not_become_staff(said: Command) -> None:
    person = given(enroll(0))
    with pytest.raises(Rejected) as refused:
        person.tell(said)
    assert (refused.value.reason, refused.value.details) == ("kind_differs", {"known_as": "student"})


# --- Classes


def assign(hours: float, class_id: str = "c1", kind: Kind = "staff", **said: Any) -> AssignClass:
    role = "teacher" if kind == "staff" else "student"
    assignment = Assignment(class_id=class_id, role=role, **said)
    return AssignClass(mark=mark(hours), source_id="p1", kind=kind, assignment=assignment)


def unassign(hours: float, class_id: str = "c1") -> UnassignClass:
    return UnassignClass(mark=mark(hours), source_id="p1", class_id=class_id)


def test_a_class_is_assigned_changed_and_taken_back() -> None:
    person = given(employ(0))
    algebra = Assignment(class_id="c1", role="teacher", title="Algebra")
    assert person.tell(assign(1, title="Algebra")) == [ClassesChanged(kind="staff", assigned=[algebra])]
    assert person.tell(assign(2, title="Algebra")) == []
    assert person.tell(assign(3, title="Algebra I")) == [
        ClassesChanged(kind="staff", assigned=[Assignment(class_id="c1", role="teacher", title="Algebra I")])
    ]
    assert person.tell(unassign(4)) == [ClassesChanged(kind="staff", unassigned=["c1"])]
    assert person.tell(unassign(5)) == []


def test_an_older_word_about_a_class_changes_nothing() -> None:
    person = given(employ(0), assign(3), unassign(5, "c2"))
    assert person.tell(unassign(2)) == []
    assert person.tell(assign(4, "c2")) == []
    assert person.tell(assign(6, "c2")) != []


def test_classes_from_before_the_first_employment_are_told_again_after_it() -> None:
    person = given(*(assign(n, f"c{n:02}") for n in range(20)))
    told = person.tell(employ(30))
    assert [type(event) for event in told] == [StaffEmployed, ClassesChanged, ClassesChanged]
    again = [a.class_id for event in told if isinstance(event, ClassesChanged) for a in event.assigned]
    assert again == [f"c{n:02}" for n in range(20)]


def test_a_pupil_teaches_no_class() -> None:
    person = given(enroll(0))
    with pytest.raises(Rejected) as refused:
        person.tell(assign(1))
    assert refused.value.reason == "kind_differs"
    assert person.tell(assign(1, kind="student")) != []


def test_the_classes_of_a_person_are_bounded_and_so_are_their_marks() -> None:
    person = given(employ(0), *(assign(n, f"c{n}") for n in range(1, decider.MAX_CLASSES + 1)))
    with pytest.raises(Rejected) as refused:
        person.tell(assign(200, "one more"))
    assert (refused.value.reason, refused.value.details) == (
        "classes_too_many",
        {"limit": decider.MAX_CLASSES},
    )
    for n in range(1000, 1000 + decider.CLASS_MARKS + 50):
        person.tell(unassign(n, f"c{n}"))
    assert len(person.said.classes) == decider.CLASS_MARKS


DAY = NOON.date()


@pytest.mark.parametrize(
    ("begins", "ends", "in_force"),
    [(None, None, True), (0, 0, True), (-1, 1, True), (1, None, False), (None, -1, False), (1, -1, False)],
)
def test_an_assignment_holds_from_its_first_day_to_its_last(
    begins: int | None, ends: int | None, in_force: bool
) -> None:
    days = {"begins_on": begins, "ends_on": ends}
    moved = {name: n if n is None else DAY + timedelta(days=n) for name, n in days.items()}
    assert decider.holds(Assignment(class_id="c1", role="student", **moved), DAY) is in_force


def test_a_teacher_teaches_the_pupils_of_the_class_and_nobody_else() -> None:
    def of(class_id: str, role: Any, **days: Any) -> Assignment:
        return Assignment(class_id=class_id, role=role, **days)

    over = {"ends_on": DAY - timedelta(days=1)}
    teacher = [of("c1", "teacher"), of("c2", "teacher", **over), of("c3", "teacher")]
    assert decider.taught(teacher, [of("c1", "student")], DAY) == ["c1"]
    assert decider.taught(teacher, [of("c3", "student"), of("c1", "student")], DAY) == ["c1", "c3"]
    assert decider.taught(teacher, [of("c9", "student")], DAY) == []
    assert decider.taught(teacher, [of("c2", "student")], DAY) == []
    assert decider.taught(teacher, [of("c1", "student", **over)], DAY) == []
    assert decider.taught(teacher, [of("c1", "teacher")], DAY) == []
    assert decider.taught([of("c1", "student")], [of("c1", "student")], DAY) == []


# --- Classes in exports


def of_export(*class_ids: str, title: str | None = None) -> tuple[Assignment, ...]:
    return tuple(Assignment(class_id=c, role="student", title=title, exported=True) for c in class_ids)


def in_classes(hours: float, *class_ids: str, title: str | None = None) -> EnrollPerson:
    """The export of that hour has the person, in all of these classes and no others."""
    return named(hours, classes=ExportedClasses(assigned=of_export(*class_ids, title=title), whole=True))


def moves(hours: float, into: Sequence[str] = (), out_of: Sequence[str] = ()) -> CorrectPerson:
    """A delta export says only what has changed."""
    return correct(hours, classes=ExportedClasses(assigned=of_export(*into), unassigned=tuple(out_of)))


def test_a_new_person_comes_with_classes() -> None:
    told = Person().tell(in_classes(0, "c1", "c2"))
    assert [type(event) for event in told] == [StudentEnrolled, ClassesChanged]
    assert told[1] == ClassesChanged(kind="student", assigned=[*of_export("c1", "c2")])


def test_an_export_that_says_the_same_of_classes_changes_nothing() -> None:
    assert given(in_classes(0, "c1", "c2")).tell(in_classes(1, "c1", "c2")) == []


def test_what_changes_of_a_persons_classes_is_one_event() -> None:
    person = given(in_classes(0, "c1", "c2", "c3"))
    [told] = person.tell(in_classes(1, "c2", "c4"))
    assert told == ClassesChanged(kind="student", assigned=[*of_export("c4")], unassigned=["c1", "c3"])
    [told] = person.tell(in_classes(2, "c2", "c4", title="Algebra"))
    assert told == ClassesChanged(kind="student", assigned=[*of_export("c2", "c4", title="Algebra")])


def test_an_export_takes_away_no_class_that_no_export_has_named() -> None:
    person = given(in_classes(0), assign(1, "own", kind="student"))
    assert person.tell(in_classes(2)) == []
    [told] = person.tell(in_classes(3, "own"))
    assert told == ClassesChanged(kind="student", assigned=[*of_export("own")])
    assert person.tell(in_classes(4)) == [ClassesChanged(kind="student", unassigned=["own"])]


def test_what_was_said_of_a_class_after_the_export_was_made_is_newer() -> None:
    person = given(in_classes(0, "c1", "c2"), unassign(5, "c1"), assign(5, "c3", kind="student"))
    assert person.tell(in_classes(4, "c1", "c2", "c3")) == [
        ClassesChanged(
            kind="student", assigned=[*of_export("c3")]
        )  # may be taken away by exports from now on
    ]
    assert person.tell(unassign(3, "c2")) == []
    assert person.tell(in_classes(6)) == [ClassesChanged(kind="student", unassigned=["c2", "c3"])]


def test_an_export_that_says_nothing_of_classes_leaves_them() -> None:
    person = given(in_classes(0, "c1"))
    assert person.tell(named(1)) == []
    assert person.tell(missing(2)) != []
    person.tell(named(3))
    assert list(person.state.classes) == ["c1"]


def test_a_delta_changes_what_it_names() -> None:
    person = given(in_classes(0, "c1", "c2"))
    assert person.tell(moves(1, into=["c3"], out_of=["c1", "c9"])) == [
        ClassesChanged(kind="student", assigned=[*of_export("c3")], unassigned=["c1"])
    ]
    assert person.tell(in_classes(2, "c2")) == [ClassesChanged(kind="student", unassigned=["c3"])]


def test_more_classes_than_anybody_has_are_refused() -> None:
    many = [f"c{n}" for n in range(decider.MAX_CLASSES)]
    person = given(in_classes(0, *many))
    with pytest.raises(Rejected) as refused:
        person.tell(in_classes(1, *many, "one more"))
    assert refused.value.reason == "classes_too_many"
    told = person.tell(in_classes(2, *(f"d{n}" for n in range(decider.MAX_CLASSES))))
    assert len(told) == -(-decider.MAX_CLASSES // decider.CLASSES_TOLD)
    assert len(person.state.classes) == decider.MAX_CLASSES


# --- Whatever the order: every delivery of the same statements ends in the same person

fields = {
    "number": st.sampled_from(["0123456", "0999999"]),
    "last_name": st.sampled_from(["Cruz", "De La Cruz"]),
    "first_name": st.sampled_from(["Mary-Ann", "Marianne"]),
}
placement = {
    kind: {n: st.sampled_from([None, "A", "B"]) for n in names} for kind, names in decider.PLACEMENT.items()
}
ids = st.sampled_from(["e1", "e2", "e3"])
said_of: dict[type[Command], dict[str, Any]] = {
    EnrollPerson: {
        **fields,
        "enrollment_id": ids,
        "baseline": st.booleans(),
        "entered_at": st.none() | st.integers(-800, 10).map(at),
        "received_at": st.integers(0, 8).map(at),
    },
    CorrectPerson: {n: st.none() | s for n, s in fields.items()},
    WithdrawPerson: {"withdrawn_at": st.integers(-5, 8).map(at), "reason": st.sampled_from([None, "moved"])},
    VoidEnrollment: {"enrollment_id": ids},
    UnassignClass: {"class_id": st.sampled_from(["c1", "c2"])},
}


@st.composite
def assignments(draw: st.DrawFn, kind: Kind) -> Assignment:
    class_id, title = draw(st.sampled_from(["c1", "c2"])), draw(st.sampled_from([None, "Algebra"]))
    return Assignment(class_id=class_id, role="teacher" if kind == "staff" else "student", title=title)


@st.composite
def statements(draw: st.DrawFn, kinds: Sequence[Kind] = ("student", "staff")) -> list[Command]:
    """What a district said of one person, some of it at the same moment; every statement has an id of its own."""
    told: list[Command] = []
    kind = draw(st.sampled_from(kinds))
    for n in range(draw(st.integers(1, 8))):
        spoken = draw(
            st.sampled_from(
                [
                    EnrollPerson,
                    EnrollPerson,
                    CorrectPerson,
                    WithdrawPerson,
                    VoidEnrollment,
                    AssignClass,
                    UnassignClass,
                ]
            )
        )
        said = {name: draw(values) for name, values in said_of.get(spoken, {}).items()}
        if spoken not in (VoidEnrollment, UnassignClass):
            said["kind"] = kind
        if spoken is AssignClass:
            said["assignment"] = draw(assignments(kind))
        if spoken in (EnrollPerson, CorrectPerson):
            said |= {name: draw(values) for name, values in placement[kind].items()}
        told.append(spoken(mark=Mark(at(draw(st.integers(0, 4))), str(n)), source_id="p1", **said))
    return told


class_ids = st.lists(st.sampled_from(["c1", "c2"]), unique=True)


@st.composite
def exported_classes(draw: st.DrawFn) -> ExportedClasses | None:
    """What an export says of somebody's classes, if anything: all of them, or what has changed."""
    named = draw(class_ids)
    assigned = of_export(*sorted(named), title=draw(st.sampled_from([None, "Algebra"])))
    if draw(st.booleans()):
        return ExportedClasses(assigned=assigned, whole=True)
    unassigned = tuple(key for key in draw(class_ids) if key not in named)
    return draw(st.sampled_from([None, ExportedClasses(assigned=assigned, unassigned=unassigned)]))


@st.composite
def exports(draw: st.DrawFn) -> list[Command]:
    """What the exports of some days say of one person. Between the statements of other sources, at the same moments."""
    told: list[Command] = []
    for day in range(draw(st.integers(1, 4))):
        stands = Mark(at(day), f"import:{day}")
        if draw(st.booleans()):
            said = {name: draw(values) for name, values in (fields | placement["student"]).items()}
            said["classes"] = draw(exported_classes())
            told.append(
                EnrollPerson(
                    mark=stands,
                    source_id="p1",
                    enrollment_id=decider.EXPORT,
                    received_at=at(day),
                    baseline=draw(st.booleans()),
                    **said,
                )
            )
        else:
            reason = draw(st.sampled_from([decider.ABSENT, "disabled"]))
            told.append(MissInExport(mark=stands, source_id="p1", reason=reason))
    return told


def deliver(commands: Sequence[Command]) -> Person:
    """What is refused because nobody enrolled the person yet waits as a dead letter, and is tried again."""
    person, parked = Person(), list[Command]()
    for command in commands:
        try:
            person.tell(command)
        except Rejected:
            parked.append(command)
    for command in parked:
        with contextlib.suppress(Rejected):
            person.tell(command)
    return person


def read(events: Sequence[Event]) -> dict[str, Any]:
    """What a simple reader makes of the topic: passes over all that comes before the first enrollment."""
    row: dict[str, Any] = {}
    for event in events:
        match event:
            case StudentEnrolled() | StaffEmployed():
                enrollments = row.setdefault("enrollments", {})
                enrollments[event.enrollment_id] = (event.basis, event.baseline)
                if event.current:
                    placed = {name: getattr(event, name) for name in decider.PLACEMENT[event.kind]}
                    row |= {"kind": event.kind, "identity": event.identity, **placed}
                    row["status"] = "enrolled"
            case _ if not row:
                continue
            case NameCorrected() | NumberChanged():
                assert event.kind == row["kind"]
                row["identity"] = event.identity
            case PlacementChanged():
                row |= {name: getattr(event, name) for name in decider.PLACEMENT[row["kind"]]}
            case StudentWithdrawn(withdrawn_at=left, reason=reason) | StaffLeft(left_at=left, reason=reason):
                assert event.kind == row["kind"]
                row["status"] = (left, reason)
            case ClassesChanged():
                assert event.kind == row["kind"]
                classes = row.setdefault("classes", {}) | {a.class_id: a for a in event.assigned}
                row["classes"] = {k: a for k, a in classes.items() if k not in event.unassigned}
            case EnrollmentVoided():
                row["enrollments"].pop(event.enrollment_id, None)
    if row:
        row.setdefault("classes", {})
    if row and not row["enrollments"] and row["status"] == "enrolled":
        row["status"] = "voided"
    return row


def expected(commands: Sequence[Command]) -> dict[str, Any]:
    """The same, straight from the rules: no order of arrival appears in it."""
    enrolls = [c for c in commands if isinstance(c, EnrollPerson)]
    if not enrolls:
        return {}
    voids = [c for c in commands if isinstance(c, VoidEnrollment)]
    voided = {c.enrollment_id for c in voids} - {decider.EXPORT}
    counting = [c for c in enrolls if c.enrollment_id not in voided]
    until = max((c.mark for c in voids if c.enrollment_id == decider.EXPORT), default=None)
    last = max((c for c in commands if isinstance(c, WithdrawPerson)), key=lambda c: c.mark, default=None)
    stands = [c for c in counting if until is None or c.enrollment_id != decider.EXPORT or c.mark > until]
    newest = max((c.mark for c in stands), default=None)
    status: Any = "voided"
    if last and (newest is None or newest < last.mark):
        status = (last.withdrawn_at, last.reason)
    elif newest:
        status = "enrolled"
    said: dict[str, Any] = {}
    kind = enrolls[0].kind
    for c in sorted((c for c in commands if isinstance(c, CorrectPerson)), key=lambda c: c.mark):
        told = {name: getattr(c, name) for name in decider.IDENTITY + decider.PLACEMENT[kind]}
        said |= {name: value for name, value in told.items() if value is not None}
    return {
        "enrollments": {
            key: (
                min(decider.basis_of(c.entered_at, c.received_at, POLICY) for c in group),
                any(c.baseline for c in group),
            )
            for key in {c.enrollment_id for c in counting}
            if (group := [c for c in counting if c.enrollment_id == key])
        },
        "identity": Identity("p1", *(said[name] for name in decider.IDENTITY)),
        "kind": kind,
        **{name: said.get(name) for name in decider.PLACEMENT[kind]},
        "status": status,
        "classes": expected_classes(commands),
    }


def expected_classes(commands: Sequence[Command]) -> dict[str, Assignment]:
    told = [c for c in commands if isinstance(c, CorrectPerson) and c.classes]
    exported = {a.class_id for c in told if c.classes for a in c.classes.assigned}
    classes: dict[str, Assignment] = {}
    for c in sorted(commands, key=lambda c: c.mark):
        assigned: Sequence[Assignment] = ()
        gone: Sequence[str] = ()
        if isinstance(c, CorrectPerson) and c.classes:
            assigned, gone = c.classes.assigned, sorted(exported) if c.classes.whole else c.classes.unassigned
        elif isinstance(c, AssignClass):
            assigned = [c.assignment]
        elif isinstance(c, UnassignClass):
            gone = [c.class_id]
        classes = {key: a for key, a in classes.items() if key not in gone} | {
            a.class_id: a for a in assigned
        }
    return {key: msgspec.structs.replace(a, exported=key in exported) for key, a in classes.items()}


@examples_of(statements(), st.data())
def test_any_order_of_delivery_ends_in_what_the_rules_say(
    commands: list[Command], data: st.DataObject
) -> None:
    person = deliver(data.draw(st.permutations(commands)))
    assert read(person.recorded) == expected(commands)


@examples_of(exports(), statements(kinds=["student"]), st.data())
def test_any_order_of_exports_and_other_statements_ends_in_the_same_person(
    exported: list[Command], commands: list[Command], data: st.DataObject
) -> None:
    """A district's exports come in the order of their moments (an older one is refused), all else in any order.

    When and why who left is told by whoever said it first, so of that only the fact is compared.
    """
    for time in data.draw(st.lists(st.integers(0, 4), max_size=2)):
        mark = Mark(at(time), f"void {len(commands)}")
        commands.append(VoidEnrollment(mark=mark, source_id="p1", enrollment_id=decider.EXPORT))
    order = data.draw(st.permutations(range(len(exported) + len(commands))))
    coming = iter(exported)
    mixed = [next(coming) if n < len(exported) else commands[n - len(exported)] for n in order]
    assert whether_left(read(deliver(mixed).recorded)) == whether_left(
        expected([*as_said(exported), *commands])
    )


def as_said(exported: Sequence[Command]) -> list[Command]:
    """Exports in the words of the other statements; who is absent before any export named them was not spoken of."""
    said: list[Command] = []
    named = False
    for command in exported:
        if isinstance(command, EnrollPerson):
            named = True
            said.append(command)
        elif isinstance(command, MissInExport) and (named or command.reason != decider.ABSENT):
            at = command.mark.time
            said.append(
                WithdrawPerson(mark=command.mark, source_id="p1", withdrawn_at=at, reason=command.reason)
            )
    return said


def whether_left(row: dict[str, Any]) -> dict[str, Any]:
    left = isinstance(row.get("status"), tuple) or row.get("status") == "voided"
    return row | {"status": "left"} if left else row


@examples_of(exports(), st.data())
def test_an_export_that_is_imported_again_appends_nothing(
    exported: list[Command], data: st.DataObject
) -> None:
    person = deliver(exported)
    for command in data.draw(st.permutations(exported)):
        assert person.tell(command) == []


@examples_of(statements(), st.data())
def test_repeats_append_nothing(commands: list[Command], data: st.DataObject) -> None:
    person = deliver(commands)
    before = len(person.recorded)
    for command in data.draw(st.permutations(commands)):
        with contextlib.suppress(Rejected):  # a correction of nobody is refused again
            assert person.tell(command) == []
    assert len(person.recorded) == before


@examples_of(statements())
def test_what_was_heard_survives_being_stored(commands: list[Command]) -> None:
    said = deliver(commands).said
    assert msgspec.json.decode(msgspec.json.encode(said), type=Said) == said
