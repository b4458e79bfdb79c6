"""The end of a claim, as a pupil's browser meets it, and what claims' decisions do to it."""

import asyncio
from uuid import uuid4

import pytest

from services.auth.consumer import AccountClaimed, ClaimRejected
from services.auth.events import CredentialsSet
from tests.auth.conftest import ANSWERS, PASSWORD, Pupil, World, differing, typed


class TestThePassword:
    async def test_it_is_staged_and_answered_with_an_etag(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        answer = await world.put_password(pupil)
        assert (answer.status, answer.body) == (200, None)
        assert answer.headers["ETag"].startswith('"')
        assert await world.events(pupil.person_id) == []

    async def test_the_same_again_is_the_same(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        first, again = await world.put_password(pupil), await world.put_password(pupil)
        assert first.headers["ETag"] == again.headers["ETag"]

    async def test_a_double_click_is_one_password(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        answers = await asyncio.gather(*(world.put_password(pupil) for _ in range(4)))
        assert len({answer.headers["ETag"] for answer in answers}) == 1
        assert [row["taken"] for row in await world.fetch("SELECT taken FROM staging")] == [1]

    async def test_another_replaces_it(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        first, other = await world.put_password(pupil), await world.put_password(pupil, "another horse")
        assert first.headers["ETag"] != other.headers["ETag"]

    @pytest.mark.parametrize(
        ("password", "reason"),
        [
            ("short", "password_short"),
            ("x" * 257, "password_long"),
            ("iloveyou1", "password_common"),
            ("O'Neil-MaryAnn", "password_common"),
            ("S0123456", "password_common"),
        ],
    )
    async def test_what_is_refused_says_why(self, world: World, password: str, reason: str) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        assert (await world.put_password(pupil, password)).reason == (422, reason)

    async def test_any_characters_are_taken(self, world: World) -> None:
        pupil = await world.enroll()
        await world.claim(pupil, "  Zwölf Kühe 🐄 \t ")
        assert (await world.sign_in(pupil.username, "  Zwo\u0308lf Ku\u0308he 🐄 \t ")).status == 201
        assert (await world.sign_in(pupil.username, "Zwölf Kühe 🐄")).status == 401

    async def test_a_claim_takes_ten(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        for n in range(10):
            assert (await world.put_password(pupil, f"correct horse {n}")).status == 200
        assert (await world.put_password(pupil, "correct horse 9")).status == 200, (
            "the last one again is no new one"
        )
        assert (await world.put_password(pupil, "one too many")).reason == (409, "claim_passwords_used_up")

    async def test_ten_at_once_are_ten(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        answers = await asyncio.gather(*(world.put_password(pupil, f"correct horse {n}") for n in range(15)))
        assert sorted(a.status for a in answers) == [200] * 10 + [409] * 5

    async def test_a_password_of_before_the_reset_is_refused_for_ninety_days(self, world: World) -> None:
        pupil = await world.claimed()
        await world.reset(pupil)
        world.open_claim(pupil)
        answer = await world.put_password(pupil)
        assert answer.reason == (422, "password_used_before")
        assert answer.body["history_days"] == 90
        world.later(days=90, minutes=1)
        world.open_claim(pupil)
        assert (await world.put_password(pupil)).status == 200

    async def test_the_ticket_must_be_of_this_claim(self, world: World) -> None:
        pupil, other = await world.enroll(), await world.enroll("0123457")
        world.open_claim(pupil)
        pupil.ticket = world.open_claim(other)
        assert (await world.put_password(pupil)).reason == (404, "not_found")

    async def test_a_ticket_that_has_ended(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        world.later(minutes=31)
        assert (await world.put_password(pupil)).reason == (409, "claim_expired")
        assert (await world.standing(pupil)).body["state"] == "expired"
        world.later(minutes=30)
        assert (await world.put_password(pupil)).reason == (401, "token_expired")

    async def test_a_ticket_of_an_older_generation(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        await world.reset(pupil)
        assert (await world.put_password(pupil)).reason == (409, "claim_superseded")


class TestTheAnswers:
    async def test_they_complete_the_claim_and_signing_in_works(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        await world.put_password(pupil)
        assert (await world.sign_in(pupil.username)).status == 401
        async with world.answering(pupil):
            answer = await world.put_answers(pupil)
        assert (answer.status, answer.body) == (
            200,
            {"claim_id": str(pupil.claim_id), "state": "completed", "username": "S0123456"},
        )
        assert (await world.sign_in("s0123456")).status == 201
        assert await world.kinds(pupil) == ["CredentialsSet", "CredentialActivated"]

    async def test_again_after_success_is_answered_the_same(self, world: World) -> None:
        pupil = await world.claimed()
        answer = await world.put_answers(pupil)
        assert (answer.status, answer.body["state"]) == (200, "completed")
        assert await world.kinds(pupil) == ["CredentialsSet", "CredentialActivated"]

    async def test_a_double_click_seals_once(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        await world.put_password(pupil)
        async with world.answering(pupil):
            answers = await asyncio.gather(*(world.put_answers(pupil) for _ in range(4)))
        assert [a.status for a in answers] == [200] * 4
        assert await world.kinds(pupil) == ["CredentialsSet", "CredentialActivated"]

    async def test_other_answers_after_the_first_are_not_silently_dropped(self, world: World) -> None:
        pupil = await world.claimed()
        other = (*ANSWERS[:2], ("favorite_season", "spring"))
        assert (await world.put_answers(pupil, other)).reason == (409, "claim_sealed")

    async def test_its_ticket_is_no_way_to_find_them_out_later(self, world: World) -> None:
        """Guesses count as tries at the account's questions, wherever they are made."""
        pupil = await world.claimed()
        for season in ("summer", "winter", "spring", "summer", "winter"):
            guess = (*ANSWERS[:2], ("favorite_season", season))
            assert (await world.put_answers(pupil, guess, etag="*")).reason == (409, "claim_sealed")
        assert (await world.put_answers(pupil)).reason == (409, "claim_sealed")
        begun = (await world.ask("POST", "/recoveries", {"username": pupil.username})).body
        path = f"/recoveries/{begun['recovery_id']}/answers"
        tried = await world.ask("POST", path, {"answers": typed(ANSWERS)}, bearer=begun["ticket"])
        assert (await world.truth(tried))["detail"]["cause"] == "resting"

    async def test_a_repeat_gives_its_try_back(self, world: World) -> None:
        pupil = await world.claimed()
        for _ in range(3):
            answers = await asyncio.gather(*(world.put_answers(pupil) for _ in range(4)))
            assert [answer.status for answer in answers] == [200] * 4

    async def test_while_claims_is_silent_it_is_202_with_a_place_to_ask(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        await world.put_password(pupil)
        answer = await world.put_answers(pupil)
        assert answer.status == 202
        assert answer.headers["Location"] == f"/v1/districts/ccps/claims/{pupil.claim_id}"
        assert answer.body == {
            "claim_id": str(pupil.claim_id), "state": "open", "username": "S0123456", "sealed": True,
        }  # fmt: skip
        assert (await world.standing(pupil)).body["state"] == "open"
        assert (await world.put_password(pupil, "another horse")).reason == (409, "claim_sealed")
        (sealed,) = await world.events(pupil.person_id)
        accepted = AccountClaimed(claim_id=sealed.claim_id, credential_id=sealed.credential_id, generation=0)
        await world.decide(accepted, pupil.person_id)
        assert (await world.standing(pupil)).body["state"] == "completed"
        assert (await world.put_answers(pupil)).status == 200

    async def test_completed_means_that_signing_in_works_so_it_waits_for_the_person(
        self, world: World
    ) -> None:
        """claims may know a pupil before auth does."""
        pupil = await world.enroll()
        rows = await world.fetch("DELETE FROM person RETURNING *")
        world.open_claim(pupil)
        await world.put_password(pupil)

        async def arrive() -> None:
            await asyncio.sleep(0.5)
            await world.fetch(
                "INSERT INTO person SELECT * FROM jsonb_populate_record(null::person, $1::jsonb)",
                rows[0] | {"version": 1},
            )

        arriving = asyncio.create_task(arrive())
        async with world.answering(pupil):
            answer = await world.put_answers(pupil)
        await arriving
        assert (answer.status, answer.body["state"]) == (200, "completed")
        assert (await world.sign_in(pupil.username)).status == 201

    async def test_a_rejected_claim_says_why_and_leaves_nothing(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        await world.put_password(pupil)
        async with world.answering(pupil, reject="waiting_period"):
            answer = await world.put_answers(pupil)
        assert answer.reason == (409, "claim_rejected")
        assert answer.body["cause"] == "waiting_period"
        assert (await world.put_answers(pupil)).reason == (409, "claim_rejected")
        assert (await world.standing(pupil)).body == {
            "claim_id": str(pupil.claim_id), "state": "rejected", "username": "S0123456", "reason": "waiting_period",
        }  # fmt: skip
        assert await world.fetch("SELECT FROM vault") == await world.fetch("SELECT FROM staging") == []

    async def test_two_browsers_one_wins_and_the_other_is_told(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        await world.put_password(pupil, "password of one")
        loser = (pupil.claim_id, pupil.ticket, pupil.etag)
        await world.claim(pupil, "password of two")
        pupil.claim_id, pupil.ticket, pupil.etag = loser
        answer = await world.put_answers(pupil)
        assert answer.reason == (409, "claim_rejected")
        assert answer.body["cause"] == "account_claimed"
        assert (await world.sign_in(pupil.username, "password of two")).status == 201

    async def test_another_tabs_password_in_between(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        await world.put_password(pupil, "password of one")
        one = pupil.etag
        await world.put_password(pupil, "password of two")
        assert (await world.put_answers(pupil, etag=one)).reason == (412, "password_replaced")
        assert await world.kinds(pupil) == []

    async def test_it_must_be_said_which_password_is_meant(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        await world.put_password(pupil)
        assert (await world.put_answers(pupil, etag="")).reason == (428, "if_match_missing")
        assert (await world.put_answers(pupil, etag='W/"x"')).reason == (412, "password_replaced")

    async def test_any_password_may_be_meant(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        await world.put_password(pupil)
        async with world.answering(pupil):
            assert (await world.put_answers(pupil, etag="*")).status == 200

    async def test_there_is_no_claim_without_a_password(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        assert (await world.put_answers(pupil, etag="*")).reason == (409, "password_missing")

    @pytest.mark.parametrize(
        ("answers", "reason"),
        [
            (ANSWERS[:2], "answers_wrong_count"),
            ((ANSWERS[0], ANSWERS[0], ANSWERS[1]), "answers_repeated"),
            ((*ANSWERS[:2], ("favorite_season", "monsoon")), "answer_invalid"),
        ],
    )
    async def test_bad_answers_cost_nothing(self, world: World, answers: object, reason: str) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        await world.put_password(pupil)
        assert (await world.put_answers(pupil, answers)).reason == (422, reason)
        async with world.answering(pupil):
            assert (await world.put_answers(pupil)).status == 200


class TestVerdicts:
    async def test_heard_twice_they_take_effect_once(self, world: World) -> None:
        pupil = await world.claimed()
        sealed = (await world.events(pupil.person_id))[0]
        accepted = AccountClaimed(claim_id=sealed.claim_id, credential_id=sealed.credential_id, generation=0)
        await world.decide(accepted, pupil.person_id)
        rejected = ClaimRejected(
            claim_id=sealed.claim_id, credential_id=sealed.credential_id, reason="account_claimed"
        )
        await world.decide(rejected, pupil.person_id)
        assert await world.kinds(pupil) == ["CredentialsSet", "CredentialActivated"]
        assert (await world.sign_in(pupil.username)).status == 201

    async def test_who_sealed_a_claim_of_a_suspended_account_is_told_so(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        await world.put_password(pupil)
        await world.put_answers(pupil)
        (sealed,) = await world.events(pupil.person_id)
        named = {"claim_id": sealed.claim_id, "credential_id": sealed.credential_id}
        await world.decide(ClaimRejected(**named, reason="claim_superseded", suspended=True), pupil.person_id)
        answer = await world.put_answers(pupil)
        assert answer.reason == (409, "claim_rejected")
        assert answer.body["cause"] == "account_suspended"

    async def test_a_vault_row_that_is_gone_is_reported_lost(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        await world.put_password(pupil)
        assert (await world.put_answers(pupil)).status == 202
        await world.fetch("DELETE FROM vault")
        (sealed,) = await world.events(pupil.person_id)
        accepted = AccountClaimed(claim_id=sealed.claim_id, credential_id=sealed.credential_id, generation=0)
        await world.decide(accepted, pupil.person_id)
        assert await world.kinds(pupil) == ["CredentialsSet", "CredentialLost"]
        assert (await world.put_answers(pupil)).reason == (409, "claim_rejected")
        assert (await world.sign_in(pupil.username)).status == 401

    async def test_a_reset_ends_everything(self, world: World) -> None:
        pupil = await world.claimed()
        session = await world.session(pupil)
        begun = await world.ask("POST", "/recoveries", {"username": pupil.username})
        await world.reset(pupil)
        assert not await world.alive(session)
        assert (await world.sign_in(pupil.username)).status == 401
        assert await world.kinds(pupil) == ["CredentialsSet", "CredentialActivated", "CredentialRevoked"]
        assert (await world.events(pupil.person_id))[-1].sessions_ended == 1
        ticket = begun.body["ticket"]
        path = f"/recoveries/{begun.body['recovery_id']}/answers"
        body = {"answers": [{"question": q, "answer": a} for q, a in ANSWERS]}
        assert (await world.ask("POST", path, body, bearer=ticket)).reason == (403, "recovery_refused")
        (row,) = await world.fetch("SELECT answers, questions FROM vault")
        assert row == {"answers": None, "questions": None}, "only the password is remembered"

    async def test_a_reset_is_answered_also_when_there_was_nothing(self, world: World) -> None:
        pupil = await world.enroll()
        await world.reset(pupil)
        assert await world.kinds(pupil) == ["CredentialRevoked"]

    async def test_a_reset_of_an_unfinished_claim_drops_what_was_staged(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        await world.put_password(pupil)
        await world.reset(pupil)
        assert await world.fetch("SELECT FROM staging") == []
        assert (await world.put_answers(pupil)).reason == (409, "claim_superseded")

    async def test_a_quick_second_claim_outlives_its_own_late_reset(self, world: World) -> None:
        pupil = await world.claimed()
        session = await world.session(pupil)
        pupil.generation = 1  # claims has reset the account and opened a new claim; auth has heard of neither
        world.open_claim(pupil)
        assert (await world.put_password(pupil, "the second horse")).status == 200
        assert (await world.put_answers(pupil)).status == 202
        pupil.generation = 0
        await world.reset(pupil)
        sealed = next(
            e for e in await world.events(pupil.person_id) if e.generation and isinstance(e, CredentialsSet)
        )
        accepted = AccountClaimed(claim_id=sealed.claim_id, credential_id=sealed.credential_id, generation=1)
        await world.decide(accepted, pupil.person_id)
        assert not await world.alive(session)
        assert (await world.sign_in(pupil.username, "the second horse")).status == 201
        assert (await world.sign_in(pupil.username)).status == 401

    async def test_an_unknown_claim_that_was_accepted_is_reported_lost(self, world: World) -> None:
        pupil = await world.enroll()
        await world.decide(
            AccountClaimed(claim_id=uuid4(), credential_id=uuid4(), generation=0), pupil.person_id
        )
        assert await world.kinds(pupil) == ["CredentialLost"]

    async def test_what_is_used_no_more_is_forgotten_in_time(self, world: World) -> None:
        pupil = await world.claimed()
        for n in range(3):
            await world.reset(pupil)
            await world.claim(pupil, f"{PASSWORD} {n}")
            world.later(days=50)
        assert len(await world.fetch("SELECT FROM vault")) == 3


class TestTheCodeOfStaff:
    """Where the district asks for one: the desk's one-time code goes with the password of the claim."""

    async def claiming(self, world: World) -> Pupil:
        differing(world.kit, staff_claim_code="required")
        grace = await world.enroll("e12345")
        world.open_claim(grace, code_required=True)
        return grace

    async def code_for(self, world: World, who: Pupil) -> str:
        answer = await world.desk("POST", f"/accounts/{who.person_id}/recovery-codes", {"desk_ticket": "T-1"})
        assert answer.status == 201, answer
        return str(answer.body["code"])

    async def test_without_it_no_password_is_taken(self, world: World) -> None:
        grace = await self.claiming(world)
        assert (await world.put_password(grace)).reason == (403, "code_required")
        assert (await world.put_password(grace, code="AAAAA-AAAAA")).reason == (403, "code_wrong")
        assert (await world.put_answers(grace, etag="*")).reason == (409, "password_missing")

    async def test_with_it_the_claim_goes_on_and_is_asked_only_once(self, world: World) -> None:
        grace = await self.claiming(world)
        code = await self.code_for(world, grace)
        assert (await world.put_password(grace, "short", code=code)).reason == (422, "password_short")
        assert (await world.put_password(grace, code=code.lower().replace("-", " "))).status == 200
        assert (await world.put_password(grace, "another horse")).status == 200
        async with world.answering(grace):
            assert (await world.put_answers(grace)).status == 200
        assert (await world.sign_in("e12345", "another horse")).status == 201

    async def test_one_code_opens_one_claim(self, world: World) -> None:
        grace = await self.claiming(world)
        code = await self.code_for(world, grace)
        assert (await world.put_password(grace, code=code)).status == 200
        world.open_claim(grace, code_required=True)
        assert (await world.put_password(grace, code=code)).reason == (403, "code_wrong")

    async def test_it_ends_after_its_minutes_and_with_the_next_one(self, world: World) -> None:
        grace = await self.claiming(world)
        first, second = await self.code_for(world, grace), await self.code_for(world, grace)
        assert (await world.put_password(grace, code=first)).reason == (403, "code_wrong")
        world.later(minutes=11)
        assert (await world.put_password(grace, code=second)).reason == (403, "code_wrong")

    async def test_another_persons_code_is_none(self, world: World) -> None:
        grace = await self.claiming(world)
        other = await self.code_for(world, await world.enroll("e54321"))
        assert (await world.put_password(grace, code=other)).reason == (403, "code_wrong")

    async def test_tries_are_bounded_and_the_right_code_comes_too_late_for_that_claim(
        self, world: World
    ) -> None:
        differing(world.kit, claim_passwords=3)
        grace = await self.claiming(world)
        code = await self.code_for(world, grace)
        for _ in range(3):
            assert (await world.put_password(grace, code="AAAAA-AAAAA")).reason == (403, "code_wrong")
        assert (await world.put_password(grace, code=code)).reason == (409, "claim_passwords_used_up")
        world.open_claim(grace, code_required=True)
        assert (await world.put_password(grace, code=code)).status == 200

    async def test_tries_at_once_are_no_more_tries(self, world: World) -> None:
        differing(world.kit, claim_passwords=3)
        grace = await self.claiming(world)
        tries = [world.put_password(grace, code=f"AAAAA-{n:05}") for n in range(8)]
        reasons = [answer.body["reason"] for answer in await asyncio.gather(*tries)]
        assert sorted(reasons) == ["claim_passwords_used_up"] * 5 + ["code_wrong"] * 3

    async def test_a_pupil_is_given_none_to_claim_with(self, world: World) -> None:
        differing(world.kit, staff_claim_code="required")
        pupil = await world.enroll()
        path = f"/accounts/{pupil.person_id}/recovery-codes"
        assert (await world.desk("POST", path, {})).reason == (409, "not_claimed")

    async def test_a_reset_ends_it(self, world: World) -> None:
        grace = await self.claiming(world)
        code = await self.code_for(world, grace)
        await world.reset(grace)
        world.open_claim(grace, code_required=True)
        assert (await world.put_password(grace, code=code)).reason == (403, "code_wrong")
