"""`homeroom` against real services, configured by its environment as an operator's machine is."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.cli.client import Homeroom
from services.cli.pupil import Pupil
from tests.journeys.fleet import ROOT
from tests.journeys.town import Town, claim
from tests.roster.exports import pupils
from tests.support.sis import Sis, serving

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("journeys"),
]


class Terminal:
    """Runs `homeroom` as a process; what it printed and its exit status."""

    def __init__(self, town: Town) -> None:
        client = town.homeroom.site.clients["everything"]
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("HOMEROOM_")} | {
            "HOMEROOM_ROSTER_URL": town.fleet.urls["roster"],
            "HOMEROOM_CLAIMS_URL": town.fleet.urls["claims"],
            "HOMEROOM_AUTH_URL": town.fleet.urls["auth"],
            "HOMEROOM_CLIENT_ID": client.id,
            "HOMEROOM_CLIENT_SECRET": client.secret,
            "HOMEROOM_KAFKA": town.fleet.kafka,
            "HOMEROOM_TOPIC_PREFIX": town.fleet.prefix,
            "HOMEROOM_PARTITIONS": "4",
            "HOMEROOM_POLICY_DIR": str(town.fleet.folder / "policies"),
        }

    async def run(self, *words: str, **env: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "from services.cli import main; main()", *words,
            cwd=ROOT, env=self.env | env, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 200)
        return process.returncode or 0, out.decode(), err.decode()

    async def json(self, *words: str, **env: str) -> Any:
        status, out, err = await self.run(*words, "--json", **env)
        assert status == 0, err
        return json.loads(out)


@pytest.fixture
def terminal(town: Town) -> Terminal:
    return Terminal(town)


async def test_the_sample_has_somebody_in_every_state(town: Town, terminal: Terminal) -> None:
    shown = {row["state"]: row for row in await terminal.json("sample")}
    pupils = {state: Pupil(town.homeroom.ask, row, town.policy) for state, row in shown.items()}

    async def claims(state: str) -> tuple[int, str | None]:
        answer = await pupils[state].open_claim()
        return answer.status, answer.body.get("reason")

    async def signs_in(state: str) -> tuple[int, str | None]:
        answer = await pupils[state].sign_in(shown[state]["password"])
        return answer.status, answer.body.get("reason")

    assert await claims("open") == await claims("staff") == (201, None)
    assert shown["staff"]["number"] == shown["staff"]["username"]
    assert await claims("waiting") == (403, "waiting_period")
    assert await claims("withdrawn") == (403, "claim_refused")
    assert await claims("claimed") == (409, "account_claimed")
    assert await signs_in("claimed") == await signs_in("locked") == (201, None)
    assert await signs_in("desk") == await signs_in("operator") == (201, None)
    desk = await terminal.json("account", "show", shown["operator"]["number"])
    assert [held["role"] for held in desk["auth"]["roles"]] == ["operator"]
    assert await signs_in("suspended") == (403, "account_suspended")
    for state, status in (("claimed", 200), ("locked", 403)):
        await pupils[state].forgot_password()
        assert (await pupils[state].answer_questions(shown[state]["answers"])).status == status


async def test_the_help_desk_at_a_command_line(town: Town, terminal: Terminal, tmp_path: Path) -> None:
    """Look up, reset from a ticket's lines, see it done, see why."""
    pupil = await town.pupil()
    password = await claim(pupil)
    number = pupil.enrolled["number"]
    account = await terminal.json("account", "show", number)
    assert account["claimed"] is True
    [person] = await terminal.json("person", "show", number)
    assert person["last_name"] == pupil.enrolled["last_name"]

    lines = tmp_path / "ticket.txt"
    lines.write_text(
        f"{pupil.enrolled['first_name']} {pupil.enrolled['last_name']} {number}\nNobody At All 9999998\n"
    )
    preview = await terminal.json("reset", "--lines", str(lines), "--dry-run")
    assert [line["state"] for line in preview["lines"]] == ["matched", "unmatched"]
    assert (await pupil.sign_in(password)).status == 201
    batch = await terminal.json("reset", "--lines", str(lines), "--yes", "--ticket", "T-7")
    assert batch["state"] == "done"
    assert (await pupil.sign_in(password)).status == 401
    assert (await terminal.json("reset", "status", batch["batch_id"]))["desk_ticket"] == "T-7"

    refused = await pupil.open_claim(first_name="Wrong")
    assert (await terminal.json("refusal", refused.body["reference"]))["reference"] == refused.body[
        "reference"
    ]
    events = await terminal.json("timeline", number)
    assert [event["type"] for event in events if event["service"] == "claims"][-1] == "AccountReset"
    before = await terminal.json("timeline", number, "--at", "2020-01-01T00:00:00Z")
    assert before == []


