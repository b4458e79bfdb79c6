"""Over HTTP: what districts publish and ask about, and whom the help desk looks up."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote
from uuid import UUID

import msgspec
from aiohttp import hdrs

from services.roster import handlers, projections
from services.roster.handlers import Outcome, Status
from services.roster.ingress import Statement, understand
from services.roster.projections import Person
from shared.auth import Scope
from shared.database import Connection
from shared.errors import MalformedRecord, Rejected
from shared.messages import CloudEvent
from shared.once import once
from shared.policy import Policy
from shared.problems import problem_of
from shared.service import Kit
from shared.web import Body, Call, Reply, Route

MAX_BATCH = 500
BODY_LIMIT_BYTES = 1024 * 1024

ONE, BATCH, BINARY = "application/cloudevents+json", "application/cloudevents-batch+json", "application/json"
# What one event may be refused for; in a batch each has its own result instead.
REFUSALS = {
    "event_malformed": 422,
    "type_unknown": 422,
    "district_mismatch": 422,
    "data_not_json": 422,
    "data_invalid": 422,
    "field_empty": 422,
    "field_too_long": 422,
    "field_control_character": 422,
    "number_malformed": 422,
    "entry_time_ambiguous": 422,
    "entry_time_malformed": 422,
    "withdrawal_time_ambiguous": 422,
    "withdrawal_time_malformed": 422,
    "leaving_time_ambiguous": 422,
    "leaving_time_malformed": 422,
    "kind_differs": 422,
    "date_malformed": 422,
    "classes_too_many": 422,
    "merged_already": 422,
    "merges_too_deep": 422,
    "person_unknown": 422,
    "survivor_unknown": 422,
    "enrollments_too_many": 422,
    "event_id_reused": 409,
}


class PublishQuery(Body, frozen=True):
    """`baseline`: pupils whom the district had before Homeroom; they are open at once. An operator's to say."""

    baseline: bool = False


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one event of a request. `event_id` is null where none could be read."""

    index: int
    event_id: str | None
    state: Literal["accepted", "unchanged", "refused"]
    person_id: UUID | None = None
    reason: str | None = None
    details: Mapping[str, Any] = {}


class Published(msgspec.Struct, frozen=True):
    """What was taken is committed. `unchanged`: it said nothing new, or came before."""

    accepted: int
    unchanged: int
    refused: int
    results: list[Result]


class PersonsQuery(Body, frozen=True):
    number: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Persons(msgspec.Struct, frozen=True):
    """Everybody under a number. `conflict`: more than one of them is enrolled, so nobody can claim by it."""

    persons: list[Person]
    conflict: bool


class PersonFound(Person, frozen=True, kw_only=True):
    """`same_number`: other enrolled persons under this number; as long as there are any, nobody can claim by it."""

    same_number: list[UUID]


def routes(kit: Kit) -> list[Route]:
    district = "/v1/districts/{district}"
    return [
        Route(
            "POST",
            f"{district}/enrollments",
            publish,
            summary="Publish what happened to pupils and staff: one CloudEvent (structured or binary), or a batch.",
            caller=Scope("roster:write", "operator"),
            body=msgspec.Raw,
            query=PublishQuery,
            success={202: Published},
            refusals={**REFUSALS, "batch_too_large": 413, "batch_empty": 422},
            body_limit=BODY_LIMIT_BYTES,
            content_types=(ONE, BATCH, BINARY),
        ),
        Route(
            "GET",
            f"{district}/enrollments/{{event_id}}",
            show_outcome,
            summary="What became of an event, whether it came over HTTP or through Kafka.",
            caller=Scope("roster:write", "desk", "operator"),
            success={200: Status},
        ),
        Route(
            "GET",
            f"{district}/persons",
            show_persons,
            summary="Everybody under a student or employee number, with conflicts.",
            caller=Scope("desk", "operator"),
            query=PersonsQuery,
            success={200: Persons},
        ),
        Route(
            "GET",
            f"{district}/persons/{{person_id}}",
            show_person,
            summary="One person as the district's records have them.",
            caller=Scope("desk", "operator"),
            success={200: PersonFound},
        ),
    ]


async def publish(call: Call[msgspec.Raw]) -> Reply:
    kit, policy = call.kit, call.policy
    if call.query.baseline and call.caller is not None and "operator" not in call.caller.scopes:
        raise Rejected("scope_missing", scopes=["operator"])
    events, batch = _events(call)
    read = [_understood(call, event) for event in events]
    statements = [s for s in read if isinstance(s, Statement)]

    async def work(conn: Connection) -> Reply:
        taken = iter(await handlers.take(kit.store, conn, call.district, policy, statements, now=call.now))
        outcomes = [next(taken) if isinstance(r, Statement) else r for r in read]
        await handlers.note_refused(
            conn, call.district, [r for r in read if isinstance(r, Outcome)], now=call.now
        )
        return _answered(call, outcomes, batch)

    reply = await once(call, kit.db, work)
    if reply.status >= 400:
        return dataclasses.replace(reply, content_type="application/problem+json")
    return reply


def _events(call: Call[msgspec.Raw]) -> tuple[list[CloudEvent | MalformedRecord], bool]:
    """The events of a request, and whether it is a batch. In plain JSON the ce- headers tell binary mode."""
    kind = call.request.content_type
    if kind == BINARY and "ce-specversion" in call.request.headers:
        return [_parse(lambda body: _binary(call.request.headers, body), call.raw)], False
    if kind == ONE or (kind == BINARY and call.raw.lstrip()[:1] != b"["):
        return [_parse(CloudEvent.parse_structured, call.raw)], False
    try:
        items = msgspec.json.decode(call.raw, type=list[msgspec.Raw])
    except msgspec.ValidationError:
        raise Rejected("invalid_body", field="$", problem="a batch is an array of CloudEvents") from None
    if not items:
        raise Rejected("batch_empty")
    if len(items) > MAX_BATCH:
        raise Rejected("batch_too_large", limit=MAX_BATCH)
    return [_parse(CloudEvent.parse_structured, item) for item in items], True


def _binary(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    """An event in the HTTP binding's binary mode. Raises MalformedRecord."""
    attributes = {
        name[3:].lower(): unquote(value) for name, value in headers.items() if name.lower()[:3] == "ce-"
    }
    return CloudEvent.of(attributes | {"datacontenttype": headers[hdrs.CONTENT_TYPE]}, body)


