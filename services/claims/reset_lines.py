"""What a help desk pastes from a ticket, lines of `Firstname Lastname 0123456`, and whom each of them means.

Pure. A line is matched by its number first and then by the whole name, which is never split: where a first name ends
and a last name begins, nobody can tell from `Mary Ann De La Cruz 0123456`. Nothing is guessed: what does not match
exactly is reported, with what is on file.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from services.claims.decider import Account, Pupil
from shared.errors import Rejected
from shared.policy import Kind, Policy

LINES_MAX = 2_000
LINE_MAX_LENGTH = 600


class Line(msgspec.Struct, frozen=True):
    """One line that is not blank: its place in what was pasted (from 1), the whole name, the number as typed."""

    place: int
    name: str
    number: str


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one line comes to. `state` is `matched`, or why nothing is done: unmatched, name_differs, not_claimed,
    repeated, malformed (with a `hint`), number_conflict, withdrawn, history_parked, role_not_below. Of a matched line
    it becomes `reset`, `done`, `skipped` or `failed` (both with a `reason`), or `cancelled` as the batch goes on.
    `reference`: of what failed, for whoever reads the logs. `kind`: what the person is. `name`: the whole name on file
    today, in the report of a list. `suspended`: the account is, and stays so when it is reset."""

    line: int
    state: str
    hint: str | None = None
    person_id: UUID | None = None
    kind: Kind = "student"
    username: str | None = None
    name: str | None = None
    suspended: bool = False
    on_file: str | None = None  # the whole name, where it differs from the one in the line
    first_line: int | None = None  # of a pupil who is named again
    reason: str | None = None
    reference: str | None = None
    sessions_ended: int | None = None


def read_lines(pasted: str | Sequence[str]) -> list[Line]:
    """The lines that are not blank. Raises Rejected `lines_missing`, `lines_too_many`."""
    texts = pasted.splitlines() if isinstance(pasted, str) else pasted
    lines = [_line(place, text.strip()) for place, text in enumerate(texts, 1) if text.strip()]
    if not lines:
        raise Rejected("lines_missing")
    if len(lines) > LINES_MAX:
        raise Rejected("lines_too_many", max_lines=LINES_MAX)
    return lines


def _line(place: int, text: str) -> Line:
    name, _, number = " ".join(text.split()).rpartition(" ")
    return Line(place, name, number)


def numbers(lines: Sequence[Line], policy: Policy) -> list[str]:
    """The numbers to look up."""
    return sorted({number for line in lines if (number := _number(line, policy)[0])})


def match(
    lines: Sequence[Line],
    found: Mapping[str, Sequence[Pupil]],
    accounts: Mapping[UUID, Account],
    policy: Policy,
) -> list[Finding]:
    """Whom each line means, and whether that account is to be reset. `found`: everybody under each number."""
    findings: list[Finding] = []
    first_lines: dict[UUID, int] = {}
    for line in lines:
        finding = _match(line, found, accounts, policy)
        if finding.person_id and finding.state in ("matched", "not_claimed"):
            first = first_lines.setdefault(finding.person_id, line.place)
            if first != line.place:
                finding = msgspec.structs.replace(finding, state="repeated", first_line=first)
        findings.append(finding)
    return findings


def _match(
    line: Line, found: Mapping[str, Sequence[Pupil]], accounts: Mapping[UUID, Account], policy: Policy
) -> Finding:
    number, hint = _number(line, policy)
    if number is None:
        return Finding(line=line.place, state="malformed", hint=hint)
    under = found.get(number, ())
    enrolled = [pupil for pupil in under if pupil.enrolled]
    if any(pupil.parked for pupil in under):
        return Finding(line=line.place, state="history_parked")
    if len(enrolled) != 1:
        state = "number_conflict" if enrolled else "withdrawn" if under else "unmatched"
        return Finding(line=line.place, state=state)
    pupil = enrolled[0]
    on_file = " ".join(f"{pupil.first_name} {pupil.last_name}".split())
    account = accounts.get(pupil.person_id)
    state = "matched" if account and account.claimed else "not_claimed"
    if not policy.same_name(line.name, on_file):
        state = "name_differs"
    return Finding(
        line=line.place,
        state=state,
        person_id=pupil.person_id,
        kind=pupil.kind,
        username=policy.username(pupil.kind, number),
        suspended=state == "matched" and account is not None and account.suspended,
        on_file=on_file if state == "name_differs" else None,
    )


def _number(line: Line, policy: Policy) -> tuple[str | None, str | None]:
    """The line's number, or the hint why there is none."""
    if len(line.name) + len(line.number) > LINE_MAX_LENGTH:
        return None, "line_long"
    if not line.name:
        return None, "name_missing"
    try:
        return policy.read_any_number(line.number), None
    except Rejected as rejected:
        return None, rejected.reason
