"""One browser, as its cookies show it: what was kept there, and what the answer is to keep or forget."""

from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import msgspec
from aiohttp import web

from services.portal.seals import Seals

OF_THE_BROWSER = frozenset({"device", "language"})  # they name nobody
OF_A_PERSON = frozenset({"session", "sign-in", "sign-on", "claim", "claim-seed", "recovery", "code", "told"})
DEVICE_LIFE = LANGUAGE_LIFE = timedelta(days=400)  # the longest that browsers allow (RFC 6265bis, 5.6.1)
T = TypeVar("T")


class SignedIn(msgspec.Struct, frozen=True):
    """Whose session it is. `token` is auth's; it never leaves the sealed cookie but to auth. `at_work`: whether they
    have a role, once that was asked."""

    token: str
    person_id: UUID
    username: str
    expires_at: datetime
    must_change: bool = False
    at_work: bool | None = None


class Browser:
    """Cookies of one district. Each is `__Host-`: of this origin alone, and over TLS (or on this machine)."""

    def __init__(self, request: web.Request, seals: Seals, district: str, now: datetime) -> None:
        self._cookies, self._seals, self._district, self._now = request.cookies, seals, district, now
        self._changes: dict[str, tuple[str, int | None] | None] = {}

    def find(self, what: str, kind: type[T]) -> T | None:
        """What was kept under this name; None if there is nothing that counts."""
        name = self._name(what)
        if name in self._changes:
            change = self._changes[name]
            sealed = change[0] if change else ""
        else:
            sealed = self._cookies.get(name, "")
        return self._seals.open(name, sealed, kind, self._now) if sealed else None

    def keep(self, what: str, value: object, until: datetime, *, through_restarts: bool = False) -> None:
        """Keeps a value at most until then, and no longer than the browser runs unless `through_restarts`."""
        assert what in OF_THE_BROWSER | OF_A_PERSON, what
        name = self._name(what)
        max_age = int((until - self._now).total_seconds()) if through_restarts else None
        self._changes[name] = (self._seals.seal(name, value, until), max_age)

    def keep_language(self, code: str) -> None:
        self.keep("language", code, self._now + LANGUAGE_LIFE, through_restarts=True)

    def forget(self, what: str) -> None:
        self._changes[self._name(what)] = None

    def forget_person(self, *, but: str = "") -> None:
        """Everything of whoever used this browser, but nothing of a district whose name begins like this one's."""
        for what in OF_A_PERSON - {but}:
            if self._name(what) in self._cookies or self._name(what) in self._changes:
                self.forget(what)

    @property
    def device(self) -> str | None:
        """The token by which auth knows this browser again."""
        return self.find("device", str)

    def keep_device(self, token: str | None) -> None:
        if token and len(token) <= 1024:
            self.keep("device", token, self._now + DEVICE_LIFE, through_restarts=True)

    @property
    def signed_in(self) -> SignedIn | None:
        return self.find("session", SignedIn)

    def write(self, response: web.StreamResponse) -> None:
        """Puts what is to be kept and forgotten into an answer."""
        for name, change in self._changes.items():
            value, max_age = change if change else ("", 0)
            response.set_cookie(
                name, value, max_age=max_age, path="/", secure=True, httponly=True, samesite="Lax"
            )

    def _name(self, what: str) -> str:
        return f"__Host-{self._district}-{what}"
