"""Forgot my password: what a pupil, a stranger and the help desk meet."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from services.auth import upkeep
from services.auth.events import LockoutLifted, RecoveryCodeIssued, RecoveryRested
from tests.auth.conftest import ANSWERS, PASSWORD, Answer, Pupil, World, differing, typed

NEW = "the new horse"
WRONG = (*ANSWERS[:2], ("favorite_season", "spring"))


class Browser:
    """Somebody on the way back in."""

    def __init__(self, world: World, username: str) -> None:
        self.world, self.username = world, username
        self.begun: Any = None

    async def begin(self) -> "Browser":
        answer = await self.world.ask("POST", "/recoveries", {"username": self.username})
        assert answer.status == 201, answer
        self.begun = answer.body
        return self

    @property
    def asked(self) -> list[str]:
        return [question["id"] for question in self.begun["questions"]]

    async def prove(self, **body: Any) -> Answer:
        path = f"/recoveries/{self.begun['recovery_id']}/answers"
        return await self.world.ask("POST", path, body, bearer=self.begun["ticket"])

    async def answer(self, answers: Any = ANSWERS) -> Answer:
        return await self.prove(answers=typed(answers))

    async def set_password(self, password: str = NEW) -> Answer:
        path = f"/recoveries/{self.begun['recovery_id']}/password"
        return await self.world.ask("PUT", path, {"password": password}, bearer=self.begun["ticket"])


async def forgetful(world: World, username: str = "S0123456") -> Browser:
    return await Browser(world, username).begin()


async def code_for(world: World, pupil: Pupil) -> str:
    answer = await world.desk("POST", f"/accounts/{pupil.person_id}/recovery-codes", {"desk_ticket": "T-1"})
    assert answer.status == 201, answer
    return str(answer.body["code"])


class TestTheWayBackIn:
    async def test_three_answers_and_a_new_password(self, world: World) -> None:
        pupil = await world.claimed()
        session = await world.session(pupil)
        browser = await forgetful(world)
        assert browser.asked == [question for question, _ in ANSWERS]
        assert browser.begun["questions"][0]["text"]["es"]
        answer = await browser.answer()
        assert (answer.status, answer.body) == (200, {"state": "opened"})
        assert (await browser.set_password()).status == 204
        assert not await world.alive(session)
        assert (await world.sign_in(pupil.username)).status == 401
        assert (await world.sign_in(pupil.username, NEW)).status == 201
        changed = (await world.events(pupil.person_id))[-1]
        assert (changed.cause, changed.actor) == ("recovery", "self")

    async def test_answers_are_compared_as_people_mean_them(self, world: World) -> None:
        await world.claimed()
        meant = (("favorite_season", " OTOÑO "), ("birth_month", "5"), ("birth_year", "2011"))
        assert (await (await forgetful(world)).answer(meant)).status == 200

    async def test_the_answers_outlive_the_password(self, world: World) -> None:
        await world.claimed()
        for n in range(2):
            browser = await forgetful(world)
            assert (await browser.answer()).status == 200
            assert (await browser.set_password(f"{NEW} {n}")).status == 204

    async def test_every_step_again_is_the_same(self, world: World) -> None:
        pupil = await world.claimed()
        browser = await forgetful(world)
        for _ in range(2):
            assert (await browser.answer()).status == 200
        for _ in range(2):
            assert (await browser.set_password()).status == 204
        answers = await asyncio.gather(*(browser.set_password() for _ in range(3)))
        assert [a.status for a in answers] == [204] * 3
        assert (await world.kinds(pupil)).count("PasswordChanged") == 1
        assert (await browser.set_password("yet another horse")).reason == (403, "recovery_refused")

    async def test_a_double_click_changes_once(self, world: World) -> None:
        pupil = await world.claimed()
        browser = await forgetful(world)
        await browser.answer()
        answers = await asyncio.gather(*(browser.set_password() for _ in range(3)))
        assert [a.status for a in answers] == [204] * 3
        assert (await world.kinds(pupil)).count("PasswordChanged") == 1

    @pytest.mark.parametrize(
        ("new", "reason"), [("short", "password_short"), (PASSWORD, "password_used_before")]
    )
    async def test_the_new_password_keeps_the_rules(self, world: World, new: str, reason: str) -> None:
        await world.claimed()
        browser = await forgetful(world)
        await browser.answer()
        assert (await browser.set_password(new)).reason == (422, reason)
        assert (await browser.set_password()).status == 204

    async def test_it_ends_the_pause_after_wrong_passwords(self, world: World) -> None:
        pupil = await world.claimed()
        for _ in range(4):
            await world.sign_in(pupil.username, "wrong")
        browser = await forgetful(world)
        await browser.answer()
        await browser.set_password()
        assert (await world.sign_in(pupil.username, NEW)).status == 201

    async def test_it_takes_no_more_passwords_than_a_claim(self, world: World) -> None:
        await world.claimed()
        browser = await forgetful(world)
        await browser.answer()
        for _ in range(10):
            assert (await browser.set_password(PASSWORD)).reason == (422, "password_used_before")
        refused = await browser.set_password()
        assert refused.reason == (403, "recovery_refused")
        assert (await world.truth(refused))["detail"]["cause"] == "too_many_passwords"

    async def test_its_ticket_is_no_way_to_find_out_the_password_later(self, world: World) -> None:
        await world.claimed()
        browser = await forgetful(world)
        await browser.answer()
        assert (await browser.set_password()).status == 204
        for n in range(9):
            assert (await browser.set_password(f"a guess {n}")).reason == (403, "recovery_refused")
        assert (await browser.set_password()).reason == (403, "recovery_refused")


class TestRefusals:
    async def test_they_are_all_one_and_the_desk_sees_which(self, world: World) -> None:
        pupil = await world.claimed()
        stranger, known = await forgetful(world, "S7654321"), await forgetful(world)
        refused = {
            "no_account": await stranger.answer(),
            "wrong_answers": await known.answer(WRONG),
            "not_opened": await known.set_password(),
            "code_wrong_or_expired": await known.prove(code="AAAAA-AAAAA"),
        }
        assert (await known.answer()).status == 200
        await world.ask(
            "PUT", "/password", {"current": PASSWORD, "new": NEW}, bearer=await world.session(pupil)
        )
        refused["credential_replaced"] = await known.set_password("yet another horse")
        bodies = {tuple(sorted({**answer.body, "reference": ""}.items())) for answer in refused.values()}
        assert len(bodies) == 1
        assert dict(next(iter(bodies)))["reason"] == "recovery_refused"
        for cause, answer in refused.items():
            assert (await world.truth(answer))["detail"]["cause"] == cause

    @pytest.mark.parametrize("username", ["S7654321", "not a username", "", "S0123457"])
    async def test_who_has_no_account_is_asked_three_questions_too(self, world: World, username: str) -> None:
        await world.enroll("0123457")
        browsers = [await forgetful(world, username), await forgetful(world, username.lower())]
        assert len(set(browsers[0].asked)) == 3
        assert browsers[0].asked == browsers[1].asked, "the same every time"
        assert (await browsers[0].answer([(q, "May") for q in browsers[0].asked])).status in (403, 422)

    async def test_decoys_differ_from_name_to_name(self, world: World) -> None:
        asked = {tuple((await forgetful(world, f"S765432{n}")).asked) for n in range(10)}
        assert len(asked) > 3

    async def test_a_district_may_say_at_once_that_there_is_nothing_to_ask(self, world: World) -> None:
        await world.claimed()
        differing(world.kit, recovery_refusals="guided")
        assert (await world.ask("POST", "/recoveries", {"username": "S0123456"})).status == 201
        answer = await world.ask("POST", "/recoveries", {"username": "S7654321"})
        assert answer.reason == (403, "recovery_refused")
        assert (await world.truth(answer))["detail"]["cause"] == "username_unknown"

    async def test_a_question_that_the_district_dropped_is_asked_no_more(self, world: World) -> None:
        await world.claimed()
        left = [q for q in world.kit.policies.get("ccps").questions if q.id != "birth_month"]
        differing(world.kit, questions=left)
        browser = await forgetful(world)
        assert "birth_month" not in browser.asked
        assert (await browser.answer()).reason == (403, "recovery_refused")

    async def test_what_the_answers_alone_show_to_be_wrong_is_said_and_costs_nothing(
        self, world: World
    ) -> None:
        await world.claimed()
        browser = await forgetful(world)
        for _ in range(6):
            bad = await browser.answer((("birth_month", "Janember"), *ANSWERS[1:]))
            assert bad.reason == (422, "answer_invalid")
            assert (await browser.answer(ANSWERS[:2])).reason == (422, "answers_wrong_count")
        assert (await browser.answer()).status == 200

    async def test_the_ticket_is_of_one_recovery(self, world: World) -> None:
        await world.claimed()
        one, two = await forgetful(world), await forgetful(world)
        one.begun["ticket"] = two.begun["ticket"]
        assert (await one.answer()).reason == (404, "not_found")

    async def test_it_ends_with_its_ticket(self, world: World) -> None:
        await world.claimed()
        browser = await forgetful(world)
        await browser.answer()
        world.later(minutes=31)
        assert (await browser.set_password()).reason == (401, "token_expired")

    @pytest.mark.parametrize("body", [{}, {"answers": [], "code": "x"}])
    async def test_either_answers_or_a_code(self, world: World, body: Any) -> None:
        await world.claimed()
        assert (await (await forgetful(world)).prove(**body)).reason == (422, "invalid_body")


class TestResting:
    @pytest.mark.parametrize("exists", [True, False])
    async def test_after_five_wrong_tries_whatever_the_device_until_the_districts_next_day(
        self, world: World, exists: bool
    ) -> None:
        if exists:
            await world.claimed()
        for _ in range(5):
            assert (await (await forgetful(world)).answer(WRONG)).reason == (403, "recovery_refused")
        refused = await (await forgetful(world, "s0123456")).answer()
        assert refused.reason == (403, "recovery_refused")
        assert (await world.truth(refused))["detail"]["cause"] == "resting"
        world.later(days=1)
        assert (await (await forgetful(world)).answer()).status == (200 if exists else 403)

    async def test_a_hundred_at_once_are_five(self, world: World) -> None:
        await world.claimed()
        browser = await forgetful(world)
        await asyncio.gather(*(browser.answer(WRONG) for _ in range(30)))
        causes = [row["detail"]["cause"] for row in await world.fetch("SELECT detail FROM refusal")]
        assert (causes.count("wrong_answers"), causes.count("resting")) == (5, 25)

    async def test_the_right_answers_give_the_tries_back(self, world: World) -> None:
        await world.claimed()
        for _ in range(3):
            browser = await forgetful(world)
            for _ in range(4):
                await browser.answer(WRONG)
            assert (await browser.answer()).status == 200

    async def test_it_is_recorded_once_of_accounts_that_exist(self, world: World) -> None:
        pupil = await world.claimed()
        for username in ("S0123456", "S7654321"):
            browser = await forgetful(world, username)
            for _ in range(6):
                await browser.answer(WRONG)
        await upkeep.announce(world.auth)
        assert RecoveryRested.__name__ not in await world.kinds(pupil), "the last try may still be under way"
        world.later(seconds=6)
        for _ in range(2):
            await upkeep.announce(world.auth)
        rested = [e for e in await world.events(pupil.person_id) if isinstance(e, RecoveryRested)]
        assert len(rested) == 1
        assert rested[0].until > world.now()
        assert len(await world.fetch("SELECT FROM stream")) == 1

    async def test_a_district_without_a_policy_is_passed_over_until_it_has_one(self, world: World) -> None:
        pupil = await world.claimed()
        browser = await forgetful(world)
        for _ in range(6):
            await browser.answer(WRONG)
        world.later(seconds=6)
        policy = world.kit.policies._policies.pop("ccps")
        await upkeep.announce(world.auth)
        world.kit.policies._policies["ccps"] = policy
        assert RecoveryRested.__name__ not in await world.kinds(pupil)
        await upkeep.announce(world.auth)
        assert RecoveryRested.__name__ in await world.kinds(pupil)

    async def test_the_desk_lifts_it(self, world: World) -> None:
        pupil = await world.claimed()
        for _ in range(5):
            await (await forgetful(world)).answer(WRONG)
        for _ in range(4):
            await world.sign_in(pupil.username, "wrong")
        for _ in range(2):
            answer = await world.desk("DELETE", f"/accounts/{pupil.person_id}/lockout?desk_ticket=T-2")
            assert answer.status == 204
        assert (await (await forgetful(world)).answer()).status == 200
        assert (await world.sign_in(pupil.username)).status == 201
        lifted = [e for e in await world.events(pupil.person_id) if isinstance(e, LockoutLifted)]
        assert lifted == [LockoutLifted(generation=0, actor="desk-1", desk_ticket="T-2")]

    async def test_there_is_nothing_to_lift_of_nobody(self, world: World) -> None:
        assert (await world.desk("DELETE", f"/accounts/{UUID(int=1)}/lockout")).reason == (
            404,
            "person_unknown",
        )


class TestCodes:
    async def test_a_code_opens_the_way_also_while_the_questions_rest(self, world: World) -> None:
        pupil = await world.claimed()
        browser = await forgetful(world)
        for _ in range(5):
            await browser.answer(WRONG)
        code = await code_for(world, pupil)
        assert (await browser.prove(code=code.lower().replace("-", " "))).status == 200
        assert (await browser.set_password()).status == 204
        changed = (await world.events(pupil.person_id))[-1]
        assert (changed.cause, changed.actor) == ("recovery", "code:desk-1")
        timeline = await world.desk("GET", f"/persons/{pupil.person_id}/timeline")
        assert [e["actor_name"] for e in timeline.body["events"][-2:]] == ["desk-1 by name"] * 2

    async def test_it_is_used_once(self, world: World) -> None:
        pupil = await world.claimed()
        code = await code_for(world, pupil)
        browsers = [await forgetful(world) for _ in range(4)]
        answers = await asyncio.gather(*(browser.prove(code=code) for browser in browsers))
        assert sorted(a.status for a in answers) == [200, 403, 403, 403]

    async def test_a_way_back_that_leads_nowhere_any_more_does_not_use_it_up(self, world: World) -> None:
        pupil = await world.claimed()
        stale, session = await forgetful(world), await world.session(pupil)
        change = {"current": PASSWORD, "new": "another horse"}
        assert (await world.ask("PUT", "/password", change, bearer=session)).status == 204
        code = await code_for(world, pupil)
        refused = await stale.prove(code=code)
        assert refused.reason == (403, "recovery_refused")
        assert (await world.truth(refused))["detail"]["cause"] == "credential_replaced"
        assert (await (await forgetful(world)).prove(code=code)).status == 200

    async def test_another_replaces_it(self, world: World) -> None:
        pupil = await world.claimed()
        first, second = await code_for(world, pupil), await code_for(world, pupil)
        browser = await forgetful(world)
        assert (await browser.prove(code=first)).reason == (403, "recovery_refused")
        assert (await browser.prove(code=second)).status == 200

    async def test_it_lives_ten_minutes(self, world: World) -> None:
        pupil = await world.claimed()
        code = await code_for(world, pupil)
        browser = await forgetful(world)
        world.later(minutes=10)
        assert (await browser.prove(code=code)).reason == (403, "recovery_refused")

    async def test_it_is_of_one_pupil(self, world: World) -> None:
        pupil, _ = await world.claimed(), await world.claimed("0123457", "another horse")
        code = await code_for(world, pupil)
        for username in ("S0123457", "S7654321"):
            assert (await (await forgetful(world, username)).prove(code=code)).reason == (
                403,
                "recovery_refused",
            )

    async def test_it_dies_with_a_reset(self, world: World) -> None:
        pupil = await world.claimed()
        code = await code_for(world, pupil)
        await world.reset(pupil)
        await world.claim(pupil, "another horse")
        assert (await (await forgetful(world)).prove(code=code)).reason == (403, "recovery_refused")

    async def test_it_is_shown_once_and_who_gave_it_is_recorded(self, world: World) -> None:
        pupil = await world.claimed()
        key = {"Idempotency-Key": "k1"}
        path = f"/accounts/{pupil.person_id}/recovery-codes"
        first = await world.desk("POST", path, {"desk_ticket": "T-1"}, headers=key)
        again = await world.desk("POST", path, {"desk_ticket": "T-1"}, headers=key)
        assert (first.status, again.reason) == (201, (409, "reply_withheld"))
        issued = [e for e in await world.events(pupil.person_id) if isinstance(e, RecoveryCodeIssued)]
        assert [(e.actor, e.desk_ticket) for e in issued] == [("desk-1", "T-1")]

    async def test_there_is_none_for_who_has_not_claimed_or_is_unknown(self, world: World) -> None:
        pupil = await world.enroll()
        path = "/accounts/{}/recovery-codes"
        assert (await world.desk("POST", path.format(pupil.person_id), {})).reason == (409, "not_claimed")
        assert (await world.desk("POST", path.format(UUID(int=1)), {})).reason == (404, "person_unknown")
        assert (await world.desk("POST", path.format("x"), {})).reason == (404, "not_found")
