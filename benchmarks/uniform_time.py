"""Whether time tells why a claim was refused: the refusals that all read the same, told apart by a stopwatch?

Of pupils, and of staff in a district that asks them for a code; and whether time tells, of a wrong code, that a right
one was given. Every kind of refusal is asked for in a random order over some connections. For each two kinds: how often
the slower of one refusal each was of the first kind (the area under the ROC curve; 0.50: a coin). Beside it, how far a
share lies from 0.50 by chance alone when nothing can be told, as often as all pairs are compared (99 %).
"""

import asyncio
import itertools
import math
import random
import statistics
import time
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial

from benchmarks.district import SOURCE, District
from benchmarks.measure import Figure, quantile
from services.cli.client import Answer, Json
from services.cli.pupil import Pupil, cloud_event, employment, enrollment
from shared import clock

EACH = 300
CODES_EACH = 150
AT_ONCE = 4
CHANCE = 0.01
CLAIMS, TRIES = 15, 10  # of one account in a day, and passwords, or codes, of a claim; policies/ccps.toml
PASSWORD, WRONG_CODE = "correct horse of the staff", "AAAAA-AAAAA"

Ask = Callable[[], Awaitable[Answer]]


async def figures(district: District) -> list[Figure]:
    """The latency of uniform refusals, and the pair of reasons that time tells apart best."""
    _ask_staff_for_codes(district)
    claims = await _cases(district)
    refused = await _taken_ms({kind: [ask] * EACH for kind, ask in claims.items()}, "claim_refused")
    codes = await _taken_ms(await _code_cases(district), "code_wrong")
    every = [ms for some in refused.values() for ms in some]
    medians = [statistics.median(some) for some in refused.values()]
    return [
        Figure.of("uniform refusal, p50 of each reason", "ms", medians),
        Figure.of("uniform refusal, p99 of all", "ms", [quantile(every, 0.99)]),
        _told_apart_best("told apart best by time", refused, EACH),
        _told_apart_best("wrong codes told apart", codes, CODES_EACH),
    ]


async def _taken_ms(asked: Mapping[str, Sequence[Ask]], reason: str) -> dict[str, list[float]]:
    """How long each kind's answers took, asked in a random order."""
    turns = [(kind, ask) for kind, asks in asked.items() for ask in asks]
    random.Random(7).shuffle(turns)
    taken_ms: dict[str, list[float]] = {kind: [] for kind in asked}

    async def visitor() -> None:
        while turns:
            kind, ask = turns.pop()
            began = time.perf_counter()
            answer = await ask()
            taken_ms[kind].append(1000 * (time.perf_counter() - began))
            assert (answer.status, answer.body["reason"]) == (403, reason), answer

    await asyncio.gather(*(visitor() for _ in range(AT_ONCE)))
    return taken_ms


def _told_apart_best(name: str, taken_ms: Mapping[str, Sequence[float]], each: int) -> Figure:
    pairs = {(a, b): told_apart(taken_ms[a], taken_ms[b]) for a, b in itertools.combinations(taken_ms, 2)}
    (one, other), share = max(pairs.items(), key=lambda pair: abs(pair[1] - 0.5))
    bound = by_chance(len(pairs), each)
    return Figure.of(f"{name}: {one} / {other}", "share", [share], f"0.50 ± {bound:.2f}")


def _ask_staff_for_codes(district: District) -> None:
    file = district.fleet.folder / "policies" / "ccps.toml"
    file.write_text(file.read_text().replace('staff_claim_code = "off"', 'staff_claim_code = "required"'))


async def _cases(district: District) -> dict[str, Ask]:
    """Who asks with what, for each true reason of a uniform refusal."""
    known, left, one = await district.enrolled(3)
    now = clock.now()
    another = enrollment(timedelta(hours=48), now=now, number=one.enrolled["number"])
    teacher, retired = await _employed(district, 2)
    facts = [
        cloud_event("StudentWithdrawn", {"source_id": left.enrolled["source_id"]}, source=SOURCE, now=now),
        cloud_event("StudentEnrolled", another, source=SOURCE, now=now),
        cloud_event(
            "StaffLeft", {"source_id": retired.enrolled["source_id"]}, source=SOURCE, now=clock.now()
        ),
    ]
    await _told(district, facts)
    cases: dict[str, Ask] = {
        "number_unknown": partial(known.open_claim, number="0999999"),
        "last name differs": partial(known.open_claim, last_name="Somebody"),
        "first name differs": partial(known.open_claim, first_name="Else"),
        "withdrawn": left.open_claim,
        "number_conflict": one.open_claim,
        "employee number unknown": partial(teacher.open_claim, number="e99999"),
        "last name of staff differs": partial(teacher.open_claim, last_name="Somebody"),
        "staff that left": retired.open_claim,
    }
    for ask in cases.values():
        while (await ask()).body.get("reason") != "claim_refused":
            await asyncio.sleep(0.1)
    return cases


async def _code_cases(district: District) -> dict[str, list[Ask]]:
    """A wrong code, of somebody to whom the help desk gave none, and of somebody to whom it gave another."""
    cases: dict[str, list[Ask]] = {}
    for kind, teacher in zip(
        ("none was given", "another was given"), await _employed(district, 2), strict=True
    ):
        while (answer := await teacher.open_claim()).status != 201 or not answer.body["code_required"]:
            await asyncio.sleep(0.1)
        browsers = [Pupil(teacher.ask, teacher.enrolled, teacher.policy) for _ in range(CLAIMS)]
        for browser in browsers:
            assert (await browser.open_claim()).status == 201
        if kind == "another was given":
            found = await district.homeroom.get("claims", "/accounts", username=teacher.username)
            path = f"/accounts/{found['accounts'][0]['person_id']}/recovery-codes"
            await district.homeroom.post("auth", path, {})
        tries: list[Ask] = [partial(browser.set_password, PASSWORD, code=WRONG_CODE) for browser in browsers]
        cases[kind] = tries * TRIES
    return cases


async def _employed(district: District, count: int) -> list[Pupil]:
    policy, now = await district.policy(), clock.now()
    people = [employment(now=now) for _ in range(count)]
    await _told(district, [cloud_event("StaffEmployed", person, source=SOURCE, now=now) for person in people])
    return [Pupil(district.homeroom.ask, person, policy) for person in people]


async def _told(district: District, facts: list[Json]) -> None:
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    await district.homeroom.call("sis", "POST", "roster", "/enrollments", facts, headers=headers)


def told_apart(some: Sequence[float], others: Sequence[float]) -> float:
    """The share of all pairs in which the first is larger; ties count half."""
    ordered = sorted(others)
    above = sum((bisect_left(ordered, value) + bisect_right(ordered, value)) / 2 for value in some)
    return above / (len(some) * len(ordered))


def by_chance(comparisons: int, each: int) -> float:
    """How far from 0.50 the best of so many comparisons lies when nothing can be told apart (Mann-Whitney)."""
    deviation = math.sqrt((2 * each + 1) / (12 * each * each))
    return deviation * statistics.NormalDist().inv_cdf(1 - CHANCE / (2 * comparisons))
