"""Parts that stop while pupils are in the middle of something."""

import asyncio

import pytest

from services.cli.client import SERVICES
from tests.journeys.town import Town, claim, new_password

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("journeys"),
]


async def test_who_is_asked_to_stop_finishes_what_it_began(town: Town) -> None:
    """SIGTERM in the middle of the last step: the answer still comes, the exit is clean, the claim is whole."""
    pupil = await town.pupil()
    password = new_password()
    assert (await pupil.open_claim()).status == 201
    assert (await pupil.set_password(password)).status == 200
    clicked = asyncio.create_task(pupil.save_answers())
    await asyncio.sleep(0.03)
    auth = town.fleet.part("auth")
    exit_status, answer = await asyncio.gather(auth.stop(), clicked)
    assert exit_status == 0
    assert answer.status in (200, 202), answer.body
    await auth.start()
    await town.fleet.ready("auth")
    assert await pupil.claim_settled() == "completed"
    assert (await pupil.sign_in(password)).status == 201


async def test_a_claim_survives_that_every_service_is_killed_after_its_last_step(town: Town) -> None:
    """Killed the moment the answers are accepted, started again: the claim completes by itself."""
    pupil = await town.pupil()
    password = new_password()
    assert (await pupil.open_claim()).status == 201
    assert (await pupil.set_password(password)).status == 200
    await town.fleet.part("claims").kill()  # so that nobody decides yet
    assert (await pupil.save_answers()).status == 202
    await asyncio.gather(*(town.fleet.part(service).kill() for service in ("roster", "auth")))
    assert (await asyncio.gather(*(town.fleet.part(service).start() for service in SERVICES))) is not None
    await asyncio.gather(*(town.fleet.ready(service) for service in SERVICES))
    assert await pupil.claim_settled() == "completed"
    assert (await pupil.sign_in(password)).status == 201
    assert (await town.events(pupil, "auth")).count("CredentialActivated") == 1
    await claim(await town.pupil())
