"""The last call of a claim: auth → Kafka → claims → Kafka → auth, and the hashing of the answers in it."""

import asyncio
import time
from collections.abc import Awaitable

from benchmarks.district import PASSWORD, District
from benchmarks.measure import Figure, quantile
from services.auth.passwords import Hasher, HashPool, Peppers
from services.cli.pupil import Pupil

ROUNDS = 4
CLAIMS = 40
A_SECOND = 10


async def figures(district: District) -> list[Figure]:
    """Claims one after another, then some a second; hashing alone is measured beside, and taken off."""
    pupils = await district.enrolled(2 * ROUNDS * CLAIMS)
    hasher = Hasher(Peppers({"bench": bytes(32)}), HashPool())
    alone: list[float] = []
    together: list[float] = []
    hashing: list[float] = []
    for n in range(ROUNDS):
        mine = pupils[2 * n * CLAIMS : 2 * (n + 1) * CLAIMS]
        hashing += [await _timed(hasher.make("answers", "may\0witty mouse\0 2011")) for _ in range(CLAIMS)]
        for pupil in mine[:CLAIMS]:
            alone.append(await last_call(pupil))
        together += await asyncio.gather(
            *(_later(i / A_SECOND, pupil) for i, pupil in enumerate(mine[CLAIMS:]))
        )
    hash_ms = quantile(hashing, 0.5)
    return [
        Figure.of("hash of the answers alone", "ms", [hash_ms]),
        Figure.of("last call, one at a time, p50", "ms", [quantile(alone, 0.5)]),
        Figure.of("last call, one at a time, p99", "ms", [quantile(alone, 0.99)]),
        Figure.of("last call over its hashing, p50", "ms", [quantile(alone, 0.5) - hash_ms], "< 30"),
        Figure.of(f"last call, {A_SECOND} claims/s, p50", "ms", [quantile(together, 0.5)]),
        Figure.of(f"last call, {A_SECOND} claims/s, p99", "ms", [quantile(together, 0.99)]),
    ]


async def last_call(pupil: Pupil) -> float:
    """Walks a pupil through a claim; milliseconds of the call that completes it."""
    for _ in range(100):
        if (await pupil.open_claim()).status == 201:
            break
        await asyncio.sleep(0.1)
    await pupil.set_password(PASSWORD)
    began = time.perf_counter()
    answer = await pupil.save_answers()
    if answer.status != 200:
        raise RuntimeError(f"a claim was not completed at once: {answer.status} {answer.body}")
    return 1000 * (time.perf_counter() - began)


async def _later(seconds: float, pupil: Pupil) -> float:
    await asyncio.sleep(seconds)
    return await last_call(pupil)


async def _timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return 1000 * (time.perf_counter() - began)
