"""What the services' codes mean, for the people who work with them. A code without words is shown as it is."""

from collections.abc import Mapping
from typing import Any

from services.portal.languages import N_
from services.portal.visit import Visit

# Why somebody was refused: `detail.reason` of claims, `detail.cause` of auth.
TRUE_REASONS = {
    "number_unknown": N_("Nobody has this number."),
    "history_parked": N_(
        "Something that the school told of this person could not be taken in. Until that is mended, nothing is certain."
    ),
    "withdrawn": N_("The person has left the district."),
    "number_conflict": N_("Two people have this number. The school has to set it right."),
    "enrollment_voided": N_("The school has taken every enrollment of this person back."),
    "account_claimed": N_("The account was claimed already, on %(claimed_at)s."),
    "account_suspended": N_("The account is closed."),
    "waiting_period": N_("The person is new. The account opens on %(eligible_at)s."),
    "claims_exhausted": N_("Claims were begun too often in one day. The next can begin on %(retry_at)s."),
    "wrong_password": N_("The password was wrong."),
    "not_claimed": N_("The account has not been claimed yet."),
    "username_unknown": N_("Nobody has this username."),
    "questions_outdated": N_("The district asks other questions now. A one-time code opens the way back."),
    "code_only": N_("Only a one-time code opens this account."),
    "resting": N_("There were too many wrong answers. The questions rest until %(until)s."),
    "wrong_answers": N_("The answers were wrong."),
    "code_wrong_or_expired": N_("The one-time code was wrong, used or too old."),
    "not_opened": N_("A new password came before the questions were answered."),
    "too_many_passwords": N_(
        "Too many passwords were tried. The person begins again with Forgot my password."
    ),
    "credential_replaced": N_("The password was changed meanwhile."),
    "recovery_unknown": N_("It took too long. The person begins again with Forgot my password."),
    "no_account": N_("Nobody has claimed an account under this username."),
}
MOMENTS = ("claimed_at", "eligible_at", "retry_at", "until")
DIFFERS = {
    "first_name": N_("The first name differs. On file is “%(name)s”."),
    "last_name": N_("The last name differs. On file is “%(name)s”."),
}
DIFFERED = {
    "first_name": N_("The first name differed."),
    "last_name": N_("The last name differed."),
}
# What somebody was told (`reason`), and what came of a line of the audit.
TOLD = {
    "done": N_("done"),
    "claim_refused": N_("“Claim Account Operation Failed”"),
    "waiting_period": N_("the moment when the account opens"),
    "account_claimed": N_("the account is claimed already"),
    "account_suspended": N_("the account is closed"),
    "claims_exhausted": N_("come back later"),
    "authentication_failed": N_("“Authentication Failed”"),
    "sign_in_paused": N_("wait a little"),
    "recovery_refused": N_("“Challenge Questions Not Up to Date”"),
    "password_common": N_("this password is too easy"),
    "password_short": N_("this password is too short"),
    "password_long": N_("this password is too long"),
    "password_used_before": N_("this password was used before"),
    "answer_invalid": N_("an answer does not fit its question"),
    "answers_wrong_count": N_("a question was not answered"),
    "not_claimed": N_("the account has not been claimed"),
    "role_not_below": N_("somebody with a role above is needed"),
}
# What an act of the desk is refused with, and what to do then.
REFUSALS = {
    "approval_required": N_("A colleague has to approve this. Make it a list, even if it is a list of one."),
    "role_not_below": N_(
        "This person has the same role as you, or one above. Ask somebody with a role above theirs."
    ),
    "role_own": N_("Nobody gives a role to themselves. Ask another operator."),
    "not_staff": N_("Only staff can have a role."),
    "has_left": N_("The person has left the district."),
    "resets_exhausted": N_(
        "You have reset as many accounts today as one may alone. Make it a list, which a colleague approves."
    ),
    "person_required": N_("A list this long is asked for by a person, with an account of their own."),
    "person_unknown": N_("Nobody is on file under this address any more. Search again."),
    "not_claimed": N_("The account has not been claimed: the person claims it with names and number."),
    "account_suspended": N_("The account is closed. A code helps only once it is open again."),
    "approver_is_author": N_("You have asked for this yourself. A colleague has to approve it."),
    "batch_cancelled": N_("This list was taken back. Start another one."),
    "batch_unknown": N_("There is no such list."),
    "bulk_reset_open": N_("Another reset of the same accounts is open. Finish it, or take it back first."),
    "nobody_claimed": N_("Nobody on the list has claimed an account: there is nothing to reset."),
    "school_unknown": N_("Nobody is enrolled at a school of this name any more."),
    "lines_missing": N_("Paste at least one line."),
    "lines_too_many": N_("These are too many lines for one list. Paste 2,000 at most."),
    "reply_withheld": N_("A code was made, but did not arrive here. Make another one: only the last counts."),
    "request_in_progress": N_("This is being done right now. Look again in a moment."),
    "idempotency_key_reused": N_("This form was sent before. Open it again."),
    "scope_missing": N_("Your role does not allow this."),
    "not_found": N_("There is nothing at this address any more. Search again."),
    "invalid_body": N_("Something typed here cannot be taken. Look at it again."),
    "unavailable": N_("We cannot be reached right now. Nothing was changed. Try again in a minute."),
}
# What became of a line of a list: the word, and its colour.
LINES = {
    "matched": (N_("will be reset"), "info"),
    "planned": (N_("will be reset"), "info"),
    "reset": (N_("sessions are ending"), "info"),
    "done": (N_("done"), "ok"),
    "skipped": (N_("skipped"), "none"),
    "failed": (N_("failed"), "error"),
    "cancelled": (N_("taken back"), "none"),
    "unmatched": (N_("nobody has this number"), "error"),
    "name_differs": (N_("the name differs"), "error"),
    "not_claimed": (N_("not claimed"), "none"),
    "repeated": (N_("named twice"), "none"),
    "malformed": (N_("cannot be read"), "error"),
    "number_conflict": (N_("two people, one number"), "error"),
    "withdrawn": (N_("has left"), "warn"),
    "history_parked": (N_("uncertain"), "warn"),
    "role_not_below": (N_("somebody with a role above is needed"), "warn"),
}
# Why a line cannot be read, or nothing came of it.
HINTS = {
    "number_letter_o": N_("The letter O stands where a zero belongs."),
    "number_length": N_("The number has too few or too many digits."),
    "number_leading_s": N_("The S belongs to the username, not to the number."),
    "number_without_e": N_("The letters in front of the employee number are missing."),
    "number_malformed": N_("There is no number at the end of the line."),
    "name_missing": N_("There is a number without a name."),
    "line_long": N_("The line is longer than any name."),
    "claimed_since": N_("It was claimed again since."),
    "reset_since": N_("It was reset since."),
    "not_claimed": N_("It is not claimed."),
    "reset_failed": N_("An error of our own. Tell whoever runs Homeroom the code, then try again."),
}
BATCHES = {
    "awaiting_approval": (N_("waits for a colleague"), "warn"),
    "running": (N_("under way"), "info"),
    "done": (N_("done"), "ok"),
    "cancelled": (N_("taken back"), "none"),
}
SUSPENDED = {
    "desk": N_("The help desk closed the account."),
    "withdrawn": N_("The account is closed, because the person has left the district."),
    "merged": N_("The account is closed: another record of the same person counts."),
}


