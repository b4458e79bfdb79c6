"""The waiting period is a fold: whatever order and however often the roster's facts come, the row is the same."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.claims import decider
from services.claims.decider import Account
from services.claims.events import CODEC, AccountClaimed
from services.claims.projections import (
    ACCOUNT,
    ADMISSION,
    ENROLLMENTS_KEPT,
    Admission,
    Assigned,
    ClassesChanged,
    ClassOf,
    Enrollment,
    EnrollmentVoided,
    Identity,
    NameCorrected,
    NumberChanged,
    PlacementChanged,
    StaffEmployed,
    StaffLeft,
    StudentEnrolled,
    StudentWithdrawn,
    evolve_account,
    evolve_admission,
)
from shared.messages import Event
from tests.claims.given import CCPS, HOUR, NOON, PERSON, account, claimed, opened, recorded, some, was_reset

WHO = Identity("sis-1", "0123456", "O'Neil", "Mary-Ann")


def enrolled(enrollment: str = "e1", basis: datetime = NOON, **differing: Any) -> StudentEnrolled:
    usual = {
        "enrollment_id": enrollment,
        "identity": WHO,
        "school": "north",
        "grade": "07",
        "received_at": NOON,
        "basis": basis,
        "baseline": False,
        "current": True,
    }
    return StudentEnrolled(**(usual | differing))


def fold(*facts: Event) -> Admission:
    row = None
    for version, fact in enumerate(facts, 1):
        row = evolve_admission(row, recorded(fact, version=version, service="roster"))
    assert row is not None
    return row


class TestAdmission:
    def test_the_first_enrollment_makes_the_row(self) -> None:
        row = fold(enrolled(entered_at=NOON - HOUR, basis=NOON - HOUR))
        assert (row.person_id, row.district, row.status) == (PERSON, "ccps", "enrolled")
        assert (row.source_id, row.number, row.last_name, row.first_name) == msgspec.structs.astuple(WHO)
        assert (row.school, row.grade) == ("north", "07")
        assert (row.basis, row.baseline) == (NOON - HOUR, False)
        assert row.enrollments == [
            Enrollment(
                enrollment_id="e1",
                basis=NOON - HOUR,
                entered_at=NOON - HOUR,
                received_at=NOON,
                baseline=False,
            )
        ]

    def test_the_earliest_enrollment_counts_also_when_it_comes_late(self) -> None:
        row = fold(enrolled("e2", NOON), enrolled("e1", NOON - 48 * HOUR, current=False))
        assert row.basis == NOON - 48 * HOUR
        assert row.status == "enrolled"

    def test_a_voided_enrollment_counts_for_nothing(self) -> None:
        row = fold(
            enrolled("e1", NOON - 48 * HOUR), enrolled("e2", NOON), EnrollmentVoided(enrollment_id="e1")
        )
        assert row.basis == NOON

    def test_with_every_enrollment_voided_there_is_no_basis(self) -> None:
        row = fold(enrolled(baseline=True), EnrollmentVoided(enrollment_id="e1"))
        assert (row.basis, row.baseline) == (None, False)

    def test_an_older_fact_brings_nobody_back(self) -> None:
        row = fold(enrolled(), StudentWithdrawn(), enrolled("e0", NOON - HOUR, current=False, school="south"))
        assert (row.status, row.school, row.basis) == ("withdrawn", "north", NOON - HOUR)

    def test_a_return_keeps_the_first_basis(self) -> None:
        row = fold(enrolled("e1", NOON - 48 * HOUR), StudentWithdrawn(), enrolled("e2", NOON))
        assert (row.status, row.basis) == ("enrolled", NOON - 48 * HOUR)

    def test_a_withdrawal_before_the_first_enrollment_shows_nobody_to_a_lookup(self) -> None:
        row = fold(StudentWithdrawn())
        assert (row.status, row.number, row.basis) == ("withdrawn", "", None)

    def test_corrections_change_what_they_name(self) -> None:
        renamed = msgspec.structs.replace(WHO, last_name="O'Neil-Díaz")
        row = fold(
            enrolled(),
            NameCorrected(identity=renamed),
            NumberChanged(identity=msgspec.structs.replace(renamed, number="0654321")),
            PlacementChanged(school=None, grade="08"),
        )
        assert (row.last_name, row.number, row.school, row.grade) == ("O'Neil-Díaz", "0654321", None, "08")
        assert row.basis == NOON

    def test_staff_is_known_as_such_and_leaves(self) -> None:
        grace = Identity("hr-1", "e12345", "Okafor", "Grace")
        times = {"received_at": NOON, "basis": NOON, "baseline": False, "current": True}
        employed = StaffEmployed(enrollment_id="e1", identity=grace, school="north", **times)
        row = fold(employed)
        assert (row.kind, row.number, row.school, row.status) == ("staff", "e12345", "north", "enrolled")
        left = fold(employed, StaffLeft())
        assert (left.kind, left.status, left.basis) == ("staff", "withdrawn", NOON)
        assert fold(NumberChanged(identity=grace, kind="staff")).kind == "staff"

    def test_enrollments_remembered_are_bounded_and_the_earliest_stay(self) -> None:
        nightly = [enrolled(f"night {n}", NOON + n * HOUR) for n in range(ENROLLMENTS_KEPT + 50)]
        row = fold(enrolled("first", NOON, baseline=True), *nightly)
        assert len(row.enrollments) == ENROLLMENTS_KEPT
        assert (row.basis, row.baseline) == (NOON, True)


moments = st.integers(-1000, 1000).map(lambda minutes: NOON + timedelta(minutes=minutes, seconds=minutes % 7))
names = st.sampled_from(["e1", "e2", "e3", "e4"])
tellings = st.builds(
    enrolled,
    names,
    moments,
    received_at=moments,
    entered_at=st.none() | moments,
    baseline=st.booleans(),
    current=st.booleans(),
)
voidings = st.builds(EnrollmentVoided, enrollment_id=names)
histories = st.lists(tellings | voidings, min_size=1, max_size=12)


def waits(row: Admission) -> tuple[Any, ...]:
    return row.basis, row.baseline, row.enrollments


def by_definition(facts: Sequence[Event]) -> tuple[datetime | None, bool]:
    """Architecture, in one line: the minimum over the enrollments that were not voided."""
    voided = {f.enrollment_id for f in facts if isinstance(f, EnrollmentVoided)}
    counting = [f for f in facts if isinstance(f, StudentEnrolled) and f.enrollment_id not in voided]
    return min((f.basis for f in counting), default=None), any(f.baseline for f in counting)


class TestTheFoldOfTheWait:
    @given(histories)
    def test_it_is_the_minimum_over_what_was_not_voided(self, facts: list[Event]) -> None:
        row = fold(*facts)
        assert (row.basis, row.baseline) == by_definition(facts)

    @given(histories.flatmap(lambda facts: st.tuples(st.just(facts), st.permutations(facts))))
    def test_any_order_gives_the_same(self, both: tuple[list[Event], list[Event]]) -> None:
        facts, reordered = both
        assert waits(fold(*facts)) == waits(fold(*reordered))

    @given(histories, st.data())
    def test_repeats_change_nothing(self, facts: list[Event], data: st.DataObject) -> None:
        repeats = data.draw(st.lists(st.sampled_from(facts), max_size=6))
        assert waits(fold(*facts)) == waits(fold(*facts, *repeats))

    @given(histories, moments)
    def test_a_late_enrollment_never_moves_the_basis_later(self, facts: list[Event], late: datetime) -> None:
        before, after = fold(*facts).basis, fold(*facts, enrolled("late", late, current=False)).basis
        assert after is not None
        assert after == (late if before is None else min(before, late))

    @given(histories)
    def test_every_policy_reads_the_same_row(self, facts: list[Event]) -> None:
        """The row knows no delay: a replay under another policy makes the same rows."""
        row = fold(*facts)
        pupil = decider.Pupil(
            person_id=PERSON, kind="student", number="0123456", last_name="", first_name="", enrolled=True,
            basis=row.basis, baseline=row.baseline, parked=False,
        )  # fmt: skip
        opens = decider.eligible_at(pupil, CCPS)
        if row.basis is None:
            assert opens is None
        else:
            wait = timedelta(0) if row.baseline else CCPS.claim_delay("student")
            assert opens is not None
            assert timedelta(0) <= opens - (row.basis + wait) < timedelta(seconds=1)

    @settings(max_examples=50)
    @given(histories, st.data())
    def test_topics_may_interleave_in_any_way(self, facts: list[Event], data: st.DataObject) -> None:
        """`admission` is fed by one topic and `account` by another: however they interleave, both rows are the same."""
        own: list[Event] = [opened(), claimed(), was_reset()]
        rows: tuple[Admission | None, Account | None] = (None, None)
        left, right = list(enumerate(facts, 1)), list(enumerate(own, 1))
        while left or right:
            if left and (not right or data.draw(st.booleans())):
                version, fact = left.pop(0)
                rows = evolve_admission(rows[0], recorded(fact, version=version, service="roster")), rows[1]
            else:
                version, fact = right.pop(0)
                rows = rows[0], evolve_account(rows[1], recorded(fact, version=version))
        assert rows == (fold(*facts), account(*own))


class TestAccount:
    def test_the_row_is_the_rules_own_state(self) -> None:
        row = evolve_account(None, recorded(opened(), version=1))
        row = evolve_account(row, recorded(claimed(), version=2))
        assert row == account(opened(), claimed())
        assert row.claim_id == some("claim")

    def test_it_survives_being_stored_as_json(self) -> None:
        row = account(opened(), claimed(), was_reset())
        assert msgspec.json.decode(msgspec.json.encode(row), type=Account) == row


@pytest.mark.parametrize("projection", [ADMISSION, ACCOUNT], ids=lambda p: p.name)
def test_a_row_is_keyed_by_the_person_and_knows_its_version(projection: Any) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(projection.row)}
    assert next(iter(fields)) == "person_id"
    assert fields["person_id"] is UUID
    assert fields["version"] is int


def test_the_codec_of_the_own_events_knows_them_all() -> None:
    event = claimed()
    assert CODEC.decode("AccountClaimed", 1, CODEC.encode(event)) == event
    assert set(CODEC.types) == {
        "ClaimOpened", "AccountClaimed", "ClaimRejected", "AccountReset", "WaitingPeriodWaived", "WaiverRevoked",
        "AccountSuspended", "AccountRestored",
    }  # fmt: skip
    assert isinstance(event, AccountClaimed)


def test_the_classes_of_a_pupil_are_what_was_told_last() -> None:
    """Also what was told before the first enrollment; what somebody teaches is no class of theirs."""
    art, maths = Assigned("c-1", "student", "Art"), Assigned("c-2", "student", "Maths", date(2026, 8, 3))
    told = ClassesChanged(assigned=[maths, art])
    assert fold(told, enrolled()).classes == [
        ClassOf("c-1", "Art"),
        ClassOf("c-2", "Maths", date(2026, 8, 3)),
    ]
    moved = ClassesChanged(assigned=[Assigned("c-1", "student", "Art 2")], unassigned=["c-2", "c-9"])
    assert fold(enrolled(), told, moved).classes == [ClassOf("c-1", "Art 2")]
    teaches = ClassesChanged(assigned=[Assigned("c-1", "teacher")])
    assert fold(enrolled(), told, teaches).classes == [ClassOf("c-2", "Maths", date(2026, 8, 3))]
