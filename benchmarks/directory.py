"""What the help desk asks about a district of 50,000 pupils, over HTTP, one question after the other."""

import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.district import District
from benchmarks.imports import PUPILS, to_claimable
from benchmarks.measure import Figure, quantile
from tests.roster.exports import pupils, write_export

TIMES = 40


async def figures(district: District) -> list[Figure]:
    students = pupils(PUPILS, seed=1)
    with tempfile.TemporaryDirectory(prefix="homeroom-bench-") as folder:
        await to_claimable(district, write_export(Path(folder) / "all.zip", students), students, 1)
    some = students[7]
    asked = {
        "a person by last name": ("directory", {"search": some.last_name}),
        "a page of a name's beginning": ("directory", {"search": some.last_name[:2]}),
        "a person by number": ("directory", {"search": some.number}),
        f"unclaimed of {PUPILS:,} by school": ("unclaimed", {"by": "school"}),
        f"unclaimed of {PUPILS:,} by grade": ("unclaimed", {"by": "grade"}),
    }
    found = []
    for name, (route, query) in asked.items():
        taken = [await _ask(district, f"/{route}?{urlencode(query)}") for _ in range(TIMES)]
        found.append(Figure.of(f"{name}, p99 {quantile(taken, 0.99):.0f} ms", "ms", taken))
    return found


async def _ask(district: District, path: str) -> float:
    """Milliseconds until the answer is there."""
    began = time.perf_counter()
    await district.homeroom.get("claims", path)
    return (time.perf_counter() - began) * 1000
