"""What the pages are made of: templates that the content security policy lets be, and files that weigh little."""

import gzip
import re
from pathlib import Path

import pytest

from services.portal.pages import FOLDER, STATIC

TEMPLATES = sorted((FOLDER / "templates").rglob("*.html"))
FORBIDDEN = {
    "a style of its own": re.compile(r"<style|\sstyle\s*=", re.IGNORECASE),
    "a script of its own": re.compile(r"<script(?![^>]*\ssrc=)[^>]*>", re.IGNORECASE),
    "a handler": re.compile(r"<[a-z][^>]*\son[a-z]+\s*=", re.IGNORECASE),
    "a script as an address": re.compile("javascript:", re.IGNORECASE),
    "a file from elsewhere": re.compile(
        r"<(script|link|img|iframe)[^>]*\s(src|href)=[\"']https?:", re.IGNORECASE
    ),
    # Password managers read a field that is not shown, but none of type hidden.
    "a username that no password manager finds": re.compile(r'type="hidden"[^>]*autocomplete="username"'),
    "text that is not escaped": re.compile(r"(?<!paths\[name\]) \| safe\b|autoescape false"),
}
ALL_FILES_BYTES = 60 * 1024  # compressed, as a browser fetches them; pages have 100 kB with everything


def name(file: Path) -> str:
    return str(file.relative_to(FOLDER))


@pytest.mark.parametrize("file", TEMPLATES, ids=name)
def test_a_template_has_nothing_of_its_own(file: Path) -> None:
    text = file.read_text()
    assert not [what for what, pattern in FORBIDDEN.items() if pattern.search(text)]


@pytest.mark.parametrize("file", sorted(STATIC.glob("*.css")), ids=name)
def test_a_style_asks_nobody_else(file: Path) -> None:
    assert not re.findall(r"@import|url\(\s*[\"']?(?:https?:)?//", file.read_text())


def test_the_files_of_all_pages_weigh_little() -> None:
    weights = {
        name(file): len(gzip.compress(file.read_bytes())) for file in STATIC.rglob("*") if file.is_file()
    }
    assert sum(weights.values()) < ALL_FILES_BYTES, weights
