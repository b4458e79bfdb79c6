"""A district's rules as data: what a policy file may say, how it is checked, and how what pupils type is read by it.

Everything but `Policies` (the folder's reader) is pure, so deciders may use all of it. The files are in
`policies/`; `policies/ccps.toml` explains each key and shows how a second district is added.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from msgspec import Meta

from shared import text
from shared.errors import HomeroomError, Rejected, Unavailable

NAME_MAX_LENGTH = 255
_SLUG = re.compile(r"[a-z][a-z0-9-]{1,31}")
_OWN_KEYS = ("names", "code", "time_zone", "origins")

Kind = Literal["student", "staff"]  # what a person of the roster is

Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Line = Annotated[str, Meta(min_length=1, max_length=255)]


class UnknownDistrict(HomeroomError):
    """No policy file names this district."""


class NeverHeld(Unavailable):
    """There is a policy file of this district, but none that held since the process began."""

    def __init__(self, district: str) -> None:
        super().__init__(f"policy:{district}", retry_after_s=30)


class PolicyInvalid(HomeroomError):
    """A policy file does not hold; `problems` says why, one line each, fit to be shown to who wrote it."""

    def __init__(self, file: Path, problems: list[str]) -> None:
        super().__init__(f"{file.name}: " + "; ".join(problems))
        self.file, self.problems = file, problems


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
    """Wrong passwords for an account bring a pause that grows and always ends by itself."""

    free_tries: Natural
    first_pause_seconds: Positive
    longest_pause_seconds: Annotated[int, Meta(ge=1, le=3600)]

    def pause(self, failures: int) -> timedelta:
        """How long after the last of so many wrong passwords in a row the next try has to wait."""
        if failures <= self.free_tries:
            return timedelta(0)
        doublings = min(failures - self.free_tries - 1, 20)
        return timedelta(seconds=min(self.first_pause_seconds << doublings, self.longest_pause_seconds))


class RecoveryRule(_Part, frozen=True):
    tries_a_day: Positive
    code_minutes: Positive


class ImportRule(_Part, frozen=True):
    """Withdrawing (or renumbering) more pupils than this, or a greater share of the enrolled, needs a second person."""

    approval_above: Natural
    approval_above_percent: Annotated[int, Meta(ge=0, le=100)]
    reports_kept: Annotated[int, Meta(ge=1, le=400)]


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
    refusal_days: Positive

    recovery_refusals: Literal["uniform", "guided"]
    questions_required: Annotated[int, Meta(ge=1, le=10)]
    questions: Annotated[list[Question], Meta(min_length=1, max_length=50)]

    password: PasswordRule
    session: SessionRule
    sign_in: SignInRule
    recovery: RecoveryRule
    imports: ImportRule

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


def load_policy(file: Path) -> Policy:
    """The policy in a file. Raises PolicyInvalid with everything that is wrong about it, as far as one look
    can tell."""
    stated = _stated(file, depth=0)
    try:
        policy = msgspec.convert({"district": file.stem} | stated, Policy)
    except msgspec.ValidationError as error:
        raise PolicyInvalid(file, [str(error)]) from None
    if problems := list(_inconsistencies(policy)):
        raise PolicyInvalid(file, problems)
    return policy


def validate(file: Path) -> list[str]:
    """What is wrong with a policy file, one line each; nothing when it can be used."""
    try:
        load_policy(file)
    except PolicyInvalid as error:
        return error.problems
    return []


def _stated(file: Path, depth: int) -> dict[str, Any]:
    """A file's content laid over the one that it extends. Tables are merged key by key, lists are replaced."""
    try:
        own = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PolicyInvalid(file, [f"cannot be read: {error}"]) from None
    if "district" in own:
        raise PolicyInvalid(file, ["`district` is the file's name and is not stated in it"])
    base_name = own.pop("extends", None)
    if base_name is None:
        return own
    if not isinstance(base_name, str) or not _SLUG.fullmatch(base_name):
        raise PolicyInvalid(file, ["`extends` names another policy file of this folder, without its ending"])
    if depth >= 4:
        raise PolicyInvalid(file, [f"`extends` goes too deep or in a circle at {base_name!r}"])
    base = {
        k: v for k, v in _stated(file.with_name(f"{base_name}.toml"), depth + 1).items() if k not in _OWN_KEYS
    }
    return _overlay(base, own)


