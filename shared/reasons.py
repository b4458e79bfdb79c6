"""What each reason of a refusal means and what to do next, in words: one text for people who build on Homeroom.

The kit's own are in shared/reasons.toml, a service's in its package's reasons.toml. They feed the OpenAPI
documents and docs/reasons.md; what a pupil reads is the front end's catalogue, not these.
"""

import tomllib
from importlib.resources import files

import msgspec


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`meaning`: what happened, or most likely did. `next`: what the caller can do about it."""

    meaning: str
    next: str


def load_reasons(*packages: str) -> dict[str, Reason]:
    """The reasons of the kit and of some packages. The same reason in two of them is an assertion."""
    found: dict[str, Reason] = {}
    for package in ("shared", *packages):
        text = files(package).joinpath("reasons.toml").read_text(encoding="utf-8")
        own = msgspec.convert(tomllib.loads(text), dict[str, Reason])
        twice = found.keys() & own.keys()
        assert not twice, f"{package}: explained twice: {sorted(twice)}"
        found |= own
    return found
