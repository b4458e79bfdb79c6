"""A district's rules as data: what a policy may say, and how what pupils type is read by it.

All of it is pure, so deciders may use it. The files are read by `shared.policies`.
"""

import re
import unicodedata
from collections.abc import Container
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from shared import text
from shared.errors import HomeroomError, Rejected, Unavailable

NAME_MAX_LENGTH = 255
SLUG = re.compile(r"[a-z][a-z0-9-]{1,31}")

Kind = Literal["student", "staff"]  # what a person of the roster is
Role = Literal["desk", "operator"]  # what a member of the staff may do in the district, the least first
ROLES: tuple[Role, ...] = ("desk", "operator")


def rank(held: Container[str]) -> int:
    """How high the highest of some roles stands, or of the scopes that go by their names; 0 for none."""
    return max((place for place, role in enumerate(ROLES, 1) if role in held), default=0)


Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Line = Annotated[str, Meta(min_length=1, max_length=255)]
# Of a service elsewhere; without TLS only on this machine.
Address = Annotated[
    str,
    Meta(
        max_length=1000,
        pattern=r"^(https://[^/?#@\s]+|http://(127\.0\.0\.1|localhost)(:[0-9]+)?)(/[^?#\s]*)?\Z",
    ),
]

# Where a person is sent to, by a click. Its end is written so that readers of OpenAPI understand it, too.
Link = Annotated[
    str,
    Meta(
        max_length=1000,
        pattern=r"^(https://[^/?#@\s]+|http://(127\.0\.0\.1|localhost)(:[0-9]+)?)([/?#]\S*)?(?!\n)$",
    ),
]
Color = Annotated[str, Meta(pattern=r"^#[0-9a-f]{6}\Z")]


def scopes_of(held: Container[str]) -> tuple[str, ...]:
    """What who holds some roles may do: a role may also do what those below it may."""
    return ROLES[: rank(held)]


class UnknownDistrict(HomeroomError):
    """No policy file names this district."""


class NeverHeld(Unavailable):
    """There is a policy file of this district, but none that held since the process began."""

    def __init__(self, district: str) -> None:
        super().__init__(f"policy:{district}", retry_after_s=30)


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every part of a policy has in common: it never changes, and a misspelt key is an error."""


class Texts(_Part, frozen=True):
    en: Line
    es: Line


class NumberRule(_Part, frozen=True):
    """What a student's number looks like: `digits` long, and matching `pattern` as a whole. It is never an integer."""

    digits: Annotated[int, Meta(ge=3, le=20)]
    pattern: Line

    def problem(self, typed: str, prefix: str) -> str | None:
        """The reason why this is no number, as exact as the input alone allows; None if it is one (already trimmed)."""
        if len(typed) == self.digits and re.fullmatch(self.pattern, typed):
            return None
        leads = prefix != "" and typed.casefold().startswith(prefix.casefold())
        rest = typed[len(prefix) :] if leads else ""
        if rest and _digits(_zeros(rest)):
            return "number_leading_s"
        if not _digits(typed) and _digits(_zeros(typed)):
            return "number_letter_o"
        return "number_length" if _digits(typed) and len(typed) != self.digits else "number_malformed"


class EmployeeNumberRule(NumberRule, frozen=True):
    """What an employee number looks like: `prefix`, in whatever case, and then a number. It is the username too."""

    prefix: Annotated[str, Meta(pattern="^[A-Za-z]{0,4}$")]

    def find(self, typed: str) -> str | None:
        """The employee number that was typed (already trimmed), its prefix as the policy has it; None if it is none."""
        return self.complete(typed) if self._has_prefix(typed) else None

    def complete(self, given: str) -> str | None:
        """The same of a district's system, which may leave the prefix out: there is nothing else that it could mean."""
        bare = self._bare(given)
        return None if self.problem(bare, "") else self.prefix + bare

    def why_not(self, given: str) -> str | None:
        """The reason why this is no employee number; None if it is one, with its prefix or without."""
        return self.problem(self._bare(given), "")

    def hint(self, typed: str) -> str | None:
        """The reason why this is no employee number, if one was meant: it begins with the prefix, or only lacks it."""
        if self.prefix and self._has_prefix(typed):
            return self.why_not(typed)
        return "number_without_e" if self.complete(typed) else None

    def _has_prefix(self, typed: str) -> bool:
        return typed[: len(self.prefix)].casefold() == self.prefix.casefold()

    def _bare(self, typed: str) -> str:
        return typed[len(self.prefix) :] if self._has_prefix(typed) else typed


class PasswordRule(_Part, frozen=True):
    min_length: Annotated[int, Meta(ge=6, le=64)]
    max_length: Annotated[int, Meta(ge=128, le=1024)]
    history_days: Natural
    history_count: Annotated[int, Meta(ge=1, le=50)]


