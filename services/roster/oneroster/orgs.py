"""The schools of an export, and the orgs that are named in it and are not there."""

import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from services.roster.oneroster.archive import Archive, Limits
from services.roster.oneroster.cells import problem_of
from services.roster.oneroster.tables import ORGS, read_table

MAX_UNKNOWN = 1000  # that are told one by one


class Org(NamedTuple):
    name: str
    is_school: bool


class Orgs:
    """The orgs that have a name. A school with a flawed row is unknown, which is told where somebody is there."""

    def __init__(self, archive: Archive, limits: Limits, *, there: bool) -> None:
        self._orgs: dict[str, Org] = {}
        self._unknown: set[str] = set()
        for _, (key, name, kind), excess in read_table(archive, ORGS, limits) if there else ():
            name = unicodedata.normalize("NFC", name).strip()
            if not excess and name and problem_of(name) is None:
                self._orgs[key.strip()] = Org(name, kind.strip().lower() == "school")

    def is_school(self, org: str) -> bool:
        known = self._orgs.get(org)
        return known is not None and known.is_school

    def school(self, named: Iterable[str]) -> str | None:
        """The name of the first that is a school, or else of the first that is known."""
        known = [self._orgs[org] for org in named if org in self._orgs]
        return next((org for org in known if org.is_school), known[0]).name if known else None

    def news(self, org: str) -> bool:
        """Whether an unknown org is to be told: once each, and not for ever."""
        if org in self._unknown or len(self._unknown) >= MAX_UNKNOWN:
            return False
        self._unknown.add(org)
        return True
