"""`python -m benchmarks [NAME …]`: measure, print a table; `--json` for the figures alone."""

import asyncio
import sys
from functools import partial

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks import (
    claims,
    directory,
    enrollments,
    history,
    imports,
    memory,
    portal,
    refreshes,
    resets,
    session_checks,
    sign_ins,
    uniform_time,
)
from benchmarks.district import backing, district
from benchmarks.measure import Figure, machine

WIDTH = 120  # also where no terminal says how wide it is

ALL = {
    "memory": memory.figures,
    "sign-ins": sign_ins.figures,
    "portal": portal.figures,
    "session-checks": session_checks.figures,
    "refreshes": refreshes.figures,
    "claims": claims.figures,
    "uniform-time": uniform_time.figures,
    "enrollments": enrollments.figures,
    "resets": resets.figures,
    "history": history.figures,
    "imports": imports.figures,
    "directory": directory.figures,
    "imports-with-classes": imports.figures_with_classes,
}
# Only by name: each takes minutes.
LONG = {"resets-of-all": partial(resets.figures, accounts=50_000)}


async def main(names: list[str]) -> list[Figure]:
    """Each named benchmark on a district of its own; nothing of it stays."""
    found: list[Figure] = []
    async with backing() as servers:
        for name in names:
            Console(stderr=True).print(f"measuring {name} …")
            async with district(servers) as fresh:
                found += await (ALL | LONG)[name](fresh)
    return found


def show(found: list[Figure]) -> None:
    table = Table("", "median", "low", "high", "unit", "aim", title=machine())
    for figure in found:
        values = (f"{value:,.2f}" for value in (figure.median, figure.low, figure.high))
        table.add_row(figure.name, *values, figure.unit, figure.aim)
    Console(width=WIDTH).print(table)


if __name__ == "__main__":
    chosen = [word for word in sys.argv[1:] if not word.startswith("-")]
    if unknown := set(chosen) - set(ALL | LONG):
        raise SystemExit(
            f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(ALL | LONG)}"
        )
    measured = asyncio.run(main(chosen or list(ALL)))
    if "--json" in sys.argv:
        print(msgspec.json.encode(measured).decode())
    else:
        show(measured)
