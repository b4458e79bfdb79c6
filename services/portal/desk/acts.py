"""What the desk can do about one account: a table of acts, and the one form that asks for the ticket and does them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web

from services.portal.backend import Answer, Service, moment
from services.portal.desk import words
from services.portal.desk.access import Staff, new_key, sorry, staffed
from services.portal.languages import N_
from services.portal.visit import Page, Sorry

Json = dict[str, Any]
Role = Literal["desk", "operator"]

MAX_TICKET = 64
SPENT = ("reply_withheld", "idempotency_key_reused")  # another try takes another key


@dataclass(frozen=True)
class Act:
    """`path` is behind the account's; `ticket`: where the request carries its number.
    `offered`: whether a page of this account (claims'), and of its credential (auth's), should offer it at all.
    `role`: who may do it. `from_above`: on staff with a role only by a role above theirs."""

    name: str
    title: str
    explains: str
    done: str
    service: Service
    method: str
    path: str
    offered: Callable[[Json, Json | None], bool]
    ticket: Literal["body", "query"] = "body"
    danger: bool = False
    role: Role = "desk"
    from_above: bool = False

    def is_for(self, staff: Staff, account: Json, credential: Json | None) -> bool:
        """Whether this person's page should offer it to whoever looks at it; the services refuse all the same."""
        if self.role not in staff.roles or (self.from_above and credential and not credential["below"]):
            return False
        return self.offered(account, credential)


def _closed_by_desk(account: Json) -> bool:
    return any(each["cause"] == "desk" for each in account["suspensions"])


def _holds(credential: Json | None, role: Role) -> bool:
    return bool(credential and any(each["role"] == role for each in credential["roles"]))


def _can_hold(account: Json, credential: Json | None, role: Role) -> bool:
    may = (
        account["kind"] == "staff" and account["enrolled"] and account["claimed"] and not account["suspended"]
    )
    return bool(may and credential and not _holds(credential, role))


def _rests(credential: Json | None) -> bool:
    wrong = ("wrong_passwords", "wrong_answers", "paused_until", "resting_until")
    return bool(credential and any(credential[name] for name in wrong))


ACTS = (
    Act(
        "reset",
        N_("Reset the account"),
        N_("The person is signed out everywhere, the old password ends, and the person claims from the beginning."),
        N_("The reset has begun."),
        "claims", "POST", "/resets",
        lambda account, _: bool(account["claimed"]),
        danger=True,
    ),
    Act(
        "code",
        N_("Make a one-time code"),
        N_("The code opens the way to a new password, in place of the three questions. Be sure who asks you for it."),
        N_("The code was made."),
        "auth", "POST", "/recovery-codes",
        lambda account, _: bool(account["claimed"] or account["claim_needs_code"]),
        from_above=True,
    ),
    Act(
        "unlock",
        N_("Unlock the account"),
        N_("Wrong passwords and wrong answers are forgotten. The person can try again at once."),
        N_("The account is unlocked."),
        "auth", "DELETE", "/lockout",
        lambda _, credential: _rests(credential),
        ticket="query",
    ),
    Act(
        "sign-out",
        N_("Sign out everywhere"),
        N_("Every session of this person ends. The password stays."),
        N_("The person is signed out everywhere."),
        "auth", "DELETE", "/sessions",
        lambda _, credential: bool(credential and credential["sessions"]),
        ticket="query",
    ),
    Act(
        "waive",
        N_("Waive the wait"),
        N_("The person can claim at once, without the waiting period."),
        N_("The person can claim at once."),
        "claims", "PUT", "/waiver",
        lambda account, _: not any(account[known] for known in ("claimed", "may_claim_now", "waiver", "suspended")),
    ),
    Act(
        "unwaive",
        N_("Let the wait count again"),
        N_("The waiting period counts again, as if nobody had waived it."),
        N_("The waiting period counts again."),
        "claims", "DELETE", "/waiver",
        lambda account, _: bool(account["waiver"]) and not account["claimed"],
        ticket="query",
    ),
    Act(
        "restore",
        N_("Open the account again"),
        N_("What the help desk closed is opened again, with the same password."),
        N_("The account is open again."),
        "claims", "DELETE", "/suspension",
        lambda account, _: _closed_by_desk(account),
        ticket="query",
        from_above=True,
    ),
    Act(
        "suspend",
        N_("Close the account"),
        N_("Every session ends. Nobody signs in to this account or claims it until the help desk opens it again."),
        N_("The account is closed."),
        "claims", "PUT", "/suspension",
        lambda account, _: not _closed_by_desk(account),
        danger=True,
        from_above=True,
    ),
    Act(
        "make-desk",
        N_("Give the role of the help desk"),
        N_("With their own account the person sees every account of the district, resets and unlocks. It ends when they"
           " leave, or when their account is reset or closed."),
        N_("The person works at the help desk from now on."),
        "auth", "PUT", "/roles/desk",
        lambda account, credential: _can_hold(account, credential, "desk"),
        role="operator",
    ),
    Act(
        "unmake-desk",
        N_("Take the role of the help desk back"),
        N_("The account stays. Within five minutes the person can do nothing more at the help desk."),
        N_("The person works at the help desk no more."),
        "auth", "DELETE", "/roles/desk",
        lambda _, credential: _holds(credential, "desk"),
        ticket="query",
        role="operator",
    ),
    Act(
        "make-operator",
        N_("Give the role of an operator"),
        N_("An operator does all that the help desk does, sees imports and what was set aside, and gives roles. Nobody"
           " below an operator can change the account then."),
        N_("The person is an operator from now on."),
        "auth", "PUT", "/roles/operator",
        lambda account, credential: _can_hold(account, credential, "operator"),
        danger=True,
        role="operator",
    ),
    Act(
        "unmake-operator",
        N_("Take the role of an operator back"),
        N_("The account stays. Within five minutes the person can do nothing more that an operator can."),
        N_("The person is no operator any more."),
        "auth", "DELETE", "/roles/operator",
        lambda _, credential: _holds(credential, "operator"),
        ticket="query",
        role="operator",
    ),
)  # fmt: skip
_BY_NAME = {act.name: act for act in ACTS}


