"""The only clock. The edges (HTTP, consumers, workers) ask it and pass `now` on; rules never do."""

from datetime import UTC, datetime


def now() -> datetime:
    """The present moment, aware, in UTC, to the microsecond (what PostgreSQL keeps)."""
    return datetime.now(UTC)
