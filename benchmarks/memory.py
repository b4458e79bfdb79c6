"""Memory of each service's process, at rest."""

import psutil

from benchmarks.district import District
from benchmarks.measure import Figure


async def figures(district: District) -> list[Figure]:
    return [
        Figure.of(f"{part.service}, resident", "MiB", [_resident(part.process.pid) / 2**20])
        for part in district.fleet.parts.values()
        if part.process is not None
    ]


def _resident(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)
