"""Attacks on passwords, and that nobody but the attacker's own device pays for them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.auth import devices, pauses
from services.auth.devices import Device
from services.auth.passwords import Hasher, Peppers
from services.auth.pauses import Failures, Level
from shared.policies import load_policy
from shared.settings import Settings
from tests.auth.conftest import World, differing

POLICY = load_policy(Settings(service="auth", postgres="", kafka="").policy_dir / "ccps.toml")
RULE = POLICY.sign_in
T0 = datetime(2026, 9, 1, 12, tzinfo=UTC)
PEPPERS = Peppers({"p1": b"p" * 16})
SCHOOL, HOME = "198.51.100.7", "203.0.113.9"


def tight(world: World, **rules: int) -> None:
    """Smaller budgets, so that an attack is short."""
    differing(world.kit, sign_in=replace(world.kit.policies.get("ccps").sign_in, **rules))


async def spray(world: World, addresses: list[str], first: int = 5_000_000, **come: str) -> list[int]:
    """One password over many accounts; the statuses."""
    return [
        (await world.sign_in(f"S{first + n}", "Winter2026!", address=address, **come)).status
        for n, address in enumerate(addresses)
    ]


class TestAKnownDevice:
    async def test_it_signs_in_while_others_guess(self, world: World) -> None:
        """A classmate types wrong passwords for hours: the pupil's own device does not notice."""
        pupil = await world.claimed()
        own = await world.own_device(pupil)
        for _ in range(6):
            await world.sign_in(pupil.username, "a classmate's guess")
        assert (await world.sign_in(pupil.username)).reason == (429, "sign_in_paused")
        assert (await world.sign_in(pupil.username, device=own)).status == 201

    async def test_it_pays_for_its_own_wrong_passwords_alone(self, world: World) -> None:
        pupil = await world.claimed()
        own, other = await world.own_device(pupil), await world.own_device(pupil)
        for _ in range(4):
            assert (await world.sign_in(pupil.username, "wrong", device=own)).status == 401
        assert (await world.sign_in(pupil.username, device=own)).headers["Retry-After"] == "2"
        assert (await world.sign_in(pupil.username, device=other)).status == 201
        assert (await world.sign_in(pupil.username)).status == 201
        world.later(seconds=2)
        assert (await world.sign_in(pupil.username, device=own)).status == 201
        assert await world.fetch("SELECT FROM wrong_password") == []

    async def test_a_guess_on_it_waits_a_minute_at_most(self, world: World) -> None:
        pupil = await world.claimed()
        own = await world.own_device(pupil)
        device = devices.read(world.auth.hasher.peppers, world.kit.policies.get("ccps"), own, world.now())
        assert device is not None
        key = world.auth.account(world.kit.policies.get("ccps"), pupil.username)
        await world.fetch("INSERT INTO wrong_password VALUES ($1, 1000, $2, $3)", key, world.now(), device.id)
        assert (await world.sign_in(pupil.username, device=own)).headers["Retry-After"] == "60"

    async def test_it_is_known_to_who_signed_in_on_it_and_to_nobody_else(self, world: World) -> None:
        mary, li = await world.claimed(), await world.claimed("0123457")
        shared_tablet = await world.own_device(li)
        for _ in range(4):
            await world.sign_in(mary.username, "wrong")
        assert (await world.sign_in(mary.username, device=shared_tablet)).status == 429
        assert (await world.sign_in(li.username, device=shared_tablet)).status == 201

    async def test_one_token_serves_everybody_on_a_shared_tablet(self, world: World) -> None:
        mary, li = await world.claimed(), await world.claimed("0123457")
        tablet = await world.own_device(mary)
        again = (await world.sign_in(li.username, device=tablet)).body["device"]
        for pupil in (mary, li):
            for _ in range(4):
                await world.sign_in(pupil.username, "wrong")
            assert (await world.sign_in(pupil.username, device=again)).status == 201
            assert (await world.sign_in(pupil.username, device=tablet)).status == 201

    async def test_who_recovers_on_a_device_is_known_there(self, world: World) -> None:
        pupil = await world.claimed()
        code = (await world.desk("POST", f"/accounts/{pupil.person_id}/recovery-codes", {})).body["code"]
        begun = (await world.ask("POST", "/recoveries", {"username": pupil.username})).body
        path, ticket = f"/recoveries/{begun['recovery_id']}", begun["ticket"]
        await world.ask("POST", f"{path}/answers", {"code": code}, bearer=ticket)
        new = {"password": "another horse"}
        answer = await world.ask("PUT", f"{path}/password", new, bearer=ticket)
        for _ in range(4):
            await world.sign_in(pupil.username, "a classmate's guess")
        device = answer.headers["Homeroom-Device"]
        assert (await world.sign_in(pupil.username, "another horse", device=device)).status == 201

    async def test_the_desk_sees_the_pause_and_lifts_it_everywhere(self, world: World) -> None:
        pupil = await world.claimed()
        own = await world.own_device(pupil)
        for device in ("", own):
            for _ in range(4):
                await world.sign_in(pupil.username, "wrong", device=device)
        path = f"/accounts/{pupil.person_id}"
        seen = (await world.desk("GET", path)).body
        assert seen["wrong_passwords"] == 4
        assert datetime.fromisoformat(seen["paused_until"]) > world.now()
        assert (await world.desk("DELETE", f"{path}/lockout")).status == 204
        assert (await world.desk("GET", path)).body["paused_until"] is None
        assert (await world.sign_in(pupil.username)).status == 201
        assert (await world.sign_in(pupil.username, device=own)).status == 201


