"""What the help desk's read model makes of a person's history."""

from typing import Any

import msgspec
from hypothesis import given as examples_of
from hypothesis import strategies as st

from services.roster.decider import Command
from services.roster.events import StaffEmployed, StudentEnrolled
from services.roster.projections import PERSON, Person
from shared.messages import Event
from shared.testing import history
from tests.roster.given import at
from tests.roster.test_decider import (
    assign,
    correct,
    deliver,
    employ,
    enroll,
    enrolled,
    given,
    leave,
    statements,
    unassign,
    void,
    withdraw,
)


def row_of(events: list[Event]) -> Person | None:
    return PERSON.fold(None, history(*events, service="roster"))


def row(*commands: Command) -> Person:
    found = row_of(given(*commands).recorded)
    assert found is not None
    return found


def test_an_enrolled_pupil_is_shown_with_the_wait() -> None:
    person = row(enroll(0, entered_at=at(-30), school="A", grade="07"))
    assert (person.number, person.last_name, person.first_name) == ("0123456", "De La Cruz", "Mary-Ann")
    assert (person.status, person.basis, person.baseline) == ("enrolled", at(-30), False)
    assert (person.school, person.grade, person.version) == ("A", "07", 1)
    assert [(e.entered_at, e.received_at, e.voided) for e in person.enrollments] == [(at(-30), at(0), False)]


def test_corrections_change_what_they_name() -> None:
    person = row(
        enroll(0), correct(1, number="0999999"), correct(2, first_name="Marianne"), correct(3, grade="08")
    )
    assert (person.number, person.first_name, person.grade) == ("0999999", "Marianne", "08")


def test_a_withdrawn_pupil_is_shown_as_such_until_the_return() -> None:
    gone = row(enroll(0, "e1"), withdraw(1, "moved"))
    assert (gone.status, gone.withdrawn_at, gone.reason) == ("withdrawn", at(1), "moved")
    back = row(enroll(0, "e1"), withdraw(1, "moved"), enroll(2, "e2"))
    assert (back.status, back.withdrawn_at, back.reason, back.basis) == ("enrolled", None, None, at(0))


def test_a_voided_enrollment_is_shown_and_does_not_count() -> None:
    person = row(enroll(0, "e1"), enroll(5, "e2"), void(6, "e1"))
    assert person.basis == at(5)
    assert {e.enrollment_id: e.voided for e in person.enrollments} == {"e1": True, "e2": False}


def test_who_has_no_enrollment_left_is_not_enrolled() -> None:
    person = row(enroll(0), void(1))
    assert (person.status, person.basis) == ("withdrawn", None)


def test_staff_is_shown_as_such_with_the_role() -> None:
    person = row(
        employ(0, school="A", role="aide"), correct(1, kind="staff", role="teacher"), leave(2, "retired")
    )
    assert (person.kind, person.number, person.school, person.role) == ("staff", "e12345", "A", "teacher")
    assert (person.status, person.withdrawn_at, person.reason) == ("withdrawn", at(2), "retired")
    back = row(employ(0, "e1", role="aide"), leave(1), employ(2, "e2"))
    assert (back.status, back.withdrawn_at, back.role, back.basis) == ("enrolled", None, "aide", at(0))


def test_classes_are_shown_in_order_and_stay_through_a_return() -> None:
    said = [
        employ(0, "e1"),
        assign(1, "c2", title="Algebra"),
        assign(1, "c1"),
        assign(1, "c3"),
        unassign(2, "c3"),
    ]
    person = row(*said)
    assert [(a.class_id, a.role, a.title) for a in person.classes] == [
        ("c1", "teacher", None),
        ("c2", "teacher", "Algebra"),
    ]
    assert row(*said, leave(3), employ(4, "e2")).classes == person.classes


def test_nobody_is_shown_before_the_first_enrollment() -> None:
    assert row_of(given(withdraw(0), void(1)).recorded) is None


@examples_of(statements())
def test_the_read_model_agrees_with_the_rules(commands: list[Command]) -> None:
    person = deliver(commands)
    shown = row_of(person.recorded)
    if not any(isinstance(event, StudentEnrolled | StaffEmployed) for event in person.recorded):
        assert shown is None
        return
    state = person.state
    assert shown is not None
    told: dict[str, Any] = msgspec.structs.asdict(shown)
    assert told | msgspec.structs.asdict(state.identity) == told  # type: ignore[arg-type]
    assert (shown.kind, shown.school, shown.grade, shown.role) == (
        state.kind,
        state.school,
        state.grade,
        state.role,
    )
    assert {a.class_id: a for a in shown.classes} == state.classes
    assert (shown.basis, shown.baseline) == (state.basis, state.baseline)
    assert shown.status == ("enrolled" if enrolled(person) else "withdrawn")


@examples_of(statements(), st.data())
def test_the_fold_can_be_interrupted_anywhere(commands: list[Command], data: st.DataObject) -> None:
    events = history(*deliver(commands).recorded, service="roster")
    cut = data.draw(st.integers(0, len(events)))
    stored = PERSON.fold(None, events[:cut])
    read_again = None if stored is None else msgspec.convert(msgspec.to_builtins(stored), Person)
    assert PERSON.fold(read_again, events[cut:]) == PERSON.fold(None, events)
