"""The folder of the districts' policies: how a file is read and checked, and read again when it changes.

The files are in `policies/`; `policies/ccps.toml` explains each key and shows how a second district is added.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from math import floor
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import msgspec

from shared import text
from shared.colors import LEAST_CONTRAST, contrast
from shared.errors import HomeroomError
from shared.folder import fingerprints
from shared.policy import SLUG, ChoiceAnswer, NeverHeld, Policy, Question, TextAnswer, UnknownDistrict

_OWN_KEYS = ("names", "code", "time_zone", "origins", "pack", "webhook")
_OWN_PARTS = {  # nobody else's pupils are imported, and nobody looks like another district
    "imports": ("rest",),
    "portal": ("accent", "accent_dark", "logo", "help", "resources"),
}
_LIGHT, _DARK = "#ffffff", "#1e1e1e"  # the grounds that accents are seen on, at the least favourable


class PolicyInvalid(HomeroomError):
    """A policy file does not hold; `problems` says why, one line each, fit to be shown to who wrote it."""

    def __init__(self, file: Path, problems: list[str]) -> None:
        super().__init__(f"{file.name}: " + "; ".join(problems))
        self.file, self.problems = file, problems


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
    if not isinstance(base_name, str) or not SLUG.fullmatch(base_name):
        raise PolicyInvalid(file, ["`extends` names another policy file of this folder, without its ending"])
    if depth >= 4:
        raise PolicyInvalid(file, [f"`extends` goes too deep or in a circle at {base_name!r}"])
    base = {
        k: v for k, v in _stated(file.with_name(f"{base_name}.toml"), depth + 1).items() if k not in _OWN_KEYS
    }
    for part, keys in _OWN_PARTS.items():
        if isinstance(base.get(part), dict):
            base[part] = {k: v for k, v in base[part].items() if k not in keys}
    return _overlay(base, own)


def _overlay(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        below = merged.get(key)
        merged[key] = _overlay(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _inconsistencies(policy: Policy) -> Iterator[str]:
    """What each value alone cannot show."""
    if not SLUG.fullmatch(policy.district):
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
    yield from _portal_inconsistencies(policy)


def _portal_inconsistencies(policy: Policy) -> Iterator[str]:
    portal = policy.portal
    for key, color, ground in (
        ("accent", portal.accent, _LIGHT),
        ("accent_dark", portal.accent_dark, _DARK),
    ):
        if color is not None and (found := contrast(color, ground)) < LEAST_CONTRAST:
            yield (
                f"`portal.{key}`: {color} on {ground} has a contrast of {floor(found * 100) / 100}:1; people who see"
                f" badly need {LEAST_CONTRAST}:1, so choose a {'darker' if key == 'accent' else 'lighter'} one"
            )
    if portal.idle_warning_seconds >= policy.session.idle.total_seconds():
        yield "`portal.idle_warning_seconds` is not below `session.idle_minutes`"


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
        if _is_pack(file):
            continue
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


def _is_pack(file: Path) -> bool:
    """Whether a file is only for others to build on. It is checked with each district that does."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")).get("pack") is True
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False


class Policies:
    """The policies of a folder, one for each district. `refresh` reads again what changed; `get` only looks up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: dict[str, list[str]] = {}  # district: why its present file is not the one in force
        self._policies: dict[str, Policy] = {}
        self._seen: dict[str, tuple[int, ...]] | None = None

    def refresh(self) -> bool:
        """Reads the folder again if a file in it changed; True if it did. A file that does not hold changes
        nothing but `problems`; neither does a folder that has become empty or cannot be read."""
        seen = fingerprints(self.folder, "*.toml")
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