class TestOneAccountFromManyDevices:
    async def test_all_unknown_devices_share_the_accounts_pause(self, world: World) -> None:
        """A botnet has the account no faster than one machine: its devices, tokens and addresses buy nothing."""
        target = await world.claimed()
        own = await world.own_device(target)
        mules = [await world.claimed(f"600000{n}") for n in range(4)]
        tokens = [await world.own_device(mule) for mule in mules]
        looked_at = 0
        for n in range(60):
            answer = await world.sign_in(
                target.username, f"guess {n}", device=tokens[n % 4], address=f"203.0.113.{n}"
            )
            looked_at += answer.status == 401
            world.later(seconds=10)
        assert looked_at < 20, "in ten minutes"
        assert (await world.sign_in(target.username, device=own)).status == 201

    @pytest.mark.parametrize("exists", [True, False])
    async def test_a_day_of_guessing_brings_little(self, world: World, exists: bool) -> None:
        if exists:
            await world.claimed()
        now, failures, tries = T0, None, 0
        while now < T0 + timedelta(days=1):
            if left := pauses.pause_left(failures, POLICY, now):
                now += left
                continue
            tries += 1
            failures = Failures(tries, now)
        assert tries < 200
        assert (await world.sign_in("S0123456", "wrong")).status == 401


