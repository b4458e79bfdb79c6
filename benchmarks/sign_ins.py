"""Sign-ins a second beside bare argon2 verification on as many threads, with the same build and parameters."""

import asyncio
import itertools
import os
import time

from argon2 import PasswordHasher
from argon2.low_level import Type

from benchmarks.district import PASSWORD, District
from benchmarks.measure import Figure, in_turn
from services.auth.passwords import Strength

PUPILS = 40
SECONDS = 4.0
IN_FLIGHT = 8


async def figures(district: District) -> list[Figure]:
    pupils = await district.claimed(PUPILS)
    turns = itertools.cycle(pupils)

    async def sign_ins() -> float:
        until, done = time.perf_counter() + SECONDS, 0

        async def one_after_another() -> None:
            nonlocal done
            while time.perf_counter() < until:
                answer = await next(turns).sign_in(PASSWORD)
                if answer.status != 201:
                    raise RuntimeError(f"a sign-in was refused: {answer.status} {answer.body}")
                done += 1

        began = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
        return done / (time.perf_counter() - began)

    ours, bare, ratio = await in_turn(sign_ins, bare_verifications)
    return [
        Figure.of("sign-ins", "/s", ours),
        Figure.of("bare argon2 verifications", "/s", bare),
        Figure.of("sign-ins / bare argon2", "ratio", ratio, "≥ 0.85"),
    ]


async def bare_verifications() -> float:
    """Verify on as many threads as there are cores, and nothing else."""
    strength = Strength()
    hasher = PasswordHasher(
        strength.passes, strength.memory_kib, strength.lanes, strength.hash_bytes, strength.salt_bytes, type=Type.ID
    )  # fmt: skip
    verifier, until = hasher.hash(PASSWORD), time.perf_counter() + SECONDS

    def verify() -> int:
        done = 0
        while time.perf_counter() < until:
            hasher.verify(verifier, PASSWORD)
            done += 1
        return done

    began = time.perf_counter()
    done = await asyncio.gather(*(asyncio.to_thread(verify) for _ in range(os.cpu_count() or 1)))
    return sum(done) / (time.perf_counter() - began)
