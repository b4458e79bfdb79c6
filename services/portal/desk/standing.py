"""How an account stands, in sentences: what is well, what stands in the way, and until when."""

from typing import Any, NamedTuple

from services.portal.backend import moment
from services.portal.desk import words
from services.portal.languages import N_
from services.portal.visit import Visit

Json = dict[str, Any]


class Line(NamedTuple):
    """A word for the eye (`kind`: its colour), and the sentence. `persons`: the records that it speaks of."""

    kind: str
    word: str
    text: str
    persons: tuple[str, ...] = ()


def standing(visit: Visit, account: Json, credential: Json | None) -> list[Line]:
    """`account` as claims has it, `credential` as auth has it; None where auth has not heard of the person yet."""
    return [*_record(visit, account), *_account(visit, account), *_credential(visit, credential or {})]


def _record(visit: Visit, account: Json) -> list[Line]:
    say, lines = visit.text, []
    if account["merged_into"]:
        text = say(N_("This record is another name of one person. The account of the other record counts."))
        lines.append(Line("warn", say(N_("merged")), text, (account["merged_into"],)))
    if account["same_number"]:
        text = say(N_("Somebody else has the same number. Until the school sets it right, nobody can claim."))
        lines.append(Line("error", say(N_("same number")), text, tuple(account["same_number"])))
    if account["parked"]:
        lines.append(Line("error", say(N_("uncertain")), say(words.TRUE_REASONS["history_parked"])))
    if not account["enrolled"]:
        text = say(words.TRUE_REASONS["withdrawn"])
        if account["open_until"]:
            text = say(
                N_("The person has left the district. The account stays open until %(moment)s."),
                moment=visit.moment(account["open_until"]),
            )
        lines.append(Line("none", say(N_("has left")), text))
    return lines


def _account(visit: Visit, account: Json) -> list[Line]:
    say = visit.text
    lines = [
        Line("error", say(N_("closed")), f"{say(words.SUSPENDED[each['cause']])} {_by(visit, each)}")
        for each in account["suspensions"]
    ]
    if account["claimed_at"]:
        text = say(N_("The account was claimed on %(moment)s."), moment=visit.moment(account["claimed_at"]))
        lines.append(Line("ok", say(N_("claimed")), text))
        return lines
    if account["reset_at"]:
        text = say(N_("The account was reset on %(moment)s."), moment=visit.moment(account["reset_at"]))
        lines.append(Line("none", say(N_("reset")), text))
    if account["may_claim_now"]:
        lines.append(Line("warn", say(N_("not claimed")), say(N_("The account can be claimed now."))))
    elif (opens := moment(account["eligible_at"])) is None:
        lines.append(Line("warn", say(N_("not claimed")), say(words.TRUE_REASONS["enrollment_voided"])))
    elif opens > visit.now and not account["waiver"]:
        text = say(N_("The account opens on %(moment)s."), moment=visit.moment(opens))
        lines.append(Line("warn", say(N_("waiting")), text))
    else:
        lines.append(
            Line("warn", say(N_("not claimed")), say(N_("The account cannot be claimed at the moment.")))
        )
    if account["waiver"]:
        text = say(N_("The help desk lets this person claim without waiting."))
        lines.append(Line("info", say(N_("waived")), f"{text} {_by(visit, account['waiver'])}"))
    return lines


def _credential(visit: Visit, credential: Json) -> list[Line]:
    say, lines = visit.text, []
    if (paused := moment(credential.get("paused_until"))) and paused > visit.now:
        text = say(
            N_("After wrong passwords, other devices wait until %(moment)s."),
            moment=visit.moment(paused, "exact"),
        )
        lines.append(Line("warn", say(N_("paused")), text))
    if (resting := moment(credential.get("resting_until"))) and resting > visit.now:
        text = say(words.TRUE_REASONS["resting"], until=visit.moment(resting))
        lines.append(Line("warn", say(N_("locked")), text))
    if (code := moment(credential.get("code_until"))) and code > visit.now:
        text = say(
            N_("A one-time code is out. It is good until %(moment)s."), moment=visit.moment(code, "time")
        )
        lines.append(Line("info", say(N_("code")), text))
    return lines


def _by(visit: Visit, done: Json) -> str:
    """Who did it, when, and for which ticket."""
    when = visit.moment(done["at"], "exact")
    name, ticket = done.get("actor_name"), done.get("desk_ticket")
    text = visit.text(N_("%(name)s, %(moment)s."), name=name, moment=when) if name else f"{when}."
    return " ".join([text, visit.text(N_("Ticket %(ticket)s."), ticket=ticket)]) if ticket else text