async def ask(staff: Staff) -> web.StreamResponse:
    """The form."""
    act, person_id = _act(staff), staff.id_of("person_id")
    return _form(staff, act, await staff.read("claims", f"/accounts/{person_id}"))


async def do(staff: Staff) -> web.StreamResponse:
    """Sent twice with the same key, it is done once."""
    act, person_id, visit = _act(staff), staff.id_of("person_id"), staff.visit
    ticket = visit.typed("ticket").strip()
    if not ticket:
        return await _again(staff, act, {"ticket": visit.text(N_("Type the number of the ticket."))})
    if len(ticket) > MAX_TICKET:
        return await _again(staff, act, {"ticket": visit.text(N_("That is too long for a ticket."))})
    body = {"desk_ticket": ticket} if act.ticket == "body" else None
    query = {"desk_ticket": ticket} if act.ticket == "query" else None
    headers = {"Idempotency-Key": staff.key} if act.method == "POST" else {}
    path = f"/accounts/{person_id}{act.path}"
    answer = await staff.ask(act.service, act.method, path, body, query=query, headers=headers)
    if not answer.ok:
        return await _again(staff, act, refused=answer)
    page = f"/desk/people/{person_id}"
    if act.name == "code":
        until = moment(answer.body["expires_at"])
        assert until is not None
        visit.browser.keep("code", [str(person_id), answer.body["code"]], until)
        return visit.go(f"{page}/code/shown")
    staff.tell(act.done)
    return visit.go(f"/desk/tickets/{answer.body['batch_id']}" if act.name == "reset" else page)


async def show_code(staff: Staff) -> web.StreamResponse:
    """The one-time code, shown once: looked at again, the page has none."""
    visit, person_id = staff.visit, staff.id_of("person_id")
    kept = visit.browser.find("code", list[str])
    account = await staff.read("claims", f"/accounts/{person_id}")
    credential = await staff.read("auth", f"/accounts/{person_id}")
    visit.browser.forget("code")
    code = kept[1] if kept and kept[0] == str(person_id) else None
    return staff.page("desk_code.html", account=account, code=code, until=credential["code_until"])


async def _again(
    staff: Staff, act: Act, errors: dict[str, str] | None = None, refused: Answer | None = None
) -> web.Response:
    """The form with what is wrong; nothing typed is lost, also while claims cannot say whom it is about."""
    answer = await staff.ask("claims", "GET", f"/accounts/{staff.id_of('person_id')}")
    if answer.status == 404:
        raise sorry(answer)
    return _form(staff, act, answer.body if answer.ok else None, errors, refused)


def _form(
    staff: Staff,
    act: Act,
    account: Json | None,
    errors: dict[str, str] | None = None,
    refused: Answer | None = None,
) -> web.Response:
    reason, status = "", 422 if errors else 200
    if refused is not None:
        reason, status = refused.reason, refused.status if refused.status in (403, 409, 503) else 422
    return staff.page(
        "desk_act.html",
        status,
        act=act,
        account=account,
        errors=errors or {},
        refused=words.refused(staff.visit, reason) if reason else None,
        as_list=reason in ("approval_required", "resets_exhausted"),
        ticket=staff.visit.typed("ticket"),
        key=new_key() if reason in SPENT else staff.key,
    )


def _act(staff: Staff) -> Act:
    act = _BY_NAME.get(staff.visit.request.match_info["act"])
    if act is None:
        raise Sorry(404, N_("Nothing is here"), N_("Check the address, letter by letter."))
    return act


PAGES = [
    Page("GET", "/desk/people/{person_id}/code/shown", staffed(show_code)),
    Page("GET", "/desk/people/{person_id}/{act}", staffed(ask)),
    Page("POST", "/desk/people/{person_id}/{act}", staffed(do)),
]
