"""What a browser keeps for us and can neither read nor change: AES-256-GCM (NIST SP 800-38D) under the portal's key."""

import base64
import binascii
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.key_file import KeyFile
from shared.settings import SettingsInvalid

KEY_BYTES, NONCE_BYTES = 32, 12
MAX_SEALED_CHARACTERS = 3800  # a browser drops a cookie of more than 4096 bytes with its name and attributes

T = TypeVar("T")


class Seals:
    """Seals values under a name, and until a moment; whatever was not sealed here under that name opens as None."""

    def __init__(self, keys: Sequence[bytes], file: KeyFile[list[bytes]] | None = None) -> None:
        self._keys, self._file = [AESGCM(key) for key in keys], file

    @classmethod
    def read(cls, file: Path) -> "Seals":
        """With the keys of a file, which may change. Raises SettingsInvalid."""
        keys = KeyFile("portal", file, read_keys)
        return cls(keys.value, keys)

    def refresh(self) -> bool:
        """Looks whether the keys changed; True if they did."""
        if self._file is None or not self._file.refresh():
            return False
        self._keys = [AESGCM(key) for key in self._file.value]
        return True

    def seal(self, name: str, value: object, until: datetime) -> str:
        """The sealed value, as a cookie can hold it. What is too large to be kept is an error of ours: bound it."""
        plain = msgspec.msgpack.encode((int(until.timestamp()), value))
        nonce = os.urandom(NONCE_BYTES)
        raw = nonce + self._keys[0].encrypt(nonce, plain, name.encode())
        sealed = base64.urlsafe_b64encode(raw).decode().rstrip("=")  # which a cookie would need quotes for
        assert len(sealed) <= MAX_SEALED_CHARACTERS, f"{name} is too large for a cookie"
        return sealed

    def open(self, name: str, sealed: str, kind: type[T], now: datetime) -> T | None:
        """What was sealed under this name, unless it has ended."""
        if len(sealed) > MAX_SEALED_CHARACTERS:
            return None
        try:
            raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        plain = self._decrypt(name, raw)
        if plain is None and self.refresh():  # sealed just now by a process that looked sooner
            plain = self._decrypt(name, raw)
        if plain is None:
            return None
        try:
            until, value = msgspec.msgpack.decode(plain)
            return msgspec.convert(value, kind) if until > now.timestamp() else None
        except msgspec.MsgspecError:  # sealed by an older portal, in another shape
            return None

    def _decrypt(self, name: str, raw: bytes) -> bytes | None:
        nonce, body = raw[:NONCE_BYTES], raw[NONCE_BYTES:]
        for key in self._keys if len(nonce) == NONCE_BYTES else ():
            try:
                return key.decrypt(nonce, body, name.encode())
            except InvalidTag:
                continue
        return None


def read_keys(file: Path) -> list[bytes]:
    """The keys of a file, one a line; the first seals. Raises SettingsInvalid."""
    try:
        keys = [base64.b64decode(line, validate=True) for line in file.read_text().split()]
    except (OSError, binascii.Error, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"HOMEROOM_PORTAL_KEY_FILE: {type(error).__name__}") from None
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise SettingsInvalid(f"HOMEROOM_PORTAL_KEY_FILE: lines of base64 of {KEY_BYTES} bytes are needed")
    return keys
