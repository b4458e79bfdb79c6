"""The folder that `deploy.prepare` makes, and what its keys are turned with: add, use, take away.

Every step leaves files that the services can go on with, whenever it is broken off, and is safe to repeat: a key is
known to everybody before anything is made with it, and what was made with it has ended before it goes. The services
read the files again by themselves.
"""

import base64
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from services.cli.client import Failed
from shared.keys import SIGNS_AFTER, Algorithm, made_at, make_key
from shared.private import write_private

Kind = Literal["auth", "claims", "id-token", "id-token-es256", "saml", "pepper", "portal"]
State = Literal["signs", "waits", "verifies", "used", "known", "lasting"]

SECRET_BYTES, PEPPER_MIN_BYTES = 32, 16
LASTING = "lasting"
# What was signed with a key that another has followed is over by then: an ID token that proves who signs out, the
# longest of them, is taken for as long as a session lasts.
VERIFIES_FOR = timedelta(hours=24)


@dataclass(frozen=True)
class Signing:
    """Where the keys of one kind are: names that begin with `signer`, the private ones in signing/`owner`."""

    signer: str
    owner: str
    algorithm: Algorithm
    signs_after: timedelta = SIGNS_AFTER


SIGNING: dict[Kind, Signing] = {
    "auth": Signing("auth", "auth", "Ed25519"),
    "claims": Signing("claims", "claims", "Ed25519"),
    "id-token": Signing("auth", "auth", "RS256"),
    "id-token-es256": Signing("auth", "auth", "ES256"),
    # Applications are given certificates by hand: services/auth/saml_keys.py waits as long.
    "saml": Signing("saml", "auth", "RS256", timedelta(days=14)),
}
KINDS: tuple[Kind, ...] = (*SIGNING, "pepper", "portal")
# Which of them nobody outside has to be told of.
TURNED_BY_AGE: tuple[Kind, ...] = ("auth", "claims", "id-token", "id-token-es256")


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One key. `state`: of those that sign `signs`, `waits` (until `since`) or `verifies`; of the others `used` for
    what is made now, `known`, or `lasting`, which never goes. `over_at`: from when a key that verifies is needed no
    more."""

    kind: Kind
    id: str
    state: State
    made_at: datetime | None = None
    since: datetime | None = None
    over_at: datetime | None = None


class KeyFolder:
    """Raises Failed where something cannot be done, with what to do instead."""

    def __init__(self, root: Path, now: datetime) -> None:
        self.root, self.now = root, now
        self._public, self._pepper, self._portal = root / "keys", root / "secrets/pepper", root / "portal/key"
        if not self._public.is_dir():
            raise Failed("keys_missing", f"{root} is not a folder that deploy.prepare made")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Of two who turn keys at once the second waits for the first. Only for whoever owns the files: what another
        account writes, the services could not read."""
        owner = self._public.stat().st_uid
        if os.geteuid() != owner:
            raise Failed("keys_of_another", f"{self._public} belongs to account {owner}")
        with (self._public / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # ------------------------------------------------------------------ look

    def all(self) -> list[Kept]:
        """Every key of the folder, kind by kind."""
        return [kept for kind in KINDS for kept in self.of(kind)]

    def of(self, kind: Kind) -> list[Kept]:
        """The keys of one kind, in the order in which they follow each other."""
        if kind in SIGNING:
            return self._signing(kind)
        ids = [_id(kind, line) for line in self._lines(kind)]
        # Without a line of that name the last one lasts: services/auth/passwords.py.
        lasting = (LASTING if LASTING in ids else ids[-1]) if kind == "pepper" and ids else None

        def state(id: str) -> State:
            return "used" if id == ids[0] else "lasting" if id == lasting else "known"

        return [Kept(kind=kind, id=id, state=state(id)) for id in ids]

    def _signing(self, kind: Kind) -> list[Kept]:
        of = SIGNING[kind]
        kids = [kid for kid in self._kids(of) if self._is_of(of, kid)]
        begins = {kid: made_at(kid) + of.signs_after for kid in kids}
        private = [kid for kid in kids if self._file(of, kid, private=True).exists()]
        begun = [kid for kid in private if begins[kid] <= self.now] or private[:1]
        signs = begun[-1] if begun else None
        return [
            Kept(
                kind=kind,
                id=kid,
                state="signs"
                if kid == signs
                else "waits"
                if kid in private and kid not in begun
                else "verifies",
                made_at=made_at(kid),
                since=begins[kid],
                over_at=self._over_at(kid, signs, {k: begins[k] for k in private}),
            )
            for kid in kids
        ]

    @staticmethod
    def _over_at(kid: str, signs: str | None, begins: dict[str, datetime]) -> datetime | None:
        """When all that was signed before the next key began has ended; `begins`: of those that can sign."""
        later = [begun for other, begun in begins.items() if signs and kid < other <= signs]
        return min(later) + VERIFIES_FOR if later else None

    def _kids(self, of: Signing) -> list[str]:
        start, end = f"{of.signer}-", ".public.json"
        names = (file.name for file in self._public.glob(f"{start}*{end}"))
        return sorted(name.removeprefix(start).removesuffix(end) for name in names)

    def _is_of(self, of: Signing, kid: str) -> bool:
        try:
            jwk = msgspec.json.decode(self._file(of, kid).read_bytes())
            made_at(kid)
        except ValueError:  # its own service reports it
            return False
        return bool(jwk.get("alg", "Ed25519") == of.algorithm)

    def _file(self, of: Signing, kid: str, *, private: bool = False) -> Path:
        folder = self.root / "signing" / of.owner if private else self._public
        return folder / f"{of.signer}-{kid}.{'private' if private else 'public'}.json"

    # ------------------------------------------------------------------ turn

    def rotate(self, kind: Kind, *, known_first: bool = False) -> Kept:
        """Make a new key. One that signs waits until everybody knows it; another is used at once, or with `known_first`
        only known, for where each machine has a file of its own."""
        if kind in SIGNING:
            of = SIGNING[kind]
            id = make_key(of.signer, self._public, self.root / "signing" / of.owner, self.now, of.algorithm)
        else:
            lines = self._lines(kind)
            new = self._drawn(kind, lines)
            if known_first and lines:
                self._write(kind, [lines[0], new, *lines[1:], *_still_lasting(kind, lines)])
            else:
                self._write(kind, [new, *lines])
            id = _id(kind, new)
        return self._one(kind, id)

    def use(self, kind: Kind, id: str) -> Kept:
        """Have what is made from now on be made with a key that is known."""
        kept = self._one(kind, id)
        if kind in SIGNING:
            raise Failed("wrong_usage", "keys that sign begin by themselves")
        if kept.state == "lasting":
            raise Failed("key_lasts", "it makes nothing anew")
        self._write(kind, sorted(self._lines(kind), key=lambda line: _id(kind, line) != id))
        return self._one(kind, kept.id)

    def _one(self, kind: Kind, id: str) -> Kept:
        for kept in self.of(kind):
            if kept.id == id:
                return kept
        raise Failed("key_unknown", f"there is no {kind} key {id}")

    def _drawn(self, kind: Kind, lines: Sequence[str]) -> str:
        drawn = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        if kind == "portal":
            return drawn
        taken, day = {_id(kind, line) for line in lines}, f"{self.now:%Y%m%d}"
        id = next(id for id in (day, *(f"{day}-{n}" for n in range(2, 1000))) if id not in taken)
        return f"{id}:{drawn}"

    def _write(self, kind: Kind, lines: Sequence[str]) -> None:
        write_private(self._secret_file(kind), "".join(f"{line}\n" for line in lines).encode())

    def _lines(self, kind: Kind) -> list[str]:
        file = self._secret_file(kind)
        if not file.exists():
            return []
        lines = [line.strip() for line in file.read_text().splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        if any(not _holds(kind, line) for line in lines) or len({_id(kind, line) for line in lines}) < len(
            lines
        ):
            raise Failed("keys_unreadable", f"{file} has a line that is no {kind} key; it is left as it is")
        return lines

    def _secret_file(self, kind: Kind) -> Path:
        return self._pepper if kind == "pepper" else self._portal

    # ------------------------------------------------------------------ take away

    def retire(self, kind: Kind, id: str, *, leaked: bool = False) -> None:
        """Take one away that nothing depends on any more. `leaked`: at once, whatever depends on it; where
        another key waits it signs from then on."""
        kept = self._one(kind, id)
        if kept.state == "lasting":
            raise Failed(
                "key_lasts",
                "names and devices are known by it for good: without it every device is a new one",
            )
        follows = leaked and any(other.state == "waits" for other in self.of(kind))
        if kept.state == "used" or (kept.state == "signs" and not follows):
            raise Failed("key_in_use", f"{id} is what {kind} uses now")
        if kind in SIGNING:
            self._retire_signing(kept, leaked)
        else:
            self._write(kind, [line for line in self._lines(kind) if _id(kind, line) != id])

    def _retire_signing(self, kept: Kept, leaked: bool) -> None:
        if kept.state == "verifies" and not leaked and kept.over_at is not None and kept.over_at > self.now:
            raise Failed("key_in_use", f"what it signed is believed until {kept.over_at:%Y-%m-%d %H:%M} UTC")
        of = SIGNING[kept.kind]
        self._file(of, kept.id, private=True).unlink(
            missing_ok=True
        )  # first: what nobody knows must not sign
        self._file(of, kept.id).unlink(missing_ok=True)

    def over(self) -> list[Kept]:
        """Those that are needed no more, of the kinds that are turned by age."""
        return [
            kept
            for kind in TURNED_BY_AGE
            for kept in self.of(kind)
            if kept.state == "verifies" and kept.over_at is not None and kept.over_at <= self.now
        ]

    def due(self, older_than: timedelta) -> list[Kind]:
        """The kinds whose newest key that signs or will sign was made so long ago. One that is public alone is no
        such key: whoever made it was ended before the other half."""
        limit, keys = self.now - older_than, {kind: self.of(kind) for kind in TURNED_BY_AGE}
        return [
            kind
            for kind, found in keys.items()
            if found
            and all(kept.made_at <= limit for kept in found if kept.made_at and kept.state != "verifies")
        ]


def _id(kind: Kind, line: str) -> str:
    """A pepper has a name; a key of the portal is called by its hash."""
    return line.partition(":")[0] if kind == "pepper" else hashlib.sha256(line.encode()).hexdigest()[:8]


def _still_lasting(kind: Kind, lines: Sequence[str]) -> list[str]:
    """Of a file with one pepper that one lasts, which is no longer its last line when another follows: as a line of
    that name it does."""
    if kind != "pepper" or len(lines) > 1 or _id(kind, lines[0]) == LASTING:
        return []
    return [f"{LASTING}:{lines[0].partition(':')[2]}"]


def _holds(kind: Kind, line: str) -> bool:
    """As services/auth/passwords.py and services/portal/seals.py read them."""
    name, _, encoded = line.partition(":") if kind == "pepper" else ("-", "", line)
    try:
        size = len(base64.b64decode(encoded, validate=True))
    except ValueError:
        return False
    return bool(name) and (size >= PEPPER_MIN_BYTES if kind == "pepper" else size == SECRET_BYTES)
