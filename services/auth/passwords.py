"""How passwords and answers are kept: argon2id over a peppered HMAC, in a bounded pool of threads.

A verifier is `<pepper id>:$argon2id$…`. The pepper lies outside the database, so a stolen table alone cannot
be guessed at. Peppers rotate: make the new one known to every process as a second line of the file, then move
it to the first. Whoever signs in is moved on to the present pepper and strength. What must stay the same over the
years (`Peppers.keyed`) has a line of its own, `lasting`, that is never changed; a file without one must keep its
last line where it is.
"""

import asyncio
import base64
import binascii
import gzip
import hashlib
import hmac
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from argon2 import Parameters, extract_parameters
from argon2.exceptions import VerifyMismatchError
from argon2.low_level import ARGON2_VERSION, Type, hash_secret, verify_secret
from msgspec import Struct
from prometheus_client import Gauge

from shared.errors import Unavailable
from shared.key_file import KeyFile
from shared.settings import SettingsInvalid

T = TypeVar("T")
Purpose: TypeAlias = Literal["password", "answers"]
First: TypeAlias = Callable[[], Awaitable[None]]

PEPPER_MIN_BYTES = 16
LASTING = "lasting"
WAITING_PER_THREAD = 50  # hashes that wait for each thread: about a second at the usual 15 to 25 ms

_pending = Gauge("homeroom_hashes_pending", "Password hashes that are being made or wait for a thread.")


class PepperInvalid(SettingsInvalid):
    """The file of peppers cannot be used; the message says which line and never what is in it."""


class Strength(Struct, frozen=True):
    """The work of one hash: OWASP's recommendation for argon2id."""

    memory_kib: int = 19 * 1024
    passes: int = 2
    lanes: int = 1
    salt_bytes: int = 16
    hash_bytes: int = 32

    def is_of(self, verifier: Parameters) -> bool:
        """Whether a verifier is as strong as this demands."""
        return verifier == Parameters(
            Type.ID,
            ARGON2_VERSION,
            self.salt_bytes,
            self.hash_bytes,
            self.passes,
            self.memory_kib,
            self.lanes,
        )