async def test_who_has_only_a_name_finds_the_person(town: Town, terminal: Terminal) -> None:
    """By the beginning of a name, by the code that they were shown, among those who have not claimed; and the first day
    is watched as it goes."""
    school = "Findlay High"
    pupil = await town.pupil(school=school, last_name="Ångström-Quist", first_name="Zoë")
    room = {
        "source_id": pupil.enrolled["source_id"],
        "class_id": "findlay-1",
        "role": "student",
        "title": "Art",
    }
    await town.say("ClassAssigned", room)
    [found] = await terminal.json("person", "find", "quist zoe", "--school", school)
    assert (found["username"], found["claimed"]) == (pupil.username, False)
    refused = await pupil.open_claim(first_name="Wrong")
    [again] = await terminal.json("person", "find", refused.body["reference"])
    assert again == found

    figure = {"persons": 1, "claimed": 0, "unclaimed": 1, "waiting": 0}
    assert {"school": school} | figure in await terminal.json("unclaimed")

    async def counted() -> bool:
        by_class = await terminal.json("unclaimed", "--by", "class", "--school", school)
        return bool(by_class == [{"class_id": "findlay-1", "title": "Art"} | figure])

    await town.until(counted, "claims to hear of the class")
    await claim(pupil)
    assert await terminal.json("unclaimed", "--class", "findlay-1") == []
    minutes = await terminal.json("activity", "--minutes", "5")
    assert sum(minute["claims"] for minute in minutes) >= 1
    assert sum(minute["claims_refused"] for minute in minutes) >= 1


async def test_a_school_is_reset_at_a_command_line(town: Town, terminal: Terminal) -> None:
    """Figures first, nothing without a yes, then followed until every session has ended."""
    school = "Terminal Elementary"
    pupil = await town.pupil(school=school)
    password = await claim(pupil)
    await town.pupil(school=school)
    figures = {"school": school, "total": 1, "unclaimed": 1}
    preview = await terminal.json("reset", "--school", school, "--dry-run")
    assert preview["schools"] == [figures]
    of_all = await terminal.json("reset", "--all-students", "--dry-run")
    assert figures in of_all["schools"]
    assert of_all["approval_required"] is True
    status, out, err = await terminal.run("reset", "--all-students")
    assert status == 1, "it asks first, and there is nobody to type the code"
    assert "--yes" in err
    assert school in out
    status, _, err = await terminal.run("reset", "--school", "No Such School", "--yes")
    assert status == 1
    assert "school_unknown" in err
    assert (await pupil.sign_in(password)).status == 201

    batch = await terminal.json("reset", "--school", school, "--yes", "--ticket", "T-8")
    assert (batch["state"], batch["counts"], batch["lines"]) == ("done", {"done": 1}, [])
    assert (await pupil.who_am_i()).status == 401
    shown = await terminal.json("reset", "status", batch["batch_id"], "--accounts")
    assert [line["username"] for line in shown["lines"]] == [pupil.username]


async def test_an_operator_mends_a_dead_letter(town: Town, terminal: Terminal) -> None:
    """A record that nobody can read is listed with its reason, and given up with another."""
    await town.producer.send_and_wait(town.fleet.ingress, b"not json", key=b"broken-sis-1")
    letters = await town.until(lambda: _open_letters(terminal, "broken-sis-1"), "the dead letter")
    [letter] = letters
    shown = await terminal.json("dead-letters", "show", "roster", str(letter["id"]))
    assert shown["reason"]
    status, _, err = await terminal.run(
        "dead-letters", "discard", "roster", str(letter["id"]), "--reason", "test"
    )
    assert status == 1, "it asks first, and there is nobody to say yes"
    assert "--yes" in err
    status, _, err = await terminal.run(
        "dead-letters", "discard", "roster", str(letter["id"]), "--reason", "sent by mistake", "--yes"
    )
    assert status == 0, err

    async def gone() -> bool:
        return not await _open_letters(terminal, "broken-sis-1")

    await town.until(gone, "the dead letter to go")


async def _open_letters(terminal: Terminal, key: str) -> list[dict[str, Any]]:
    return [
        letter for letter in await terminal.json("dead-letters", "list", "roster") if letter["key"] == key
    ]


async def test_an_operator_watches_rebuilds_and_replays(town: Town, terminal: Terminal) -> None:
    """Built beside, compared, switched, the old dropped; pupils notice nothing."""
    pupil = await town.pupil()
    assert set(await terminal.json("lag")) == {"roster", "claims", "auth"}
    report = await terminal.json("replay", "claims", "admission")
    assert report["different"] == 0
    await terminal.json("rebuild", "start", "claims", "admission")
    compared = await terminal.json("rebuild", "compare", "claims", "admission")
    assert compared["different"] == 0
    await terminal.json("rebuild", "switch", "claims", "admission", "--yes")
    assert (await pupil.open_claim()).status == 201
    another = await town.pupil()
    assert (await another.open_claim()).status == 201
    await terminal.json("rebuild", "drop", "claims", "admission", "--yes")
    assert (await another.open_claim()).status == 201
    states = [found["state"] for found in await terminal.json("rebuild", "status", "claims")]
    assert states


