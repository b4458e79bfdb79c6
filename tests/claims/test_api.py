"""Claims as pupils and the help desk meet it over HTTP, with a real PostgreSQL."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from joserfc import jws

from services.claims import api
from services.claims.events import AccountClaimed, ClaimOpened, ClaimRejected
from services.claims.projections import EnrollmentVoided, Identity, NameCorrected
from shared import clock
from tests.claims.conftest import D, World


def differing(kit: Any, **rules: Any) -> None:
    """Other rules for the district, from now on."""
    ccps = kit.policies.get("ccps")
    kit.policies._policies["ccps"] = msgspec.structs.replace(ccps, **rules)


class TestThePolicy:
    async def test_it_tells_a_front_end_what_it_needs(self, world: World) -> None:
        async with world.http.get("/v1/districts/ccps/policy") as response:
            policy = await response.json()
        assert response.status == 200
        assert policy["names"]["es"] == "Escuelas Públicas del Condado de Clayton"
        assert policy["time_zone"] == "America/New_York"
        assert policy["password"] == {"min_length": 8, "max_length": 256}
        assert policy["questions_required"] == 3
        assert len(policy["questions"]) == 8
        assert policy["questions"][0]["answer"] == {"kind": "month"}

    async def test_it_tells_how_the_pages_look_and_when_a_session_ends(self, world: World) -> None:
        async with world.http.get("/v1/districts/ccps/policy") as response:
            policy = await response.json()
        portal = policy["portal"]
        assert (portal["accent"], portal["accent_dark"]) == ("#1f5f8b", "#8cc4ec")
        assert portal["logo"] == "/v1/districts/ccps/logo"
        assert portal["help"]["es"].startswith("Pregunta")
        assert portal["resources"][0] == {
            "name": {"en": "Classroom", "es": "Salón de clases"},
            "note": {"en": "Lessons and homework", "es": "Lecciones y tareas"},
            "url": "https://classroom.example.org/", "icon": "devices",
        }  # fmt: skip
        assert (policy["session"]["idle_minutes"], portal["idle_warning_seconds"]) == (60, 60)

    async def test_the_logo_is_a_picture_that_can_be_kept_and_runs_nothing(self, world: World) -> None:
        async with world.http.get("/v1/districts/ccps/logo") as response:
            assert (response.status, response.content_type) == (200, "image/svg+xml")
            assert b"<svg" in await response.read()
            headers = response.headers
        assert headers["Cache-Control"] == "public, max-age=300"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in headers["Content-Security-Policy"]
        known = {"If-None-Match": f"W/{headers['ETag']}"}
        async with world.http.get("/v1/districts/ccps/logo", headers=known) as response:
            assert (response.status, await response.read()) == (304, b"")

    @pytest.mark.parametrize("logo", [None, "nowhere.png"])
    async def test_a_district_without_its_logo_is_served(self, world: World, logo: str | None) -> None:
        portal = world.kit.policies.get("ccps").portal
        differing(world.kit, portal=msgspec.structs.replace(portal, logo=logo))
        async with world.http.get("/v1/districts/ccps/logo") as response:
            assert (response.status, (await response.json())["reason"]) == (404, "not_found")
        async with world.http.get("/v1/districts/ccps/policy") as response:
            assert response.status == 200

    async def test_another_district_has_none(self, world: World) -> None:
        async with world.http.get("/v1/districts/nowhere/policy") as response:
            assert (response.status, (await response.json())["reason"]) == (404, "district_unknown")


class TestBeginning:
    async def test_names_and_number_open_a_claim_with_a_ticket(self, world: World) -> None:
        person_id = await world.enroll()
        status, claim = await world.claim()
        assert status == 201
        assert claim["username"] == "S0123456"
        ticket = jws.extract_compact(claim["ticket"].encode())
        assert ticket.headers()["typ"] == "claim-ticket+jwt"
        said = json.loads(ticket.payload)
        expires_at = datetime.fromisoformat(claim["expires_at"])
        assert said == {
            "iss": "homeroom-claims", "aud": ["claims", "auth"], "sub": str(person_id), "jti": claim["claim_id"],
            "district": "ccps", "generation": 0, "username": "S0123456", "code_required": False,
            "iat": said["iat"], "exp": int(expires_at.timestamp()),
        }  # fmt: skip
        assert timedelta(minutes=29, seconds=58) < expires_at - clock.now() <= timedelta(minutes=30)
        assert await world.standing(claim) == (200, {"claim_id": claim["claim_id"], "state": "open"})

    @pytest.mark.parametrize(
        ("typed", "reason"),
        [
            ({"number": "O123456"}, "number_letter_o"),
            ({"number": "123456"}, "number_length"),
            ({"number": "S0123456"}, "number_leading_s"),
            ({"number": "none"}, "number_malformed"),
            ({"last": " "}, "name_missing"),
            ({"first": "M" * 256}, "name_long"),
        ],
    )
    async def test_what_needs_only_a_look_at_the_input_is_said_plainly(
        self, world: World, typed: dict[str, str], reason: str
    ) -> None:
        status, problem = await world.claim(**typed)
        assert (status, problem["reason"]) == (422, reason)
        assert "reference" not in problem

    async def test_who_waits_is_told_the_moment(self, world: World) -> None:
        person_id = await world.enroll(hours_ago=23.99)
        status, problem = await world.claim()
        assert (status, problem["reason"]) == (403, "waiting_period")
        opens = datetime.fromisoformat(problem["eligible_at"])
        assert timedelta(0) < opens - clock.now() < timedelta(minutes=1)
        assert datetime.fromisoformat(problem["eligible_at_local"]) == opens
        assert problem["time_zone"] == "America/New_York"
        account = await world.account(person_id)
        assert account["eligible_at"] == problem["eligible_at"]
        assert account["may_claim_now"] is False

    async def test_a_pupil_entered_23_59_59_ago_becomes_claimable_at_the_second(self, world: World) -> None:
        await world.enroll(hours_ago=24 - 1.2 / 3600)
        status, problem = await world.claim()
        assert (status, problem["reason"]) == (403, "waiting_period")
        opens = datetime.fromisoformat(problem["eligible_at"])
        await asyncio.sleep((opens - clock.now()).total_seconds())
        assert (await world.claim())[0] == 201

    async def test_who_has_claimed_is_told_the_username(self, world: World) -> None:
        await world.claimed()
        status, problem = await world.claim()
        assert (status, problem["reason"], problem["username"]) == (409, "account_claimed", "S0123456")

    async def test_a_repeat_under_one_key_finds_its_claim_again(self, world: World) -> None:
        person_id = await world.enroll()
        _, first = await world.claim(Idempotency_Key="one")
        _, again = await world.claim(Idempotency_Key="one")
        _, other = await world.claim(Idempotency_Key="two")
        assert again["claim_id"] == first["claim_id"] != other["claim_id"]
        assert again["expires_at"] == first["expires_at"]
        assert len(await world.events(person_id)) == 2

    async def test_one_key_of_two_pupils_is_two_claims(self, world: World) -> None:
        await world.enroll()
        await world.enroll("0000007", "Cruz", "Ana")
        _, one = await world.claim(Idempotency_Key="same")
        _, other = await world.claim("0000007", "Cruz", "Ana", Idempotency_Key="same")
        assert one["claim_id"] != other["claim_id"]

    @pytest.mark.parametrize("key", ["", "é", "\udcff", "k" * 256])
    async def test_a_key_that_is_none_is_refused_whoever_sends_it(self, world: World, key: str) -> None:
        await world.enroll()
        for number in ("0123456", "7654321"):
            status, problem = await world.claim(number, Idempotency_Key=key)
            assert (status, problem["reason"]) == (400, "idempotency_key_invalid")

    async def test_a_key_that_outlives_its_claim_opens_another(self, world: World) -> None:
        person_id = await world.enroll()
        _, first = await world.claim(Idempotency_Key="one")
        await world.desk("POST", f"/accounts/{person_id}/resets", json={})
        _, second = await world.claim(Idempotency_Key="one")
        assert first["claim_id"] != second["claim_id"]
        assert (await world.standing(second))[1]["state"] == "open"

    async def test_a_double_click_is_safe(self, world: World) -> None:
        person_id = await world.enroll()
        answers = await asyncio.gather(*(world.claim(Idempotency_Key="click") for _ in range(6)))
        assert {status for status, _ in answers} == {201}
        assert len({claim["claim_id"] for _, claim in answers}) == 1
        assert len(await world.events(person_id)) == 1

    async def test_without_a_key_every_click_is_a_claim_and_all_are_good(self, world: World) -> None:
        person_id = await world.enroll()
        answers = await asyncio.gather(*(world.claim() for _ in range(6)))
        assert {status for status, _ in answers} == {201}
        assert [type(event) for event in await world.events(person_id)] == [ClaimOpened] * 6

    async def test_claims_of_a_day_are_bounded(self, world: World) -> None:
        await world.enroll()
        differing(world.kit, claims_a_day=2)
        assert [(await world.claim())[0] for _ in range(2)] == [201, 201]
        async with world.http.post(
            "/v1/districts/ccps/claims",
            json={"last_name": "O'Neil", "first_name": "Mary-Ann", "number": "0123456"},
        ) as response:
            problem = await response.json(content_type=None)
        assert (response.status, problem["reason"]) == (429, "claims_exhausted")
        assert 86_000 < int(response.headers["Retry-After"]) <= 86_401

    async def test_without_a_signing_key_nothing_is_opened(self, world: World) -> None:
        person_id = await world.enroll()
        world.kit.signer = type(world.kit.signer)(None, "claims")
        status, problem = await world.claim()
        assert (status, problem["reason"]) == (503, "unavailable")
        assert await world.events(person_id) == []


class TestStaff:
    async def test_staff_claims_at_once_by_the_employee_number_in_whatever_case(self, world: World) -> None:
        person_id = await world.employ()
        status, claim = await world.claim("E12345", "Okafor", "Grace")
        assert (status, claim["username"]) == (201, "e12345")
        await world.seal(person_id, claim)
        status, problem = await world.claim("e12345", "Okafor", "Grace")
        assert (status, problem["reason"], problem["username"]) == (409, "account_claimed", "e12345")

    async def test_where_the_district_asks_staff_for_a_code_the_ticket_says_so(self, world: World) -> None:
        differing(world.kit, staff_claim_code="required")
        await world.employ()
        await world.enroll()
        _, staff = await world.claim("e12345", "Okafor", "Grace")
        _, pupil = await world.claim()
        for claim, required in ((staff, True), (pupil, False)):
            said = json.loads(jws.extract_compact(claim["ticket"].encode()).payload)
            assert claim["code_required"] is said["code_required"] is required

    async def test_where_staff_waits_it_is_told_the_moment(self, world: World) -> None:
        differing(world.kit, staff_claim_delay_hours=2)
        await world.employ()
        status, problem = await world.claim("e12345", "Okafor", "Grace")
        assert (status, problem["reason"]) == (403, "waiting_period")
        opens = datetime.fromisoformat(problem["eligible_at"])
        assert timedelta(hours=1, minutes=59) < opens - clock.now() < timedelta(hours=2, minutes=1)

    @pytest.mark.parametrize(
        ("number", "reason"),
        [("e1234O", "number_letter_o"), ("12345", "number_without_e"), ("e1234", "number_length")],
    )
    async def test_each_mistake_gets_its_own_hint(self, world: World, number: str, reason: str) -> None:
        status, problem = await world.claim(number)
        assert (status, problem["reason"], problem["digits"]) == (422, reason, 5)

    async def test_the_desk_finds_staff_by_the_username(self, world: World) -> None:
        person_id = await world.claimed("e12345", "Okafor", "Grace")
        _, found = await world.desk("GET", "/accounts?username=E12345")
        (account,) = found["accounts"]
        assert (account["person_id"], account["kind"], account["username"]) == (
            str(person_id),
            "staff",
            "e12345",
        )
        await world.leave(person_id)
        assert (await world.account(person_id))["enrolled"] is False


class TestUniformRefusals:
    """Everyone who has not shown the names and number gets one answer; the help desk finds the truth."""

    async def refused(self, world: World, **typed: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The answer without its reference, and what the desk finds under that."""
        status, problem = await world.claim(**typed)
        assert status == 403
        found, refusal = await world.desk("GET", f"/refusals/{problem.pop('reference')}")
        assert found == 200
        return problem, refusal

    async def test_all_are_the_same_and_all_are_explained_to_the_desk(self, world: World) -> None:
        withdrawn = await world.enroll("0000001")
        await world.withdraw(withdrawn)
        await world.enroll("0000002")
        await world.enroll("0000002", "Other", "Name")
        parked = await world.enroll("0000003")
        await world.park(parked)
        voided = await world.enroll("0000004")
        await world.roster(voided, EnrollmentVoided(enrollment_id="e1"))
        differs = await world.enroll("0000005")
        left = await world.employ("e00001")
        await world.leave(left)
        expected = {
            "e99999": ("number_unknown", None),
            "e00001": ("withdrawn", left),
            "9999999": ("number_unknown", None),
            "0000001": ("withdrawn", withdrawn),
            "0000002": ("number_conflict", None),
            "0000003": ("history_parked", parked),
            "0000004": ("enrollment_voided", voided),
        }
        answers = []
        for number, (reason, person_id) in expected.items():
            answer, refusal = await self.refused(world, number=number)
            answers.append(answer)
            assert refusal["detail"]["reason"] == reason
            assert refusal["person_id"] == (str(person_id) if person_id else None)
        answer, refusal = await self.refused(world, number="0000005", first="Marianne")
        assert refusal["detail"] == {"reason": "names_differ", "differs": ["first_name"]}
        assert refusal["on_file"] == {"first_name": "Mary-Ann"}
        assert refusal["person_id"] == str(differs)
        one = {
            "type": "/problems/claim_refused", "title": "Claim refused", "status": 403, "reason": "claim_refused",
        }  # fmt: skip
        assert [*answers, answer] == [one] * 8

    async def test_the_desk_sees_what_is_on_file_now_and_no_copy_of_it_is_kept(self, world: World) -> None:
        person_id = await world.enroll()
        _, problem = await world.claim(first="Marianne", last="ONeil")
        await world.claimed("0000009", "Zwingli", "Huldrych")
        await world.claim("0000009", "Zwingli", "Huldrych")
        kept = str(await world.fetch("SELECT * FROM refusal"))
        assert len(await world.fetch("SELECT FROM refusal")) == 2
        assert not any(of in kept for of in ("Mary-Ann", "O'Neil", "0123456", "Zwingli", "0000009"))
        corrected = Identity("sis-0123456", "0123456", "O'Neill", "Mary Ann")
        await world.roster(person_id, NameCorrected(identity=corrected))
        _, refusal = await world.desk("GET", f"/refusals/{problem['reference']}")
        assert refusal["on_file"] == {"last_name": "O'Neill", "first_name": "Mary Ann"}
        account = await world.account(person_id)
        assert account["refusals"][0]["detail"]["differs"] == ["last_name", "first_name"]
        assert (account["last_name"], account["first_name"]) == ("O'Neill", "Mary Ann")

    async def test_nothing_is_on_file_of_somebody_whom_the_roster_has_forgotten(self, world: World) -> None:
        person_id = await world.enroll()
        _, problem = await world.claim(first="Marianne")
        await world.fetch("DELETE FROM admission WHERE person_id = $1", person_id)
        _, refusal = await world.desk("GET", f"/refusals/{problem['reference']}")
        assert refusal["on_file"] == {}

    async def test_what_was_typed_is_kept_nowhere(self, world: World) -> None:
        await world.enroll()
        await self.refused(world, first="Xanthippe")
        await self.refused(world, number="7654321", last="Quetzalcoatl")
        for table in ("refusal", "command", "event", "account", "dead_letter"):
            kept = str(await world.fetch(f"SELECT * FROM {table}"))
            assert not any(typed in kept for typed in ("Xanthippe", "7654321", "Quetzalcoatl"))

    async def test_they_leave_at_the_same_time_after_they_came(self, world: World) -> None:
        await world.enroll()
        loop = asyncio.get_running_loop()
        for typed in ({"number": "9999999"}, {"first": "Marianne"}):
            started = loop.time()
            await self.refused(world, **typed)
            assert loop.time() - started >= api.UNIFORM_S

    async def test_who_dawdles_over_the_request_cannot_measure_either(self, world: World) -> None:
        """A body held back until shortly before the moment would show what the refusal cost."""
        loop, asked = asyncio.get_running_loop(), 0.0
        await self.refused(world, number="9999999")  # connects to the database: the next one is quick

        async def body() -> AsyncIterator[bytes]:
            nonlocal asked
            yield b'{"last_name": "X", "first_name": "Y", '
            await asyncio.sleep(api.UNIFORM_S / 2)
            asked = loop.time()
            yield b'"number": "9999999"}'

        headers = {"Content-Type": "application/json"}
        async with world.http.post(f"{D}/claims", data=body(), headers=headers) as response:
            assert response.status == 403
        assert loop.time() - asked >= api.UNIFORM_S

    @pytest.mark.parametrize("why", ["account_claimed", "waiting_period"])
    async def test_a_uniform_district_tells_nobody_why(self, world: World, why: str) -> None:
        differing(world.kit, claim_refusals="uniform")
        person_id = await (world.claimed() if why == "account_claimed" else world.enroll(hours_ago=1))
        answer, refusal = await self.refused(world)
        assert set(answer) == {"type", "title", "status", "reason"}
        assert answer["reason"] == "claim_refused"
        assert (refusal["detail"]["reason"], refusal["person_id"]) == (why, str(person_id))

    async def test_matched_refusals_are_kept_for_the_desk_too(self, world: World) -> None:
        person_id = await world.enroll(hours_ago=1)
        _, problem = await world.claim()
        account = await world.account(person_id)
        assert [(r["reference"], r["detail"]["reason"]) for r in account["refusals"]] == [
            (problem["reference"], "waiting_period")
        ]


