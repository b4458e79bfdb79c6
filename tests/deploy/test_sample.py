"""The sample district is what it says it is, and roster takes all of it."""

import itertools
from datetime import datetime, timedelta

from deploy.local import sample
from services.roster.decider import EnrollPerson
from services.roster.ingress import understand
from shared.messages import Cause
from tests.roster.given import NOON, POLICY, parsed


def commands(anchor: datetime = NOON) -> list[EnrollPerson]:
    """Every event, as roster understands it."""
    found = [
        understand(parsed(e), "ccps", POLICY, received_at=NOON, cause=Cause("sample")).command
        for e in sample.events(anchor)
    ]
    assert all(isinstance(command, EnrollPerson) for command in found)
    return found  # type: ignore[return-value]


def test_it_is_a_district_of_two_thousand() -> None:
    told = commands()
    assert len(told) == sample.PUPILS == 2000
    for once in ("source_id", "number", "enrollment_id"):
        assert len({getattr(command, once) for command in told}) == 2000
    assert all(command.number and command.number[0] == "0" for command in told)


def test_it_is_always_the_same() -> None:
    assert sample.events(NOON) == sample.events(NOON)
    later = sample.pupils(NOON + timedelta(hours=5))
    for before, after in itertools.zip_longest(sample.pupils(NOON), later):
        assert {**before, "entered_at": ""} == {**after, "entered_at": ""}


def test_most_may_claim_and_some_have_to_wait() -> None:
    hours = [(NOON - c.entered_at).total_seconds() / 3600 for c in commands() if c.entered_at]
    new = [h for h in hours if h < 24]
    assert 100 <= len(new) <= 250
    assert min(hours) > 0
    assert min(h for h in hours if h >= 24) >= 25
    assert max(hours) < 29 * 24 + 1
    assert POLICY.max_backdate > timedelta(hours=max(hours) + 23)  # believed for a day after publishing


def test_the_names_are_the_ones_that_trip_portals_up() -> None:
    names = {c.last_name or "" for c in commands()} | {c.first_name or "" for c in commands()}
    for mark in ("'", "’", "-", " ", ".", ","):
        assert any(mark in name for name in names), mark
    assert any(not name.isascii() for name in names)
    assert min(map(len, names)) == 1
    assert max(map(len, names)) > 80