def _parse(parse: Callable[[Any], CloudEvent], body: bytes | msgspec.Raw) -> CloudEvent | MalformedRecord:
    try:
        return parse(body)
    except MalformedRecord as flaw:
        return flaw


def _understood(call: Call[msgspec.Raw], event: CloudEvent | MalformedRecord) -> Statement | Outcome:
    if isinstance(event, MalformedRecord):
        return handlers.refused(None, Rejected("event_malformed", problem=str(event)))
    try:
        return understand(
            event,
            call.district,
            call.policy,
            received_at=call.now,
            cause=call.cause,
            baseline=call.query.baseline,
        )
    except Rejected as refusal:
        readable = refusal.details.get("field") != "id"
        return handlers.refused(event.id if readable else None, refusal)


def _answered(call: Call[msgspec.Raw], outcomes: list[Outcome], batch: bool) -> Reply:
    """A batch tells of each event; a single one that was refused is a problem, which is kept like any reply."""
    if not batch and outcomes[0].reason is not None:
        refusal = Rejected(outcomes[0].reason, **outcomes[0].details)
        problem = problem_of(refusal, call.kit.settings.service, call.route.refusals)
        return Reply(problem.status, problem.body, problem.headers)
    states = [o.state for o in outcomes]
    body = Published(
        accepted=states.count("accepted"),
        unchanged=states.count("unchanged"),
        refused=states.count("refused"),
        results=[Result(index=n, **msgspec.structs.asdict(o)) for n, o in enumerate(outcomes)],
    )
    if batch:
        return Reply(202, body)
    event_id = quote(outcomes[0].event_id or "", safe="")
    return Reply(202, body, {"Location": f"/v1/districts/{call.district}/enrollments/{event_id}"})


async def show_outcome(call: Call[None]) -> Reply:
    async with call.kit.db.connection() as conn:
        status = await handlers.became_of(call.kit.store, conn, call.district, call.path["event_id"])
    if status is None:
        raise Rejected("not_found")
    return Reply(200, status)


async def show_persons(call: Call[None]) -> Reply:
    async with call.kit.db.connection() as conn:
        persons = await projections.persons_by_number(
            conn, call.district, _number_asked(call.query.number, call.policy)
        )
    return Reply(200, Persons(persons, conflict=sum(p.status == "enrolled" for p in persons) > 1))


def _number_asked(typed: str, policy: Policy) -> str:
    """As it would be on file; also what is no number by the present rules may be on file from before."""
    try:
        return policy.read_any_number(typed)
    except Rejected:
        return typed


async def show_person(call: Call[None]) -> Reply:
    async with call.kit.db.connection() as conn:
        person = await projections.person_by_id(conn, call.district, call.uuid("person_id"))
        if person is None:
            raise Rejected("not_found")
        others = await projections.persons_by_number(conn, call.district, person.number)
    same_number = [p.person_id for p in others if p.status == "enrolled" and p.person_id != person.person_id]
    return Reply(200, PersonFound(**msgspec.structs.asdict(person), same_number=same_number))
