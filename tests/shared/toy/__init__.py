"""Toy: the smallest service there can be, for the tests of the kit."""

from typing import Annotated, Any
from uuid import UUID

import msgspec

from shared.auth import PUBLIC, RECOVERY, SESSION, TICKET, Caller, Scope
from shared.errors import Rejected, Unavailable, VersionConflict
from shared.messages import Event, EventCodec
from shared.once import once
from shared.service import Kit, ServiceSpec
from shared.web import Body, Call, Reply, Route

D = "/v1/districts/{district}"


class Noted(Event, frozen=True):
    text: str


class Note(Body, frozen=True):
    text: Annotated[str, msgspec.Meta(max_length=50)]
    many: tuple[int, ...] = ()
    mood: str | None = None


class NoteQuery(Body, frozen=True):
    dry_run: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=10)] = 5


class Login(msgspec.Struct, frozen=True):
    grant_type: str
    scope: str = ""


def routes(kit: Kit) -> list[Route]:
    async def echo(call: Call[Note]) -> Reply:
        return Reply(
            200, {"text": call.body.text, "dry_run": call.query.dry_run, "remote": await call.remote()}
        )

    async def who(call: Call[None]) -> Reply:
        assert call.caller is not None
        return Reply(
            200, {"subject": call.caller.subject, "kind": call.caller.kind, "name": call.caller.name}
        )

    async def person(call: Call[None]) -> Reply:
        return Reply(200, {"person_id": str(call.uuid("person_id"))})

    async def fail(call: Call[None]) -> Reply:
        match call.path["how"]:
            case "bug":
                raise ZeroDivisionError("secret-detail")
            case "unavailable":
                raise Unavailable("postgres", retry_after_s=7)
            case "conflict":
                raise VersionConflict(UUID(int=1), 3)
            case "declared":
                raise Rejected("toy_refused", hint="red")
            case "uniform":
                raise Rejected("toy_refused", secret={"truth": "first_name", "person_id": UUID(int=7)})
            case "slow_down":
                raise Rejected("toy_too_fast", retry_after_s=11)
        raise Rejected("not_in_any_table")

    async def login(call: Call[Login]) -> Reply:
        if call.body.grant_type != "client_credentials":
            raise Rejected("unsupported_grant_type")
        return Reply(200, {"access_token": "t"})

    async def note(call: Call[Note]) -> Reply:
        async def work(conn: Any) -> Reply:
            count = await conn.fetchval("INSERT INTO note (text) VALUES ($1) RETURNING id", call.body.text)
            if call.body.mood == "refuse":
                raise Rejected("toy_refused")
            return Reply(201, {"id": count}, {"Location": f"/notes/{count}"})

        return await once(call, kit.db, work, shown_once=call.body.mood == "secret")

    async def session(token: str, district: str, now: Any) -> Caller:
        if token != "opaque":
            raise Rejected("token_invalid")
        return Caller("pupil", "session", district)

    kit.authenticators["session"] = session
    refused = {"toy_refused": 403, "toy_too_fast": 429}
    return [
        Route("POST", f"{D}/echo", echo, "Says it again.", PUBLIC, Note, NoteQuery, needs_store=False),
        Route("GET", f"{D}/desk", who, "For desks.", Scope("desk", "operator"), needs_store=False),
        Route("GET", f"{D}/ticket", who, "For tickets.", TICKET, needs_store=False),
        Route("GET", f"{D}/recovery", who, "For recoveries.", RECOVERY, needs_store=False),
        Route("GET", f"{D}/session", who, "For sessions.", SESSION, needs_store=False),
        Route("GET", f"{D}/persons/{{person_id}}", person, "One person.", needs_store=False),
        Route("GET", f"{D}/fail/{{how}}", fail, "Fails.", refusals=refused, needs_store=False),
        Route(
            "POST",
            f"{D}/token",
            login,
            "OAuth.",
            body=Login,
            form=True,
            refusals={"unsupported_grant_type": 400},
            needs_store=False,
        ),
        Route(
            "POST", f"{D}/notes", note, "Writes.", Scope("desk"), Note, success={201: dict}, refusals=refused
        ),
        Route("GET", "/v1/codes/{code}", person_less, "Of no district.", needs_store=False),
    ]


async def person_less(call: Call[None]) -> Reply:
    return Reply(200, {"code": call.path["code"], "district": call.district})


SPEC = ServiceSpec(
    name="claims", package="tests.shared.toy", codec=EventCodec("claims", [Noted]), routes=routes
)