class TestCompleting:
    async def test_a_sealed_credential_completes_the_claim(self, world: World) -> None:
        person_id = await world.enroll()
        _, claim = await world.claim()
        credential_id = await world.seal(person_id, claim)
        assert await world.standing(claim) == (200, {"claim_id": claim["claim_id"], "state": "completed"})
        event = (await world.events(person_id))[-1]
        assert isinstance(event, AccountClaimed)
        assert event.credential_id == credential_id

    async def test_two_browsers_one_wins_the_other_is_told(self, world: World) -> None:
        person_id = await world.enroll()
        (_, one), (_, other) = await asyncio.gather(world.claim(), world.claim())
        sealed = {claim["claim_id"]: uuid4() for claim in (one, other)}
        for repeat in range(2):  # whoever loses the race is read again, and what was decided is passed over
            await asyncio.gather(
                *(world.seal(person_id, claim, sealed[claim["claim_id"]]) for claim in (one, other)),
                return_exceptions=not repeat,
            )
        states = [(await world.standing(claim))[1] for claim in (one, other)]
        assert sorted(s["state"] for s in states) == ["completed", "rejected"]
        assert [s["reason"] for s in states if s["state"] == "rejected"] == ["account_claimed"]
        claimed = [e for e in await world.events(person_id) if isinstance(e, AccountClaimed)]
        assert len(claimed) == 1

    async def test_a_repeat_of_the_same_seal_appends_nothing(self, world: World) -> None:
        person_id = await world.enroll()
        _, claim = await world.claim()
        credential_id = await world.seal(person_id, claim)
        await world.seal(person_id, claim, credential_id)
        assert len(await world.events(person_id)) == 2

    async def test_the_time_of_the_seal_decides_not_the_time_of_hearing(self, world: World) -> None:
        """An outage between auth and claims costs nobody a claim that came in time, and saves none that came late."""
        person_id = await world.enroll()
        _, claim = await world.claim()
        expires_at = datetime.fromisoformat(claim["expires_at"])
        await world.seal(person_id, claim, at=expires_at + timedelta(milliseconds=1))
        assert (await world.standing(claim))[1]["reason"] == "claim_expired"
        _, second = await world.claim()
        await world.seal(person_id, second, at=expires_at)
        assert (await world.standing(second))[1]["state"] == "completed"

    async def test_who_was_withdrawn_meanwhile_is_rejected(self, world: World) -> None:
        person_id = await world.enroll()
        _, claim = await world.claim()
        await world.withdraw(person_id)
        await world.seal(person_id, claim)
        assert (await world.standing(claim))[1] == {
            "claim_id": claim["claim_id"], "state": "rejected", "reason": "not_enrolled",
        }  # fmt: skip

    async def test_a_number_that_came_to_be_shared_is_rejected(self, world: World) -> None:
        person_id = await world.enroll()
        _, claim = await world.claim()
        await world.enroll("0123456", "Other", "Name")
        await world.seal(person_id, claim)
        event = (await world.events(person_id))[-1]
        assert isinstance(event, ClaimRejected)
        assert event.reason == "number_conflict"

    async def test_a_stranger_to_the_roster_claims_nothing(self, world: World) -> None:
        person_id = uuid4()
        await world.seal(person_id, {"claim_id": str(uuid4())})
        event = (await world.events(person_id))[-1]
        assert isinstance(event, ClaimRejected)
        assert event.reason == "claim_unknown"


