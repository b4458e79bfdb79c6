"""The operator's commands: what they ask, what they wait for, what they refuse to do by themselves."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.fake import FakeServices

REBUILDS = "/v1/operations/rebuilds"
ID = "3f0f3b9e-9d60-4c39-8a4f-0d6c0b7e0003"
BUILDING: dict[str, object] = {
    "id": ID, "projection": "admission", "purpose": "rebuild", "state": "building", "wish": None, "done": 10,
    "total": 100, "report": {}, "error": None, "finished_at": None,
}  # fmt: skip
FOLLOWING = BUILDING | {"state": "following", "done": 100}
REPORT = {"compared": 100, "different": 0}
REPLAY = BUILDING | {"purpose": "replay"}
DROPPED = REPLAY | {"state": "dropped", "report": REPORT, "finished_at": "2026-08-03T09:00:00Z"}


def test_a_rebuild_is_watched_until_it_follows_live(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers[f"POST {REBUILDS}"] = [(202, BUILDING)]
    services.answers[f"GET {REBUILDS}/{ID}"] = [(200, BUILDING), (200, FOLLOWING)]
    assert run("rebuild", "start", "claims", "admission", "--json") == 0
    assert json.loads(capsys.readouterr().out)["state"] == "following"
    [asked] = services.requests(f"POST {REBUILDS}")
    assert json.loads(asked.body) == {"projection": "admission", "purpose": "rebuild"}


def test_started_again_it_watches_the_one_that_runs(services: FakeServices, run: Run) -> None:
    """So a rebuild whose watching was interrupted can simply be begun again."""
    services.answers[f"POST {REBUILDS}"] = [(409, {"reason": "rebuild_open"})]
    services.answers[f"GET {REBUILDS}"] = [(200, {"rebuilds": [BUILDING]})]
    services.answers[f"GET {REBUILDS}/{ID}"] = [(200, FOLLOWING)]
    assert run("rebuild", "start", "claims", "admission") == 0


def test_another_purpose_is_not_taken_for_the_same(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers[f"POST {REBUILDS}"] = [(409, {"reason": "rebuild_open"})]
    services.answers[f"GET {REBUILDS}"] = [(200, {"rebuilds": [BUILDING]})]
    assert run("replay", "claims", "admission") == 1
    assert "rebuild_open" in capsys.readouterr().err


def test_a_rebuild_that_failed_says_why(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = BUILDING | {"state": "failed", "error": "MalformedEvent: StudentEnrolled"}
    services.answers[f"POST {REBUILDS}"] = [(202, failed)]
    assert run("rebuild", "start", "claims", "admission") == 1
    assert "MalformedEvent" in capsys.readouterr().err


def test_a_rebuild_that_stands_still_is_not_watched_without_end(
    services: FakeServices,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("services.cli.operations.STILL_S", 0.3)
    services.answers[f"POST {REBUILDS}"] = [(202, REPLAY)]
    services.answers[f"GET {REBUILDS}/{ID}"] = [(200, REPLAY)]
    away = {"ready": False, "missing": {"kafka": "kafka is not available"}}
    services.answers["GET /health/ready"] = [(503, away)]
    assert run("replay", "claims", "admission") == 1
    assert "kafka is not available" in capsys.readouterr().err


@pytest.mark.parametrize(("different", "status"), [(0, 0), (3, 1)])
def test_a_replay_ends_with_its_comparison(
    services: FakeServices, run: Run, different: int, status: int
) -> None:
    """Exit status 1 when history does not give what is served."""
    services.answers[f"POST {REBUILDS}"] = [(202, REPLAY)]
    report = REPORT | {"different": different}
    services.answers[f"GET {REBUILDS}/{ID}"] = [(200, REPLAY), (200, DROPPED | {"report": report})]
    assert run("replay", "claims", "admission") == status


def test_switching_asks_first_and_waits_until_it_is_done(services: FakeServices, run: Run) -> None:
    services.answers[f"GET {REBUILDS}"] = [(200, {"rebuilds": [FOLLOWING]})]
    services.answers[f"POST {REBUILDS}/{ID}/switch"] = [(202, FOLLOWING | {"wish": "switch"})]
    services.answers[f"GET {REBUILDS}/{ID}"] = [(200, FOLLOWING | {"state": "switched"})]
    assert run("rebuild", "switch", "claims", "admission") == 1
    assert services.requests(f"POST {REBUILDS}/{ID}/switch") == []
    assert run("rebuild", "switch", "claims", "admission", "--yes") == 0
    assert len(services.requests(f"POST {REBUILDS}/{ID}/switch")) == 1


def test_without_a_rebuild_there_is_nothing_to_switch(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers[f"GET {REBUILDS}"] = [(200, {"rebuilds": [DROPPED]})]
    assert run("rebuild", "switch", "claims", "admission", "--yes") == 1
    assert "rebuild_missing" in capsys.readouterr().err


def test_dead_letters_are_listed_to_their_end(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = [
        {"dead_letters": [{"id": 1}], "next_after": 1},
        {"dead_letters": [{"id": 2}], "next_after": None},
    ]
    services.answers["GET /v1/operations/dead-letters"] = [(200, page) for page in pages]
    assert run("dead-letters", "list", "roster", "--json") == 0
    assert [letter["id"] for letter in json.loads(capsys.readouterr().out)] == [1, 2]


def test_giving_up_a_dead_letter_takes_a_reason_and_a_yes(services: FakeServices, run: Run) -> None:
    path = "/v1/operations/dead-letters/7/discard"
    services.answers[f"POST {path}"] = [(200, {"id": 7, "state": "discarded"})]
    assert run("dead-letters", "discard", "roster", "7") == 2
    assert run("dead-letters", "discard", "roster", "7", "--reason", "a test") == 1
    assert run("dead-letters", "discard", "roster", "7", "--reason", "a test", "--yes") == 0
    [asked] = services.requests(f"POST {path}")
    assert json.loads(asked.body) == {"reason": "a test"}


def test_the_lag_of_everything_in_one_table(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = {"consumer": "admission", "lag": 12, "still_s": 0.5, "state": "running", "alarm": None}
    lags = {"relay": {"pending": 3, "oldest_s": 0.1}, "consumers": [reader]}
    services.answers["GET /v1/operations/lag"] = [(200, lags)]
    assert run("lag") == 0
    shown = capsys.readouterr().out
    assert shown.count("relay") == 3
    assert shown.count("admission") == 3


@pytest.mark.parametrize("words", [("lag",), ("dead-letters", "list")])
def test_what_is_there_is_shown_when_a_service_is_away(
    services: FakeServices,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    """It is then that an operator looks; the exit status still tells that not all could be seen."""
    monkeypatch.setattr("services.cli.client.TRIES", 1)
    monkeypatch.setenv("HOMEROOM_CLAIMS_URL", "http://127.0.0.1:1")
    reader = {"consumer": "reader-1", "lag": 12, "still_s": 0.5, "state": "running", "alarm": None}
    lags = {"relay": {"pending": 3, "oldest_s": 0.1}, "consumers": [reader]}
    services.answers["GET /v1/operations/lag"] = [(200, lags)]
    letters = {"dead_letters": [{"id": 7, "consumer": "reader-1"}], "next_after": None}
    services.answers["GET /v1/operations/dead-letters"] = [(200, letters)]
    assert run(*words) == 1
    shown = capsys.readouterr()
    assert shown.out.count("reader-1") == 2
    assert "unreachable: claims" in shown.err


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    return Path(shutil.copytree("policies", tmp_path / "policies"))


def test_a_policy_that_does_not_hold_is_told_with_its_district(
    run: Run, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("policy", "check", str(policies)) == 0
    (policies / "hill.toml").write_text('extends = "ccps"\ncode = "HILL1"\n')
    assert run("policy", "check", str(policies)) == 1
    assert "policy_invalid: hill" in capsys.readouterr().err
    assert run("policy", "check", str(policies / "nowhere")) == 1


def test_a_logo_that_is_not_there_is_told(
    run: Run, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (policies / "ccps.svg").unlink()
    assert run("policy", "check", str(policies)) == 1
    shown = capsys.readouterr()
    assert "ccps.svg cannot be read" in shown.out
    assert "policy_invalid: ccps" in shown.err


def test_a_district_that_does_not_hold_leaves_nothing_behind(
    services: FakeServices, run: Run, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "district", "add", "hill", "--name", "Hill", "--folder", str(policies)
    assert run(*words, "--code", "lower case") == 1
    assert "policy_invalid" in capsys.readouterr().err
    assert not (policies / "hill.toml").exists()
    assert run(*words, "--code", "JPRQQH") == 1, "the code of another district"
    assert run("district", "add", "ccps", "--name", "C", "--code", "CCPS1", "--folder", str(policies)) == 1
    assert "district_exists" in capsys.readouterr().err


def test_a_district_is_added_once_every_service_knows_it(
    services: FakeServices, run: Run, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that whoever goes on with it, a client or an enrollment, is not refused."""
    asked = "GET /v1/districts/hill/refusals/0"
    services.answers[asked] = [(404, {"reason": "district_unknown"}), (401, {"reason": "token_missing"})]
    words = "district", "add", "hill", "--name", "Hill", "--code", "HILL1", "--folder", str(policies)
    assert run(*words) == 0
    assert len(services.requests(asked)) == 4, "one of them did not know it at first"
    assert "served: roster, claims, auth" in capsys.readouterr().out


