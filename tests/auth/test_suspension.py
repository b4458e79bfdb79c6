"""A suspended account opens to nobody, tells only its own person, and is as it was when it is restored."""

from typing import Any

import pytest

from services.auth import sessions
from services.auth.decider import State
from tests.auth.conftest import ANSWERS, PASSWORD, Answer, Pupil, World, typed

NEW = "quite another horse"


async def introspected(world: World, session: str) -> Any:
    bearer = world.token("introspect")
    headers = {"Authorization": f"Bearer {bearer}"}
    async with world.http.post(
        "/v1/districts/ccps/introspect", data={"token": session}, headers=headers
    ) as response:
        assert response.status == 200
        return (await response.json())["active"]


async def begin_recovery(world: World, pupil: Pupil) -> tuple[str, str]:
    begun = await world.ask("POST", "/recoveries", {"username": pupil.username})
    assert begun.status == 201
    return f"/recoveries/{begun.body['recovery_id']}", begun.body["ticket"]


async def test_sessions_end_at_once_and_the_right_password_is_told(world: World) -> None:
    pupil = await world.claimed()
    session = await world.session(pupil)
    assert await introspected(world, session)
    await world.suspend(pupil)
    assert not await world.alive(session)
    assert not await introspected(world, session)
    refused = await world.sign_in(pupil.username)
    assert refused.reason == (403, "account_suspended")
    assert "person_id" not in refused.body
    assert (await world.truth(refused))["person_id"] == str(pupil.person_id)
    suspended = (await world.events(pupil.person_id))[-1]
    assert (suspended.cause, suspended.sessions_ended) == ("withdrawn", 1)


async def test_a_wrong_password_learns_nothing(world: World) -> None:
    pupil = await world.claimed()

    async def wrong(username: str) -> dict[str, Any]:
        answer = await world.sign_in(username, "wrong")
        assert answer.reason == (401, "authentication_failed")
        return {**answer.body, "reference": ""}

    before = await wrong(pupil.username)
    await world.suspend(pupil)
    assert before == await wrong(pupil.username) == await wrong("S7777777")


async def test_the_right_password_ends_the_pause_as_ever(world: World) -> None:
    pupil = await world.claimed()
    await world.suspend(pupil)
    for _ in range(3):
        await world.sign_in(pupil.username, "wrong")
    assert (await world.sign_in(pupil.username)).status == 403
    assert (await world.sign_in(pupil.username, "wrong")).status == 401
    assert (await world.sign_in(pupil.username)).status == 403


async def test_it_opens_again_with_the_same_password_and_no_older_session(world: World) -> None:
    pupil = await world.claimed()
    session = await world.session(pupil)
    await world.suspend(pupil)
    await world.restore(pupil)
    assert not await world.alive(session)
    assert await world.alive(await world.session(pupil))
    kinds = await world.kinds(pupil)
    assert kinds[-2:] == ["CredentialSuspended", "CredentialRestored"]


