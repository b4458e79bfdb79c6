"""The routes of claims: an HTTP request becomes a command or a question, and what comes of it a reply."""

import asyncio
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
import structlog
from msgspec import Meta

from services.claims import batches_api, decider, desk, directory_api, handlers
from services.claims.calls import DISTRICT, DeskBody, DeskTicket, asked_of
from services.claims.desk import AccountSeen
from services.claims.projections import ACCOUNT
from services.claims.tickets import issue
from shared.auth import PUBLIC, TICKET, Scope
from shared.database import Connection
from shared.errors import Rejected
from shared.logo import CONTENT_TYPES, LogoUnusable, read_logo
from shared.once import key_of, once
from shared.policy import EmployeeNumberRule, NumberRule, Question, Resource, SessionRule, Texts
from shared.service import Kit
from shared.web import Body, Call, Reply, Route

# Well above what a refusal costs: the longest of them must not come out at the next multiple.
UNIFORM_S = 0.15
LOGO_MAX_AGE_S = 300

log = structlog.get_logger(__name__)


class PasswordBounds(msgspec.Struct, frozen=True):
    min_length: int
    max_length: int


class PortalView(msgspec.Struct, frozen=True, kw_only=True):
    """How the district's pages look. `accent` can be read on white, `accent_dark` on a dark ground (null: the portal
    makes one of `accent`). `logo`: the path at which claims answers the picture; null: there is none."""

    accent: str
    accent_dark: str | None
    logo: str | None
    help: Texts | None
    idle_warning_seconds: int
    resources: list[Resource]


class PolicyView(msgspec.Struct, frozen=True, kw_only=True):
    """What a front end must know of a district's rules to guide a pupil."""

    district: str
    code: str
    names: Texts
    time_zone: str
    username_prefix: str
    number: NumberRule
    employee_number: EmployeeNumberRule
    password: PasswordBounds
    questions: list[Question]
    questions_required: int
    session: SessionRule
    portal: PortalView


class ClaimBody(Body, frozen=True, kw_only=True):
    """As typed. `number`: the student number with its leading zero, or the employee number; text."""

    last_name: str
    first_name: str
    number: str


class ClaimTicket(msgspec.Struct, frozen=True, kw_only=True):
    """An open claim. `ticket` is the Bearer for claims and auth until `expires_at`. `code_required`: the password is
    sent with a one-time code of the help desk."""

    claim_id: UUID
    username: str
    ticket: str
    expires_at: datetime
    code_required: bool


