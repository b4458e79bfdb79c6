"""Finding people and watching the first day at a command line."""

import json

import pytest

from tests.cli.conftest import Run
from tests.cli.fake import FakeServices
from tests.cli.test_accounts import PERSON

ANN = {
    "person_id": PERSON, "kind": "student", "username": "S0123456", "last_name": "O'Neil", "first_name": "Mary-Ann",
    "school": "Kemp Primary", "grade": "05", "enrolled": True, "claimed": False, "suspended": False,
}  # fmt: skip


def test_somebody_is_found_by_part_of_a_name(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers["GET /directory"] = [(200, {"persons": [ANN], "next_after": PERSON})]
    assert run("person", "find", "neil", "--school", "Kemp Primary") == 0
    shown = capsys.readouterr()
    assert "S0123456" in shown.out
    assert "more" in shown.err
    [asked] = services.requests("GET /directory")
    assert asked.query == {"search": "neil", "school": "Kemp Primary"}
    services.answers["GET /directory"] = [(200, {"persons": [], "next_after": None})]
    assert run("person", "find", "nobody") == 0
    assert "nobody" in capsys.readouterr().out


def test_or_by_the_code_that_they_were_shown(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers["GET /refusals/C-7K3M-9QX"] = [(200, {"person_id": PERSON}), (200, {"person_id": None})]
    services.answers[f"GET /accounts/{PERSON}"] = [(200, ANN | {"number": "0123456"})]
    assert run("person", "find", "c-7k3m-9qx", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [ANN]
    assert run("person", "find", "c-7k3m-9qx") == 1
    assert "person_unknown" in capsys.readouterr().err


def test_who_has_not_claimed_is_counted_and_listed(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = {"school": "Kemp Primary", "persons": 3, "claimed": 1, "unclaimed": 2, "waiting": 1}
    services.answers["GET /unclaimed"] = [(200, {"figures": [figure]})]
    assert run("unclaimed", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [figure]
    services.answers["GET /directory"] = [
        (200, {"persons": [ANN], "next_after": PERSON}), (200, {"persons": [ANN], "next_after": None}),
    ]  # fmt: skip
    assert run("unclaimed", "--school", "Kemp Primary", "--list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [ANN, ANN]
    first, second = services.requests("GET /directory")
    assert first.query == {"school": "Kemp Primary", "claimed": "false", "limit": "200"}
    assert second.query == first.query | {"after": PERSON}


def test_the_first_day_is_one_table_of_both_services(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = "2026-08-03T07:30:00Z", "2026-08-03T07:31:00Z"
    services.answers["GET /activity"] = [
        (200, {"minutes": [{"at": first, "done": 4, "refused": 1}, {"at": second, "done": 2, "refused": 0}]}),
        (200, {"minutes": [{"at": second, "done": 7, "refused": 3}]}),
    ]  # fmt: skip
    assert run("activity", "--minutes", "2", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [list(row.values()) for row in shown] in (
        [[first, 4, 1, 0, 0], [second, 2, 0, 7, 3]],
        [[second, 7, 3, 2, 0]],  # whichever of the two was asked first
    )