class SessionRule(_Part, frozen=True):
    idle_minutes: Positive
    absolute_hours: Positive

    @property
    def idle(self) -> timedelta:
        return timedelta(minutes=self.idle_minutes)

    @property
    def absolute(self) -> timedelta:
        return timedelta(hours=self.absolute_hours)


class SignInRule(_Part, frozen=True):
    """Wrong passwords for an account bring a pause that grows and always ends by itself.

    From devices that the account does not know, after `account_failures` in a row the pause is a long one. Such a
    device counts against its own budget, and against its network's while it has no token: each is of so many wrong
    passwords at once, and forgives so many in an hour."""

    free_tries: Natural
    first_pause_seconds: Positive
    longest_pause_seconds: Annotated[int, Meta(ge=1, le=3600)]
    account_failures: Positive
    account_pause_seconds: Annotated[int, Meta(ge=1, le=3600)]
    device_failures: Positive
    device_failures_an_hour: Positive
    network_failures: Positive
    network_failures_an_hour: Positive
    network_pause_seconds: Annotated[int, Meta(ge=1, le=600)]

    @property
    def network_pause(self) -> timedelta:
        return timedelta(seconds=self.network_pause_seconds)

    def pause(self, failures: int, *, known: bool) -> timedelta:
        """How long after the last of so many wrong passwords in a row the next try has to wait, from a `known` device
        or from all others."""
        if failures <= self.free_tries:
            return timedelta(0)
        if failures > self.account_failures and not known:
            return timedelta(seconds=self.account_pause_seconds)
        doublings = min(failures - self.free_tries - 1, 20)
        return timedelta(seconds=min(self.first_pause_seconds << doublings, self.longest_pause_seconds))


class RecoveryRule(_Part, frozen=True):
    tries_a_day: Positive
    code_minutes: Positive


class RestRule(_Part, frozen=True, kw_only=True):
    """The OneRoster 1.2 rostering service of the SIS, and when it is asked. Its secret is in no policy.

    `ca_file`: the authority that signed its certificate, a file (PEM) beside the secret; the system's when unset.
    `at`: times of the day, "05:30", in the district's time zone; none: only when somebody asks for it. A pull is whole
    when the last whole one is `full_every_days` old, and otherwise of what was modified since the last.
    """

    url: Address
    token_url: Address
    client_id: Annotated[str, Meta(min_length=1, max_length=255, pattern="^[^:]+$")]
    scope: Line = "https://purl.imsglobal.org/spec/or/v1p2/scope/roster-core.readonly"
    ca_file: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.pem\Z")] | None = None
    at: Annotated[
        list[Annotated[str, Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]], Meta(max_length=24)
    ] = []
    full_every_days: Annotated[int, Meta(ge=1, le=31)] = 1
    page_size: Annotated[int, Meta(ge=2, le=5000)] = 500

    def last_slot(self, zone: ZoneInfo, now: datetime) -> datetime | None:
        """The last moment, at or before now, at which a pull was to begin."""
        today = now.astimezone(zone).date()
        slots = (
            datetime.combine(day, time.fromisoformat(at), zone).astimezone(UTC)
            for day in (today, today - timedelta(days=1))
            for at in self.at
        )
        return max((slot for slot in slots if slot <= now), default=None)


class RolesRule(_Part, frozen=True):
    """What roles of the staff are worth against each other. A role above one's own is never reset or closed.

    `peers`: who has the same role as whoever asks is reset with a second person's approval, or only by a role above.
    """

    peers: Literal["approval", "refused"]


class WebhookRule(_Part, frozen=True):
    """Where the district is told of its audit over HTTP. `events`: of which requests (`what` in the audit); none: of
    all. The secret is in no policy."""

    url: Link
    events: Annotated[list[Line], Meta(max_length=100)] = []


class ApplicationRule(_Part, frozen=True):
    """Single sign-on. `subjects`: by which name applications know a person: one for all (public), or another for each
    (pairwise), so that they cannot put together what they know."""

    subjects: Literal["public", "pairwise"]


class ImportRule(_Part, frozen=True):
    """Withdrawing (or renumbering) more pupils than this, or a greater share of the enrolled, needs a second person.
    `classes`: whether exports, and pulls, say who is in which class."""

    approval_above: Natural
    approval_above_percent: Annotated[int, Meta(ge=0, le=100)]
    staff_number_from: Literal["identifier", "username", "off"]
    reports_kept: Annotated[int, Meta(ge=1, le=400)]
    classes: bool = True
    rest: RestRule | None = None


