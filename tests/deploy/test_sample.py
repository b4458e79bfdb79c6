"""The sample district is what it says it is, and roster takes all of it."""

import itertools
from collections import Counter
from datetime import datetime, timedelta

from deploy.local import sample
from services.roster.decider import AssignClass, EnrollPerson
from services.roster.ingress import understand
from shared.messages import Cause
from tests.roster.given import NOON, POLICY, parsed

Commands = tuple[list[EnrollPerson], list[EnrollPerson], list[AssignClass]]


def commands(anchor: datetime = NOON) -> Commands:
    """Every event, as roster understands it: pupils, staff, classes."""
    found = [
        understand(parsed(e), "ccps", POLICY, received_at=NOON, cause=Cause("sample")).command
        for e in sample.events(anchor)
    ]
    people = [command for command in found if isinstance(command, EnrollPerson)]
    rooms = [command for command in found if isinstance(command, AssignClass)]
    assert found == [*people, *rooms]  # whoever is in a class is known before
    return [p for p in people if p.kind == "student"], [p for p in people if p.kind == "staff"], rooms


def test_it_is_a_district_of_two_thousand() -> None:
    pupils, staff, _ = commands()
    assert len(pupils) == sample.PUPILS == 2000
    assert 110 <= len(staff) <= 130
    for once in ("source_id", "number", "enrollment_id"):
        assert len({getattr(command, once) for command in [*pupils, *staff]}) == len(pupils) + len(staff)
    assert all(command.number and command.number[0] == "0" for command in pupils)
    assert all(command.number and POLICY.employee_number.find(command.number) for command in staff)


def test_each_pupil_is_in_one_class_of_the_own_school_and_each_class_has_a_teacher() -> None:
    pupils, staff, rooms = commands()
    schools = {person.source_id: person.school for person in [*pupils, *staff]}
    assert all(schools[each.source_id] == each.assignment.school for each in rooms)
    taught, attended = (
        [each for each in rooms if each.assignment.role == role] for role in ("teacher", "student")
    )
    assert {each.kind for each in taught} == {"staff"}
    assert {each.kind for each in attended} == {"student"}
    assert sorted(each.source_id for each in attended) == sorted(pupil.source_id for pupil in pupils)
    sizes = Counter(each.assignment.class_id for each in attended)
    assert Counter(each.assignment.class_id for each in taught) == dict.fromkeys(sizes, 1)
    assert 10 <= min(sizes.values()) <= max(sizes.values()) <= sample.LARGEST_CLASS


def test_each_school_has_a_principal_and_the_district_a_help_desk() -> None:
    _, staff, rooms = commands()
    roles = Counter(person.role for person in staff)
    assert roles == {
        "teacher": len({room.assignment.class_id for room in rooms}),
        "principal": 11,
        "help desk": 4,
    }
    assert {p.school for p in staff if p.role == "principal"} == {p.school for p in staff if p.school}


def test_it_is_always_the_same() -> None:
    assert sample.events(NOON) == sample.events(NOON)
    later = sample.pupils(NOON + timedelta(hours=5))
    for before, after in itertools.zip_longest(sample.pupils(NOON), later):
        assert {**before, "entered_at": ""} == {**after, "entered_at": ""}


def test_most_may_claim_and_some_have_to_wait() -> None:
    hours = [(NOON - c.entered_at).total_seconds() / 3600 for c in commands()[0] if c.entered_at]
    new = [h for h in hours if h < 24]
    assert 100 <= len(new) <= 250
    assert min(hours) > 0
    assert min(h for h in hours if h >= 24) >= 25
    assert max(hours) < 29 * 24 + 1
    assert POLICY.max_backdate > timedelta(hours=max(hours) + 23)  # believed for a day after publishing


def test_the_names_are_the_ones_that_trip_portals_up() -> None:
    pupils = commands()[0]
    names = {c.last_name or "" for c in pupils} | {c.first_name or "" for c in pupils}
    for mark in ("'", "’", "-", " ", ".", ","):
        assert any(mark in name for name in names), mark
    assert any(not name.isascii() for name in names)
    assert min(map(len, names)) == 1
    assert max(map(len, names)) > 80
