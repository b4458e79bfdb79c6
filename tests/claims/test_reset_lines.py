"""Ticket lines as a help desk pastes them: matched by number, then by the whole name; nothing is guessed."""

from collections.abc import Sequence
from typing import Any

import pytest

from services.claims.decider import Pupil
from services.claims.reset_lines import LINES_MAX, Finding, match, numbers, read_lines
from shared.errors import Rejected
from tests.claims.given import (
    CCPS,
    PERSON,
    account,
    claimed,
    opened,
    policy,
    pupil,
    some,
    suspended,
    was_reset,
)

CLAIMED = account(opened(), claimed())
CRUZ = pupil(person_id=some("cruz"), number="0000007", last_name="De La Cruz", first_name="Mary Ann")


def findings(
    pasted: str | Sequence[str], *pupils: Pupil, claimed: Sequence[Pupil] = (), by: Any = CCPS
) -> list[Finding]:
    found: dict[str, list[Pupil]] = {}
    for someone in pupils:
        found.setdefault(someone.number, []).append(someone)
    return match(read_lines(pasted), found, {p.person_id: CLAIMED for p in claimed}, by)


def states(pasted: str | Sequence[str], *pupils: Pupil, **named: Any) -> list[str]:
    return [finding.state for finding in findings(pasted, *pupils, **named)]


@pytest.mark.parametrize(
    "line",
    [
        "Mary Ann De La Cruz 0000007",
        "  Mary  Ann De\tLa Cruz   0000007 ",
        "Mary\u00a0Ann De La Cruz 0000007",
    ],
)
def test_the_whole_name_is_compared_and_never_split(line: str) -> None:
    found = findings(line, CRUZ, claimed=[CRUZ])
    assert found == [Finding(line=1, state="matched", person_id=CRUZ.person_id, username="S0000007")]


def test_of_a_closed_account_it_is_said_that_it_stays_closed() -> None:
    closed = account(opened(), claimed(), suspended("desk"))
    found = match(
        read_lines("Mary Ann De La Cruz 0000007"), {CRUZ.number: [CRUZ]}, {CRUZ.person_id: closed}, CCPS
    )
    assert [(finding.state, finding.suspended) for finding in found] == [("matched", True)]


def test_a_line_may_mean_staff_by_the_employee_number() -> None:
    grace = pupil(
        kind="staff", person_id=some("grace"), number="e12345", last_name="Okafor", first_name="Grace"
    )
    found = findings(["Grace Okafor E12345", "Grace Okafor 12345"], grace, claimed=[grace])
    assert found == [
        Finding(line=1, state="matched", person_id=grace.person_id, kind="staff", username="e12345"),
        Finding(line=2, state="malformed", hint="number_without_e"),
    ]


def test_what_a_keyboard_does_is_folded() -> None:
    assert states("Mary–Ann O’Neil 0123456", pupil(), claimed=[pupil()]) == ["matched"]


@pytest.mark.parametrize(
    "line", ["De La Cruz Mary Ann 0000007", "Mary De La Cruz 0000007", "mary ann de la cruz 0000007"]
)
def test_another_order_spelling_or_case_differs_and_shows_what_is_on_file(line: str) -> None:
    (found,) = findings(line, CRUZ, claimed=[CRUZ])
    assert (found.state, found.on_file) == ("name_differs", "Mary Ann De La Cruz")


def test_case_does_not_count_where_the_district_says_so() -> None:
    folded = policy(name_case="folded")
    assert states("mary ann DE LA CRUZ 0000007", CRUZ, claimed=[CRUZ], by=folded) == ["matched"]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("Mary-Ann O'Neil 123456", "number_length"),
        ("Mary-Ann O'Neil O123456", "number_letter_o"),
        ("Mary-Ann O'Neil S0123456", "number_leading_s"),
        ("Mary-Ann O'Neil", "number_malformed"),
        ("0123456", "name_missing"),
        (f"{'M' * 600} 0123456", "line_long"),
    ],
)
def test_a_line_that_is_none_gets_a_hint(line: str, hint: str) -> None:
    assert findings(line, pupil()) == [Finding(line=1, state="malformed", hint=hint)]


@pytest.mark.parametrize(
    ("pupils", "state"),
    [
        ([], "unmatched"),
        ([pupil(enrolled=False)], "withdrawn"),
        ([pupil(), pupil(person_id=some("other"))], "number_conflict"),
        ([pupil(parked=True)], "history_parked"),
        ([pupil()], "not_claimed"),
    ],
)
def test_nothing_is_done_by_accident(pupils: list[Pupil], state: str) -> None:
    assert states("Mary-Ann O'Neil 0123456", *pupils) == [state]


def test_an_account_that_was_reset_is_not_claimed() -> None:
    reset = account(opened(), claimed(), was_reset())
    lines = read_lines("Mary-Ann O'Neil 0123456")
    assert match(lines, {"0123456": [pupil()]}, {PERSON: reset}, CCPS)[0].state == "not_claimed"


def test_a_pupil_named_twice_is_reset_once() -> None:
    lines = ["Mary-Ann O'Neil 0123456", "Mary Ann O'Neil 0123456", "Mary-Ann O'Neil 0123456"]
    found = findings(lines, pupil(), claimed=[pupil()])
    assert [(f.state, f.first_line) for f in found] == [
        ("matched", None),
        ("name_differs", None),
        ("repeated", 1),
    ]


def test_blank_lines_are_passed_over_and_lines_keep_their_place() -> None:
    pasted = "\n\nMary-Ann O'Neil 0123456\r\n \nMary Ann De La Cruz 0000007\n"
    assert [f.line for f in findings(pasted, pupil(), CRUZ)] == [3, 5]


def test_numbers_to_look_up_are_those_that_are_numbers() -> None:
    assert numbers(read_lines(["A B 0000007", "A B 7", "C D 0000007", "E F 0123456"]), CCPS) == [
        "0000007",
        "0123456",
    ]


@pytest.mark.parametrize(
    ("pasted", "reason"),
    [("", "lines_missing"), (" \n ", "lines_missing"), (["A B 1"] * (LINES_MAX + 1), "lines_too_many")],
)
def test_lines_are_bounded(pasted: Any, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        read_lines(pasted)
    assert caught.value.reason == reason


def test_as_many_lines_as_allowed_are_read() -> None:
    assert len(read_lines(["A B 1"] * LINES_MAX)) == LINES_MAX
