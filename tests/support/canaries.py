"""Secrets that are planted in journeys, and the search for them wherever they do not belong.

A secret is looked for as it was typed or given out, and in the shapes that a careless line of code would give it:
percent-encoded, in base64 or hexadecimal, and as the random bytes that a token stands for. Case is nothing.
"""

import base64
import binascii
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any
from urllib.parse import quote

import asyncpg

SHORTEST = 8  # what is shorter is found everywhere by chance
ROWS_AT_ONCE = 500
BEGINNING = 12
_JWT = re.compile(r"[\w-]+\.[\w-]+\.([\w-]+)")  # that it leaked is told by its signature
_TOKEN = re.compile(r"(?:hr[a-z]_)?([\w-]{20,})")  # random bytes in base64, after what tells its kind

Sighting = tuple[str, str]  # what kind of secret, and where


class Canaries:
    """What was planted: each secret with its kind."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}
        self._by_beginning: dict[str, dict[str, str]] = {}

    def plant(self, kind: str, secret: str) -> str:
        """The same secret, which from now on must be nowhere."""
        assert len(secret) >= SHORTEST, f"{kind} is too short to be told from chance"
        self.planted[secret] = kind
        for shape in shapes(secret):
            self._by_beginning.setdefault(shape[:SHORTEST], {})[shape] = kind
        return secret

    @property
    def kinds(self) -> set[str]:
        return set(self.planted.values())

    def seen(self, where: str, text: str) -> Iterator[Sighting]:
        """Every kind of secret that a text holds."""
        text = text.lower()
        beginnings = {text[at : at + SHORTEST] for at in range(len(text) - SHORTEST + 1)}
        for beginning in beginnings & self._by_beginning.keys():
            for shape, kind in self._by_beginning[beginning].items():
                if shape in text:
                    yield kind, where


def shapes(secret: str) -> set[str]:
    """How a secret may show, in small letters."""
    raw = secret.encode()
    found = {secret, quote(secret), json.dumps(secret)[1:-1], raw.hex(), *_in_base64(raw)}
    if jwt := _JWT.fullmatch(secret):
        found.add(jwt[1])
    elif token := _TOKEN.fullmatch(secret):
        found.add(token[1][:BEGINNING])  # a log that shows how it begins
        with contextlib.suppress(binascii.Error):
            with_end = token[1] + "=" * (-len(token[1]) % 4)
            found.add(base64.b64decode(with_end, b"-_", validate=True).hex())
    return {shape.lower() for shape in found if len(shape) >= SHORTEST}


def _in_base64(raw: bytes) -> Iterator[str]:
    """Within whatever else is encoded, at each of the three places where it may begin, without the characters at its
    ends that depend on what is beside it."""
    for before, unsure in enumerate((0, 2, 3)):
        encoded = base64.b64encode(bytes(before) + raw).decode()
        certain = encoded[unsure : (before + len(raw)) * 8 // 6]
        yield from {certain, certain.translate(str.maketrans("+/", "-_"))}


async def rows(dsn: str) -> AsyncIterator[tuple[str, str]]:
    """Every row of every table of a database as text, each with its table's name; bytes are hexadecimal."""
    conn = await asyncpg.connect(dsn)
    try:
        tables = await conn.fetch(
            "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) AS name FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
        )
        for table in [row["name"] for row in tables]:
            async with conn.transaction():
                async for row in conn.cursor(f"SELECT t::text FROM {table} t", prefetch=ROWS_AT_ONCE):
                    yield table, row[0]
    finally:
        await conn.close()


def record_text(record: Any) -> str:
    """All of a Kafka record."""
    parts = [record.key or b"", record.value or b"", *(part for header in record.headers for part in header)]
    return "\n".join(part if isinstance(part, str) else part.decode(errors="replace") for part in parts)


def summary(sightings: Iterable[Sighting]) -> list[str]:
    """Each kind with each place once, for a test that failed. Never the secret itself."""
    return sorted({f"{kind} in {where}" for kind, where in sightings})