class Resource(_Part, frozen=True, kw_only=True, omit_defaults=True):
    """Something of the district's that people go to once they are signed in. `icon`: which of the portal's pictures."""

    name: Texts
    url: Link
    icon: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,23}(?!\n)$")] | None = None
    note: Texts | None = None


class PortalRule(_Part, frozen=True, kw_only=True):
    """How the district's pages look and whom they name. `accent` is for light pages, `accent_dark` for dark ones.

    `logo`: an .svg or .png file beside the policy. `help`: a line on whom to ask. `idle_warning_seconds`: how long
    before an unused session ends the person is asked whether they are still there.
    """

    accent: Color = "#2457a6"
    accent_dark: Color | None = None
    logo: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.(svg|png)\Z")] | None = None
    help: Texts | None = None
    idle_warning_seconds: Annotated[int, Meta(ge=20, le=600)] = 60
    resources: Annotated[list[Resource], Meta(max_length=60)] = []


class MonthAnswer(_Part, frozen=True, tag_field="kind", tag="month"):
    """A month by its English or Spanish name, an abbreviation of it (three letters or more), or its number."""

    def fold(self, typed: str) -> str | None:
        word = text.folded(typed).rstrip(".")
        if word.isdecimal() and 1 <= len(word) <= 2:
            return str(int(word)) if 1 <= int(word) <= 12 else None
        found = {n for n, names in _MONTHS.items() if len(word) >= 3 for m in names if m.startswith(word)}
        return str(found.pop()) if len(found) == 1 else None

    def problem(self, typed: str, now: datetime) -> str | None:
        return None if self.fold(typed) else "not_a_month"


class YearAnswer(_Part, frozen=True, tag_field="kind", tag="year"):
    """A year of four digits, from `earliest` to the present one."""

    earliest: Annotated[int, Meta(ge=1000, le=9999)]

    def fold(self, typed: str) -> str | None:
        word = text.folded(typed)
        return str(int(word)) if word.isdecimal() and len(word) == 4 else None

    def problem(self, typed: str, now: datetime) -> str | None:
        year = self.fold(typed)
        return None if year and self.earliest <= int(year) <= now.year else "not_a_year"


class ChoiceAnswer(_Part, frozen=True, tag_field="kind", tag="choice"):
    """One of a list. `choices_es` are the same things in Spanish, in the same order."""

    choices: Annotated[list[Line], Meta(min_length=2, max_length=50)]
    choices_es: list[Line]

    def fold(self, typed: str) -> str | None:
        word = text.folded(typed)
        for choice, spanish in zip(self.choices, self.choices_es, strict=True):
            if word in (text.folded(choice), text.folded(spanish)):
                return text.folded(choice)
        return None

    def problem(self, typed: str, now: datetime) -> str | None:
        return None if self.fold(typed) else "not_a_choice"


class TextAnswer(_Part, frozen=True, tag_field="kind", tag="text"):
    min_length: Positive
    max_length: Annotated[int, Meta(ge=1, le=255)]

    def fold(self, typed: str) -> str | None:
        return text.folded(typed) or None

    def problem(self, typed: str, now: datetime) -> str | None:
        if len(text.folded(typed)) < self.min_length:
            return "too_short"
        return "too_long" if len(text.plain(typed)) > self.max_length else None


class Question(_Part, frozen=True):
    id: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{1,39}$")]
    text: Texts
    answer: MonthAnswer | YearAnswer | ChoiceAnswer | TextAnswer

    def fold(self, typed: str) -> str | None:
        """The answer as it is compared and hashed; None if no such answer could ever have been accepted."""
        return self.answer.fold(typed)

    def accept(self, typed: str, now: datetime) -> str:
        """A new answer in the form that is hashed, or Rejected `answer_invalid` with the question and a hint."""
        hint = "control_character" if text.control_character(typed) else self.answer.problem(typed, now)
        if hint is not None:
            raise Rejected("answer_invalid", question=self.id, hint=hint)
        canonical = self.answer.fold(typed)
        assert canonical is not None
        return canonical


