"""What claims and auth make of the roster's topic agrees with what the roster holds, whatever came in which order."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given as examples_of

from services.auth import projections as auth
from services.claims import projections as claims
from services.roster.decider import Command, EnrollPerson
from services.roster.events import CODEC
from shared.messages import Event
from shared.projection import Projection
from shared.testing import recorded
from tests.roster.test_decider import Person, deliver, enrolled, statements


def read_by(projection: Projection[Any], events: Sequence[Event]) -> Any:
    """The reader's row after these events, which travel as JSON and are decoded by its own structs."""
    told = []
    for version, event in enumerate(events, 1):
        name = type(event).__name__
        if name in projection.codec.types:
            heard = projection.codec.decode(name, event.SCHEMA, CODEC.encode(event))
            told.append(recorded(heard, version, service="roster"))
    return projection.fold(None, told)


def tell(commands: list[Command]) -> Person | None:
    """The person, if anybody ever enrolled them."""
    person = deliver(commands)
    return person if any(isinstance(command, EnrollPerson) for command in commands) else None


@examples_of(statements())
def test_claims_knows_who_may_claim_and_since_when(commands: list[Command]) -> None:
    person = tell(commands)
    if person is None:
        return
    row = read_by(claims.ADMISSION, person.recorded)
    state = person.state
    assert state.identity is not None
    assert (row.number, row.last_name, row.first_name) == (
        state.identity.number,
        state.identity.last_name,
        state.identity.first_name,
    )
    assert (row.kind, row.school, row.grade) == (state.kind, state.school, state.grade)
    assert (row.basis, row.baseline) == (state.basis, state.baseline)
    assert (row.status == "enrolled" and row.basis is not None) == enrolled(person)


@examples_of(statements())
def test_auth_knows_by_which_number_a_pupil_signs_in(commands: list[Command]) -> None:
    person = tell(commands)
    if person is None:
        return
    row = read_by(auth.PERSON, person.recorded)
    assert person.state.identity is not None
    assert (row.kind, row.number) == (person.state.kind, person.state.identity.number)
    assert (row.status == "withdrawn") == (not person.state.enrolled)