class TestOnePasswordOverManyAccounts:
    async def test_an_unknown_device_with_a_token_has_its_own_budget(self, world: World) -> None:
        tight(world, device_failures=5, device_failures_an_hour=60)
        device = await world.own_device(await world.claimed())
        world.later(minutes=1)
        assert await spray(world, [HOME] * 8, device=device) == [401] * 5 + [429] * 3
        world.later(seconds=61)
        assert await spray(world, [HOME] * 2, device=device) == [401, 429], "it ends by itself"

    async def test_what_a_device_sprayed_keeps_nobody_from_signing_in_on_it_who_did_before(
        self, world: World
    ) -> None:
        tight(world, device_failures=2)
        mary, li = await world.claimed(), await world.claimed("0123457")
        tablet = await world.own_device(mary)
        world.later(minutes=1)
        await spray(world, [SCHOOL] * 4, device=tablet)
        assert (await world.sign_in(li.username, device=tablet)).status == 429
        assert (await world.sign_in(mary.username, device=tablet)).status == 201

    async def test_a_school_behind_the_sprayers_address_is_not_stopped(self, world: World) -> None:
        tight(world, network_failures=5)
        mary, li = await world.claimed(), await world.claimed("0123457")
        known = await world.own_device(mary)
        assert await spray(world, [SCHOOL] * 7) == [401] * 5 + [429] * 2
        assert (await world.sign_in(mary.username, device=known, address=SCHOOL)).status == 201
        assert (await world.sign_in(li.username, address=HOME)).status == 201
        new_browser = await world.sign_in(li.username, address=SCHOOL)
        assert new_browser.reason == (429, "sign_in_paused")
        assert new_browser.headers["Retry-After"] == "30"
        device = new_browser.body["device"]
        assert (await world.sign_in(li.username, address=SCHOOL, device=device)).status == 429, "too early"
        await spray(world, [SCHOOL] * 50, first=6_000_000)
        world.later(seconds=30)
        assert (await world.sign_in(li.username, address=SCHOOL, device=device)).status == 201

    async def test_a_network_is_forgiven_with_time(self, world: World) -> None:
        tight(world, network_failures=2, network_failures_an_hour=60)
        assert await spray(world, [SCHOOL] * 3) == [401, 401, 429]
        world.later(seconds=61)
        assert await spray(world, [SCHOOL] * 2, first=6_000_000) == [401, 429]

    async def test_a_front_end_that_is_none_has_no_word_on_addresses(self, world: World) -> None:
        tight(world, network_failures=2)
        for n in range(3):
            headers = {"Forwarded": f"for=203.0.113.{n}"}
            body = {"username": f"S500000{n}", "password": "wrong"}
            answer = await world.ask("POST", "/sessions", body, headers=headers)
        assert answer.status == 429
        headers = {"Forwarded": "for=203.0.113.9", "Homeroom-Client": world.token("desk")}
        assert (await world.ask("POST", "/sessions", body, headers=headers)).reason == (
            401,
            "client_token_invalid",
        )

    async def test_right_passwords_use_nothing_up(self, world: World) -> None:
        tight(world, network_failures=2)
        pupil = await world.claimed()
        for _ in range(5):
            assert (await world.sign_in(pupil.username, address=SCHOOL)).status == 201
            assert (await world.sign_in(pupil.username, "typed wrong", address=SCHOOL)).status == 401
            assert (await world.sign_in(pupil.username, address=SCHOOL)).status == 201
            world.later(minutes=5)
        (budget,) = await world.fetch("SELECT level FROM failure_budget")
        assert budget["level"] <= 1

    async def test_at_once_from_many_connections_it_is_no_faster(self, world: World) -> None:
        tight(world, network_failures=5)
        await spray(world, [SCHOOL] * 5)
        answers = await asyncio.gather(
            *(world.sign_in(f"S{6_000_000 + n}", "Winter2026!", address=SCHOOL) for n in range(30))
        )
        assert {answer.status for answer in answers} == {429}