def _overlay(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        below = merged.get(key)
        merged[key] = _overlay(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _inconsistencies(policy: Policy) -> Iterator[str]:
    """What each value alone cannot show."""
    if not _SLUG.fullmatch(policy.district):
        yield f"the file's name {policy.district!r} is the district's slug: lower case letters, digits, hyphens"
    if policy.time_zone not in available_timezones():
        yield f"`time_zone`: {policy.time_zone!r} is no IANA time zone"
    for key, rule in (("number", policy.number), ("employee_number", policy.employee_number)):
        try:
            re.compile(rule.pattern)
        except re.error as error:
            yield f"`{key}.pattern` is no regular expression: {error}"
    if policy.employee_number.digits == policy.number.digits:
        prefix = policy.employee_number.prefix.casefold()
        if prefix in ("", policy.username_prefix.casefold()):
            yield "`employee_number`: such a number could be a student's number or username as well"
    for origin in policy.origins:
        if not re.fullmatch(r"https?://[a-z0-9.-]+(:\d+)?", origin):
            yield f"`origins`: {origin!r} is no web origin such as https://portal.example.org"
    ids = [q.id for q in policy.questions]
    for repeated in sorted({i for i in ids if ids.count(i) > 1}):
        yield f"`questions`: the id {repeated!r} is used twice"
    if len(ids) < policy.questions_required:
        yield f"`questions_required` is {policy.questions_required}, but there are only {len(ids)} questions"
    for question in policy.questions:
        yield from _answer_inconsistencies(question)


def _answer_inconsistencies(question: Question) -> Iterator[str]:
    where, answer = f"`questions` {question.id!r}", question.answer
    if isinstance(answer, TextAnswer) and answer.min_length > answer.max_length:
        yield f"{where}: `min_length` is above `max_length`"
    if isinstance(answer, ChoiceAnswer):
        if len(answer.choices) != len(answer.choices_es):
            yield f"{where}: `choices` and `choices_es` differ in length"
        for words in (answer.choices, answer.choices_es):
            if len({text.folded(w) for w in words}) != len(words):
                yield f"{where}: two choices are the same without case and accents"


def read_folder(folder: Path) -> tuple[dict[str, Policy], dict[str, list[str]]]:
    """The districts of a folder whose files hold, and what is wrong with the files of the others."""
    policies: dict[str, Policy] = {}
    problems: dict[str, list[str]] = {}
    for file in sorted(folder.glob("*.toml")):
        try:
            policy = load_policy(file)
        except PolicyInvalid as error:
            problems[file.stem] = error.problems
            continue
        if other := next((p.district for p in policies.values() if p.code == policy.code), None):
            problems[file.stem] = [f"`code` {policy.code!r} is already the code of {other!r}"]
        else:
            policies[file.stem] = policy
    return policies, problems


class Policies:
    """The policies of a folder, one for each district. `refresh` reads again what changed; `get` only looks up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: dict[str, list[str]] = {}  # district: why its present file is not the one in force
        self._policies: dict[str, Policy] = {}
        self._seen: dict[str, tuple[int, int, int]] | None = None

    def refresh(self) -> bool:
        """Reads the folder again if a file in it changed; True if it did. A file that does not hold changes
        nothing but `problems`; neither does a folder that has become empty or cannot be read."""
        seen = self._fingerprints()
        if seen == self._seen or (not seen and self._policies):
            return False
        policies, problems = read_folder(self.folder)
        kept = {d: self._policies[d] for d in problems if d in self._policies}
        self._seen, self._policies, self.problems = seen, policies | kept, problems
        return True

    def get(self, district: str) -> Policy:
        """Raises UnknownDistrict; NeverHeld when there is a file."""
        if policy := self._policies.get(district):
            return policy
        if district in self.problems:
            raise NeverHeld(district)
        raise UnknownDistrict(district)

    def find(self, district: str) -> Policy | None:
        """The same without an error, for who only wants to know."""
        return self._policies.get(district)

    def by_code(self, code: str) -> Policy | None:
        """The district with this code, in whatever case it was typed."""
        wanted = text.plain(code).upper()
        return next((p for p in self._policies.values() if p.code == wanted), None)

    @property
    def districts(self) -> list[str]:
        return sorted(self._policies)

    def _fingerprints(self) -> dict[str, tuple[int, int, int]]:
        found = {}
        for file in self.folder.glob("*.toml"):
            try:
                stat = file.stat()
            except OSError:
                continue  # renamed in between: the next look sees it
            found[file.stem] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return found


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