async def test_setting_up_is_safe_to_repeat(town: Town, terminal: Terminal) -> None:
    """Topics are as they have to be, histories agree, migrations have nothing to do, policies hold."""
    assert await terminal.json("topics", "check") == []
    assert (await terminal.run("topics", "create"))[1].strip() == "nothing to do"
    for service in ("roster", "claims", "auth"):
        env = {"HOMEROOM_POSTGRES": town.fleet.dsn(service)}
        [verified] = await terminal.json("history", "verify", service, **env)
        assert verified["agrees"] is True
        assert "nothing to do" in (await terminal.run("migrate", service, **env))[1]
    assert (await terminal.run("policy", "check", str(town.fleet.folder / "policies")))[0] == 0


async def test_a_second_district_and_a_client_of_its_own(town: Town, terminal: Terminal) -> None:
    """Written, checked, its topic made, served as soon as the command ends; its client may ask only there, and is shut
    out when it goes."""
    folder = str(town.fleet.folder / "policies")
    words = "district", "add", "hill", "--name", "Hill County", "--code", "HILL1", "--folder", folder
    status, _, err = await terminal.run(*words)
    assert status == 0, err
    assert (await terminal.run(*words))[0] == 1, "it is there already"

    words = "client", "add", "Hill SIS", "--scope", "roster:write", "--district", "hill"
    added = await terminal.json(*words)
    own = {"HOMEROOM_CLIENT_ID": added["id"], "HOMEROOM_CLIENT_SECRET": added["secret"]}
    status, _, err = await terminal.run("account", "show", "0123456", **own)
    assert status == 1, "not in ccps"
    status, _, err = await terminal.run("account", "show", "0123456", HOMEROOM_DISTRICT="hill", **own)
    assert "scope_missing" in err
    rotated = await terminal.json("client", "rotate", added["id"])
    assert rotated["secret"] != added["secret"]
    assert msgspec.json.encode(await terminal.json("client", "list")).find(rotated["secret"].encode()) == -1
    changed = await terminal.json("client", "change", added["id"], "--scope", "desk")
    assert (changed["scopes"], changed["name"]) == (["desk"], "Hill SIS")
    assert (await terminal.run("client", "remove", added["id"], "--yes"))[0] == 0
    own["HOMEROOM_CLIENT_SECRET"] = rotated["secret"]
    status, _, err = await terminal.run("account", "show", "0123456", HOMEROOM_DISTRICT="hill", **own)
    assert "invalid_client" in err
    removed = await terminal.json("client", "list", "--removed")
    assert [each["id"] for each in removed] == [added["id"]]


async def test_a_pupil_of_whom_the_sis_tells_claims(town: Town, terminal: Terminal) -> None:
    """The page about pulling, word for word: the policy, the secret, a dry run, the pull; then a pupil of it."""
    students = pupils(60, seed=77)
    async with serving(Sis(students)) as sis:
        rule = sis.rule()
        (town.fleet.folder / "providers").mkdir(exist_ok=True)
        (town.fleet.folder / "providers" / "hills").write_text(sis.secret)
        (town.fleet.folder / "policies" / "hills.toml").write_text(
            'extends = "ccps"\ncode = "HILLSD"\ntime_zone = "America/New_York"\n'
            'names = { en = "Hills", es = "Hills" }\n[imports.rest]\n'
            f'url = "{rule.url}"\ntoken_url = "{rule.token_url}"\nclient_id = "homeroom"\npage_size = 25\n'
        )
        client = await town.homeroom.post(
            "auth", "/v1/operations/clients",
            {"name": "Hills", "scopes": ["roster:write", "desk", "operator"], "districts": ["*"], "human": False},
            role="operator",
        )  # fmt: skip
        hills = {
            "HOMEROOM_DISTRICT": "hills",
            "HOMEROOM_CLIENT_ID": client.body["id"],
            "HOMEROOM_CLIENT_SECRET": client.body["secret"],
        }

        async def served() -> bool:
            paths = {"roster": "/persons?number=1", "claims": "/policy", "auth": "/jwks"}
            answers = [
                await town.homeroom.ask("GET", service, f"/v1/districts/hills{path}")
                for service, path in paths.items()
            ]
            return all(answer.status != 404 for answer in answers)

        await town.until(served, "the district to be served")
        dry = await terminal.json("import", "pull", "--full", "--dry-run", **hills)
        assert (dry["state"], dry["counts"]["added"]) == ("done", 60)
        done = await terminal.json("import", "pull", "--full", "--baseline", "--yes", **hills)
        assert (done["state"], done["counts"]["added"], done["pull_full"]) == ("done", 60, True)
        again = await terminal.json("import", "pull", "--yes", **hills)
        assert (again["state"], again["pull_full"], again["counts"].get("added")) == ("done", False, None)
    one = students[5]
    enrolled = {"number": one.number, "last_name": one.last_name, "first_name": one.first_name}
    site = msgspec.structs.replace(town.homeroom.site, district="hills")

    async def claimable() -> bool:
        pupil = Pupil(Homeroom(site, town.homeroom.http).ask, enrolled, town.policy)
        return (await pupil.open_claim()).status == 201

    await town.until(claimable, "claims to hear of the pupil")
    pupil = Pupil(Homeroom(site, town.homeroom.http).ask, enrolled, town.policy)
    assert (await pupil.sign_in(await claim(pupil))).status == 201
