"""What happened in each of the last minutes: how services tell the first-day wall how it goes."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from shared.web import Body

DAY_MINUTES = 24 * 60
_MINUTE = timedelta(minutes=1)


class ActivityQuery(Body, frozen=True):
    """Of how many minutes, the present one last."""

    minutes: Annotated[int, msgspec.Meta(ge=1, le=DAY_MINUTES)] = 60


class Minute(msgspec.Struct, frozen=True):
    """One minute, from `at` on: what succeeded, and what was refused."""

    at: datetime
    done: int
    refused: int


class Activity(msgspec.Struct, frozen=True):
    """Every minute, the oldest first, also those in which nothing happened."""

    minutes: list[Minute]


def minute_of(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0)


def first_minute(now: datetime, minutes: int) -> datetime:
    """The oldest of so many minutes, of which the present one is the last."""
    return minute_of(now) - (minutes - 1) * _MINUTE


def activity(
    first: datetime, minutes: int, done: Mapping[datetime, int], refused: Mapping[datetime, int]
) -> Activity:
    """The figures of so many minutes; those that are not there are zero."""
    moments: Sequence[datetime] = [first + n * _MINUTE for n in range(minutes)]
    return Activity([Minute(at, done.get(at, 0), refused.get(at, 0)) for at in moments])
