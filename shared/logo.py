"""A district's logo: a picture beside its policy. It is looked at when asked for, so a bad one keeps nobody out."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from shared.errors import HomeroomError

LIMIT_BYTES = 64 * 1024
CONTENT_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


class LogoUnusable(HomeroomError):
    """The file that a policy names as the logo cannot be shown; the message says why, fit for who wrote the policy."""


@dataclass(frozen=True)
class Logo:
    content: bytes
    content_type: str

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:24]}"'


def read_logo(folder: Path, name: str) -> Logo:
    """The logo of this name. Raises LogoUnusable."""
    file = folder / name
    try:
        with file.open("rb") as opened:
            content = opened.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise LogoUnusable(f"`portal.logo`: {name} cannot be read: {error.strerror}") from None
    if len(content) > LIMIT_BYTES:
        raise LogoUnusable(f"`portal.logo`: {name} is larger than {LIMIT_BYTES // 1024} KiB")
    if not _is(file.suffix, content):
        raise LogoUnusable(f"`portal.logo`: {name} is no {file.suffix[1:].upper()} picture")
    return Logo(content, CONTENT_TYPES[file.suffix])


def _is(suffix: str, content: bytes) -> bool:
    return content.startswith(b"\x89PNG\r\n\x1a\n") if suffix == ".png" else b"<svg" in content
