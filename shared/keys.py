"""Signing keys as configuration: a folder of public keys that everybody reads, and each signer's own private ones.

Files are JWKs named `<service>-<kid>.public.json` and `<service>-<kid>.private.json`. Both folders are read
again when they change, so keys are rotated without a restart: old and new stand side by side until the old is
removed. A key is of one algorithm: Homeroom's own tokens are signed by Ed25519, ID tokens by what applications know.
"""

import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import structlog
from joserfc import jwt
from joserfc.jwk import ECKey, KeyParameters, OKPKey, RSAKey

from shared import clock, metrics
from shared.errors import Unavailable
from shared.folder import fingerprints

Algorithm: TypeAlias = Literal["Ed25519", "RS256", "ES256"]
Key: TypeAlias = OKPKey | RSAKey | ECKey
ALGORITHM: Algorithm = "Ed25519"
RSA_BITS = 2048
# Whoever keeps our public keys has asked for them again by then (`Cache-Control` of auth's /jwks is shorter).
SIGNS_AFTER = timedelta(minutes=10)
_LOOK_AGAIN_AFTER_S = 1.0
_KID_TIME = "%Y%m%dT%H%M%SZ"
_GENERATE: dict[Algorithm, Callable[[KeyParameters], Key]] = {
    "Ed25519": lambda names: OKPKey.generate_key("Ed25519", names),
    "RS256": lambda names: RSAKey.generate_key(RSA_BITS, names),
    "ES256": lambda names: ECKey.generate_key("P-256", names),
}

log = structlog.get_logger(__name__)


class _Folder:
    """The keys of one folder whose names end alike. A file that does not hold is reported once, and left out; one that
    held before is believed as it was, until it holds again or is taken away."""

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder, self.ending = folder, ending
        self.keys: dict[str, Key] = {}  # by file name without its ending: "claims-20261122T081500Z-3f9a"
        self.generation = 0
        self._seen: dict[str, tuple[int, ...]] | None = None

    def refresh(self) -> bool:
        seen = fingerprints(self.folder, f"*{self.ending}")
        if seen == self._seen:
            return False
        keys, refused = {}, 0
        for name in sorted(seen):
            key = name.removesuffix(self.ending)
            try:
                keys[key] = self._load(self.folder / name)
            except (OSError, ValueError) as error:  # joserfc's and msgspec's errors are ValueErrors
                log.error("key_refused", file=name, why=str(error), kept=key in self.keys)
                refused += 1
                if key in self.keys:
                    keys[key] = self.keys[key]
        metrics.refused_keys.labels(self.ending.split(".")[1]).set(refused)
        self.keys, self._seen = keys, seen
        self.generation += 1
        return True

    def _load(self, file: Path) -> Key:
        private = self.ending == ".private.json"
        if private and file.stat().st_mode & 0o077:
            raise ValueError("others may read this private key: chmod 600")
        jwk = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        if ("d" in jwk) != private:
            raise ValueError("no private part" if private else "a private key in the folder of public ones")
        if not isinstance(jwk.get("kid"), str) or not file.name.endswith(f"-{jwk['kid']}{self.ending}"):
            raise ValueError("its kid is not the one in its name")
        return _import(jwk)


class KeyRing:
    """Everybody's public keys."""

    def __init__(self, folder: Path) -> None:
        self._folder = _Folder(folder, ".public.json")
        self._looked_at = 0.0

    @property
    def generation(self) -> int:
        """Rises whenever the keys change, so that whoever keeps what a key has verified can drop it."""
        return self._folder.generation

    def refresh(self) -> bool:
        """Reads the folder again if it changed; True if it did."""
        self._looked_at = time.monotonic()
        return self._folder.refresh()

    def get(self, service: str, kid: str) -> Key | None:
        """The key that a service signs with under this id. A new one is found at once, by looking again."""
        name = f"{service}-{kid}"
        if name not in self._folder.keys and time.monotonic() - self._looked_at > _LOOK_AGAIN_AFTER_S:
            self.refresh()
        return self._folder.keys.get(name)

    def jwks(self, service: str) -> dict[str, Any]:
        """A service's public keys as a JWK set (RFC 7517)."""
        names = [n for n in sorted(self._folder.keys) if n.startswith(f"{service}-")]
        return {"keys": [dict(self._folder.keys[n].as_dict(private=False)) for n in names]}


