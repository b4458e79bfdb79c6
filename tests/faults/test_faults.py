"""Nothing is lost and nothing takes effect twice, whatever is killed and whenever."""

import os
import platform
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.cli.client import SERVICES
from shared import clock
from tests.faults.backing import Backing
from tests.faults.havoc import BACKING_KILLS, EVERY_KIND, RELAY_KILLS, SERVICE_KILLS, Outcome, run

SEEDS = range(1, int(os.environ.get("HOMEROOM_TEST_SEEDS", "5")) + 1)
RESULT = Path(__file__).resolve().parents[2] / "docs/faults.md"
KINDS = {
    **{kill: (kill,) * 4 for kill in (*SERVICE_KILLS, *BACKING_KILLS)},
    **{
        f"relays {gap}": tuple(f"{service} relay {gap}" for service in SERVICES)
        for gap in dict.fromkeys(kill.rpartition(" ")[2] for kill in RELAY_KILLS)
    },
    "everything": EVERY_KIND,
}

HEADING = """# Faults: what was killed, and what was found afterwards

Written by `make test-deep`. Each run walks 200 pupils at once through claims, sign-ins, password changes, recoveries,
resets, second claims, suspensions and returns, over HTTP and Kafka, while exports of 2,000 pupils are imported one
after the other and three schools are reset; kills parts with SIGKILL in the middle of it, starts them again, and then
reads the stores, the topics, the vault and the read models of all three services. A relay is caught by a proxy that
holds one request or one answer, and is killed in exactly that gap.

A run is good when every acknowledged command took effect once in every store and none twice, every stream is gapless in
its topic and equal to the store, every account is either wholly claimed (and its password signs in) or wholly
unclaimed, every reset was confirmed, every person of the exports is there once and as the last export says, each
export's news was recorded once, and nothing was set aside but what was meant to be. Repeats in the topics are what a
killed relay sent once more; the gates drop them. A front end that sees a 503 asks again.
"""

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("faults")]


@pytest.fixture
async def own_backing() -> AsyncIterator[Backing]:
    backing = Backing()
    try:
        yield await backing.start()
    finally:
        await backing.stop()


@pytest.mark.timeout(900)
async def test_every_part_is_killed_once_in_the_middle_of_200_journeys(own_backing: Backing) -> None:
    """Each service, each gap of a relay, the broker and PostgreSQL; then every store is read."""
    outcome = await run(own_backing, seed=20261122, kills=EVERY_KIND)
    assert not outcome.problems, "\n".join([f"{len(outcome.problems)} problems:", *outcome.problems[:40]])
    assert len(outcome.caught) == sum(" relay " in kill for kill in EVERY_KIND), (
        f"caught only in {outcome.caught}"
    )


@pytest.mark.deep
@pytest.mark.timeout(4 * 3600)
async def test_the_whole_matrix_of_kills_and_seeds(own_backing: Backing) -> None:
    """Every kind of kill, several times in one run, with every seed; the result is written to docs/faults.md."""
    outcomes: dict[str, list[Outcome]] = {kind: [] for kind in KINDS}
    for seed in SEEDS:
        for kind, kills in KINDS.items():
            outcomes[kind].append(await run(own_backing, seed, kills, in_exports=2000, in_school=20))
            RESULT.write_text(report(outcomes), encoding="utf-8")
    assert [problem for runs in outcomes.values() for outcome in runs for problem in outcome.problems] == []


def report(outcomes: dict[str, list[Outcome]]) -> str:
    """docs/faults.md."""
    runs = [outcome for each in outcomes.values() for outcome in each]
    kills, bad = sum(len(outcome.kills) for outcome in runs), sum(bool(outcome.problems) for outcome in runs)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    lines = [
        HEADING,
        f"Last run: {clock.now():%d %B %Y}, {machine}: **{len(runs)} runs, {kills} kills, {bad} runs with a problem.**",
        "",
        "| Killed | Seeds | Kills | Relays caught in the gap | Events | Repeats in topics | 503s | Problems |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, each in outcomes.items():
        lines.append(
            f"| {kind.replace('_', ' ')} | {', '.join(str(outcome.seed) for outcome in each)}"
            f" | {sum(len(outcome.kills) for outcome in each)} | {sum(len(outcome.caught) for outcome in each)}"
            f" | {total(each, ' events')} | {total(each, ' repeats in the topic')}"
            f" | {sum(outcome.answers.get(503, 0) for outcome in each)}"
            f" | {sum(len(outcome.problems) for outcome in each)} |"
        )
    for outcome in runs:
        lines += [f"\nSeed {outcome.seed}, {', '.join(outcome.kills)}:\n"] * bool(outcome.problems)
        lines += [f"- {problem}" for problem in outcome.problems]
    return "\n".join(lines) + "\n"


def total(outcomes: list[Outcome], ending: str) -> int:
    return sum(
        count for outcome in outcomes for name, count in outcome.counts.items() if name.endswith(ending)
    )
