"""Rounds in turn, medians with their spread, and the machine they were measured on."""

import os
import platform
import statistics
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

ROUNDS = 5


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the result: the median of some rounds, and how far they lay apart."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    aim: str = ""

    @classmethod
    def of(cls, name: str, unit: str, values: Sequence[float], aim: str = "") -> "Figure":
        return cls(
            name=name, unit=unit, median=statistics.median(values), low=min(values), high=max(values), aim=aim
        )


async def in_turn(
    ours: Callable[[], Awaitable[float]], bare: Callable[[], Awaitable[float]], rounds: int = ROUNDS
) -> tuple[list[float], list[float], list[float]]:
    """Ours and the bare part, one after the other, after one uncounted round of each; and the ratio of each pair."""
    await bare()
    await ours()
    pairs = [(await bare(), await ours()) for _ in range(rounds)]
    return [o for _, o in pairs], [b for b, _ in pairs], [o / b for b, o in pairs]


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all lies at or below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine() -> str:
    """One line: processor, cores, memory, Python."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    ) if Path("/proc/cpuinfo").exists() else platform.machine()  # fmt: skip
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"