def _import(jwk: dict[str, Any]) -> Key:
    match jwk.get("kty"), jwk.get("crv"), jwk.get("alg"):
        case "OKP", "Ed25519", "Ed25519" | None:
            return OKPKey.import_key(jwk)
        case "EC", "P-256", "ES256":
            return ECKey.import_key(jwk)
        case "RSA", None, "RS256":
            key = RSAKey.import_key(jwk)
            if key.raw_value.key_size < RSA_BITS:
                raise ValueError(f"an RSA key of less than {RSA_BITS} bits")
            return key
    raise ValueError("not a key of Ed25519, RS256 or ES256")


class Signer:
    """Signs JWTs with a service's newest private key of an algorithm that everybody knows by now: one that was made
    less than `signs_after` ago waits, unless there is no older one."""

    def __init__(self, folder: Path | None, service: str, signs_after: timedelta = SIGNS_AFTER) -> None:
        self.service, self.signs_after = service, signs_after
        self._folder = _Folder(folder, ".private.json") if folder else None

    def refresh(self) -> bool:
        return self._folder is not None and self._folder.refresh()

    @property
    def ready(self) -> bool:
        return self._newest(ALGORITHM) is not None

    def algorithms(self) -> list[Algorithm]:
        """Those that there are keys of."""
        return [algorithm for algorithm in _GENERATE if self._newest(algorithm) is not None]

    def sign(self, typ: str, claims: dict[str, Any], algorithm: Algorithm = ALGORITHM) -> str:
        """A signed JWT of this `typ`. Raises Unavailable while there is no key to sign with."""
        key = self._newest(algorithm)
        if key is None:
            raise Unavailable("signing_key", retry_after_s=10)
        return jwt.encode({"alg": algorithm, "typ": typ, "kid": key.kid}, claims, key, algorithms=[algorithm])

    def keys(self, algorithm: Algorithm) -> list[Key]:
        """The one that signs, and those that will after it, in their order."""
        if self._folder is None:
            return []
        start, keys = f"{self.service}-", self._folder.keys
        names = sorted(n for n in keys if n.startswith(start) and keys[n].get("alg", ALGORITHM) == algorithm)
        known = f"{start}{clock.now() - self.signs_after:{_KID_TIME}}"
        settled = [n for n in names if n[: len(known)] <= known] or names[:1]
        return [keys[name] for name in names[len(settled) - 1 :]] if settled else []

    def _newest(self, algorithm: Algorithm) -> Key | None:
        return next(iter(self.keys(algorithm)), None)


def ensure_key(
    service: str, public_dir: Path, private_dir: Path, now: datetime, algorithm: Algorithm = ALGORITHM
) -> None:
    """Makes a key of an algorithm unless there is one."""
    signer = Signer(private_dir, service)
    signer.refresh()
    if algorithm not in signer.algorithms():
        make_key(service, public_dir, private_dir, now, algorithm)


def made_at(kid: str) -> datetime:
    """When a key was made, by its id. Raises ValueError for an id that is not of `make_key`."""
    return datetime.strptime(kid[:16], _KID_TIME).replace(tzinfo=UTC)


def make_key(
    service: str, public_dir: Path, private_dir: Path, now: datetime, algorithm: Algorithm = ALGORITHM
) -> str:
    """Makes a key pair and answers its kid. The public part comes first: a key that signs is already known."""
    kid = f"{now.astimezone(UTC):{_KID_TIME}}-{secrets.token_hex(2)}"
    key = _GENERATE[algorithm]({"kid": kid, "alg": algorithm, "use": "sig"})
    public_dir.mkdir(parents=True, exist_ok=True)
    private_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder, ending, mode, content in (
        (public_dir, ".public.json", 0o644, key.as_dict(private=False)),
        (private_dir, ".private.json", 0o600, key.as_dict(private=True)),
    ):
        file = folder / f"{service}-{kid}{ending}"
        beside = folder / f".{file.name}"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as out:
            out.write(msgspec.json.encode(content))
        beside.replace(file)  # readers see the whole file or none
    return kid
