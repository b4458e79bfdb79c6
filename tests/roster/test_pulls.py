"""Exports that are pulled from the SIS: the same import as an uploaded one, whatever happens on the way."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from aiohttp import web

from services.roster import import_worker, imports, pulls
from services.roster import provider as providers
from services.roster.oneroster import rest
from services.roster.pulls import begin_due
from shared import clock
from shared.database import Database
from shared.messages import rfc3339
from shared.policies import load_policy
from shared.policy import Policy
from tests.journeys.fleet import Part, free_ports
from tests.roster.conftest import Roster
from tests.roster.exports import pupils
from tests.roster.given import DISTRICT, POLICY, POLICY_FOLDER, cloud_event
from tests.roster.importing import District, change, some
from tests.support.certificates import signed
from tests.support.service import ISSUER
from tests.support.sis import (
    LONG_AGO,
    Sis,
    member,
    other,
    refusing,
    saying,
    school_class,
    serving,
    session,
    silence,
    status_info,
    user,
)

PUPILS = pupils(25)
PAGE_SIZE = 10
PATIENCE_S = 20


@pytest.fixture
async def sis() -> AsyncIterator[Sis]:
    async with serving(Sis(PUPILS)) as sis:
        yield sis


@pytest.fixture
def policy_dir(tmp_path: Path, sis: Sis) -> Path:
    """A district whose SIS is asked, ten items at a time."""
    folder, secrets = tmp_path / "policies", tmp_path / "secrets"
    folder.mkdir()
    secrets.mkdir()
    (secrets / DISTRICT).write_text(f"{sis.secret}\n")
    write_policy(folder, sis)
    return folder


def write_policy(folder: Path, sis: Sis, more: str = "") -> None:
    rule = sis.rule()
    rest = f'[imports.rest]\nurl = "{rule.url}"\ntoken_url = "{rule.token_url}"\nclient_id = "{rule.client_id}"\n'
    policy = (
        (POLICY_FOLDER / f"{DISTRICT}.toml")
        .read_text()
        .replace("approval_above_percent = 5", "approval_above_percent = 20")
    )
    (folder / f"{DISTRICT}.toml").write_text(f"{policy}\n{rest}page_size = {PAGE_SIZE}\n{more}")


@pytest.fixture
async def district(
    roster: Roster, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> District:
    monkeypatch.setattr(pulls, "POLL_S", 0.05)
    monkeypatch.setattr(providers.Provider.__init__, "__kwdefaults__", {"pause_s": 0.001, "turns": None})
    return District(roster, tmp_path, database)


async def pull(district: District, query: str = "", **asking: Any) -> Any:
    """Pull; the import as it stands when nothing goes on any more."""
    status, body = await district.ask("POST", f"/imports/pulls{query}", **asking)
    assert status == 202, body
    return await district.ended(body["import_id"])


def asked_for(sis: Sis, collection: str = "users") -> list[int]:
    return [int(asked["offset"]) for what, asked in sis.asked if what == collection]


# --- What a pull comes to


async def test_everybody_is_pulled_page_by_page_and_enrolled(district: District, sis: Sis) -> None:
    shown = await pull(district)
    assert (shown["state"], shown["mode"], shown["version"]) == ("done", "bulk", "1.2")
    assert (shown["pull_full"], shown["source"]) == (True, sis.rule().url)
    assert some(shown["counts"]) == {"added": 25}
    assert asked_for(sis) == [0, 9, 18]  # each from the last item of the page before
    ada = PUPILS[0]
    person = await district.person(ada, status="enrolled")
    assert (person["last_name"], person["school"], person["grade"]) == (
        ada.last_name,
        ada.school_name,
        ada.grade,
    )


async def test_a_provider_that_does_not_count_is_asked_until_nothing_follows(
    district: District, sis: Sis
) -> None:
    sis.counts = False
    shown = await pull(district)
    assert some(shown["counts"]) == {"added": 25}
    assert asked_for(sis) == [0, 9, 18, 24]  # the last is there and nobody behind it
    sis.items["users"].clear()
    shown = await pull(district, "?full")
    assert shown["state"] == "awaiting_approval", "an empty answer is no reason to send everybody away"


async def test_a_provider_that_does_not_count_is_not_believed_when_records_move(
    district: District, sis: Sis
) -> None:
    sis.counts = False
    await pull(district)
    sis.items["users"].sort(key=lambda item: str(item["sourcedId"]))

    def one_goes() -> None:
        del sis.items["users"][0]

    sis.asked.clear()
    sis.faults = [None] * 9 + [moving(sis, one_goes)]
    shown = await pull(district, "?full")
    assert some(shown["counts"]) == {"withdrawn": 1, "unchanged": 24}
    assert asked_for(sis)[-4:] == [0, 9, 18, 23], "from the beginning again"


async def test_nothing_is_kept_of_what_was_pulled(district: District) -> None:
    await pull(district)
    for table in ("import_page", "import_piece"):
        assert await district.rows(f"SELECT count(*) FROM {table}") == [(0,)]


async def test_who_is_there_no_more_has_left(district: District, sis: Sis) -> None:
    await pull(district)
    del sis.items["users"][3]
    sis.items["users"][5] = user(change(PUPILS[6], last_name="Otherwise"))
    shown = await pull(district, "?full")
    assert some(shown["counts"]) == {"withdrawn": 1, "corrected": 1, "unchanged": 23}
    await district.person(PUPILS[3], status="withdrawn")


async def test_between_whole_pulls_only_what_was_modified_is_asked_for(district: District, sis: Sis) -> None:
    first = await pull(district)
    now = clock.now()
    sis.items["users"][0] = user(change(PUPILS[0], last_name="Otherwise"), modified=now)
    sis.items["users"][1] = user(PUPILS[1], modified=now, status="tobedeleted")
    del sis.items["users"][2]  # an SIS that says nothing of it
    shown = await pull(district)
    assert (shown["mode"], shown["pull_full"]) == ("delta", False)
    assert some(shown["counts"]) == {"corrected": 1, "withdrawn": 1}
    since, began = (datetime.fromisoformat(at) for at in (shown["pull_since"], first["as_of"]))
    assert abs(began - since - pulls.OVERLAP) < timedelta(seconds=3)
    await district.person(PUPILS[2], status="enrolled")


async def test_a_role_that_was_taken_away_is_noticed_where_the_user_was_modified(
    district: District, sis: Sis
) -> None:
    """Over REST a user has all their roles; who has none of ours any more is as absent as in a whole pull."""
    sis.items["users"] += [other("t1", "teacher") | {"identifier": "e12345"}, other("g1", "guardian")]
    await pull(district)
    by_hand = change(PUPILS[0], source_id="by-hand", number="7654321")
    event = cloud_event(source_id="by-hand", number=by_hand.number)
    assert (await district.roster.publish(event))[0] == 202
    await district.person(by_hand, status="enrolled")

    now = clock.now()
    parent = other(PUPILS[0].source_id, "parent")["roles"]
    ended = [
        {"roleType": "secondary", "role": "student", "endDate": "2020-01-01", "org": {"sourcedId": "s1"}}
    ]
    for n, roles in enumerate((parent, [], None, ended)):
        sis.items["users"][n] = user(PUPILS[n], modified=now, roles=roles)
    sis.items["users"][-2:] = [
        other("t1", "guardian") | {"dateLastModified": rfc3339(now)},
        other("g1", "relative") | {"dateLastModified": rfc3339(now)},
        user(by_hand, modified=now, roles=parent),
    ]
    shown = await pull(district)
    assert (shown["pull_full"], some(shown["counts"])) == (False, {"withdrawn": 5})
    assert shown["passed_over"] == {"guardians": 4, "no_role": 2}
    found = {c["source_id"]: c["after"]["gone"] for c in await district.changes(shown)}
    assert found == {p.source_id: "absent" for p in PUPILS[:3]} | {
        PUPILS[3].source_id: "role_ended", "t1": "absent",
    }  # fmt: skip
    await district.person(by_hand, status="enrolled")


async def test_classes_are_pulled_whole_and_enrollments_as_they_were_modified(
    district: District, sis: Sis
) -> None:
    ada, bob = (pupil.source_id for pupil in PUPILS[:2])
    sis.items["academicSessions"] = [session("y1", "2026-08-03", "2027-05-29")]
    sis.items["classes"] = [school_class("c1", "Algebra", terms=["y1"]), school_class("c2", "Biology")]
    sis.items["enrollments"] = [member(ada, "c1"), member(ada, "c2"), member(bob, "c1")]
    await pull(district)
    assert await district.recorded(ada) == ["StudentEnrolled", "ClassesChanged"]
    person = await district.person(PUPILS[0])
    assert [(c["class_id"], c["title"], c["ends_on"]) for c in person["classes"]] == [
        ("c1", "Algebra", "2027-05-28"),
        ("c2", "Biology", None),
    ]
    now = clock.now()
    sis.items["enrollments"][1:] = [
        member(ada, "c2", modified=now, status="tobedeleted"),
        member(bob, "c1"),
        member(bob, "c2", modified=now),
    ]
    sis.asked.clear()
    shown = await pull(district)
    assert (shown["mode"], some(shown["counts"])) == ("delta", {"reassigned": 2})
    assert {what for what, asked in sis.asked if "filter" in asked} == {"users", "enrollments"}
    assert [c["class_id"] for c in (await district.person(PUPILS[0], version=3))["classes"]] == ["c1"]
    del sis.items["enrollments"][0]
    assert some((await pull(district, "?full"))["counts"]) == {"reassigned": 1, "unchanged": 24}


async def test_a_district_that_wants_no_classes_asks_for_none(
    district: District, sis: Sis, policy_dir: Path
) -> None:
    for collection in ("academicSessions", "classes", "enrollments"):
        del sis.items[collection]
    shown = await pull(district)
    assert (shown["reason"], shown["details"]["status"]) == ("provider_refused", 404)
    file = policy_dir / f"{DISTRICT}.toml"
    file.write_text(file.read_text().replace("classes = true", "classes = false"))
    async with asyncio.timeout(PATIENCE_S):
        while (shown := await pull(district))["state"] != "done":
            await asyncio.sleep(0.1)
    assert some(shown["counts"]) == {"added": 25}


async def test_nothing_was_modified(district: District) -> None:
    await pull(district)
    shown = await pull(district)
    assert (shown["state"], shown["pull_full"], some(shown["counts"])) == ("done", False, {})


async def test_a_pull_that_was_not_applied_is_none_to_go_on_from(district: District, sis: Sis) -> None:
    assert (await pull(district, "?dry_run"))["state"] == "done"
    sis.faults = [refusing(403)]
    assert (await pull(district))["state"] == "refused"
    assert (await pull(district))["pull_full"] is True


async def test_when_the_last_whole_one_is_old_the_next_is_whole(district: District) -> None:
    await pull(district)
    await district.rows("UPDATE import SET as_of = as_of - interval '22 hours'")
    assert (await pull(district))["pull_full"] is False
    await district.rows("UPDATE import SET as_of = as_of - interval '2 hours' WHERE pull_full")
    assert (await pull(district))["pull_full"] is True


async def test_a_dry_run_only_reports(district: District) -> None:
    shown = await pull(district, "?dry_run")
    assert (shown["state"], some(shown["counts"])) == ("done", {"added": 25})
    assert await district.told(PUPILS[0]) == []


async def test_many_who_left_wait_for_a_second_person(district: District, sis: Sis) -> None:
    await pull(district)
    del sis.items["users"][:10]
    shown = await pull(district, "?full")
    assert (shown["state"], shown["reason"]) == ("awaiting_approval", "threshold_exceeded")
    path = f"/imports/{shown['import_id']}/approval"
    status, body = await district.ask("POST", path, scope="desk", sub="roster:write", human=True)
    assert (status, body["reason"]) == (403, "approver_is_author")
    status, _ = await district.ask("POST", path, scope="desk", sub="ada", human=True)
    assert status == 202
    assert (await district.ended(shown["import_id"], "done"))["counts"]["withdrawn"] == 10


async def test_a_row_that_makes_no_sense_is_told_and_spares_its_pupil(district: District, sis: Sis) -> None:
    await pull(district)
    sis.items["users"][4] = user(PUPILS[4], identifier="123")
    shown = await pull(district, "?full")
    assert some(shown["counts"]) == {"refused": 1, "unchanged": 24}
    [problem] = await district.problems(shown)
    assert (problem["source_id"], problem["column"], problem["value"]) == (
        PUPILS[4].source_id,
        "identifier",
        "123",
    )
    await district.person(PUPILS[4], status="enrolled")


async def test_a_clock_that_is_behind_makes_an_older_export(district: District, sis: Sis) -> None:
    async def behind(request: web.Request) -> web.StreamResponse:
        page = {"orgs": []}
        headers = {"X-Total-Count": "0", "Date": "Mon, 03 Aug 2026 12:00:00 GMT"}
        return web.json_response(page, headers=headers)

    sis.faults = [behind]
    shown = await pull(district, "?dry_run")
    assert shown["as_of"] == "2026-08-03T12:00:00Z"


# --- What is in the way


async def test_one_import_at_a_time(district: District, sis: Sis) -> None:
    sis.faults = [silence]
    _, body = await district.ask("POST", "/imports/pulls")
    for again in (
        await district.ask("POST", "/imports/pulls"),
        await district.upload(district.export(PUPILS)),
    ):
        assert again[0] == 409
        assert again[1]["reason"] == "import_running"
        assert again[1]["import_id"] == body["import_id"]


async def test_the_same_key_is_the_same_pull(district: District, sis: Sis) -> None:
    headers = {"Idempotency-Key": "monday"}
    _, first = await district.ask("POST", "/imports/pulls", headers=headers)
    _, again = await district.ask("POST", "/imports/pulls", headers=headers)
    assert first["import_id"] == again["import_id"]


async def test_a_district_without_an_sis_that_answers(district: District, tmp_path: Path) -> None:
    (tmp_path / "secrets" / DISTRICT).unlink()
    shown = await pull(district)
    assert (shown["state"], shown["reason"], shown["details"]) == (
        "refused",
        "pull_not_configured",
        {"missing": "secret"},
    )
    (tmp_path / "policies" / f"{DISTRICT}.toml").write_text((POLICY_FOLDER / f"{DISTRICT}.toml").read_text())
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await district.ask("POST", "/imports/pulls"))[0] == 202:
            await district.ended(answer[1]["import_id"])
            await asyncio.sleep(0.2)
    assert (answer[0], answer[1]["reason"]) == (409, "pull_not_configured")


async def test_over_tls_the_authority_that_the_policy_names_is_believed(
    district: District, sis: Sis, policy_dir: Path, tmp_path: Path
) -> None:
    authority, file = signed("Riverdale County"), tmp_path / "secrets" / "sis-ca.pem"
    async with serving(sis, signed("sis", by=authority).server(tmp_path)):
        write_policy(policy_dir, sis, f'ca_file = "{file.name}"\n')
        shown = {}
        async with asyncio.timeout(PATIENCE_S):  # until the policy is read again
            while shown.get("reason") != "pull_not_configured":
                shown = await pull(district, "?dry_run")
        assert shown["details"] == {"missing": "ca_file"}
        file.write_text(signed("Riverdale County").pem)
        shown = await pull(district)
        assert (shown["state"], shown["reason"]) == ("refused", "provider_untrusted")
        assert shown["details"]["problem"] == "unknown_authority"
        file.write_text(authority.pem)
        shown = await pull(district)
        assert (shown["state"], some(shown["counts"])) == ("done", {"added": 25})


async def test_what_an_sis_says_of_its_refusal_may_hold_anything(district: District, sis: Sis) -> None:
    async def fault(request: web.Request) -> web.StreamResponse:
        return status_info(403, description="none\0 of yours \\u0000")

    sis.faults = [fault]
    shown = await pull(district)
    assert (shown["state"], shown["reason"]) == ("refused", "provider_refused")
    assert shown["details"]["description"] == "none\ufffd of yours \\u0000"


async def test_an_error_of_ours_in_ending_a_pull_is_counted_and_not_repeated_for_ever(
    district: District, sis: Sis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_worker, "MAX_TRIES", 2)
    monkeypatch.setattr(import_worker, "FIRST_PAUSE_S", 0.01)
    end = imports.end

    async def broken(*args: Any, **named: Any) -> None:
        if named.get("reason") == "provider_refused":
            raise KeyError("an error of ours")
        await end(*args, **named)

    monkeypatch.setattr(imports, "end", broken)
    sis.faults = [refusing(403)] * 4
    shown = await pull(district)
    assert (shown["state"], shown["reason"], shown["details"]["tries"]) == ("failed", "import_failed", 2)


async def test_an_sis_that_names_somebody_twice_has_left_out_somebody_else(
    district: District, sis: Sis
) -> None:
    """Its total is right, and each page begins where the one before ended; but it does not sort."""
    await pull(district)
    sis.items["users"][3] = sis.items["users"][17]
    shown = await pull(district, "?full")
    assert (shown["state"], shown["reason"]) == ("refused", "provider_unexpected")
    assert shown["details"] == {"problem": "repeated", "collection": "users", "items": 1}
    await district.person(PUPILS[3], status="enrolled")


async def test_an_sis_that_has_us_wait_for_ever_holds_up_no_other_district(
    district: District, sis: Sis, policy_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulls, "AT_ONCE", 1)
    own = 'extends = "ccps"\ncode = "HILLSD"\ntime_zone = "America/New_York"\nnames = { en = "Hills", es = "Hills" }\n'
    async with serving(Sis(PUPILS[:3])) as theirs:
        rule = theirs.rule()
        own += f'[imports.rest]\nurl = "{rule.url}"\ntoken_url = "{rule.token_url}"\nclient_id = "homeroom"\n'
        (policy_dir / "hills.toml").write_text(own)
        (tmp_path / "secrets" / "hills").write_text(theirs.secret)
        hills = District(district.roster, tmp_path, district.dsn, "hills")
        async with asyncio.timeout(PATIENCE_S):  # until the policies are read again
            while (await hills.ask("GET", "/imports"))[0] != 200:
                await asyncio.sleep(0.05)
        sis.faults = [refusing(429, **{"Retry-After": "600"})] * 100
        status, body = await district.ask("POST", "/imports/pulls")
        assert status == 202
        async with asyncio.timeout(PATIENCE_S):
            while not sis.asked:
                await asyncio.sleep(0.01)
        assert (await pull(hills))["state"] == "done"
        assert (await district.shown(body["import_id"]))["state"] == "pulling"


async def test_only_an_operator_says_baseline(district: District) -> None:
    status, body = await district.ask("POST", "/imports/pulls?baseline")
    assert (status, body["reason"]) == (403, "scope_missing")
    assert (await pull(district, "?baseline", scope="operator"))["baseline"] is True


async def test_a_pull_is_cancelled_where_it_is(district: District, sis: Sis) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def held(request: web.Request) -> None:
        reached.set()
        await go_on.wait()

    sis.faults = [None] * 8 + [held]
    _, body = await district.ask("POST", "/imports/pulls")
    await asyncio.wait_for(reached.wait(), PATIENCE_S)
    assert (await district.shown(body["import_id"]))["done"] == PAGE_SIZE
    assert (await district.ask("DELETE", f"/imports/{body['import_id']}"))[0] == 204
    shown = await district.shown(body["import_id"])
    assert (shown["state"], shown["done"], shown["total"]) == ("cancelled", 0, 0)  # of the rows to be applied
    go_on.set()
    await asyncio.sleep(0.5)  # in which the page arrives that was asked for
    assert asked_for(sis) == [0, 9]
    assert await district.rows("SELECT count(*) FROM import_page") == [(0,)]
    assert await district.told(PUPILS[0]) == []
    assert (await pull(district))["state"] == "done"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (refusing(403), "provider_refused"),
        (saying(b'{"users": [{"sourcedId": 1}]}'), "provider_unexpected"),
        (saying(b'{"users": []}'), "provider_unexpected"),  # one there should be
        (
            saying(b'{"users": [{"sourcedId": "a"}, {"sourcedId": "b"}]}'),
            "provider_unexpected",
        ),  # more than there are
    ],
)
async def test_who_answers_wrongly_changes_nothing(
    district: District, sis: Sis, fault: Any, reason: str
) -> None:
    sis.faults = [None] * 7 + [fault]
    sis.most = 10
    shown = await pull(district)
    assert (shown["state"], shown["reason"]) == ("refused", reason), shown
    assert shown["details"]
    assert await district.rows("SELECT count(*) FROM import_page") == [(0,)]
    assert await district.told(PUPILS[0]) == []


async def test_more_than_anybody_has_is_refused(district: District, sis: Sis) -> None:
    sis.faults = [saying(b'{"orgs": [{"sourcedId": "a"}]}', **{"X-Total-Count": "999999999"})]
    assert (await pull(district))["reason"] == "rows_too_many"


async def test_it_does_not_go_on_for_ever(
    district: District, sis: Sis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulls, "LONGEST_PULL", timedelta(seconds=-1))
    assert (await pull(district))["reason"] == "pull_too_long"


# --- Records that change while they are read


def moving(sis: Sis, change: Any) -> Any:
    async def fault(request: web.Request) -> None:
        change()

    return fault


async def test_who_stays_is_not_missed_when_others_go_meanwhile(district: District, sis: Sis) -> None:
    """One goes from a page that was read and another comes behind: the total is as before, all have moved up."""
    await pull(district)
    sis.items["users"].sort(key=lambda item: str(item["sourcedId"]))
    first = sis.items["users"][0]["sourcedId"]

    def swap() -> None:
        del sis.items["users"][0]
        sis.items["users"].append(user(change(PUPILS[0], source_id="zzz", number="7654321")))

    sis.asked.clear()
    sis.faults = [None] * 7 + [None, moving(sis, swap)]
    shown = await pull(district, "?full")
    assert some(shown["counts"]) == {"withdrawn": 1, "added": 1, "unchanged": 24}
    assert asked_for(sis) == [0, 9, 0, 9, 18]
    gone = next(p for p in PUPILS if p.source_id == first)
    await district.person(gone, status="withdrawn")


async def test_records_that_never_hold_still_are_not_believed(district: District, sis: Sis) -> None:
    await pull(district)

    def grow() -> None:
        n = len(sis.items["users"])
        sis.items["users"].append(user(change(PUPILS[0], source_id=f"zz{n}", number=f"{n:07}")))

    sis.faults = [moving(sis, grow)] * 100
    shown = await pull(district, "?full")
    assert (shown["state"], shown["reason"]) == ("refused", "source_moved")
    assert shown["details"] == {"collection": "users", "tries": pulls.MAX_RESTARTS + 1}


# --- Crashes


async def test_roster_is_killed_in_the_middle(
    database: str, topic_prefix: str, kafka_bootstrap: str, tmp_path: Path, policy_dir: Path, sis: Sis
) -> None:
    """The process that pulls is killed, and again where the pages become an import: each page is asked for once."""
    [port] = free_ports(1)
    env = {name: value for name, value in os.environ.items() if not name.startswith("HOMEROOM_")} | {
        "HOMEROOM_POSTGRES": database,
        "HOMEROOM_KAFKA": kafka_bootstrap,
        "HOMEROOM_TOPIC_PREFIX": topic_prefix,
        "HOMEROOM_PARTITIONS": "3",
        "HOMEROOM_HTTP_PORT": str(port),
        "HOMEROOM_ISSUER": ISSUER,
        "HOMEROOM_KEY_DIR": str(tmp_path / "public"),
        "HOMEROOM_POLICY_DIR": str(policy_dir),
        "HOMEROOM_PROVIDER_SECRET_DIR": str(tmp_path / "secrets"),
    }
    sis.faults = [None] * 8 + [silence]
    part = Part("roster", "api,projector,relay", env, tmp_path / "roster.log")
    await part.start()
    try:
        await until_migrated(database)
        db = Database(database, max_size=2, application_name="test")
        async with db.transaction() as conn:
            asked = pulls.Pull(
                district=DISTRICT, author="test", dry_run=False, baseline=False, full=None, now=clock.now(),
                cause=pulls.Cause.new(),
            )  # fmt: skip
            import_id = await pulls.begin(conn, load_policy(policy_dir / f"{DISTRICT}.toml"), asked)
        await until(database, "SELECT done = 10 FROM import WHERE import_id = $1", import_id)
        async with asyncio.timeout(PATIENCE_S):
            while asked_for(sis) != [0, 9]:
                await asyncio.sleep(0.05)
        await part.kill()
        before = len(sis.asked)
        await part.start()
        await until(database, "SELECT state = 'done' FROM import WHERE import_id = $1", import_id)
        assert asked_for(sis)[2:] == [9, 18]
        assert len(sis.asked) == before + 2 + len(rest.OF_CLASSES)
        conn = await asyncpg.connect(database)
        assert await conn.fetchval("SELECT count(*) FROM event WHERE type = 'StudentEnrolled'") == 25
        await conn.close()
        await db.close()
    except BaseException as error:
        error.add_note((tmp_path / "roster.log").read_text()[-4000:])
        raise
    finally:
        await part.kill()


async def until_migrated(database: str) -> None:
    await until(database, "SELECT EXISTS (SELECT FROM pg_tables WHERE tablename = 'pull_slot')")


async def until(database: str, query: str, *args: Any) -> None:
    conn = await asyncpg.connect(database)
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    if await conn.fetchval(query, *args):
                        return
                except asyncpg.UndefinedTableError:
                    pass
                await asyncio.sleep(0.05)
    finally:
        await conn.close()


async def test_an_end_that_was_cut_off_is_made_again(district: District, sis: Sis) -> None:
    """The process died while it put the pages together: what it had written of the file counts for nothing."""

    async def half_written(request: web.Request) -> None:
        await district.rows("INSERT INTO import_piece SELECT import_id, 0, 'half' FROM import")

    sis.faults = [None] * 9 + [half_written]
    assert some((await pull(district))["counts"]) == {"added": 25}


async def test_an_error_of_ours_is_given_up_in_the_end(
    district: District, sis: Sis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("MAX_TRIES", 2), ("FIRST_PAUSE_S", 0.01), ("LONGEST_PAUSE_S", 0.01)):
        monkeypatch.setattr(import_worker, name, value)

    def broken(*_: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(pulls.rest, "files_of", broken)
    shown = await pull(district)
    assert (shown["state"], shown["reason"], shown["details"]["tries"]) == ("failed", "import_failed", 2)


# --- The schedule


def scheduled(sis: Sis, *at: str) -> Policy:
    rule = msgspec.structs.replace(POLICY.imports, rest=sis.rule(at=list(at)))
    return msgspec.structs.replace(POLICY, imports=rule)


@pytest.fixture
async def db(migrated: str) -> AsyncIterator[Database]:
    db = Database(migrated, max_size=10, application_name="test")
    async with db.transaction() as conn:
        await conn.execute("DELETE FROM import; DELETE FROM pull_slot")
    yield db
    await db.close()


def new_york(day: int, hour: int, minute: int = 0) -> datetime:
    """In August, when New York is four hours behind."""
    return datetime(2026, 8, day, hour + 4, minute, tzinfo=UTC)


async def test_a_schedule_begins_with_its_next_moment_and_each_counts_once(db: Database, sis: Sis) -> None:
    policy = scheduled(sis, "05:30")
    assert await begin_due(db, policy, new_york(3, 12)) is None
    assert await begin_due(db, policy, new_york(4, 5, 29)) is None
    assert await begin_due(db, policy, new_york(4, 5, 30)) is not None
    assert await begin_due(db, policy, new_york(4, 5, 31)) is None


async def test_processes_that_look_together_begin_one(db: Database, sis: Sis) -> None:
    policy = scheduled(sis, "05:30")
    await begin_due(db, policy, new_york(3, 12))
    found = await asyncio.gather(*(begin_due(db, policy, new_york(4, 6)) for _ in range(8)))
    assert len([import_id for import_id in found if import_id]) == 1


async def test_what_a_standstill_passed_over_is_made_up_for_once(db: Database, sis: Sis) -> None:
    policy = scheduled(sis, "05:30", "12:00")
    await begin_due(db, policy, new_york(1, 4))
    assert await begin_due(db, policy, new_york(5, 13)) is not None
    await end_all(db)
    assert await begin_due(db, policy, new_york(5, 14)) is None


async def test_a_moment_that_falls_into_an_open_import_waits_for_its_end(db: Database, sis: Sis) -> None:
    policy = scheduled(sis, "05:30")
    await begin_due(db, policy, new_york(3, 12))
    assert await begin_due(db, policy, new_york(4, 6)) is not None
    assert await begin_due(db, policy, new_york(5, 6)) is None
    await end_all(db)
    assert await begin_due(db, policy, new_york(5, 7)) is not None


async def end_all(db: Database) -> None:
    async with db.connection() as conn:
        await conn.execute("UPDATE import SET state = 'cancelled', ended_at = now()")


async def test_a_scheduled_pull_runs_and_says_whose_it_is(
    district: District, sis: Sis, policy_dir: Path
) -> None:
    write_policy(policy_dir, sis, 'at = ["00:00", "06:00", "12:00", "18:00"]')
    await district.rows(
        "INSERT INTO pull_slot VALUES ($1, $2) ON CONFLICT (district) DO UPDATE SET slot = $2",
        DISTRICT, LONG_AGO,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        while not (shown := (await district.ask("GET", "/imports"))[1]["imports"]):
            await district.rows("UPDATE pull_slot SET slot = $1", LONG_AGO)
            await asyncio.sleep(0.2)
    ended = await district.ended(shown[0]["import_id"])
    assert (ended["author"], ended["state"], ended["counts"]["added"]) == ("schedule", "done", 25)