class Policy(_Part, frozen=True, kw_only=True):
    """All rules of one district. `district` is the file's name; everything else is stated in it."""

    district: str
    names: Texts
    code: Annotated[str, Meta(pattern="^[A-Z0-9]{4,12}$")]
    time_zone: str
    origins: Annotated[list[Line], Meta(max_length=50)] = msgspec.field(default_factory=list)

    username_prefix: Annotated[str, Meta(pattern="^[A-Z]{1,4}$")]
    number: NumberRule
    employee_number: EmployeeNumberRule
    name_case: Literal["exact", "folded"]

    claim_delay_hours: Natural
    staff_claim_delay_hours: Natural
    max_backdate_hours: Natural
    claim_refusals: Literal["matched", "uniform"]
    ticket_minutes: Annotated[int, Meta(ge=1, le=24 * 60)]
    staff_claim_code: Literal["off", "required"]
    claims_a_day: Positive
    claim_passwords: Positive
    suspension_grace_hours: Natural
    graduation_grace_days: Natural
    graduation_reasons: Annotated[list[Line], Meta(max_length=50)]

    approval_above: Natural
    resets_alone_a_day: Natural
    refusal_days: Positive

    recovery_refusals: Literal["uniform", "guided"]
    questions_required: Annotated[
        int, Meta(ge=0, le=10)
    ]  # 0: there are none, and a recovery takes a code only
    questions: Annotated[list[Question], Meta(min_length=1, max_length=50)]

    password: PasswordRule
    session: SessionRule
    sign_in: SignInRule
    recovery: RecoveryRule
    imports: ImportRule
    roles: RolesRule
    applications: ApplicationRule
    portal: PortalRule = PortalRule()
    webhook: WebhookRule | None = None

    @property
    def max_backdate(self) -> timedelta:
        return timedelta(hours=self.max_backdate_hours)

    @property
    def ticket_life(self) -> timedelta:
        return timedelta(minutes=self.ticket_minutes)

    @property
    def suspension_grace(self) -> timedelta:
        return timedelta(hours=self.suspension_grace_hours)

    @property
    def graduation_grace(self) -> timedelta:
        return timedelta(days=self.graduation_grace_days)

    def is_graduation(self, reason: str | None) -> bool:
        """Whether a withdrawal for this reason, in the district's own words, is a graduation."""
        return reason is not None and text.folded(reason) in map(text.folded, self.graduation_reasons)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    def claim_delay(self, kind: Kind) -> timedelta:
        """From being entered into the SIS to being able to claim."""
        return timedelta(hours=self.claim_delay_hours if kind == "student" else self.staff_claim_delay_hours)

    def claim_needs_code(self, kind: Kind) -> bool:
        """Whether a claim also takes a one-time code of the help desk."""
        return kind == "staff" and self.staff_claim_code == "required"

    def question(self, question_id: str) -> Question | None:
        return next((q for q in self.questions if q.id == question_id), None)

    def read_number(self, typed: str) -> str:
        """The student number that was typed, trimmed and with plain digits; Rejected with the hint that fits best."""
        number = _typed(typed)
        if reason := self.number.problem(number, self.username_prefix):
            raise Rejected(reason, digits=self.number.digits)
        return number

    def read_employee_number(self, given: str) -> str:
        """The employee number that a district's system gave; Rejected with the hint that fits best."""
        rule, number = self.employee_number, _typed(given)
        if reason := rule.why_not(number):
            raise Rejected(reason, **_shape(rule))
        return rule.complete(number) or number

    def read_any_number(self, typed: str) -> str:
        """The student or employee number that was typed, where either may be: no number is of both kinds."""
        number = _typed(typed)
        if self.number.problem(number, self.username_prefix) is None:
            return number
        if found := self.employee_number.find(number):
            return found
        if hint := self.employee_number.hint(number):
            raise Rejected(hint, **_shape(self.employee_number))
        return self.read_number(number)

    def username(self, kind: Kind, number: str) -> str:
        return self.username_prefix + number if kind == "student" else number

    def read_username(self, typed: str) -> tuple[Kind, str] | None:
        """Whose username was typed, in whatever case, by kind and number; None if it is not of that shape."""
        username = _typed(typed)
        head, number = username[: len(self.username_prefix)], username[len(self.username_prefix) :]
        if head.casefold() == self.username_prefix.casefold() and self.number.problem(number, head) is None:
            return "student", number
        employee = self.employee_number.find(username)
        return None if employee is None else ("staff", employee)

    def same_name(self, typed: str, on_file: str) -> bool:
        return text.same_name(typed, on_file, fold_case=self.name_case == "folded")


def _typed(given: str) -> str:
    """What was typed, trimmed, with plain digits and letters."""
    return unicodedata.normalize("NFKC", text.plain(given))


def _shape(rule: EmployeeNumberRule) -> dict[str, Any]:
    return {"digits": rule.digits, "prefix": rule.prefix}


def _digits(typed: str) -> bool:
    return typed.isascii() and typed.isdigit()


def _zeros(typed: str) -> str:
    return typed.replace("O", "0").replace("o", "0")


_MONTHS = {
    1: ("january", "enero"),
    2: ("february", "febrero"),
    3: ("march", "marzo"),
    4: ("april", "abril"),
    5: ("may", "mayo"),
    6: ("june", "junio"),
    7: ("july", "julio"),
    8: ("august", "agosto"),
    9: ("september", "septiembre", "setiembre"),
    10: ("october", "octubre"),
    11: ("november", "noviembre"),
    12: ("december", "diciembre"),
}