class ClaimView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`state`: open, completed, rejected (with the `reason`) or expired."""

    claim_id: UUID
    state: str
    reason: str | None = None


class AccountsQuery(Body, frozen=True, kw_only=True):
    username: Annotated[str, Meta(min_length=1, max_length=64)]


class AccountsView(msgspec.Struct, frozen=True):
    """More than one: several persons have this number."""

    accounts: list[AccountSeen]


class WaiverBody(DeskBody, frozen=True, kw_only=True):
    reason: Annotated[str, Meta(max_length=500, description="Why; no personal data.")] | None = None


class RevokeQuery(Body, frozen=True, kw_only=True):
    desk_ticket: DeskTicket | None = None


async def show_policy(call: Call[None]) -> Reply:
    policy = call.policy
    return Reply(
        200,
        PolicyView(
            district=policy.district,
            code=policy.code,
            names=policy.names,
            time_zone=policy.time_zone,
            username_prefix=policy.username_prefix,
            number=policy.number,
            employee_number=policy.employee_number,
            password=PasswordBounds(policy.password.min_length, policy.password.max_length),
            questions=policy.questions if policy.questions_required else [],
            questions_required=policy.questions_required,
            session=policy.session,
            portal=PortalView(
                accent=policy.portal.accent,
                accent_dark=policy.portal.accent_dark,
                logo=f"/v1/districts/{policy.district}/logo" if policy.portal.logo else None,
                help=policy.portal.help,
                idle_warning_seconds=policy.portal.idle_warning_seconds,
                resources=policy.portal.resources,
            ),
        ),
    )


async def show_logo(call: Call[None]) -> Reply:
    name = call.policy.portal.logo
    if name is None:
        raise Rejected("not_found")
    try:
        logo = await asyncio.to_thread(read_logo, call.kit.policies.folder, name)
    except LogoUnusable as error:
        log.warning("logo_unusable", error=str(error))
        raise Rejected("not_found") from None
    # A picture opened by itself is a page: one that holds a script runs none.
    headers = {
        "ETag": logo.etag,
        "Cache-Control": f"public, max-age={LOGO_MAX_AGE_S}",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    }
    if logo.etag in call.request.headers.get("If-None-Match", ""):
        return Reply(304, None, headers)
    return Reply(200, logo.content, headers, logo.content_type)


async def open_claim(call: Call[ClaimBody]) -> Reply:
    """The decision commits before the ticket leaves; a repeat under the same Idempotency-Key finds the claim again."""
    body, policy = call.body, call.policy
    typed = decider.read_claim(body.last_name, body.first_name, body.number, policy)
    key = key_of(call)

    async def work(conn: Connection) -> Reply:
        opened = await handlers.open_claim(
            call.kit.store, conn, typed, policy, key=key, now=call.now, cause=call.cause
        )
        claim = opened.claim
        ticket = ClaimTicket(
            claim_id=claim.claim_id,
            username=policy.username(opened.pupil.kind, opened.pupil.number),
            ticket=issue(call.kit.signer, opened, policy, call.now),
            expires_at=claim.expires_at,
            code_required=policy.claim_needs_code(opened.pupil.kind),
        )
        return Reply(201, ticket, {"Location": f"/v1/districts/{call.district}/claims/{claim.claim_id}"})

    return await once(call, call.kit.db, work)


async def show_claim(call: Call[None]) -> Reply:
    claim_id, caller = call.uuid("claim_id"), call.caller
    assert caller is not None
    if caller.claims.get("jti") != str(claim_id):
        raise Rejected("not_found")
    person_id = UUID(caller.subject)
    async with call.kit.db.connection() as conn:
        account = (await ACCOUNT.load(conn, [person_id])).get(person_id, decider.initial)
    claim = account.claim(claim_id)
    if claim is None:
        raise Rejected("not_found")
    state, reason = decider.claim_state(account, claim, call.now)
    return Reply(200, ClaimView(claim_id=claim_id, state=state, reason=reason))


async def find_accounts(call: Call[None]) -> Reply:
    async with call.kit.db.connection() as conn:
        found = await desk.find_accounts(conn, call.query.username, call.policy, call.now)
    return Reply(200, AccountsView(found))


async def show_account(call: Call[None]) -> Reply:
    async with call.kit.db.connection() as conn:
        return Reply(200, await desk.show_account(conn, call.uuid("person_id"), call.policy, call.now))


async def waive(call: Call[WaiverBody]) -> Reply:
    person_id, asked = call.uuid("person_id"), asked_of(call, call.body.desk_ticket)
    await handlers.waive(call.kit.store, person_id, call.district, asked, reason=call.body.reason)
    return Reply(204)


async def revoke_waiver(call: Call[None]) -> Reply:
    asked = asked_of(call, call.query.desk_ticket)
    await handlers.revoke_waiver(call.kit.store, call.uuid("person_id"), call.district, asked)
    return Reply(204)


async def suspend(call: Call[DeskBody]) -> Reply:
    asked = asked_of(call, call.body.desk_ticket)
    await handlers.suspend(call.kit.store, call.uuid("person_id"), call.district, asked)
    return Reply(204)


async def restore(call: Call[None]) -> Reply:
    asked = asked_of(call, call.query.desk_ticket)
    await handlers.restore(call.kit.store, call.uuid("person_id"), call.district, asked)
    return Reply(204)


def routes(kit: Kit) -> list[Route]:
    desk_only = Scope("desk")
    person = f"{DISTRICT}/accounts/{{person_id}}"
    return [
        Route(
            "GET", f"{DISTRICT}/policy", show_policy,
            summary="What a front end must know of the district's rules.",
            caller=PUBLIC, success={200: PolicyView}, needs_store=False,
        ),
        Route(
            "GET", f"{DISTRICT}/logo", show_logo,
            summary="The district's logo.",
            caller=PUBLIC, success={200: bytes, 304: None}, produces=tuple(CONTENT_TYPES.values()), needs_store=False,
        ),
        Route(
            "POST", f"{DISTRICT}/claims", open_claim,
            summary="Begin to claim an account with the names and number that the SIS has; a repeat under the same"
            " Idempotency-Key finds its claim again.",
            caller=PUBLIC, body=ClaimBody, success={201: ClaimTicket},
            refusals={
                "number_letter_o": 422, "number_length": 422, "number_leading_s": 422, "number_without_e": 422,
                "number_malformed": 422,
                "name_missing": 422, "name_long": 422,
                "claim_refused": 403, "waiting_period": 403, "account_claimed": 409, "claims_exhausted": 429,
                "account_suspended": 403,
            },
            uniform_s={"claim_refused": UNIFORM_S},
        ),
        Route(
            "GET", f"{DISTRICT}/claims/{{claim_id}}", show_claim,
            summary="How the claim of this ticket stands.",
            caller=TICKET, success={200: ClaimView},
        ),
        Route(
            "GET", f"{DISTRICT}/accounts", find_accounts,
            summary="The accounts under a username, as the help desk sees them.",
            caller=desk_only, query=AccountsQuery, success={200: AccountsView},
        ),
        Route(
            "GET", person, show_account,
            summary="One account, as the help desk sees it.",
            caller=desk_only, success={200: AccountSeen}, refusals={"person_unknown": 404},
        ),
        Route(
            "PUT", f"{person}/waiver", waive,
            summary="Let this pupil claim without waiting.",
            caller=desk_only, body=WaiverBody, success={204: None}, refusals={"person_unknown": 404},
        ),
        Route(
            "DELETE", f"{person}/waiver", revoke_waiver,
            summary="Let the waiting period count again.",
            caller=desk_only, query=RevokeQuery, success={204: None}, refusals={"person_unknown": 404},
        ),
        Route(
            "PUT", f"{person}/suspension", suspend,
            summary="Close this account: sessions end, nobody signs in or claims it.",
            caller=desk_only, body=DeskBody, success={204: None},
            refusals={"person_unknown": 404, "role_not_below": 403},
        ),
        Route(
            "DELETE", f"{person}/suspension", restore,
            summary="Take the help desk's suspension back; one because the pupil left ends by itself on return.",
            caller=desk_only, query=RevokeQuery, success={204: None},
            refusals={"person_unknown": 404, "role_not_below": 403},
        ),
        *batches_api.routes(),
        *directory_api.routes(),
    ]  # fmt: skip
