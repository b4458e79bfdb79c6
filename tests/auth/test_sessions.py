"""Signing in and out, as a pupil's browser meets it; what a session is worth; the password while signed in."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from services.auth import activity, sessions
from services.auth.activity import Tally
from services.auth.passwords import Hasher, HashPool, Peppers, Strength
from shared.database import Database
from shared.errors import Unavailable
from tests.auth.conftest import LIGHT, PASSWORD, World, write_peppers


class TestSigningIn:
    async def test_the_right_password_opens_a_session(self, world: World) -> None:
        pupil = await world.claimed()
        answer = await world.sign_in(pupil.username)
        assert answer.status == 201
        assert answer.body.keys() == {
            "session",
            "expires_at",
            "person_id",
            "username",
            "must_change",
            "device",
        }
        assert (answer.body["person_id"], answer.body["username"]) == (str(pupil.person_id), "S0123456")
        assert answer.body["must_change"] is False
        shown = await world.ask("GET", "/sessions/current", bearer=answer.body["session"])
        assert (shown.status, shown.body["username"]) == (200, "S0123456")

    @pytest.mark.parametrize("username", ["s0123456", " S0123456 ", "S０１２３４５６"])
    async def test_the_username_is_what_the_pupil_means(self, world: World, username: str) -> None:
        await world.claimed()
        assert (await world.sign_in(username)).status == 201

    @pytest.mark.parametrize("username", ["e12345", "E12345", " ｅ12345 "])
    async def test_staff_signs_in_with_the_employee_number(self, world: World, username: str) -> None:
        grace = await world.claimed("e12345")
        answer = await world.sign_in(username)
        assert (answer.status, answer.body["username"]) == (201, "e12345")
        shown = await world.ask("GET", "/sessions/current", bearer=answer.body["session"])
        assert (shown.body["person_id"], shown.body["username"]) == (str(grace.person_id), "e12345")

    @pytest.mark.parametrize("password", ["Correct horse", "correct horse ", "", "correct  horse"])
    async def test_the_password_is_exact(self, world: World, password: str) -> None:
        pupil = await world.claimed()
        assert (await world.sign_in(pupil.username, password)).reason == (401, "authentication_failed")

    async def test_every_wrong_credential_has_one_text_and_only_the_desk_sees_which(
        self, world: World
    ) -> None:
        pupil = await world.claimed()
        unclaimed = await world.enroll("0123457")
        tried = [
            ("wrong_password", pupil.username, "not the horse"),
            ("not_claimed", unclaimed.username, PASSWORD),
            ("username_unknown", "S7654321", PASSWORD),
            ("username_unknown", "e99999", PASSWORD),
            ("username_unknown", "0123456", PASSWORD),
            ("username_unknown", "mary-ann's password", PASSWORD),
            ("username_unknown", "", PASSWORD),
        ]
        bodies = set()
        for cause, username, password in tried:
            answer = await world.sign_in(username, password)
            truth = await world.truth(answer)
            assert truth["detail"]["cause"] == cause
            assert username == "" or username not in str(truth)
            bodies.add(tuple(sorted({**answer.body, "reference": ""}.items())))
        assert len(bodies) == 1
        assert (await world.truth(await world.sign_in(pupil.username, "wrong")))["person_id"] == str(
            pupil.person_id
        )

    async def test_a_changed_number_changes_the_username_and_sessions_stay(self, world: World) -> None:
        pupil = await world.claimed()
        session = await world.session(pupil)
        await world.renumber(pupil, "0999999")
        assert (await world.sign_in("S0123456")).status == 401
        assert (await world.sign_in("S0999999")).status == 201
        shown = await world.ask("GET", "/sessions/current", bearer=session)
        assert (shown.status, shown.body["username"]) == (200, "S0999999")

    async def test_of_two_live_accounts_under_one_number_the_first_keeps_signing_in(
        self, world: World
    ) -> None:
        """Two numbers are swapped, and only one of the events has come: the newcomer waits for the other."""
        one, two = await world.claimed(), await world.claimed("0123457", "another horse")
        session = await world.session(two, "another horse")
        await world.renumber(two, one.number)
        assert (await world.sign_in(one.username)).status == 201
        refused = await world.sign_in(one.username, "another horse")
        assert refused.reason == (401, "authentication_failed")
        truth = await world.truth(refused)
        assert truth["person_id"] == str(one.person_id)
        assert truth["detail"]["same_number"] == [str(two.person_id)]
        assert await world.alive(session)
        await world.renumber(one, "0123457")
        assert (await world.sign_in(one.username)).status == 201
        assert (await world.sign_in(two.username, "another horse")).status == 201

    async def test_who_has_left_makes_room_for_who_was_given_the_number(self, world: World) -> None:
        one, two = await world.claimed(), await world.claimed("0123457", "another horse")
        await world.renumber(two, one.number)
        await world.withdraw(one)
        assert (await world.sign_in(one.username, "another horse")).status == 201

    async def test_a_newcomer_who_has_not_claimed_disturbs_nobody(self, world: World) -> None:
        one = await world.claimed()
        await world.renumber(await world.enroll("0123457"), one.number)
        assert (await world.sign_in(one.username)).status == 201


async def in_processes_of_their_own(key: bytes, work: Callable[[], Awaitable[Any]]) -> Any:
    """Nobody takes turns with anybody in the same process."""
    return await work()


class TestPauses:
    async def fail(self, world: World, username: str, times: int) -> None:
        for _ in range(times):
            assert (await world.sign_in(username, "wrong")).status == 401

    @pytest.mark.parametrize("exists", [True, False])
    async def test_they_grow_and_end_by_themselves_whether_the_account_exists_or_not(
        self, world: World, exists: bool
    ) -> None:
        if exists:
            await world.claimed()
        await self.fail(world, "S0123456", 4)
        answer = await world.sign_in("s0123456")
        assert answer.reason == (429, "sign_in_paused")
        assert answer.headers["Retry-After"] == "2"
        world.later(seconds=2)
        await self.fail(world, "S0123456", 1)
        assert (await world.sign_in("S0123456")).headers["Retry-After"] == "4"
        world.later(seconds=4)
        assert (await world.sign_in("S0123456")).status == (201 if exists else 401)

    async def test_the_right_password_ends_the_count(self, world: World) -> None:
        await world.claimed()
        await self.fail(world, "S0123456", 3)
        assert (await world.sign_in("S0123456")).status == 201
        await self.fail(world, "S0123456", 3)
        assert (await world.sign_in("S0123456")).status == 201

    @pytest.mark.parametrize(("failures", "pause"), [(49, "60"), (50, "60"), (51, "600"), (1000, "600")])
    async def test_they_are_a_minute_at_most_until_it_is_a_siege(
        self, world: World, failures: int, pause: str
    ) -> None:
        await world.fetch(
            "INSERT INTO wrong_password VALUES ($1, $2, $3)",
            world.auth.account(world.kit.policies.get("ccps"), "S0123456"), failures, world.now(),
        )  # fmt: skip
        assert (await world.sign_in("S0123456")).headers["Retry-After"] == pause

    async def test_a_day_later_nothing_counts(self, world: World) -> None:
        await world.claimed()
        await self.fail(world, "S0123456", 3)
        world.later(days=1)
        await self.fail(world, "S0123456", 3)
        assert (await world.sign_in("S0123456")).status == 201

    async def test_guesses_sent_at_once_are_judged_one_after_another(self, world: World) -> None:
        await world.claimed()
        answers = await asyncio.gather(*(world.sign_in("S0123456", f"guess {n}") for n in range(20)))
        assert sorted(a.status for a in answers) == [401] * 4 + [429] * 16

    @pytest.mark.parametrize("exists", [True, False])
    async def test_guesses_in_several_processes_at_once_take_turns_too(
        self, world: World, monkeypatch: pytest.MonkeyPatch, exists: bool
    ) -> None:
        if exists:
            await world.claimed()
        await self.fail(world, "S0123456", 4)
        world.later(seconds=2)
        monkeypatch.setattr(world.auth.turns, "take", in_processes_of_their_own)
        answers = await asyncio.gather(*(world.sign_in("S0123456", f"guess {n}") for n in range(20)))
        assert sorted(a.status for a in answers) == [401] + [429] * 19
        assert {a.body["reason"] for a in answers if a.status == 429} == {"sign_in_paused"}
        (counted,) = await world.fetch("SELECT count FROM wrong_password")
        assert counted["count"] == 5

    async def test_one_accounts_pause_is_nobody_elses(self, world: World) -> None:
        await world.claimed("0123457")
        await self.fail(world, "S0123456", 4)
        assert (await world.sign_in("S0123457")).status == 201


class TestTheHashPool:
    async def test_what_it_cannot_take_is_told_to_come_again(self, world: World) -> None:
        await world.claimed()
        world.auth.hasher.pool.pending = world.auth.hasher.pool.limit
        answer = await world.sign_in("S0123456")
        assert answer.reason == (503, "unavailable")
        assert answer.headers["Retry-After"] == "2"
        world.auth.hasher.pool.pending = 0
        assert (await world.sign_in("S0123456")).status == 201

    @pytest.mark.parametrize(
        ("peppers", "strength"), [(("p2", "p1"), LIGHT), (("p1",), Strength(memory_kib=128, passes=1))]
    )
    async def test_signing_in_moves_a_verifier_on(
        self, world: World, tmp_path: Path, peppers: tuple[str, ...], strength: Strength
    ) -> None:
        await world.claimed()
        (before,) = await world.fetch("SELECT password, answers FROM vault")
        file = write_peppers(tmp_path / "rotated", *peppers)
        object.__setattr__(world.auth, "hasher", Hasher(Peppers.read(file), HashPool(2), strength))
        assert (await world.sign_in("S0123456", "wrong")).status == 401
        assert await world.fetch("SELECT password, answers FROM vault") == [before]
        assert (await world.sign_in("S0123456")).status == 201
        (after,) = await world.fetch("SELECT password, answers FROM vault")
        assert after["password"] != before["password"]
        assert not world.auth.hasher.outdated(after["password"])
        assert (await world.sign_in("S0123456")).status == 201


class TestSessions:
    async def test_signing_out_ends_this_one_only(self, world: World) -> None:
        pupil = await world.claimed()
        here, there = await world.session(pupil), await world.session(pupil)
        assert (await world.ask("DELETE", "/sessions/current", bearer=here)).status == 204
        assert (await world.ask("DELETE", "/sessions/current", bearer=here)).reason == (401, "token_invalid")
        assert await world.alive(there)

    async def test_an_idle_one_ends_and_a_used_one_goes_on(self, world: World) -> None:
        pupil = await world.claimed()
        idle, used = await world.session(pupil), await world.session(pupil)
        world.later(minutes=59)
        assert await world.alive(used)
        world.later(minutes=2)
        assert not await world.alive(idle)
        assert await world.alive(used)

    async def test_none_lives_longer_than_twelve_hours(self, world: World) -> None:
        session = await world.session(await world.claimed())
        for _ in range(23):
            world.later(minutes=31)
            assert await world.alive(session)
        world.later(minutes=7)
        assert not await world.alive(session)

    async def test_its_use_is_written_down_once_a_minute(self, world: World) -> None:
        session = await world.session(await world.claimed())
        seen = []
        for _ in range(4):
            world.later(seconds=30)
            await world.alive(session)
            await world.auth.uses.write(world.kit.db)
            seen += await world.fetch("SELECT last_seen_at FROM session")
        assert len({row["last_seen_at"] for row in seen}) == 3, (
            "the first half minute moves nothing, then every other"
        )

    async def test_another_district_knows_nothing_of_it(self, world: World) -> None:
        session = await world.session(await world.claimed())
        policies = world.kit.policies
        policies._policies["elsewhere"] = replace(policies.get("ccps"), district="elsewhere")
        answer = await world.ask("GET", "/v1/districts/elsewhere/sessions/current", bearer=session)
        assert answer.reason == (401, "token_invalid")

    @pytest.mark.parametrize("token", ["hrs_nonsense", "nonsense", "hrs_" + "x" * 4000])
    async def test_an_unknown_token(self, world: World, token: str) -> None:
        answer = await world.ask("GET", "/sessions/current", bearer=token)
        assert answer.reason == (401, "token_invalid")

    async def test_the_desk_signs_a_pupil_out_everywhere(self, world: World) -> None:
        pupil = await world.claimed()
        session = await world.session(pupil)
        assert (await world.desk("DELETE", f"/accounts/{pupil.person_id}/sessions")).status == 204
        assert not await world.alive(session)
        nobody = await world.desk("DELETE", f"/accounts/{UUID(int=1)}/sessions")
        assert nobody.reason == (404, "person_unknown")
        refused = await world.desk("DELETE", f"/accounts/{pupil.person_id}/sessions", scope="teacher")
        assert refused.reason == (403, "scope_missing")


class TestChangingThePassword:
    async def test_other_sessions_end_and_this_one_stays(self, world: World) -> None:
        pupil = await world.claimed()
        here, there = await world.session(pupil), await world.session(pupil)
        answer = await world.ask(
            "PUT", "/password", {"current": PASSWORD, "new": "another horse"}, bearer=here
        )
        assert answer.status == 204
        assert await world.alive(here)
        assert not await world.alive(there)
        assert (await world.sign_in(pupil.username)).status == 401
        assert (await world.sign_in(pupil.username, "another horse")).status == 201
        changed = (await world.events(pupil.person_id))[-1]
        assert (changed.cause, changed.actor) == ("change", "self")

    @pytest.mark.parametrize(
        ("new", "reason"),
        [("short", "password_short"), (PASSWORD, "password_used_before"), ("oneil123", "password_common")],
    )
    async def test_the_new_one_keeps_the_rules(self, world: World, new: str, reason: str) -> None:
        session = await world.session(await world.claimed())
        answer = await world.ask("PUT", "/password", {"current": PASSWORD, "new": new}, bearer=session)
        assert answer.reason == (422, reason)

    async def test_who_does_not_know_the_present_one_is_refused_and_counted(self, world: World) -> None:
        pupil = await world.claimed()
        session = await world.session(pupil)
        body = {"current": "wrong", "new": "another horse"}
        for _ in range(4):
            assert (await world.ask("PUT", "/password", body, bearer=session)).reason == (
                403,
                "authentication_failed",
            )
        assert (await world.ask("PUT", "/password", body, bearer=session)).reason == (429, "sign_in_paused")
        elsewhere = await world.session(pupil)
        right = {"current": PASSWORD, "new": "another horse"}
        assert (await world.ask("PUT", "/password", right, bearer=elsewhere)).status == 204

    async def test_who_guesses_elsewhere_keeps_nobody_who_is_signed_in_from_changing(
        self, world: World
    ) -> None:
        pupil = await world.claimed()
        session = await world.session(pupil)
        for _ in range(4):
            await world.sign_in(pupil.username, "wrong")
        body = {"current": PASSWORD, "new": "another horse"}
        assert (await world.ask("PUT", "/password", body, bearer=session)).status == 204

    async def test_guesses_in_several_processes_at_once_take_turns(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        session = await world.session(await world.claimed())
        wrong = {"current": "wrong", "new": "another horse"}
        for _ in range(4):
            await world.ask("PUT", "/password", wrong, bearer=session)
        world.later(seconds=2)
        monkeypatch.setattr(world.auth.turns, "take", in_processes_of_their_own)
        answers = await asyncio.gather(
            *(world.ask("PUT", "/password", wrong, bearer=session) for _ in range(10))
        )
        assert sorted(a.status for a in answers) == [403] + [429] * 9

    async def test_the_present_password_ends_the_count_also_where_the_new_one_is_refused(
        self, world: World
    ) -> None:
        session = await world.session(await world.claimed())
        await world.ask("PUT", "/password", {"current": "wrong", "new": "another horse"}, bearer=session)
        for _ in range(6):
            refused = await world.ask(
                "PUT", "/password", {"current": PASSWORD, "new": "short"}, bearer=session
            )
            assert refused.reason == (422, "password_short")
        assert await world.fetch("SELECT FROM wrong_password") == []

    async def test_sent_again_it_is_done_already(self, world: World) -> None:
        pupil = await world.claimed()
        session = await world.session(pupil)
        body = {"current": PASSWORD, "new": "another horse"}
        for _ in range(2):
            assert (await world.ask("PUT", "/password", body, bearer=session)).status == 204
        assert (await world.kinds(pupil)).count("PasswordChanged") == 1

    async def test_a_double_click_changes_once(self, world: World) -> None:
        pupil = await world.claimed()
        session = await world.session(pupil)
        body = {"current": PASSWORD, "new": "another horse"}
        answers = await asyncio.gather(
            *(world.ask("PUT", "/password", body, bearer=session) for _ in range(3))
        )
        assert [a.status for a in answers] == [204] * 3
        assert (await world.kinds(pupil)).count("PasswordChanged") == 1

    async def test_who_was_faster_in_another_process_wins(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pupil = await world.claimed()
        one, two = await world.session(pupil), await world.session(pupil)
        replace_password = sessions.replace_password

        async def slower(*args: object, **named: object) -> None:
            monkeypatch.setattr(sessions, "replace_password", replace_password)
            object.__setattr__(world.auth, "turns", type(world.auth.turns)())
            body = {"current": PASSWORD, "new": "the faster horse"}
            assert (await world.ask("PUT", "/password", body, bearer=two)).status == 204
            await replace_password(*args, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(sessions, "replace_password", slower)
        answer = await world.ask(
            "PUT", "/password", {"current": PASSWORD, "new": "the slower horse"}, bearer=one
        )
        assert answer.reason == (403, "authentication_failed")
        assert (await world.sign_in(pupil.username, "the faster horse")).status == 201

    async def test_old_passwords_are_refused_for_ninety_days_and_then_forgotten(self, world: World) -> None:
        pupil = await world.claimed()
        session = await world.session(pupil)
        body = {"current": PASSWORD, "new": "another horse"}
        assert (await world.ask("PUT", "/password", body, bearer=session)).status == 204
        back = {"current": "another horse", "new": PASSWORD}
        assert (await world.ask("PUT", "/password", back, bearer=session)).reason == (
            422,
            "password_used_before",
        )
        world.later(days=90, minutes=1)
        session = await world.session(pupil, "another horse")
        assert (await world.ask("PUT", "/password", back, bearer=session)).status == 204
        assert len(await world.fetch("SELECT FROM vault")) == 2


async def test_sign_ins_are_counted_by_the_minute_in_every_process(world: World) -> None:
    """Also while PostgreSQL is away: what was counted waits."""
    pupil = await world.claimed()
    await world.session(pupil)
    await world.sign_in(pupil.username, "wrong horse")
    await world.sign_in("S9999999", "wrong horse")
    other = Tally()
    other.add("ccps", world.now(), refused=False)
    away = Database("postgresql://127.0.0.1:1/away", max_size=1, application_name="test")
    with pytest.raises(Unavailable):
        await world.auth.tally.flush(away)
    for tally in (world.auth.tally, other, other):
        await tally.flush(world.kit.db)
    shown = (await world.desk("GET", "/activity?minutes=3")).body["minutes"]
    assert len(shown) == 3
    assert [sum(minute[what] for minute in shown) for what in ("done", "refused")] == [2, 2]
    world.later(minutes=10)
    later = (await world.desk("GET", "/activity?minutes=3")).body["minutes"]
    assert [(minute["done"], minute["refused"]) for minute in later] == [(0, 0)] * 3


def test_what_waits_to_be_counted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "WAITING_MAX", 1)
    tally, now = Tally(), datetime(2026, 8, 3, 7, 30, tzinfo=UTC)
    for _ in range(3):
        tally.add("ccps", now, refused=False)
        tally.add("ccps", now + timedelta(minutes=1), refused=False)
    assert list(tally.counts.values()) == [3]
