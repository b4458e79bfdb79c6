"""A list of breached passwords, as large as a district likes: sorted SHA-1 hashes in hexadecimal, one a line; what
follows a colon is passed over. So Have I Been Pwned gives its list out (40 GB), and so `sha1sum` and `sort` make one.

It is looked through where it lies, by halving; nothing of it is held in memory.
"""

import hashlib
import mmap
import re
from pathlib import Path

from shared.settings import SettingsInvalid

HASH_LENGTH = 40
_LINE = re.compile(rb"[0-9A-Fa-f]{40}(:[0-9]+)?\r?")


class Breached:
    """The list in a file, which stays as it is while the process lives."""

    def __init__(self, file: Path) -> None:
        """Raises SettingsInvalid for what is no such list."""
        try:
            with file.open("rb") as opened:
                self._lines = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: it is empty
            raise SettingsInvalid(f"{file}: {type(error).__name__}") from None
        self._size = len(self._lines)
        while self._size and self._lines[self._size - 1] in b"\r\n":
            self._size -= 1
        first, last = (self._lines[slice(*self._line_at(at, 0))] for at in (0, max(0, self._size - 1)))
        if not _LINE.fullmatch(first) or not _LINE.fullmatch(last) or first.upper() > last.upper():
            raise SettingsInvalid(f"{file}: not SHA-1 hashes, one a line, in order")

    def __contains__(self, password: str) -> bool:
        wanted = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper().encode()
        low, high = 0, self._size
        while low < high:
            start, end = self._line_at((low + high) // 2, low)
            found = self._lines[start : start + HASH_LENGTH].upper()
            if found == wanted:
                return True
            low, high = (end + 1, high) if found < wanted else (low, start)
        return False

    def _line_at(self, at: int, low: int) -> tuple[int, int]:
        """Where the line around a byte begins, at `low` or behind it, and ends."""
        start = max(low, self._lines.rfind(b"\n", low, at) + 1)
        end = self._lines.find(b"\n", at, self._size)
        return start, self._size if end < 0 else end
