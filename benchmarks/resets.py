"""A reset of a whole school, until auth has ended every session; and what claims and sign-ins take beside it."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from benchmarks import history_of_claims
from benchmarks.claims import last_call
from benchmarks.district import PASSWORD, District
from benchmarks.history_of_claims import SCHOOL
from benchmarks.measure import Figure, quantile
from services.cli.client import Json
from services.cli.pupil import Pupil

ACCOUNTS = 5_000
AIM_A_SECOND = 84  # 50,000 in under ten minutes
CLAIMS_A_SECOND, SIGN_INS_A_SECOND = 4, 8
ALONE_S = 15.0
REGULARS = 20  # pupils who sign in again and again
PATIENCE_S = 1800


class Live:
    """Pupils who claim and sign in at an even rate; milliseconds of each last call, and of each sign-in."""

    def __init__(self, claimants: Iterator[Pupil], regulars: Sequence[Pupil]) -> None:
        self._claimants, self._regulars = claimants, itertools.cycle(regulars)
        self.claims: list[float] = []
        self.sign_ins: list[float] = []

    async def run(self, until: Callable[[], bool]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_evenly(CLAIMS_A_SECOND, self._claim, until))
            group.create_task(_evenly(SIGN_INS_A_SECOND, self._sign_in, until))

    async def _claim(self) -> None:
        if pupil := next(self._claimants, None):
            self.claims.append(await last_call(pupil))

    async def _sign_in(self) -> None:
        began = time.perf_counter()
        answer = await next(self._regulars).sign_in(PASSWORD)
        if answer.status != 201:
            raise RuntimeError(f"a sign-in was refused: {answer.status} {answer.body}")
        self.sign_ins.append(1000 * (time.perf_counter() - began))


async def _evenly(rate: int, act: Callable[[], Awaitable[None]], until: Callable[[], bool]) -> None:
    """Begins so many a second, whether the ones before have ended or not."""
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for n in itertools.count(1):
            if until():
                return
            group.create_task(_awaited(act))
            await asyncio.sleep(max(0.0, began + n / rate - time.perf_counter()))


async def _awaited(act: Callable[[], Awaitable[None]]) -> None:
    await act()


async def figures(district: District, accounts: int = ACCOUNTS) -> list[Figure]:
    """The reset accounts are of one school, those who live beside it of another."""
    await history_of_claims.write(district.fleet.dsn, accounts)
    claimants = int(CLAIMS_A_SECOND * (ALONE_S + accounts / AIM_A_SECOND))
    pupils = await district.enrolled(REGULARS + claimants)
    regulars, turns = pupils[:REGULARS], iter(pupils[REGULARS:])
    await asyncio.gather(*map(district.claim, regulars))
    alone, beside = Live(turns, regulars), Live(turns, regulars)
    ended = time.perf_counter() + ALONE_S
    await alone.run(lambda: time.perf_counter() >= ended)
    frozen_s, asked = await _ask(district)
    work = asyncio.create_task(_until_done(district, asked))
    await beside.run(work.done)
    took_s = await work
    return [
        Figure.of(f"list of {accounts:,} frozen and approved", "s", [frozen_s]),
        Figure.of(
            f"reset of {accounts:,} accounts, live load beside it",
            "/s",
            [accounts / took_s],
            f"≥ {AIM_A_SECOND}",
        ),
        *_compared("last call of a claim", alone.claims, beside.claims),
        *_compared("sign-in", alone.sign_ins, beside.sign_ins),
    ]


async def _ask(district: District) -> tuple[float, str]:
    """Asks for the reset, and approves it as a second person; how long that took, and the path of the batch."""
    began = time.perf_counter()
    asked = (await district.homeroom.post("claims", "/reset-batches", {"school": SCHOOL})).body
    path = f"/reset-batches/{asked['batch_id']}"
    await district.homeroom.post("claims", f"{path}/approval", role="desk2")
    return time.perf_counter() - began, path


async def _until_done(district: District, path: str) -> float:
    """Seconds until every session has ended."""
    began = time.perf_counter()
    while time.perf_counter() - began < PATIENCE_S:
        batch: Json = await district.homeroom.get("claims", path, limit=0)
        if batch["state"] == "done":
            if batch["counts"] != {"done": batch["total"]}:
                raise RuntimeError(f"not every account was reset: {batch['counts']}")
            return time.perf_counter() - began
        await asyncio.sleep(0.5)
    raise RuntimeError(f"the reset is not through after {PATIENCE_S} s: {batch['counts']}")


def _compared(what: str, alone: Sequence[float], beside: Sequence[float]) -> list[Figure]:
    return [
        Figure.of(f"{what}, {of}, p{share * 100:.0f}", "ms", [quantile(times, share)], aim)
        for share in (0.5, 0.99)
        for of, times, aim in (("alone", alone, ""), ("beside it", beside, "≤ twice" if share > 0.5 else ""))
    ]
