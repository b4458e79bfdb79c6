"""The last minutes, each of them, also those in which nothing happened."""

from datetime import UTC, datetime, timedelta

from shared.activity import Minute, activity, first_minute

NOW = datetime(2026, 8, 3, 7, 30, 59, 5, tzinfo=UTC)
HALF = datetime(2026, 8, 3, 7, 30, tzinfo=UTC)


def test_the_present_minute_is_the_last() -> None:
    assert first_minute(NOW, 1) == HALF
    assert first_minute(NOW, 3) == HALF - timedelta(minutes=2)


def test_every_minute_is_there() -> None:
    shown = activity(first_minute(NOW, 2), 2, {HALF: 3}, {HALF - timedelta(minutes=1): 1, NOW: 9})
    assert shown.minutes == [Minute(HALF - timedelta(minutes=1), 0, 1), Minute(HALF, 3, 0)]
