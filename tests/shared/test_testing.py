"""The helpers that tests read by: given, when, then."""

from datetime import timedelta

import pytest

from shared.messages import Cause
from shared.testing import NOON, PERSON, given, history, recorded
from tests.shared.kit import DECIDER, Cleared, Counted, count_on


def test_a_rule_is_asked_about_what_happened() -> None:
    given(DECIDER, Counted(by=2), Cleared(), Counted(by=3)).when(count_on, None, by=4).then(Counted(by=4))
    given(DECIDER).when(count_on, None, 0).then()


def test_a_refusal_has_a_reason_and_a_secret() -> None:
    secret = given(DECIDER, Counted(by=99)).when(count_on, None, 2).refused("too_many", limit=100)
    assert secret == {"total": 99}


def test_what_was_not_expected_fails() -> None:
    for wrong in (
        lambda: given(DECIDER).when(count_on, None, 1).then(),
        lambda: given(DECIDER).when(count_on, None, 1).then(Counted(by=2)),
        lambda: given(DECIDER).when(count_on, None, 1).refused("too_many", limit=100),
        lambda: given(DECIDER).when(count_on, None, 101).then(Counted(by=101)),
        lambda: given(DECIDER).when(count_on, None, 101).refused("too_many"),
        lambda: given(DECIDER).when(count_on, None, 101).refused("too_few", limit=100),
    ):
        with pytest.raises(AssertionError):
            wrong()


def test_a_history_has_versions_times_and_ids_that_are_alike_in_every_run() -> None:
    later = NOON + timedelta(hours=1)
    events = history(Counted(by=1), (later, Cleared()), district="other")
    assert [(e.version, e.time, e.type, e.district) for e in events] == [
        (1, NOON, "Counted", "other"),
        (2, later, "Cleared", "other"),
    ]
    assert recorded(Counted(by=1)) == recorded(Counted(by=1))
    assert recorded(Counted(by=1)).stream_id == PERSON
    assert Cause.of(events[0]).causation_id == str(events[0].id)
