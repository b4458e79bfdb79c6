"""The catalogues: every text of the pages in every language, nothing that no page says, and the same blanks to fill."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from services.portal.languages import ENGLISH, FOLDER, languages
from shared.reasons import load_reasons

PORTAL = FOLDER.parent
WAYS = [("templates/**.html", "jinja2.ext:babel_extract"), ("**.py", "python")]
OPTIONS = {"templates/**.html": {"trimmed": "true", "extensions": "jinja2.ext.do", "silent": "false"}}
WORDS = {"_": None, "N_": None, "gettext": None, "ngettext": (1, 2), "pgettext": ((1, "c"), 2)}
BLANK = re.compile(r"%\((\w+)\)")
ROSTER = PORTAL.parent / "roster"
# What only whoever sends a request is told.
OF_A_REQUEST = {
    "batch_too_large", "batch_empty", "import_running", "uploads_too_many", "import_unknown", "import_ended",
    "as_of_in_future", "person_required", "approver_is_author",
}  # fmt: skip
# Of a row or an event that was not taken, and of an import that ended before its end.
EXPLAINED = {
    reason
    for reason, says in tomllib.loads((ROSTER / "reasons.toml").read_text()).items()
    if reason not in OF_A_REQUEST
}
FILES = sorted(FOLDER.glob("*/*.po"))
Key = str | tuple[str, str]


@cache
def said() -> dict[Key, str]:
    """Every text that a template or a module says, and where; a plural as its two forms. And what roster says of
    reasons that operators are shown."""
    found = extract_from_dir(PORTAL, WAYS, OPTIONS, keywords=WORDS)  # type: ignore[arg-type]
    texts: dict[Key, str] = {key(text): f"{file}:{line}" for file, line, text, _, _ in found}
    for reason, says in load_reasons("services.roster").items():
        if reason in EXPLAINED:
            texts |= dict.fromkeys((says.meaning, says.next), reason)
    return texts


def key(text: str | tuple[str, ...] | list[str]) -> Key:
    return text if isinstance(text, str) else (text[0], text[1])


@cache
def catalogue(file: Path) -> Catalog:
    with file.open("rb") as source:
        return read_po(source, locale=file.parent.name, abort_invalid=True)


def messages(file: Path) -> Iterator[Message]:
    return (message for message in catalogue(file) if message.id)


def forms(message: Message) -> list[str]:
    return [message.string] if isinstance(message.string, str) else list(message.string)


def other_languages() -> list[str]:
    return [language for language in languages() if language != ENGLISH]


def test_spanish_is_spoken() -> None:
    assert "es" in languages()


@pytest.mark.parametrize("language", other_languages())
def test_every_text_is_in_the_catalogue_once(language: str) -> None:
    known = Counter(
        key(each.id) for file in sorted((FOLDER / language).glob("*.po")) for each in messages(file)
    )
    assert not {text: where for text, where in said().items() if text not in known}
    assert not [text for text, times in known.items() if times > 1]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_catalogue_has_nothing_that_no_page_says(file: Path) -> None:
    assert not [each.id for each in messages(file) if key(each.id) not in said()]
    assert not catalogue(file).obsolete


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_translation_is_whole_and_has_the_same_blanks(file: Path) -> None:
    for message in messages(file):
        assert not message.fuzzy, message.id
        assert all(forms(message)), message.id
        own = message.id if isinstance(message.id, str) else message.id[1]
        for form in forms(message):
            assert set(BLANK.findall(form)) == set(BLANK.findall(own)), message.id


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_plurals_are_those_of_the_language(file: Path) -> None:
    count = catalogue(file).num_plurals
    rule = Catalog(locale=file.parent.name)
    assert (count, catalogue(file).plural_expr) == (rule.num_plurals, rule.plural_expr)
    for message in messages(file):
        assert message.pluralizable == (not isinstance(message.string, str)), message.id
        if message.pluralizable:
            assert len(forms(message)) == count, message.id