class TestTickets:
    async def test_a_ticket_opens_its_own_claim_only(self, world: World) -> None:
        await world.enroll()
        _, claim = await world.claim()
        assert (await world.standing(claim, claim_id=str(uuid4())))[0] == 404
        assert (await world.standing(claim | {"ticket": "none"}))[1]["reason"] == "token_invalid"

    async def test_after_its_time_it_only_learns_that_the_claim_expired(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await world.enroll()
        _, claim = await world.claim()
        now = clock.now()
        for minutes, seen in ((31, (200, "expired")), (61, (401, None))):
            monkeypatch.setattr(clock, "now", lambda at=now + timedelta(minutes=minutes): at)
            status, standing = await world.standing(claim)
            assert (status, standing.get("state")) == seen

    async def test_without_one_nothing_is_told(self, world: World) -> None:
        async with world.http.get(f"/v1/districts/ccps/claims/{uuid4()}") as response:
            assert (response.status, (await response.json(content_type=None))["reason"]) == (
                401,
                "token_missing",
            )


class TestWhatTheDeskSees:
    async def test_everything_about_one_account(self, world: World) -> None:
        person_id = await world.claimed()
        await world.claim(first="Marianne")
        status, found = await world.desk("GET", "/accounts?username=s0123456")
        assert status == 200
        (account,) = found["accounts"]
        assert account == await world.account(person_id)
        seen = {
            key: account[key]
            for key in ("username", "last_name", "first_name", "number", "enrolled", "claimed")
        }
        assert seen == {
            "username": "S0123456", "last_name": "O'Neil", "first_name": "Mary-Ann", "number": "0123456",
            "enrolled": True, "claimed": True,
        }  # fmt: skip
        assert account["claimed_at"] is not None
        assert account["may_claim_now"] is False
        assert [claim["state"] for claim in account["claims"]] == ["completed"]
        assert [refusal["detail"]["reason"] for refusal in account["refusals"]] == ["names_differ"]
        assert account["enrollments"][0]["enrollment_id"] == "e1"

    async def test_a_conflict_of_numbers(self, world: World) -> None:
        one, other = await world.enroll(), await world.enroll("0123456", "Other", "Name")
        _, found = await world.desk("GET", "/accounts?username=S0123456")
        assert {a["person_id"] for a in found["accounts"]} == {str(one), str(other)}
        assert (await world.account(one))["same_number"] == [str(other)]
        assert (await world.account(one))["may_claim_now"] is False

    async def test_that_somebody_is_parked(self, world: World) -> None:
        person_id = await world.enroll()
        await world.park(person_id)
        account = await world.account(person_id)
        assert account["parked"]["since"]
        assert account["may_claim_now"] is False

    async def test_who_did_something_is_read_by_name_and_recorded_by_id(self, world: World) -> None:
        person_id = await world.enroll()
        await world.desk("PUT", f"/accounts/{person_id}/waiver", json={})
        await world.desk("POST", f"/accounts/{person_id}/resets", json={}, sub="desk-2")
        account = await world.account(person_id)
        assert (account["waiver"]["actor"], account["waiver"]["actor_name"]) == ("desk-1", "desk-1 by name")
        (reset,) = account["resets"]
        assert (reset["author"], reset["author_name"]) == ("desk-2", "desk-2 by name")
        assert (reset["approved_by"], reset["approved_by_name"]) == (None, None)
        _, timeline = await world.desk("GET", f"/persons/{person_id}/timeline")
        assert [(e["data"]["actor"], e["actor_name"]) for e in timeline["events"]] == [
            ("desk-1", "desk-1 by name"), ("desk-2", "desk-2 by name"),
        ]  # fmt: skip
        assert "by name" not in str(await world.fetch("SELECT data FROM event"))

    @pytest.mark.parametrize("username", ["S9999999", "0123456", "%00", "x" * 64, "José"])
    async def test_nobody_under_a_username_is_an_empty_list(self, world: World, username: str) -> None:
        status, found = await world.desk("GET", f"/accounts?username={username}")
        assert (status, found) in ((200, {"accounts": []}), (422, found))

    @pytest.mark.parametrize("path", [f"/accounts/{UUID(int=7)}", f"/accounts/{UUID(int=7)}/waiver"])
    async def test_an_unknown_person(self, world: World, path: str) -> None:
        method, body = ("PUT", {"json": {}}) if path.endswith("waiver") else ("GET", {})
        status, problem = await world.desk(method, path, **body)
        assert (status, problem["reason"]) == (404, "person_unknown")

    async def test_only_the_desk_sees_it(self, world: World) -> None:
        person_id = await world.enroll()
        status, problem = await world.desk("GET", f"/accounts/{person_id}", scope="roster:write teacher")
        assert (status, problem["reason"]) == (403, "scope_missing")


class TestTheWaiver:
    async def test_it_opens_at_once_and_its_end_closes_again(self, world: World) -> None:
        person_id = await world.enroll(hours_ago=0)
        path = f"/accounts/{person_id}/waiver"
        assert (await world.claim())[1]["reason"] == "waiting_period"
        body = {"desk_ticket": "T-1", "reason": "moved in today"}
        assert await world.desk("PUT", path, json=body) == (204, None)
        assert await world.desk("PUT", path, json=body) == (204, None)
        account = await world.account(person_id)
        assert account["may_claim_now"] is True
        assert {k: account["waiver"][k] for k in ("actor", "desk_ticket", "reason")} == {
            "actor": "desk-1",
            **body,
        }
        assert (await world.claim())[0] == 201
        assert await world.desk("DELETE", f"{path}?desk_ticket=T-2") == (204, None)
        assert await world.desk("DELETE", path) == (204, None)
        assert (await world.claim())[1]["reason"] == "waiting_period"
        assert len(await world.events(person_id)) == 3

    async def test_a_claim_begun_under_it_does_not_outlive_it(self, world: World) -> None:
        person_id = await world.enroll(hours_ago=0)
        await world.desk("PUT", f"/accounts/{person_id}/waiver", json={})
        _, claim = await world.claim()
        await world.desk("DELETE", f"/accounts/{person_id}/waiver")
        await world.seal(person_id, claim)
        assert (await world.standing(claim))[1]["reason"] == "waiting_period"

    @pytest.mark.parametrize(
        "body", [{"desk_ticket": ""}, {"desk_ticket": "x" * 65}, {"reason": "x" * 501}, {"x": 1}]
    )
    async def test_its_fields_are_bounded(self, world: World, body: dict[str, Any]) -> None:
        person_id = await world.enroll()
        status, problem = await world.desk("PUT", f"/accounts/{person_id}/waiver", json=body)
        assert (status, problem["reason"]) == (422, "invalid_body")
