"""Whether time tells why a claim was refused: the refusals that all read the same, told apart by a stopwatch?

Every kind of refusal is asked for in a random order over some connections. For each two kinds: how often the slower of
one refusal each was of the first kind (the area under the ROC curve; 0.50: a coin). Beside it, how far a share lies
from 0.50 by chance alone when nothing can be told, as often as all pairs are compared (99 %).
"""

import asyncio
import itertools
import math
import random
import statistics
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import timedelta

from benchmarks.district import SOURCE, District
from benchmarks.measure import Figure, quantile
from services.cli.client import Json
from services.cli.pupil import Pupil, cloud_event, enrollment
from shared import clock

EACH = 300
AT_ONCE = 3
CHANCE = 0.01


async def figures(district: District) -> list[Figure]:
    """The latency of uniform refusals, and the pair of reasons that time tells apart best."""
    asked = await _cases(district)
    turns = [kind for kind in asked for _ in range(EACH)]
    random.Random(7).shuffle(turns)
    taken_ms: dict[str, list[float]] = {kind: [] for kind in asked}

    async def visitor() -> None:
        while turns:
            kind = turns.pop()
            pupil, typed = asked[kind]
            began = time.perf_counter()
            answer = await pupil.open_claim(**typed)
            taken_ms[kind].append(1000 * (time.perf_counter() - began))
            assert (answer.status, answer.body["reason"]) == (403, "claim_refused"), answer

    await asyncio.gather(*(visitor() for _ in range(AT_ONCE)))
    pairs = {(a, b): told_apart(taken_ms[a], taken_ms[b]) for a, b in itertools.combinations(taken_ms, 2)}
    (one, other), share = max(pairs.items(), key=lambda pair: abs(pair[1] - 0.5))
    every = [ms for some in taken_ms.values() for ms in some]
    medians = [statistics.median(some) for some in taken_ms.values()]
    return [
        Figure.of("uniform refusal, p50 of each reason", "ms", medians),
        Figure.of("uniform refusal, p99 of all", "ms", [quantile(every, 0.99)]),
        Figure.of(
            f"told apart best by time: {one} / {other}",
            "share",
            [share],
            f"0.50 ± {by_chance(len(pairs)):.2f}",
        ),
    ]


async def _cases(district: District) -> dict[str, tuple[Pupil, Json]]:
    """Who asks, and what is typed other than on file, for each true reason of a uniform refusal."""
    known, left, one = await district.enrolled(3)
    policy, now = await district.policy(), clock.now()
    facts = [
        cloud_event("StudentWithdrawn", {"source_id": left.enrolled["source_id"]}, source=SOURCE, now=now),
        cloud_event(
            "StudentEnrolled",
            enrollment(timedelta(hours=48), now=now, number=one.enrolled["number"]),
            source=SOURCE,
            now=now,
        ),
    ]
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    await district.homeroom.call("sis", "POST", "roster", "/enrollments", facts, headers=headers)
    nobody = Pupil(district.homeroom.ask, {**known.enrolled, "number": "0999999"}, policy)
    cases: dict[str, tuple[Pupil, Json]] = {
        "number_unknown": (nobody, {}),
        "last name differs": (known, {"last_name": "Somebody"}),
        "first name differs": (known, {"first_name": "Else"}),
        "withdrawn": (left, {}),
        "number_conflict": (one, {}),
    }
    for pupil, typed in cases.values():
        while (await pupil.open_claim(**typed)).body.get("reason") != "claim_refused":
            await asyncio.sleep(0.1)
    return cases


def told_apart(some: Sequence[float], others: Sequence[float]) -> float:
    """The share of all pairs in which the first is larger; ties count half."""
    ordered = sorted(others)
    above = sum((bisect_left(ordered, value) + bisect_right(ordered, value)) / 2 for value in some)
    return above / (len(some) * len(ordered))


def by_chance(comparisons: int) -> float:
    """How far from 0.50 the best of so many comparisons lies when nothing can be told apart (Mann-Whitney)."""
    deviation = math.sqrt((2 * EACH + 1) / (12 * EACH * EACH))
    return deviation * statistics.NormalDist().inv_cdf(1 - CHANCE / (2 * comparisons))