class Peppers:
    """Secret keys by id; the first is for what is made now, the others for what was made before."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self.current = next(iter(self._keys))
        self._lasting = self._keys.get(LASTING) or self._keys[next(reversed(self._keys))]

    @classmethod
    def read(cls, file: Path) -> "Peppers":
        """From lines of `id:base64`. Raises PepperInvalid."""
        keys: dict[str, bytes] = {}
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise PepperInvalid(f"{file}: {type(error).__name__}") from None
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            name, _, encoded = line.strip().partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                key = b""
            if not name or name in keys or len(key) < PEPPER_MIN_BYTES:
                raise PepperInvalid(
                    f"{file}, line {number}: not `id:base64` of {PEPPER_MIN_BYTES} bytes or more under a new id"
                )
            keys[name] = key
        if not keys:
            raise PepperInvalid(f"{file}: no pepper in it")
        return cls(keys)

    def after(self, before: "Peppers") -> "Peppers":
        """Itself, where it may take the place of those before. Raises PepperInvalid: what must last would not."""
        if not hmac.compare_digest(self._lasting, before._lasting):
            raise PepperInvalid(
                f"the pepper that lasts is another: the line `{LASTING}`, or without one the last line, never changes"
            )
        return self

    def __contains__(self, pepper: object) -> bool:
        return pepper in self._keys

    def apply(self, pepper: str, purpose: Purpose, secret: str) -> bytes:
        """What is hashed instead of the secret. Raises Unavailable for a pepper that is not in the file."""
        if pepper not in self._keys:
            raise Unavailable(f"pepper {pepper}", retry_after_s=60)
        return hmac.digest(self._keys[pepper], f"{purpose}\0{secret}".encode(), "sha256")

    def keyed(self, purpose: str, *parts: str) -> bytes:
        """A keyed hash of what must not be readable in the database, or guessable outside; lasts across
        rotations."""
        return hmac.digest(self._lasting, "\0".join(("keyed", purpose, *parts)).encode(), "sha256")


class HashPool:
    """As many threads as cores (argon2 releases the GIL), and a bound on what waits for them."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or os.cpu_count() or 1
        self.limit = self.threads * (1 + WAITING_PER_THREAD)
        self.pending = 0
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="hash")

    @contextmanager
    def reserve(self, hashes: int = 1) -> Iterator[None]:
        """A place for so many hashes. Raises Unavailable when too much waits already: before anything was counted."""
        if self.pending + hashes > self.limit:
            raise Unavailable("hash_pool", retry_after_s=2)
        self.pending += hashes
        _pending.inc(hashes)
        try:
            yield
        finally:
            self.pending -= hashes
            _pending.dec(hashes)

    async def run(self, work: Callable[[], T]) -> T:
        """Do work that has its place in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


class Hasher:
    """Makes verifiers and compares secrets with them. `file`: where its peppers come from, if they may change."""

    def __init__(
        self,
        peppers: Peppers,
        pool: HashPool,
        strength: Strength | None = None,
        file: Path | None = None,
    ) -> None:
        self.peppers, self.pool = peppers, pool
        self.strength = strength or Strength()
        self._file = KeyFile("pepper", file, lambda f: Peppers.read(f).after(self.peppers)) if file else None
        if self._file is not None:
            self.peppers = self._file.value
        # What a secret is compared with when there is nothing to compare it with: the same work, always wrong.
        self._dummy = self._make("password", secrets.token_hex())

    async def refresh(self) -> None:
        """Looks whether the peppers changed."""
        self._look()
        if self._dummy.partition(":")[0] != self.peppers.current:  # the one it was made with may go soon
            self._dummy = await asyncio.to_thread(self._make, "password", secrets.token_hex())

    def _look(self) -> None:
        if self._file is not None:
            self._file.refresh()
            self.peppers = self._file.value  # also where another thread was the one to see it

    async def make(self, purpose: Purpose, secret: str) -> str:
        """A verifier with the present pepper and strength."""
        with self.pool.reserve():
            return await self.pool.run(lambda: self._make(purpose, secret))

    async def matches(
        self, purpose: Purpose, secret: str, verifier: str | None, *, first: First | None = None
    ) -> bool:
        """Whether the secret is the one; None costs the same and is never right. `first` is what must be done before
        anything is compared, and in vain if there is no place to do so (counting tries)."""
        with self.pool.reserve():
            if first is not None:
                await first()
            return await self.pool.run(lambda: self._matches(purpose, secret, verifier or self._dummy))

    async def make_unused(
        self, password: str, used: Sequence[str], *, first: First | None = None
    ) -> str | None:
        """A verifier for a new password; None if it is one of those used before. `first` as for `matches`."""

        def work() -> str | None:
            if any(self._matches("password", password, verifier) for verifier in used):
                return None
            return self._make("password", password)

        with self.pool.reserve(1 + len(used)):
            if first is not None:
                await first()
            return await self.pool.run(work)

    def outdated(self, verifier: str) -> bool:
        """Whether it has an older pepper or another strength than is used now."""
        pepper, _, encoded = verifier.partition(":")
        return pepper != self.peppers.current or not self.strength.is_of(extract_parameters(encoded))

    def _make(self, purpose: Purpose, secret: str) -> str:
        strength, peppers = self.strength, self.peppers
        pepper = peppers.current
        encoded = hash_secret(
            peppers.apply(pepper, purpose, secret),
            secrets.token_bytes(strength.salt_bytes),
            strength.passes,
            strength.memory_kib,
            strength.lanes,
            strength.hash_bytes,
            Type.ID,
        )
        return f"{pepper}:{encoded.decode()}"

    def _matches(self, purpose: Purpose, secret: str, verifier: str) -> bool:
        pepper, _, encoded = verifier.partition(":")
        if pepper not in self.peppers:  # made just now by a process that looked sooner
            self._look()
        try:
            return verify_secret(encoded.encode(), self.peppers.apply(pepper, purpose, secret), Type.ID)
        except VerifyMismatchError:
            return False


@cache
def common_passwords() -> frozenset[str]:
    """What everybody tries first, in small letters; the file says where it comes from."""
    text = gzip.decompress(files(__package__).joinpath("common_passwords.txt.gz").read_bytes()).decode()
    return frozenset(text.partition("\n\n")[2].split("\n"))


def token_hash(token: str) -> bytes:
    """How a secret of full entropy (session, client secret) is kept: nothing to stretch, nothing to
    reverse."""
    return hash_token(token.encode())


def hash_token(token: bytes) -> bytes:
    """The same, as it came over the wire."""
    return hashlib.sha256(token).digest()