def test_a_district_that_nobody_serves_is_not_waited_for_without_end(
    services: FakeServices,
    run: Run,
    policies: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("services.cli.setup.SERVED_PATIENCE_S", 0.2)
    words = "district", "add", "hill", "--name", "Hill", "--code", "HILL1", "--folder", str(policies)
    assert run(*words) == 1
    assert "district_not_served" in capsys.readouterr().err
    assert (policies / "hill.toml").exists()


CLIENT = {
    "id": "c-1", "name": "R. Alvarez", "scopes": ["desk"], "districts": ["ccps"], "human": True,
    "created_at": "2026-08-03T09:00:00Z", "rotated_at": None, "previous_until": None,
    "removed_at": None, "removed_by_name": None,
}  # fmt: skip


def test_a_client_is_removed_after_a_yes(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers["GET /v1/operations/clients"] = [(200, {"clients": [CLIENT]})]
    services.answers["DELETE /v1/operations/clients/c-1"] = [(204, None)]
    assert run("client", "remove", "c-1") == 1
    assert "R. Alvarez (desk)" in capsys.readouterr().err, "whom it would shut out"
    assert run("client", "remove", "c-2", "--yes") == 1
    assert "client_unknown" in capsys.readouterr().err
    assert run("client", "remove", "c-1", "--yes") == 0
    assert len(services.requests("DELETE /v1/operations/clients/c-1")) == 1


def test_what_is_not_said_of_a_client_stays(services: FakeServices, run: Run) -> None:
    services.answers["GET /v1/operations/clients"] = [(200, {"clients": [CLIENT]})]
    services.answers["PUT /v1/operations/clients/c-1"] = [(204, None)]
    assert run("client", "change", "c-1", "--scope", "desk", "--scope", "teacher", "--no-human") == 0
    [asked] = services.requests("PUT /v1/operations/clients/c-1")
    assert json.loads(asked.body) == {
        "name": "R. Alvarez", "scopes": ["desk", "teacher"], "districts": ["ccps"], "human": False,
    }  # fmt: skip


def test_a_client_is_said_to_be_somebodys_and_stays_so_until_it_is_nobodys(
    services: FakeServices, run: Run
) -> None:
    services.answers["GET /accounts"] = [(200, {"accounts": [{"person_id": "p-1"}]})]
    services.answers["POST /v1/operations/clients"] = [(201, {"id": "x", "secret": "y"})]
    assert run("client", "add", "R. Alvarez", "--scope", "desk", "--person", "e12345") == 0
    [asked] = services.requests("POST /v1/operations/clients")
    assert json.loads(asked.body) == {
        "name": "R. Alvarez", "scopes": ["desk"], "districts": ["ccps"], "human": True, "person_id": "p-1",
    }  # fmt: skip
    own = CLIENT | {"human": True, "person_id": "p-1"}
    services.answers["GET /v1/operations/clients"] = [(200, {"clients": [own]})]
    services.answers["PUT /v1/operations/clients/c-1"] = [(204, None)]
    assert run("client", "change", "c-1", "--name", "Rosa Alvarez") == 0
    assert run("client", "change", "c-1", "--no-human") == 0
    bodies = [json.loads(asked.body) for asked in services.requests("PUT /v1/operations/clients/c-1")]
    assert [body.get("person_id") for body in bodies] == ["p-1", None]


def test_a_clients_scopes_and_districts_are_what_was_said(services: FakeServices, run: Run) -> None:
    services.answers["POST /v1/operations/clients"] = [(201, {"id": "x", "secret": "y"})]
    words = "client", "add", "Desk", "--scope", "desk", "--scope", "teacher", "--district", "hill"
    assert run(*words) == 0
    [asked] = services.requests("POST /v1/operations/clients")
    told = {"name": "Desk", "scopes": ["desk", "teacher"], "districts": ["hill"]}
    assert json.loads(asked.body) == told
    services.answers["POST /v1/operations/clients"] = [(201, {"id": "x", "secret": "y"})]
    assert run(*words, "--human") == 0
    assert json.loads(services.requests("POST /v1/operations/clients")[1].body) == told | {"human": True}


def test_a_database_is_somebodys(
    services: FakeServices, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("migrate") == 1
    assert "HOMEROOM_POSTGRES" in capsys.readouterr().err
    monkeypatch.setenv("HOMEROOM_POSTGRES", "postgresql://nobody@127.0.0.1:1/nothing")
    assert run("migrate") == 2, "whose database it is has to be said"
    assert run("migrate", "roster") == 1
    assert "unavailable: postgres is not available" in capsys.readouterr().err
