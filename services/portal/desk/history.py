"""What happened to somebody: the events of the three services, and the lines of the audit, in sentences."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from services.portal.desk import words
from services.portal.languages import N_
from services.portal.visit import Visit

Json = dict[str, Any]

EVENTS = {
    "StudentEnrolled": N_("Enrolled at %(school)s, grade %(grade)s."),
    "StaffEmployed": N_("Employed at %(school)s."),
    "NameCorrected": N_("The name was corrected to “%(name)s”."),
    "NumberChanged": N_("The number was changed to %(number)s."),
    "PlacementChanged": N_("Moved to %(school)s, grade %(grade)s."),
    "StudentWithdrawn": N_("Left the district."),
    "StaffLeft": N_("Left the district."),
    "EnrollmentVoided": N_("An enrollment was taken back."),
    "ClassesChanged": N_("Classes were changed."),
    "PersonsMerged": N_("Two records were made one."),
    "PersonsSplit": N_("Two records were separated again."),
    "ClaimOpened": N_("A claim was begun."),
    "AccountClaimed": N_("The account was claimed."),
    "ClaimRejected": N_("A claim was not taken."),
    "AccountReset": N_("The account was reset."),
    "WaitingPeriodWaived": N_("The wait was waived."),
    "WaiverRevoked": N_("The wait counts again."),
    "AccountSuspended": N_("The account was closed."),
    "AccountRestored": N_("The account was opened again."),
    "CredentialsSet": N_("A password and answers were chosen."),
    "CredentialActivated": N_("Signing in works."),
    "CredentialDiscarded": N_("The password and answers of a claim were thrown away."),
    "CredentialLost": N_("The password and answers were lost."),
    "PasswordChanged": N_("The password was changed."),
    "CredentialRevoked": N_("The old password does not work any more. Sessions that ended: %(sessions)s."),
    "RecoveryCodeIssued": N_("A one-time code was made."),
    "RecoveryRested": N_("The questions rest after wrong answers."),
    "LockoutLifted": N_("The account was unlocked."),
    "CredentialSuspended": N_("Signing in was stopped. Sessions that ended: %(sessions)s."),
    "CredentialRestored": N_("Signing in was allowed again."),
    "RoleGranted": N_("Was given the role %(role)s."),
    "RoleRevoked": N_("Has the role %(role)s no more."),
}
KINDS = {
    "AccountClaimed": "ok",
    "CredentialActivated": "ok",
    "AccountRestored": "ok",
    "CredentialRestored": "ok",
    "LockoutLifted": "ok",
    "ClaimRejected": "warn",
    "RecoveryRested": "warn",
    "AccountReset": "warn",
    "StudentWithdrawn": "warn",
    "StaffLeft": "warn",
    "AccountSuspended": "error",
    "CredentialSuspended": "error",
    "CredentialLost": "error",
}
AUDITED = {
    "sign_in": N_("Sign in"),
    "sign_out": N_("Sign out"),
    "sign_out_everywhere": N_("Sign out everywhere"),
    "change_password": N_("Change the password"),
    "prove_recovery": N_("Answer the questions, or type a code"),
    "recover": N_("A new password after forgetting it"),
    "issue_code": N_("Make a one-time code"),
    "lift_lockout": N_("Unlock the account"),
    "grant_role": N_("Give a role"),
    "revoke_role": N_("Take a role back"),
    "token": N_("A token for an application or the desk"),
}


class Happened(NamedTuple):
    """One event. `by`: who did it, where that is somebody of the desk."""

    at: str
    kind: str
    text: str
    service: str
    by: str | None
    ticket: str | None


def timeline(visit: Visit, parts: Iterable[Json]) -> list[Happened]:
    """The events of the services' timelines, the newest first."""
    events = [_happened(visit, part["service"], event) for part in parts for event in part["events"]]
    return sorted(events, key=lambda event: event.at, reverse=True)


def audited(visit: Visit, what: str) -> str:
    return visit.text(AUDITED[what]) if what in AUDITED else what


def _happened(visit: Visit, service: str, event: Json) -> Happened:
    data, kind = event["data"], event["type"]
    identity = data.get("identity") or {}
    blanks = {
        "school": data.get("school") or "–",
        "grade": data.get("grade") or "–",
        "name": f"{identity.get('first_name', '')} {identity.get('last_name', '')}".strip(),
        "number": identity.get("number", "–"),
        "sessions": data.get("sessions_ended", 0),
        "role": data.get("role", "–"),
    }
    text = visit.text(EVENTS[kind], **blanks) if kind in EVENTS else kind
    if kind == "ClaimRejected":
        text = " ".join([text, *words.why(visit, {"reason": data.get("reason")}, {})])
    return Happened(
        event["time"], KINDS.get(kind, ""), text, service, event.get("actor_name"), data.get("desk_ticket")
    )