def why(visit: Visit, detail: Mapping[str, Any], on_file: Mapping[str, Any]) -> list[str]:
    """The truth of a refusal, in sentences."""
    code = str(detail.get("reason") or detail.get("cause") or "")
    if code == "names_differ":
        return [_differs(visit, field, on_file) for field in detail.get("differs", ())]
    if code == "account_suspended" or "causes" in detail:
        causes = [visit.text(SUSPENDED[cause]) for cause in detail.get("causes", ()) if cause in SUSPENDED]
        return causes or [visit.text(TRUE_REASONS["account_suspended"])]
    if code not in TRUE_REASONS:
        return [code] if code else []
    moments = {name: visit.moment(detail[name]) if name in detail else "–" for name in MOMENTS}
    return [visit.text(TRUE_REASONS[code], **moments)]


def told(visit: Visit, reason: str) -> str:
    return visit.text(TOLD[reason]) if reason in TOLD else reason


def line(visit: Visit, state: str) -> tuple[str, str]:
    """What became of a line: the word, and its colour."""
    text, kind = LINES.get(state, (state, ""))
    return visit.text(text) if state in LINES else text, kind


def batch(visit: Visit, state: str) -> tuple[str, str]:
    """How a list stands: the word, and its colour."""
    text, kind = BATCHES.get(state, (state, ""))
    return visit.text(text) if state in BATCHES else text, kind


def about(visit: Visit, found: Mapping[str, Any]) -> str:
    """What there is to say of a line beside its word."""
    if found.get("on_file"):
        return visit.text(N_("On file is “%(name)s”."), name=found["on_file"])
    if found.get("first_line"):
        return visit.text(N_("It is line %(line)s already."), line=found["first_line"])
    if found.get("suspended"):
        return visit.text(N_("It is closed, and stays so."))
    code = found.get("hint") or found.get("reason")
    return visit.text(HINTS[code]) if code in HINTS else code or ""


def refused(visit: Visit, reason: str) -> str:
    """What an act of the desk was refused with."""
    return visit.text(REFUSALS.get(reason, REFUSALS["unavailable"]))


def _differs(visit: Visit, field: str, on_file: Mapping[str, Any]) -> str:
    if field in on_file and field in DIFFERS:
        return visit.text(DIFFERS[field], name=on_file[field])
    return visit.text(DIFFERED[field]) if field in DIFFERED else field
