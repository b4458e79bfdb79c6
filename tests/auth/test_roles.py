"""Staff with roles: who gives them, what ends them, and what a session of theirs is exchanged for."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from services.auth import exchange
from services.auth.events import RoleGranted, RoleRevoked
from services.auth.projections import StaffLeft
from tests.auth.conftest import DESK, PASSWORD, Pupil, World, typed

HOLDER = "e12345"


async def roles(world: World, employee: Pupil) -> list[str]:
    shown = await world.desk("GET", f"/accounts/{employee.person_id}")
    assert shown.status == 200, shown
    return [held["role"] for held in shown.body["roles"]]


class TestRoles:
    async def test_an_operator_gives_a_role_once_and_takes_it_back(self, world: World) -> None:
        employee = await world.holder()
        assert (await world.grant(employee)).status == 204
        assert await roles(world, employee) == ["desk"]
        path = f"/accounts/{employee.person_id}/roles/desk"
        for _ in range(2):
            answer = await world.desk("DELETE", f"{path}?desk_ticket=T-2", scope="operator")
            assert answer.status == 204
        assert await roles(world, employee) == []
        granted, revoked = (await world.events(employee.person_id))[-2:]
        assert granted == RoleGranted(role="desk", generation=0, actor=DESK, roster_version=1)
        assert revoked == RoleRevoked(
            role="desk", generation=0, cause="operator", actor=DESK, desk_ticket="T-2"
        )

    async def test_roles_are_given_to_staff_who_have_claimed_and_are_here(self, world: World) -> None:
        pupil = await world.claimed("0123456")
        assert (await world.grant(pupil)).reason == (409, "not_staff")
        employee = await world.enroll(HOLDER)
        assert (await world.grant(employee)).reason == (409, "not_claimed")
        await world.claim(employee)
        assert (await world.grant(employee, "principal")).reason == (404, "not_found")
        await world.suspend(employee, "desk")
        assert (await world.grant(employee)).reason == (403, "account_suspended")
        await world.restore(employee, "desk")
        await world.leaves(employee)
        assert (await world.grant(employee)).reason == (409, "has_left")
        unknown = await world.desk("PUT", f"/accounts/{uuid4()}/roles/desk", {}, scope="operator")
        assert unknown.reason == (404, "person_unknown")

    async def test_a_desk_gives_no_roles_and_nobody_gives_one_to_themselves(self, world: World) -> None:
        employee = await world.claimed(HOLDER)
        answer = await world.desk("PUT", f"/accounts/{employee.person_id}/roles/desk", {})
        assert answer.reason == (403, "scope_missing")
        assert (await world.grant(employee, "operator")).status == 204
        token = (await world.exchange(await world.session(employee), await world.portal())).body
        own = f"/accounts/{employee.person_id}/roles/desk"
        answer = await world.ask("PUT", own, {}, bearer=token["access_token"])
        assert answer.reason == (403, "role_own")

    async def test_an_operator_sees_who_has_one(self, world: World) -> None:
        await world.claimed("e54321")
        employee = await world.holder()
        await world.grant(employee, "operator")
        assert (await world.desk("GET", "/roles")).reason == (403, "scope_missing")
        [holder] = (await world.desk("GET", "/roles", scope="operator")).body["holders"]
        assert (holder["person_id"], holder["username"]) == (str(employee.person_id), HOLDER)
        assert [held["role"] for held in holder["roles"]] == ["desk", "operator"]

    @pytest.mark.parametrize("cause", ["reset", "suspended", "left"])
    async def test_a_role_ends_with_what_it_stood_on_and_does_not_come_back(
        self, world: World, cause: str
    ) -> None:
        employee = await world.holder("operator")
        if cause == "reset":
            await world.reset(employee)
            await world.claim(employee, "another horse")
        elif cause == "suspended":
            await world.suspend(employee, "desk")
            await world.restore(employee, "desk")
        else:
            await world.leaves(employee)
            await world.returns(employee)
        assert await roles(world, employee) == []
        ended = [e for e in await world.events(employee.person_id) if isinstance(e, RoleRevoked)]
        assert [(e.role, e.cause, e.actor) for e in ended] == [("operator", cause, None)]

    async def test_an_old_departure_ends_no_role_that_was_given_since(self, world: World) -> None:
        """A consumer that reads the topic from the beginning comes upon it late."""
        employee = await world.claimed(HOLDER)
        departure = world.told("roster", employee.person_id, StaffLeft())
        await world.hears(departure)
        await world.returns(employee)
        assert (await world.grant(employee)).status == 204
        await world.departs(departure)
        assert await roles(world, employee) == ["desk"]

    async def test_a_departure_that_was_not_heard_of_yet_ends_the_role(self, world: World) -> None:
        """The roster has recorded it before the role was given; auth reads of it after."""
        employee = await world.claimed(HOLDER)
        departure = world.told("roster", employee.person_id, StaffLeft())
        assert (await world.grant(employee)).status == 204
        await world.hears(departure)
        await world.returns(employee)
        assert await roles(world, employee) == []

    async def test_a_code_is_given_only_to_who_stands_below(self, world: World) -> None:
        employee = await world.holder("desk")
        path = f"/accounts/{employee.person_id}/recovery-codes"
        assert (await world.desk("POST", path, {})).reason == (403, "role_not_below")
        assert (await world.desk("POST", path, {}, scope="desk operator")).status == 201
        await world.grant(employee, "operator")
        assert (await world.desk("POST", path, {}, scope="desk operator")).reason == (403, "role_not_below")


class TestExchange:
    async def test_a_session_of_somebody_with_a_role_becomes_an_access_token(self, world: World) -> None:
        employee, portal = await world.holder(), await world.portal()
        answer = await world.exchange(await world.session(employee), portal)
        assert answer.status == 200, answer
        assert answer.body["issued_token_type"] == exchange.ACCESS_TOKEN
        assert (answer.body["token_type"], answer.body["scope"]) == ("Bearer", "desk")
        assert 0 < answer.body["expires_in"] <= 300
        caller = await world.kit.tokens.client(answer.body["access_token"], "ccps", world.now())
        assert (caller.subject, caller.who) == (str(employee.person_id),) * 2
        assert (caller.name, caller.human, caller.rank) == ("Mary-Ann O'Neil", True, 1)
        assert caller.claims["act"] == {"sub": portal[0]}

    async def test_what_the_person_does_is_recorded_under_their_name(self, world: World) -> None:
        employee, pupil = await world.holder(), await world.claimed("0123456")
        token = (await world.exchange(await world.session(employee), await world.portal())).body[
            "access_token"
        ]
        path = f"/accounts/{pupil.person_id}/recovery-codes"
        assert (await world.ask("POST", path, {"desk_ticket": "T-1"}, bearer=token)).status == 201
        timeline = await world.ask("GET", f"/persons/{pupil.person_id}/timeline", bearer=token)
        last = timeline.body["events"][-1]
        assert (last["type"], last["data"]["actor"]) == ("RecoveryCodeIssued", str(employee.person_id))
        assert last["actor_name"] == "Mary-Ann O'Neil"

    async def test_an_operator_may_also_do_what_a_desk_does_and_may_ask_for_less(self, world: World) -> None:
        employee, portal = await world.holder("operator"), await world.portal()
        session = await world.session(employee)
        assert (await world.exchange(session, portal)).body["scope"] == "desk operator"
        assert (await world.exchange(session, portal, scope="desk")).body["scope"] == "desk"
        answer = await world.exchange(session, portal, scope="desk roster:write")
        assert (answer.status, answer.body["error"]) == (400, "invalid_scope")

    async def test_it_takes_a_client_that_may_and_a_person_who_may(self, world: World) -> None:
        """A stolen session alone opens no desk; neither does a portal's secret with a pupil's."""
        employee, portal = await world.holder(), await world.portal()
        session = await world.session(employee)
        assert (await world.exchange(session, None)).body["error"] == "invalid_client"
        other = await world.portal("introspect", "desk")
        assert (await world.exchange(session, other)).body["error"] == "unauthorized_client"
        pupil, colleague = await world.claimed("0123456"), await world.claimed("e54321")
        for nobody in (pupil, colleague):
            answer = await world.exchange(await world.session(nobody), portal)
            assert (*answer.reason, answer.body["error"]) == (400, "role_missing", "invalid_request")

    @pytest.mark.parametrize(
        "field",
        [
            {"subject_token": "hrs_unknown"},
            {"subject_token_type": "urn:ietf:params:oauth:token-type:id_token"},
            {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        ],
    )
    async def test_what_is_no_session_or_asks_for_no_access_token(
        self, world: World, field: dict[str, str]
    ) -> None:
        session, portal = await world.session(await world.holder()), await world.portal()
        answer = await world.exchange(session, portal, **field)
        assert (answer.status, answer.body["error"]) == (400, "invalid_request")

    async def test_the_token_is_no_longer_good_than_the_session(self, world: World) -> None:
        employee, portal = await world.holder(), await world.portal()
        session = await world.session(employee)
        world.later(minutes=58)
        assert (await world.exchange(session, portal)).body["expires_in"] == 300
        for _ in range(13):
            world.later(minutes=50)
            await world.alive(session)
        world.later(minutes=10 * 6 - 58 + 9 - 2)
        left = timedelta(hours=12) - timedelta(minutes=58 + 650 + 9)
        assert (await world.exchange(session, portal)).body["expires_in"] == pytest.approx(
            left.total_seconds(), abs=2
        )

    @pytest.mark.parametrize("end", ["sign out", "reset", "suspend", "leave", "revoke", "portal", "password"])
    async def test_auth_takes_the_token_no_more_as_soon_as_what_it_stood_on_is_gone(
        self, world: World, end: str
    ) -> None:
        employee, portal = await world.holder(), await world.portal()
        session = await world.session(employee)
        token = (await world.exchange(session, portal)).body["access_token"]
        path = f"/accounts/{employee.person_id}"
        assert (await world.ask("GET", path, bearer=token)).status == 200
        match end:
            case "sign out":
                await world.ask("DELETE", "/sessions/current", bearer=session)
            case "reset":
                await world.reset(employee)
            case "suspend":
                await world.suspend(employee)
            case "leave":
                await world.leaves(employee)
            case "revoke":
                await world.desk("DELETE", f"{path}/roles/desk", scope="operator")
            case "portal":
                await world.desk("DELETE", f"/v1/operations/clients/{portal[0]}", scope="operator")
            case "password":
                another = await world.session(employee)
                body = {"current": PASSWORD, "new": "another horse"}
                assert (await world.ask("PUT", "/password", body, bearer=another)).status == 204
        assert (await world.ask("GET", path, bearer=token)).reason == (401, "token_invalid")
        inspector = await world.portal("introspect")
        assert (await world.form("/introspect", inspector, token=token)).body == {"active": False}

    async def test_introspection_names_the_person_and_the_portal(self, world: World) -> None:
        employee, portal = await world.holder(), await world.portal()
        token = (await world.exchange(await world.session(employee), portal)).body["access_token"]
        told = (await world.form("/introspect", await world.portal("introspect"), token=token)).body
        assert (told["active"], told["sub"], told["username"]) == (True, str(employee.person_id), HOLDER)
        assert told["act"] == {"sub": portal[0]}


class TestOwnClients:
    async def test_a_client_may_be_said_to_be_somebodys_own(self, world: World) -> None:
        employee = await world.enroll(HOLDER)
        body = {
            "name": "R. Alvarez", "scopes": ["desk"], "districts": ["ccps"], "human": True,
            "person_id": str(employee.person_id),
        }  # fmt: skip
        clients, operator = "/v1/operations/clients", world.token("operator")
        made = await world.ask("POST", clients, body, bearer=operator)
        assert made.status == 201, made
        answer = await world.form(
            "/token", (made.body["id"], made.body["secret"]), grant_type="client_credentials"
        )
        caller = await world.kit.tokens.client(answer.body["access_token"], "ccps", world.now())
        assert (caller.subject, caller.who) == (made.body["id"], str(employee.person_id))
        listed = (await world.ask("GET", clients, bearer=operator)).body["clients"]
        assert [c["person_id"] for c in listed if c["id"] == made.body["id"]] == [str(employee.person_id)]

    async def test_of_nobody_a_pupil_or_several_it_cannot_be(self, world: World) -> None:
        pupil, employee = await world.enroll("0123456"), await world.enroll(HOLDER)
        for whose, human, reason in (
            (uuid4(), True, "person_unknown"),
            (pupil.person_id, True, "not_staff"),
            (employee.person_id, False, "client_not_human"),
        ):
            body = {
                "name": "x", "scopes": ["desk"], "districts": ["ccps"], "human": human, "person_id": str(whose),
            }  # fmt: skip
            answer = await world.ask("POST", "/v1/operations/clients", body, bearer=world.token("operator"))
            assert answer.reason == (422, reason)


class TestTheAccount:
    async def test_a_desk_sees_how_it_stands(self, world: World) -> None:
        pupil = await world.claimed("0123456")
        await world.session(pupil)
        wrong = await world.sign_in(pupil.username, "wrong horse")
        begun = (await world.ask("POST", "/recoveries", {"username": pupil.username})).body
        path = f"/recoveries/{begun['recovery_id']}/answers"
        given = typed([("birth_month", "May"), ("birth_year", "2000"), ("favorite_season", "fall")])
        await world.ask("POST", path, {"answers": given}, bearer=begun["ticket"])
        await world.desk("POST", f"/accounts/{pupil.person_id}/recovery-codes", {})
        shown = (await world.desk("GET", f"/accounts/{pupil.person_id}")).body
        assert (shown["state"], shown["username"], shown["roles"]) == ("live", "S0123456", [])
        assert (len(shown["sessions"]), shown["wrong_passwords"], shown["wrong_answers"]) == (1, 1, 1)
        assert shown["code_until"] is not None
        assert shown["resting_until"] is None
        assert wrong.body["reference"] in [refusal["reference"] for refusal in shown["refusals"]]
        assert b"hrs_" not in msgspec.json.encode(shown)

    async def test_of_whom_auth_has_not_heard(self, world: World) -> None:
        assert (await world.desk("GET", f"/accounts/{uuid4()}")).reason == (404, "person_unknown")

    async def test_one_who_has_not_claimed(self, world: World) -> None:
        pupil: Any = await world.enroll("0123456")
        shown = (await world.desk("GET", f"/accounts/{pupil.person_id}")).body
        assert (shown["state"], shown["sessions"], shown["password_since"]) == ("none", [], None)
