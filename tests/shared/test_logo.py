"""A district's logo: what can be shown, and what is said of what cannot."""

from pathlib import Path

import pytest

from shared.logo import LIMIT_BYTES, LogoUnusable, read_logo
from shared.policies import load_policy

FOLDER = Path(__file__).parents[2] / "policies"
PNG = b"\x89PNG\r\n\x1a\n"


def test_the_districts_own_logo_can_be_shown() -> None:
    name = load_policy(FOLDER / "ccps.toml").portal.logo
    assert name is not None
    assert read_logo(FOLDER, name).content_type == "image/svg+xml"


def test_a_logo_has_another_tag_when_it_is_another(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    first = read_logo(tmp_path, "a.png")
    (tmp_path / "a.png").write_bytes(PNG + b"more")
    assert first.content_type == "image/png"
    assert first.etag != read_logo(tmp_path, "a.png").etag


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.svg", None, "cannot be read: No such file"),
        ("a.svg", b"<html>", "is no SVG picture"),
        ("a.png", b"<svg/>", "is no PNG picture"),
        ("a.png", PNG.ljust(LIMIT_BYTES + 1), "larger than 64 KiB"),
    ],
)
def test_what_cannot_be_shown_is_said(tmp_path: Path, name: str, content: bytes | None, problem: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LogoUnusable, match=problem):
        read_logo(tmp_path, name)


def test_the_largest_logo_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG.ljust(LIMIT_BYTES))
    assert len(read_logo(tmp_path, "a.png").content) == LIMIT_BYTES
