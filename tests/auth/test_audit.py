"""What is written down of who signed in and who was refused, and how the help desk looks it up."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from services.auth import audit
from services.auth.audit import KEPT
from shared.errors import Unavailable
from shared.life import clean_up
from tests.auth.conftest import ANSWERS, DESK, PASSWORD, World
from tests.auth.test_recovery import code_for, forgetful

SCHOOL = "198.51.100.7"


async def lines(
    world: World, path: str = "/audit", scope: str = "desk", **wanted: Any
) -> list[dict[str, Any]]:
    """The oldest first."""
    await world.auth.trail.write(world.kit.db)
    answer = await world.desk("GET", path, scope=scope, params={k: str(v) for k, v in wanted.items()})
    assert answer.status == 200, answer
    return list(reversed(answer.body["lines"]))


async def told(world: World, **wanted: Any) -> list[tuple[str, str]]:
    return [(line["what"], line["outcome"]) for line in await lines(world, **wanted)]


class TestWhatIsWritten:
    async def test_a_sign_in_with_its_person_device_and_network(self, world: World) -> None:
        pupil = await world.claimed()
        agent = "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0)"
        first = await world.sign_in(pupil.username, address=SCHOOL, agent=agent)
        await world.sign_in(pupil.username, address=SCHOOL, device=first.body["device"])
        one, two = await lines(world, what="sign_in")
        assert (one["outcome"], one["person_id"], one["device_kind"]) == (
            "done",
            str(pupil.person_id),
            "Chromebook",
        )
        assert one["network"] == two["network"]
        assert (one["device"], len(two["device"])) == (None, 12)
        assert SCHOOL not in str((one, two))

    async def test_a_refusal_with_the_reference_that_was_shown(self, world: World) -> None:
        pupil = await world.claimed()
        refused = await world.sign_in(pupil.username, "wrong")
        stranger = await world.sign_in("S7654321", "wrong")
        one, two = await lines(world, outcome="authentication_failed")
        assert (one["person_id"], one["reference"]) == (str(pupil.person_id), refused.body["reference"])
        assert (two["person_id"], two["reference"]) == (None, stranger.body["reference"])
        (found,) = await lines(world, reference=refused.body["reference"])
        assert found == one

    async def test_a_pupils_year(self, world: World) -> None:
        pupil = await world.claimed()
        session = await world.session(pupil)
        new = "another horse"
        await world.ask("PUT", "/password", {"current": "wrong", "new": new}, bearer=session)
        await world.ask("PUT", "/password", {"current": PASSWORD, "new": new}, bearer=session)
        await world.ask("DELETE", "/sessions/current", bearer=session)
        browser = await forgetful(world, pupil.username)
        await browser.answer((*ANSWERS[:2], ("favorite_season", "spring")))
        await browser.prove(code=await code_for(world, pupil))
        await browser.set_password("a third horse")
        await world.desk("DELETE", f"/accounts/{pupil.person_id}/lockout")
        await world.desk("DELETE", f"/accounts/{pupil.person_id}/sessions", params={"desk_ticket": "INC-7"})
        assert await told(world, person_id=pupil.person_id) == [
            ("sign_in", "done"),
            ("change_password", "authentication_failed"),
            ("change_password", "done"),
            ("sign_out", "done"),
            ("prove_recovery", "recovery_refused"),
            ("issue_code", "done"),
            ("prove_recovery", "done"),
            ("recover", "done"),
            ("lift_lockout", "done"),
            ("sign_out_everywhere", "done"),
        ]
        (signed_out,) = await lines(world, what="sign_out_everywhere")
        assert signed_out["desk_ticket"] == "INC-7"
        by_desk = await lines(world, what="issue_code")
        assert [(line["actor"], line["actor_name"]) for line in by_desk] == [(DESK, f"{DESK} by name")]

    async def test_clients_and_their_tokens(self, world: World) -> None:
        body = {"name": "portal", "scopes": ["introspect"], "districts": ["ccps"]}
        operator = world.token("operator")
        made = (await world.ask("POST", "/v1/operations/clients", body, bearer=operator)).body
        await world.ask("DELETE", f"/v1/operations/clients/{made['id']}", bearer=operator)
        changed = await lines(world, "/v1/operations/audit", scope="operator")
        assert [(line["what"], line["client"], line["actor"]) for line in changed] == [
            ("create_client", made["id"], DESK), ("remove_client", made["id"], DESK),
        ]  # fmt: skip
        form = {"grant_type": "client_credentials", "client_id": made["id"], "client_secret": made["secret"]}
        for _ in range(3):
            await world.http.post("/v1/districts/ccps/token", data=form)
        assert await told(world, what="token") == [("token", "invalid_client")], (
            "as often as somebody likes to ask"
        )

    async def test_pauses_are_written_once_a_minute_for_a_network(self, world: World) -> None:
        for _ in range(10):
            await world.sign_in("S7654321", "wrong", address=SCHOOL)
        await world.sign_in("S7654321", "wrong", address="203.0.113.9")
        assert await told(world, outcome="sign_in_paused") == [("sign_in", "sign_in_paused")] * 2
        world.later(minutes=2)
        for _ in range(3):
            await world.sign_in("S7654321", "wrong", address=SCHOOL)
        assert len(await told(world, outcome="sign_in_paused")) == 3

    async def test_nothing_that_was_typed_is_in_it(self, world: World) -> None:
        await world.sign_in("canary-username", "canary-password", agent="canary-agent", device="hrd_canary")
        assert "canary" not in str(await world.fetch("SELECT * FROM audit"))
        assert len(await lines(world)) == 1


class TestLookingItUp:
    async def test_page_by_page_the_newest_first(self, world: World) -> None:
        for n in range(5):
            await world.sign_in(f"S765432{n}", "wrong")
        await world.auth.trail.write(world.kit.db)
        seen: list[int] = []
        before: dict[str, str] = {}
        while True:
            page = (await world.desk("GET", "/audit", params={"limit": "2", **before})).body
            seen += [line["audit_id"] for line in page["lines"]]
            if page["next_before"] is None:
                break
            before = {"before": str(page["next_before"])}
        assert len(seen) == 5
        assert seen == sorted(seen, reverse=True)

    async def test_by_time(self, world: World) -> None:
        await world.sign_in("S7654321", "wrong")
        later = world.now() + timedelta(minutes=1)
        world.later(minutes=2)
        await world.sign_in("S7654322", "wrong")
        assert len(await lines(world, since=later.isoformat())) == 1
        assert len(await lines(world, until=later.isoformat())) == 1

    async def test_it_is_the_desks(self, world: World) -> None:
        for scope in ("teacher", "introspect"):
            assert (await world.desk("GET", "/audit", scope=scope)).reason == (403, "scope_missing")

    async def test_after_ninety_days_it_is_gone(self, world: World) -> None:
        await world.sign_in("S7654321", "wrong")
        await world.auth.trail.write(world.kit.db)
        world.later(days=KEPT.days - 1)
        await clean_up(world.kit)
        assert len(await world.fetch("SELECT FROM audit")) == 1
        world.later(days=2)
        await clean_up(world.kit)
        assert await world.fetch("SELECT FROM audit") == []


class TestTheTrail:
    async def test_a_process_that_is_asked_to_stop_writes_what_it_has(self, world: World) -> None:
        writing = asyncio.create_task(world.auth.trail.keep_written(world.kit.db, pause_s=60))
        await asyncio.sleep(0)
        await world.sign_in("S7654321", "wrong")
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert len(await world.fetch("SELECT FROM audit")) == 1

    async def test_what_could_not_be_written_is_written_later(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await world.sign_in("S7654321", "wrong")
        with monkeypatch.context() as away:
            away.setattr(world.kit.db, "connection", _away)
            with pytest.raises(Unavailable):
                await world.auth.trail.write(world.kit.db)
        assert len(await lines(world)) == 1

    async def test_it_is_bounded(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(audit, "HELD", 2)
        for n in range(4):
            await world.sign_in(f"S765432{n}", "wrong")
        assert len(await lines(world)) == 2


def _away() -> Any:
    raise Unavailable("postgres")