async def test_a_session_that_was_being_opened_meanwhile_never_lives(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password was looked at before the suspension came, the session written after it."""
    pupil = await world.claimed()
    open_session = sessions._open

    async def late(*args: Any) -> Any:
        await world.suspend(pupil)
        return await open_session(*args)

    with monkeypatch.context() as slow:
        slow.setattr(sessions, "_open", late)
        answer = await world.sign_in(pupil.username)
    session = answer.body["session"]
    assert not await world.alive(session)
    world.later(seconds=1)
    await world.restore(pupil)
    assert not await world.alive(session)


async def test_each_cause_ends_by_itself(world: World) -> None:
    pupil = await world.claimed()
    for cause in ("withdrawn", "desk", "desk"):
        await world.suspend(pupil, cause)
    assert (await world.kinds(pupil)).count("CredentialSuspended") == 2
    await world.restore(pupil)
    assert (await world.sign_in(pupil.username)).status == 403
    await world.restore(pupil, "desk")
    await world.restore(pupil, "desk")
    assert (await world.kinds(pupil)).count("CredentialRestored") == 2
    assert (await world.sign_in(pupil.username)).status == 201


class TestRecovery:
    async def refused(self, world: World, answer: Answer, cause: str) -> None:
        assert answer.reason == (403, "recovery_refused")
        assert (await world.truth(answer))["detail"]["cause"] == cause

    async def test_the_same_questions_are_asked_and_no_answer_is_right(self, world: World) -> None:
        pupil = await world.claimed()
        before = await world.ask("POST", "/recoveries", {"username": pupil.username})
        await world.suspend(pupil)
        after = await world.ask("POST", "/recoveries", {"username": pupil.username})
        assert before.body["questions"] == after.body["questions"]
        path, ticket = await begin_recovery(world, pupil)
        answer = await world.ask("POST", f"{path}/answers", {"answers": typed(ANSWERS)}, bearer=ticket)
        await self.refused(world, answer, "account_suspended")

    async def test_one_that_was_opened_before_sets_no_password(self, world: World) -> None:
        pupil = await world.claimed()
        path, ticket = await begin_recovery(world, pupil)
        opened = await world.ask("POST", f"{path}/answers", {"answers": typed(ANSWERS)}, bearer=ticket)
        assert opened.status == 200
        await world.suspend(pupil)
        answer = await world.ask("PUT", f"{path}/password", {"password": NEW}, bearer=ticket)
        await self.refused(world, answer, "recovery_unknown")
        await world.restore(pupil)
        assert (await world.sign_in(pupil.username)).status == 201

    async def test_the_desk_is_told_instead_of_given_a_code_and_an_older_code_is_dead(
        self, world: World
    ) -> None:
        pupil = await world.claimed()
        given = await world.desk("POST", f"/accounts/{pupil.person_id}/recovery-codes", {})
        await world.suspend(pupil)
        other = await world.desk("POST", f"/accounts/{pupil.person_id}/recovery-codes", {})
        assert other.reason == (403, "account_suspended")
        await world.restore(pupil)
        path, ticket = await begin_recovery(world, pupil)
        answer = await world.ask("POST", f"{path}/answers", {"code": given.body["code"]}, bearer=ticket)
        await self.refused(world, answer, "code_wrong_or_expired")


async def test_a_password_is_not_changed_in_the_very_moment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session was let in before the suspension came; the new password is decided upon after it."""
    pupil = await world.claimed()
    session = await world.session(pupil)
    replace = sessions.replace_password

    async def late(*args: Any) -> Any:
        await world.suspend(pupil)
        return await replace(*args)

    monkeypatch.setattr(sessions, "replace_password", late)
    answer = await world.ask("PUT", "/password", {"current": PASSWORD, "new": NEW}, bearer=session)
    assert answer.reason == (403, "account_suspended")
    assert "PasswordChanged" not in await world.kinds(pupil)


async def test_an_open_claim_takes_no_password_meanwhile(world: World) -> None:
    pupil = await world.enroll()
    world.open_claim(pupil)
    await world.suspend(pupil, "desk")
    assert (await world.put_password(pupil)).reason == (403, "account_suspended")
    standing = await world.standing(pupil)
    assert (standing.body["state"], standing.body["reason"]) == ("rejected", "account_suspended")
    await world.restore(pupil, "desk")
    await world.claim(pupil)
    assert (await world.sign_in(pupil.username)).status == 201


async def test_a_reset_account_stays_suspended(world: World) -> None:
    pupil = await world.claimed()
    await world.session(pupil)
    await world.suspend(pupil, "desk")
    await world.reset(pupil)
    assert (await world.events(pupil.person_id))[-1].sessions_ended == 0, "it had ended before"
    world.open_claim(pupil)
    assert (await world.put_password(pupil)).reason == (403, "account_suspended")
    assert (await world.sign_in(pupil.username)).status == 401
    await world.restore(pupil, "desk")
    await world.claim(pupil, NEW)
    assert (await world.sign_in(pupil.username, NEW)).status == 201


async def test_who_was_given_the_number_of_somebody_suspended_has_the_username(world: World) -> None:
    old = await world.claimed()
    await world.withdraw(old)
    await world.suspend(old)
    new = await world.enroll(old.number)
    assert (await world.sign_in(old.username)).status == 403
    await world.claim(new, NEW)
    assert (await world.sign_in(new.username, NEW)).body["person_id"] == str(new.person_id)
    assert (await world.sign_in(old.username)).status == 401


def test_a_state_stored_before_there_were_suspensions_is_open() -> None:
    assert State().suspended == ()
