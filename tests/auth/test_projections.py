"""The rows that sign-in joins: who is who, and whose credential is live."""

from datetime import timedelta
from uuid import UUID

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.auth.decider import State
from services.auth.events import CredentialActivated, CredentialDiscarded, CredentialRevoked, CredentialsSet
from services.auth.projections import (
    CREDENTIAL,
    PERSON,
    Credential,
    Identity,
    NameCorrected,
    NumberChanged,
    Person,
    StaffEmployed,
    StaffLeft,
    StudentEnrolled,
    StudentWithdrawn,
)
from shared.messages import Event
from shared.testing import DISTRICT, NOON, history
from shared.testing import PERSON as SOMEBODY

ANN = Identity("0123456", "O'Neil", "Mary-Ann")
CLAIM, ONE = UUID(int=1), UUID(int=2)
SEALED = CredentialsSet(claim_id=CLAIM, credential_id=ONE, generation=0)
LIVE = CredentialActivated(claim_id=CLAIM, credential_id=ONE, generation=0)


def person(*told: Event) -> Person | None:
    return PERSON.fold(None, history(*told, service="roster"))


def credential(*told: Event) -> Credential:
    row = CREDENTIAL.fold(None, history(*told, service="auth"))
    assert row is not None
    return row


def enrolled(identity: Identity = ANN, *, current: bool = True) -> StudentEnrolled:
    return StudentEnrolled(identity=identity, current=current)


class TestPerson:
    def test_a_first_enrollment_makes_a_person(self) -> None:
        row = Person(
            person_id=SOMEBODY, district=DISTRICT, kind="student", number="0123456", last_name="O'Neil",
            first_name="Mary-Ann", status="enrolled", number_since=NOON, version=1,
        )  # fmt: skip
        assert person(enrolled()) == row

    def test_a_withdrawal_before_any_enrollment_makes_none(self) -> None:
        assert person(StudentWithdrawn()) is None
        row = person(StudentWithdrawn(), enrolled(), StudentWithdrawn())
        assert row is not None
        assert (row.status, row.version) == ("withdrawn", 3)

    def test_the_roster_tells_the_names_as_they_are_now(self) -> None:
        later = Identity("0999999", "Neil", "Ann")
        for told in (NumberChanged(identity=later), NameCorrected(identity=later), enrolled(later)):
            row = person(enrolled(), told)
            assert row is not None
            assert (row.number, row.last_name, row.first_name) == ("0999999", "Neil", "Ann")

    def test_a_number_is_held_since_it_was_given(self) -> None:
        """A name that changes changes nothing about it; a number that comes back is held anew."""
        other = Identity("0999999", "O'Neil", "Mary-Ann")
        facts = (
            enrolled(), NumberChanged(identity=other), NameCorrected(identity=other), NumberChanged(identity=ANN),
        )  # fmt: skip
        told = history(*((NOON + timedelta(hours=n), fact) for n, fact in enumerate(facts)), service="roster")
        since = [PERSON.fold(None, told[:n]).number_since for n in range(1, 5)]  # type: ignore[union-attr]
        assert since == [told[0].time, told[1].time, told[1].time, told[3].time]

    def test_only_a_present_enrollment_brings_somebody_back(self) -> None:
        assert person(enrolled(), StudentWithdrawn(), enrolled(current=False)).status == "withdrawn"  # type: ignore[union-attr]
        assert person(enrolled(), StudentWithdrawn(), enrolled()).status == "enrolled"  # type: ignore[union-attr]

    def test_staff_is_known_as_such_whatever_is_told_first(self) -> None:
        grace = Identity("e12345", "Okafor", "Grace")
        employed = StaffEmployed(identity=grace, current=True)
        for told in (
            employed,
            NumberChanged(identity=grace, kind="staff"),
            NameCorrected(identity=grace, kind="staff"),
        ):
            row = person(told)
            assert row is not None
            assert (row.kind, row.number, row.status) == ("staff", "e12345", "enrolled")
        assert person(employed, StaffLeft()).status == "withdrawn"  # type: ignore[union-attr]
        assert person(StaffLeft()) is None


class TestCredential:
    def test_it_says_which_credential_is_live(self) -> None:
        assert (credential(SEALED).status, credential(SEALED).credential_id) == ("pending", ONE)
        assert (credential(SEALED, LIVE).status, credential(SEALED, LIVE).credential_id) == ("live", ONE)

    def test_after_a_reset_there_is_none(self) -> None:
        reset = CredentialRevoked(generation=1, sessions_ended=0, cause="reset")
        row = credential(SEALED, LIVE, reset)
        assert (row.status, row.credential_id, row.generation) == ("revoked", None, 1)

    def test_a_rejected_claim_leaves_none(self) -> None:
        gone = CredentialDiscarded(claim_id=CLAIM, credential_id=ONE, generation=0, reason="claim_expired")
        assert credential(SEALED, gone).status == "none"

    @settings(max_examples=50)
    @given(st.integers(1, 2))
    def test_a_row_that_was_stored_folds_on_as_if_it_had_never_left(self, cut: int) -> None:
        """The state travels through JSON between two appends."""
        reset = CredentialRevoked(generation=1, sessions_ended=0, cause="reset")
        events = history(SEALED, LIVE, reset, service="auth")
        first = CREDENTIAL.fold(None, events[:cut])
        stored = msgspec.json.decode(msgspec.json.encode(first), type=Credential)
        assert CREDENTIAL.fold(stored, events[cut:]) == CREDENTIAL.fold(None, events)
        assert isinstance(stored.state, State)
