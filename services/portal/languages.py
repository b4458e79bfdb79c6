"""The languages of the pages. English is written in the templates; every other language is a folder of .po files."""

import re
from collections.abc import Iterator
from functools import cache
from gettext import GNUTranslations, NullTranslations
from importlib.resources import files
from io import BytesIO
from pathlib import Path

from babel import Locale
from babel.core import negotiate_locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

FOLDER = Path(str(files("services.portal"))) / "locale"
ENGLISH = "en"
_RANGE = re.compile(r"([A-Za-z]{1,8})(?:-[A-Za-z0-9]{1,8})*(?:\s*;\s*[qQ]=([01](?:\.\d{0,3})?))?")
_COUNTRY = "US"  # dates and numbers are written as there, whatever the language


def N_(text: str) -> str:
    """Marks a text of the code for the catalogues; a template translates it where it is shown."""
    return text


@cache
def languages() -> tuple[str, ...]:
    """Codes of all there are, English first: `en`, `es`."""
    return (ENGLISH, *sorted(folder.name for folder in FOLDER.iterdir() if any(folder.glob("*.po"))))


def native_name(language: str) -> str:
    """What its own speakers call it."""
    name = Locale(language).get_display_name(language) or language
    return name[:1].upper() + name[1:]


@cache
def locale_of(language: str) -> Locale:
    return Locale(language, _COUNTRY)


@cache
def translations(language: str) -> NullTranslations:
    """One catalogue of all files of a language; what they lack is shown in English."""
    merged: NullTranslations = NullTranslations()
    for file in sorted((FOLDER / language).glob("*.po")) if language != ENGLISH else ():
        with file.open("rb") as source:
            catalog = read_po(source, locale=language, abort_invalid=True)
        compiled = BytesIO()
        write_mo(compiled, catalog)
        compiled.seek(0)
        part = GNUTranslations(compiled)
        part.add_fallback(merged)
        merged = part
    return merged


def choose(kept: str | None, accepted: str) -> str:
    """The language kept for this browser, else the best of what it accepts (Accept-Language, RFC 9110 12.5.4)."""
    if kept in languages():
        return kept
    wanted = [tag for tag, _ in sorted(_weighed(accepted), key=lambda pair: -pair[1])]
    found = negotiate_locale(wanted, [*languages()], sep="-")
    return found.split("-")[0].split("_")[0] if found else ENGLISH


def _weighed(accepted: str) -> Iterator[tuple[str, float]]:
    for part in accepted[:500].split(","):
        if (match := _RANGE.fullmatch(part.strip())) and (weight := float(match[2] or 1)):
            yield match[1].lower(), weight
