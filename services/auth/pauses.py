"""THE RULES of wrong passwords: who waits, and for how long. As pure as decider.py; every wait ends by itself.

A device that an account has signed in on is known to it, and answers only for its own wrong passwords. All other
devices share the account's pause, and count against a budget: of the device, where it has a token that is old enough,
else of the network that it comes from. Where a network has used up its budget, a device without a token is given one
and told to come back: so each of a school's devices answers for itself, and the school is not stopped.
"""

from datetime import datetime, timedelta

from msgspec import Struct

from shared.policy import Policy, SignInRule

FORGOTTEN_AFTER = timedelta(days=1)  # wrong passwords longer ago than this count no more


class Failures(Struct, frozen=True):
    """Wrong passwords in a row for one username, existing or not."""

    count: int
    last_at: datetime


class Level(Struct, frozen=True):
    """How far a budget of wrong passwords was used up at a moment."""

    level: float
    at: datetime

    def at_moment(self, an_hour: int, now: datetime) -> float:
        return max(0.0, self.level - (now - self.at).total_seconds() * an_hour / 3600)


class Wait(Struct, frozen=True):
    """Why the next password is not looked at yet. `anew`: as a device, with the token that is given."""

    left: timedelta
    anew: bool = False


def pause_left(failures: Failures | None, policy: Policy, now: datetime, *, known: bool = False) -> timedelta:
    """How long a username still has to wait before the next password is looked at, from a device that it knows or from
    all others."""
    if failures is None or now - failures.last_at >= FORGOTTEN_AFTER:
        return timedelta(0)
    pause = policy.sign_in.pause(failures.count, known=known)
    return max(failures.last_at + pause - now, timedelta(0))


def wait(
    failures: Failures | None,
    level: Level | None,
    policy: Policy,
    now: datetime,
    *,
    known: bool,
    stranger: bool,
) -> Wait | None:
    """What stands before the next password. `stranger`: the device has no token, or too new a one, and `level` is its
    network's."""
    if left := pause_left(failures, policy, now, known=known):
        return Wait(left)
    if known or level is None:
        return None
    rule = policy.sign_in
    if stranger:
        over = level.at_moment(rule.network_failures_an_hour, now) + 1 > rule.network_failures
        return Wait(rule.network_pause, anew=True) if over else None
    over_by = level.at_moment(rule.device_failures_an_hour, now) + 1 - rule.device_failures
    left = timedelta(hours=over_by / rule.device_failures_an_hour)
    return Wait(left) if left > timedelta(0) else None


def refill_an_hour(rule: SignInRule, *, stranger: bool) -> int:
    """How many wrong passwords a budget forgives in an hour."""
    return rule.network_failures_an_hour if stranger else rule.device_failures_an_hour