class TestEqualWork:
    async def test_known_and_unknown_usernames_cost_the_same_and_answer_the_same(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pupil = await world.claimed()
        unclaimed = await world.enroll("0123457")
        usernames = [pupil.username, unclaimed.username, "S7654321", "e99999", "no username at all"]
        device = await world.own_device(await world.claimed("0123458"))
        world.later(minutes=1)
        tight(world, device_failures=100)
        for come in ({"address": SCHOOL}, {"device": device, "address": HOME}):
            await world.fetch("DELETE FROM wrong_password")
            seen = [await work_of_failing(world, monkeypatch, username, come) for username in usernames]
            assert [(status, hashes) for status, _, _, _, hashes in seen[0]] == [(401, 1)] * 4 + [(429, 0)]
            for username, each in zip(usernames, seen, strict=True):
                assert each == seen[0], username


async def work_of_failing(
    world: World, monkeypatch: pytest.MonkeyPatch, username: str, come: dict[str, str]
) -> list[object]:
    """What each of five wrong passwords comes to: answer, headers, statements, hashes."""
    statements: list[str] = []
    hashes: list[int] = []
    compare = Hasher._matches

    def compared(self: Hasher, *args: Any) -> bool:
        hashes.append(1)
        return compare(self, *args)

    def noted(method: Any) -> Any:
        async def run(self: Any, query: str, *args: Any, **named: Any) -> Any:
            statements.append(query)
            return await method(self, query, *args, **named)

        run.__name__ = method.__name__
        return run

    done: list[object] = []
    with monkeypatch.context() as patched:
        patched.setattr(Hasher, "_matches", compared)
        for name in ("execute", "fetch", "fetchrow", "fetchval"):
            patched.setattr(asyncpg.Connection, name, noted(getattr(asyncpg.Connection, name)))
        for _ in range(5):
            world.auth.remembered.clients.forget_all()  # who asks is remembered for a while, whatever was asked
            answer = await world.sign_in(username, "wrong", **come)
            headers = {
                k: v for k, v in answer.headers.items() if k not in ("Date", "Homeroom-Correlation-Id")
            }
            told = {**answer.body, "reference": ""}
            done.append((answer.status, told, headers, tuple(statements), len(hashes)))
            statements.clear()
            hashes.clear()
    return done


class TestTokens:
    def test_it_names_its_device_for_400_days_after_the_last_sign_in(self) -> None:
        device = Device(b"d" * 16, T0)
        token = devices.issue(PEPPERS, POLICY, device, T0 + timedelta(days=300))
        assert devices.read(PEPPERS, POLICY, token, T0 + timedelta(days=699)) == device
        assert devices.read(PEPPERS, POLICY, token, T0 + timedelta(days=700)) is None

    def test_a_district_does_not_know_anothers(self) -> None:
        token = devices.issue(PEPPERS, POLICY, None, T0)
        assert devices.read(PEPPERS, replace(POLICY, district="elsewhere"), token, T0) is None

    @given(st.integers(0, 67), st.integers(0, 255))
    def test_a_changed_one_is_none(self, at: int, to: int) -> None:
        token = devices.issue(PEPPERS, POLICY, Device(b"d" * 16, T0), T0)
        changed = token[:at] + chr(to) + token[at + 1 :]
        found = devices.read(PEPPERS, POLICY, changed, T0)
        assert found is None or changed == token or found == Device(b"d" * 16, T0)

    @given(st.text())
    def test_any_other_text_is_none(self, text: str) -> None:
        assert devices.read(PEPPERS, POLICY, text, T0) is None
        assert devices.read(PEPPERS, POLICY, devices.PREFIX + text, T0) is None

    @pytest.mark.parametrize(
        ("address", "network"),
        [
            ("203.0.113.9", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("_hidden", "_hidden"),
        ],
    )
    def test_a_network(self, address: str, network: str) -> None:
        assert devices.network_of(address) == network

    @pytest.mark.parametrize(
        ("agent", "kind"),
        [
            ("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36", "Chromebook"),
            ("Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X)", "iPad"),
            ("Mozilla/5.0 (Linux; Android 14; Pixel 8)", "Android"),
            ("Mozilla/5.0 (Windows NT 10.0; Win64; x64)", "Windows"),
            ("curl/8.0", None),
        ],
    )
    async def test_where_i_am_signed_in_says_with_what(
        self, world: World, agent: str, kind: str | None
    ) -> None:
        pupil = await world.claimed()
        session = (await world.sign_in(pupil.username, agent=agent)).body["session"]
        (line,) = (await world.ask("GET", "/sessions", bearer=session)).body["sessions"]
        assert line["device_kind"] == kind


class TestTheRules:
    @given(st.floats(0, 1000), st.integers(0, 100_000), st.integers(0, 100_000), st.integers(1, 5000))
    def test_a_budget_is_forgiven_steadily_and_never_below_nothing(
        self, level: float, one: int, two: int, an_hour: int
    ) -> None:
        budget = Level(level, T0)
        sooner, later = sorted((one, two))
        first = budget.at_moment(an_hour, T0 + timedelta(seconds=sooner))
        second = budget.at_moment(an_hour, T0 + timedelta(seconds=later))
        assert level >= first >= second >= 0

    @given(st.integers(0, 10_000), st.floats(0, 10_000), st.booleans(), st.booleans())
    def test_every_wait_ends_by_itself(self, count: int, level: float, known: bool, stranger: bool) -> None:
        """Whatever was counted: who comes back when told to waits at most as long as the policy says."""
        failures, used = Failures(count, T0), Level(min(level, RULE.network_failures), T0)
        wait = pauses.wait(failures, used, POLICY, T0, known=known, stranger=stranger)
        if wait is not None and not wait.anew:
            now = T0 + wait.left
            for _ in range(3):
                again = pauses.wait(failures, used, POLICY, now, known=known, stranger=stranger)
                if again is None or again.anew:
                    break
                now += again.left
            assert again is None or again.anew

    @given(st.floats(0, 10_000), st.integers(0, 3))
    def test_a_known_device_never_pays_for_a_budget(self, level: float, count: int) -> None:
        failures = Failures(count, T0) if count else None
        assert pauses.wait(failures, Level(level, T0), POLICY, T0, known=True, stranger=True) is None
