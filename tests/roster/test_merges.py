"""Two records that are one person: given what was said of both, in whatever order, the survivor is the same."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given as examples_of
from hypothesis import settings
from hypothesis import strategies as st

from services.roster import merges
from services.roster.decider import (
    AssignClass,
    Command,
    CorrectPerson,
    EnrollPerson,
    Mark,
    Said,
    VoidEnrollment,
    WithdrawPerson,
)
from services.roster.events import Assignment, PersonsMerged, PersonsSplit, StudentEnrolled
from services.roster.handlers import _decide, _Decision, _Person
from services.roster.ingress import Statement
from shared.messages import Cause, Event, Recorded
from tests.roster.given import NOON, POLICY, at

ANN, TWIN, THIRD = UUID(int=1), UUID(int=2), UUID(int=3)


class Store:
    """Versions, and nothing else."""

    def record(
        self, district: str, stream_id: UUID, version: int, events: Any, **_: Any
    ) -> list[Recorded[Event]]:
        return [
            Recorded(
                UUID(int=n),
                type(event).__name__,
                1,
                "roster",
                district,
                stream_id,
                n,
                NOON,
                event,
                Cause.new(),
            )
            for n, event in enumerate(events, version + 1)
        ]


class District:
    """Three records, and what is told of them."""

    def __init__(self, *commands: Command) -> None:
        ids = {"ann": ANN, "twin": TWIN, "third": THIRD}
        self.persons = {name: _Person(person_id, Said(), born=True) for name, person_id in ids.items()}
        self.recorded: dict[UUID, list[Event]] = {person_id: [] for person_id in ids.values()}
        for command in commands:
            self.say(command)

    def say(self, command: Command) -> str | None:
        """Why it was refused, if it was."""
        store: Any = Store()
        decision = _Decision(store, "ccps", POLICY, Cause.new(), NOON)
        statement = Statement(
            event_id=command.mark.event_id, type="", digest=b"", received_at=NOON, command=command, cause=Cause.new()
        )  # fmt: skip
        outcome = _decide(decision, self.persons, statement)
        for recorded in decision.recorded:
            self.recorded[recorded.stream_id].append(recorded.data)
        return outcome.reason

    def facts(self, name: str = "ann") -> Any:
        """A person as everybody sees them."""
        state = self.persons[name].state
        placed = state.identity, state.school, state.grade
        return *placed, state.basis, state.baseline, state.enrolled and state.basis is not None


def mark(hours: float) -> Mark:
    return Mark(at(hours), f"event at {hours}")


def enroll(hours: float, who: str, enrollment_id: str = "", **said: Any) -> EnrollPerson:
    told = {"number": f"000000{len(who)}", "last_name": "Li", "first_name": who, "received_at": at(hours)}
    return EnrollPerson(
        mark=mark(hours), source_id=who, enrollment_id=enrollment_id or f"{who} {hours}", **(told | said)
    )


def correct(hours: float, who: str, **said: Any) -> CorrectPerson:
    return CorrectPerson(mark=mark(hours), source_id=who, **said)


def withdraw(hours: float, who: str) -> WithdrawPerson:
    return WithdrawPerson(mark=mark(hours), source_id=who, withdrawn_at=at(hours))


def void(hours: float, who: str, enrollment_id: str) -> VoidEnrollment:
    return VoidEnrollment(mark=mark(hours), source_id=who, enrollment_id=enrollment_id)


def merge(hours: float, merged: str = "twin", into: str = "ann") -> merges.MergePersons:
    return merges.MergePersons(mark=mark(hours), source_id=into, merged_source_id=merged)


def split(hours: float, merged: str = "twin", into: str = "ann") -> merges.SplitPersons:
    return merges.SplitPersons(mark=mark(hours), source_id=into, merged_source_id=merged)


def test_a_merge_is_an_event_in_both_streams_and_the_merged_is_not_enrolled_any_more() -> None:
    district = District(enroll(0, "ann"), enroll(1, "twin"), merge(2))
    merged = PersonsMerged(person_id=ANN, merged_person_id=TWIN)
    assert district.recorded[ANN][1] == merged
    assert district.recorded[TWIN][1] == merged
    assert not district.persons["twin"].state.enrolled
    identity = district.persons["ann"].state.identity
    assert identity is not None
    assert (identity.source_id, identity.number, identity.first_name) == ("ann", "0000003", "ann")


def test_the_earlier_enrollment_counts_so_nobody_waits_anew() -> None:
    district = District(enroll(50, "ann"), enroll(0, "twin", baseline=True), merge(60))
    state = district.persons["ann"].state
    assert (state.basis, state.baseline) == (NOON, True)


def test_who_came_back_under_a_second_record_is_back() -> None:
    district = District(enroll(0, "ann"), withdraw(10, "ann"), enroll(20, "twin"))
    assert not district.persons["ann"].state.enrolled
    district.say(merge(30))
    assert district.persons["ann"].state.enrolled
    told = district.recorded[ANN][-1]
    assert isinstance(told, StudentEnrolled)
    assert (told.current, told.identity.source_id) == (True, "ann")


def test_what_is_said_of_the_merged_afterwards_is_said_of_the_survivor() -> None:
    district = District(enroll(0, "ann"), enroll(1, "twin"), merge(2))
    district.say(correct(3, "twin", number="7654321"))
    district.say(correct(1.5, "twin", first_name="too old"))
    identity = district.persons["ann"].state.identity
    assert identity is not None
    assert (identity.number, identity.first_name) == ("7654321", "ann")


def test_that_the_merged_record_is_gone_says_nothing_of_the_survivor() -> None:
    """An SIS that merges closes the other record: that must lock nobody out."""
    district = District(enroll(0, "ann"), enroll(1, "twin"), merge(2), withdraw(3, "twin"))
    assert district.persons["ann"].state.enrolled


def test_the_classes_of_the_merged_count_if_they_were_said_afterwards() -> None:
    def assign(hours: float, who: str, class_id: str) -> AssignClass:
        assignment = Assignment(class_id=class_id, role="student")
        return AssignClass(mark=mark(hours), source_id=who, kind="student", assignment=assignment)

    told = [enroll(0, "twin"), assign(1, "twin", "old"), assign(3, "twin", "new"), merge(2)]
    for order in (told, [told[0], told[3], told[2], told[1]]):
        district = District(enroll(0, "ann"), *order)
        assert set(district.persons["ann"].state.classes) == {"new"}


def test_nobody_is_merged_into_somebody_unknown() -> None:
    district = District(enroll(0, "twin"))
    assert district.say(merge(1)) == "survivor_unknown"
    assert district.persons["twin"].state.enrolled
    assert district.say(enroll(2, "twin", "later")) is None


def employ(hours: float, who: str) -> EnrollPerson:
    return enroll(hours, who, kind="staff", number="e12345")


def test_a_pupil_and_a_member_of_the_staff_are_never_merged() -> None:
    """Whatever is known first: a person keeps one kind."""
    district = District(enroll(0, "ann"), employ(0, "twin"))
    before = district.facts(), district.facts("twin")
    assert district.say(merge(1)) == "kind_differs"
    assert district.say(merge(2, "ann", "twin")) == "kind_differs"
    assert (district.facts(), district.facts("twin")) == before
    assert district.say(correct(3, "ann", number="7654321")) is None

    district = District(enroll(0, "ann"))
    assert district.say(merge(1)) is None  # of whom nothing is known yet
    assert district.say(employ(2, "twin")) == "kind_differs"
    assert district.recorded[TWIN] == [PersonsMerged(person_id=ANN, merged_person_id=TWIN)]


def test_nobody_is_merged_into_themselves_by_whatever_detour() -> None:
    district = District(enroll(0, "ann"), enroll(0, "twin"), enroll(0, "third"))
    for said in (merge(1, "twin", "ann"), merge(2, "ann", "twin")):
        assert district.say(said) is None
    assert district.say(merge(3, "third", "twin")) is None
    assert district.say(merge(4, "ann", "third")) is None
    merges_told = [e for e in district.recorded[ANN] if isinstance(e, PersonsMerged)]
    assert merges_told == [
        PersonsMerged(person_id=ANN, merged_person_id=TWIN),
        PersonsMerged(person_id=ANN, merged_person_id=THIRD),
    ]
    assert district.facts("ann")[-1]
    assert district.say(split(5)) is None
    assert district.facts("twin")[-1]
    assert not district.facts("third")[-1]
    assert district.say(merge(6, "ann", "twin")) is None
    assert [district.facts(who)[-1] for who in ("ann", "twin", "third")] == [False, True, False]


def test_a_merge_said_twice_is_recorded_once_and_another_survivor_is_refused() -> None:
    district = District(enroll(0, "ann"), enroll(0, "twin"), enroll(0, "third"), merge(1))
    before = len(district.recorded[ANN])
    assert district.say(merge(2)) is None
    assert len(district.recorded[ANN]) == before
    assert district.say(merge(3, into="third")) == "merged_already"


def test_those_who_were_merged_are_merged_on() -> None:
    """And never in a circle."""
    district = District(enroll(9, "ann"), enroll(5, "twin"), enroll(0, "third"))
    for said in (merge(10, "third", "twin"), merge(11, "twin", "ann"), merge(12, "ann", "third")):
        assert district.say(said) is None
    assert district.persons["ann"].state.basis == NOON
    district.say(enroll(-5, "third", "late"))
    assert district.persons["ann"].state.basis == at(-5)
    assert district.facts("ann")[-1]


def test_a_split_undoes_what_was_brought() -> None:
    district = District(enroll(50, "ann"), enroll(0, "twin", school="Here"), merge(60))
    assert district.persons["ann"].state.basis == NOON
    assert district.say(split(70)) is None
    assert district.persons["ann"].state.basis == at(50)
    assert PersonsSplit(person_id=ANN, merged_person_id=TWIN) in district.recorded[TWIN]
    assert district.facts("twin")[-1]
    assert district.persons["twin"].state.school == "Here"
    district.say(correct(80, "twin", number="7654321"))
    identity = district.persons["twin"].state.identity
    assert identity is not None
    assert identity.number == "7654321"


def test_after_a_split_they_can_be_merged_again() -> None:
    district = District(enroll(50, "ann"), enroll(0, "twin"), merge(60), split(70), merge(80))
    assert district.persons["ann"].state.basis == NOON
    assert not district.persons["twin"].state.enrolled


@pytest.mark.parametrize("later", [merge(60), split(55)])
def test_an_older_word_on_it_changes_nothing(later: Command) -> None:
    district = District(enroll(0, "ann"), enroll(0, "twin"), split(70))
    before = district.facts("twin")
    district.say(later)
    assert district.facts("twin") == before


def test_too_many_enrollments_are_refused_before_anything_is_recorded() -> None:
    district = District(enroll(0, "ann"), *(enroll(n / 10, "twin", f"e{n}") for n in range(100)))
    assert district.say(merge(99)) == "enrollments_too_many"
    assert len(district.recorded[ANN]) == 1
    assert district.facts("twin")[-1]


MOMENTS = st.integers(-40, 40)


@st.composite
def statements(draw: st.DrawFn) -> list[Command]:
    """Of both records, any number, each at a moment of its own; with one merge among them."""
    moments = draw(st.lists(MOMENTS, min_size=3, max_size=9, unique=True))
    said: list[Command] = [merge(moments[0] + 0.5)]
    for hours in moments[1:]:
        who = draw(st.sampled_from(["ann", "twin"]))
        earlier = [c.enrollment_id for c in said if isinstance(c, EnrollPerson) and c.source_id == who]
        kinds = [
            enroll(hours, who, school=draw(st.sampled_from([None, "Here", "There"]))),
            correct(hours, who, number=f"{abs(hours):07}"),
            withdraw(hours, who),
        ]
        if earlier:
            kinds.append(void(hours, who, draw(st.sampled_from(earlier))))
        said.append(draw(st.sampled_from(kinds)))
    return said


@settings(max_examples=300, deadline=None)
@examples_of(statements(), st.randoms(use_true_random=False))
def test_the_survivor_is_the_same_whatever_comes_first(said: list[Command], random: Any) -> None:
    """All that is said of both may come in any order, and twice. A correction of somebody unknown, and a merge into
    them, is set aside, and tried again."""
    known = enroll(-100, "ann", received_at=NOON - timedelta(hours=100))
    shuffled = [known, *said, *random.sample(said, 2)]
    random.shuffle(shuffled)

    def heard(commands: list[Command]) -> Any:
        district = District()
        aside = [command for command in commands if district.say(command)]
        for _ in commands:
            aside = [command for command in aside if district.say(command)]
        assert not aside or not any(isinstance(command, merges.MergePersons) for command in aside)
        return district.facts()

    assert heard([known, *said]) == heard(shuffled)
