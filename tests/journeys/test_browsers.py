"""What browsers do: two at once, closed in the middle, clicked twice, with a ticket that is no good."""

import asyncio
from datetime import timedelta

import pytest

from services.cli.pupil import Pupil, bearer
from shared import clock
from shared.auth import CLAIM_TYP
from shared.keys import Signer, make_key
from tests.journeys.town import Town, claim, new_password

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("journeys"),
]


def another_browser(town: Town, pupil: Pupil) -> Pupil:
    return Pupil(town.homeroom.ask, pupil.enrolled, town.policy)


async def test_of_two_browsers_on_one_account_one_wins_and_the_other_is_told(town: Town) -> None:
    one = await town.pupil()
    two = another_browser(town, one)
    passwords = new_password(), new_password()
    for browser, password in zip((one, two), passwords, strict=True):
        assert (await browser.open_claim()).status == 201
        assert (await browser.set_password(password)).status == 200
    answers = await asyncio.gather(one.save_answers(), two.save_answers())
    states = [await browser.claim_settled() for browser in (one, two)]
    assert sorted(states) == ["completed", "rejected"], [answer.body for answer in answers]
    won = states.index("completed")
    assert (await one.sign_in(passwords[won])).status == 201
    assert (await one.sign_in(passwords[1 - won])).status == 401
    assert (await town.events(one, "claims")).count("AccountClaimed") == 1


async def test_a_claim_that_was_abandoned_can_be_begun_again(town: Town) -> None:
    """Nothing but the last step makes the claim."""
    pupil = await town.pupil()
    assert (await pupil.open_claim()).status == 201
    abandoned = new_password()
    assert (await pupil.set_password(abandoned)).status == 200
    assert (await pupil.sign_in(abandoned)).status == 401
    person = (await town.person(pupil))["person_id"]
    assert (await town.homeroom.get("claims", f"/accounts/{person}"))["claimed"] is False
    password = await claim(another_browser(town, pupil))
    assert (await pupil.sign_in(password)).status == 201


async def test_clicking_twice_claims_once(town: Town) -> None:
    pupil = await town.pupil()
    await asyncio.gather(pupil.open_claim(), pupil.open_claim())
    password = new_password()
    first, second = await asyncio.gather(pupil.set_password(password), pupil.set_password(password))
    assert (first.status, second.status) == (200, 200)
    await pupil.set_password(password)
    clicks = await asyncio.gather(pupil.save_answers(), pupil.save_answers(), pupil.save_answers())
    assert {click.status for click in clicks} <= {200, 202}, [click.body for click in clicks]
    assert await pupil.claim_settled() == "completed"
    assert (await pupil.sign_in(password)).status == 201
    assert (await town.events(pupil, "claims")).count("AccountClaimed") == 1
    assert (await town.events(pupil, "auth")).count("CredentialsSet") == 1


async def test_another_tab_put_another_password_in_between(town: Town) -> None:
    """The tab that did not know it is told to look again."""
    pupil = await town.pupil()
    await pupil.open_claim()
    await pupil.set_password(new_password())
    stale = pupil.etag
    await pupil.set_password(new_password())
    pupil.etag, fresh = stale, pupil.etag
    refused = await pupil.save_answers()
    assert (refused.status, refused.body["reason"]) == (412, "password_replaced")
    pupil.etag = fresh
    assert (await pupil.save_answers()).status in (200, 202)


async def test_a_claimed_account_sends_its_pupil_to_sign_in(town: Town) -> None:
    pupil = await town.pupil()
    await claim(pupil)
    again = await another_browser(town, pupil).open_claim()
    assert (again.status, again.body["reason"], again.body["username"]) == (
        409,
        "account_claimed",
        pupil.username,
    )


async def test_a_ticket_opens_its_own_claim_only(town: Town) -> None:
    """Of another claim, expired, or signed by somebody else: refused, and nothing is staged."""
    ann, bob = await town.pupil(), await town.pupil()
    await ann.open_claim()
    await bob.open_claim()
    path, body = f"/claims/{ann.claim['claim_id']}/password", {"password": new_password()}
    foreign = await town.homeroom.ask("PUT", "auth", path, body, headers=bearer(bob.claim["ticket"]))
    assert foreign.status in (401, 403, 404)
    person = (await town.person(ann))["person_id"]
    for ticket, status, reason in (
        (ticket_of(town, ann, person, minutes=-1), 409, "claim_expired"),
        (ticket_of(town, ann, person, minutes=-61), 401, "token_expired"),
        (forged(town, ann, person), 401, "token_invalid"),
    ):
        answer = await town.homeroom.ask("PUT", "auth", path, body, headers=bearer(ticket))
        assert (answer.status, answer.body["reason"]) == (status, reason)
    none = await town.homeroom.ask("PUT", "auth", path, body)
    assert (none.status, none.body["reason"]) == (401, "token_missing")


def ticket_of(town: Town, pupil: Pupil, person: str, *, minutes: int, folder: str = "private/claims") -> str:
    """A ticket for the pupil's claim as claims writes it, with another end."""
    signer = Signer(town.fleet.folder / folder, "claims")
    signer.refresh()
    now = int(clock.now().timestamp())
    claims = {
        "iss": "homeroom-claims", "aud": ["claims", "auth"],
        "sub": person, "jti": pupil.claim["claim_id"],
        "district": "ccps", "generation": 0, "username": pupil.username, "iat": now - 7200, "exp": now + minutes * 60,
    }  # fmt: skip
    return signer.sign(CLAIM_TYP, claims)


def forged(town: Town, pupil: Pupil, person: str) -> str:
    """Signed with a key that only the forger knows."""
    make_key(
        "claims",
        town.fleet.folder / "forger/public",
        town.fleet.folder / "forger/private",
        clock.now() + timedelta(seconds=1),
    )
    return ticket_of(town, pupil, person, minutes=30, folder="forger/private")
