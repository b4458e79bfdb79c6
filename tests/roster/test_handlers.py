"""What becomes of statements, in a real store: one transaction, a few round trips, each judged by itself."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.roster import handlers, merges
from services.roster.events import CODEC
from services.roster.handlers import Outcome, Status, became_of
from services.roster.ingress import understand
from shared.database import LOST_RACE, Database
from shared.errors import Rejected, VersionConflict
from shared.event_store import EventStore
from shared.messages import Cause
from tests.roster.given import DISTRICT, NOON, POLICY, at, cloud_event, parsed
from tests.support.service import empty


class Roster:
    """The handlers over a real database."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.store = EventStore(db, CODEC, 12)

    async def take(
        self, *events: dict[str, Any], now: datetime = NOON, district: str = DISTRICT, baseline: bool = False
    ) -> list[Outcome]:
        statements = [
            understand(
                parsed(e),
                district,
                POLICY,
                received_at=now,
                cause=Cause(f"journey of {e['id']}"),
                baseline=baseline,
            )
            for e in events
        ]
        async with self.db.transaction() as conn:
            return await handlers.take(self.store, conn, district, POLICY, statements, now=now)

    async def states(self, *events: dict[str, Any], **given: Any) -> list[str | None]:
        """For each event its state, or the reason why it was refused."""
        return [o.reason or o.state for o in await self.take(*events, **given)]

    async def history(self, person_id: UUID | None) -> list[str]:
        assert person_id is not None
        async with self.db.connection() as conn:
            return [event.type for event in await self.store.load(conn, person_id)]

    async def status(self, event: dict[str, Any]) -> Status | None:
        async with self.db.connection() as conn:
            return await became_of(self.store, conn, DISTRICT, event["id"])


@pytest.fixture
async def roster(migrated: str) -> AsyncIterator[Roster]:
    db = Database(migrated, max_size=8)
    await empty(db)
    yield Roster(db)
    await db.close()


async def test_a_pupil_becomes_a_person(roster: Roster) -> None:
    """A random UUID, mapped from the district's id in the transaction that records the enrollment."""
    event = cloud_event(id="event 1")
    [outcome] = await roster.take(event)
    assert outcome.state == "accepted"
    async with roster.db.connection() as conn:
        assert outcome.person_id is not None
        [recorded] = await roster.store.load(conn, outcome.person_id)
    assert (recorded.type, recorded.district, recorded.version) == ("StudentEnrolled", DISTRICT, 1)
    assert recorded.cause == Cause("journey of event 1", "event 1")
    assert recorded.time == NOON


async def test_the_same_event_again_appends_nothing(roster: Roster) -> None:
    event = cloud_event()
    [first] = await roster.take(event)
    [second] = await roster.take(event, now=at(5))
    assert (second.state, second.person_id) == ("unchanged", first.person_id)
    assert await roster.history(first.person_id) == ["StudentEnrolled"]
    status = await roster.status(event)
    assert status is not None
    assert (status.state, status.received_at) == ("accepted", NOON)


async def test_the_same_id_with_other_content_is_refused(roster: Roster) -> None:
    event = cloud_event()
    await roster.take(event)
    for other in (cloud_event(id=event["id"], number="0999999"), cloud_event(id=event["id"], source_id="p2")):
        assert await roster.states(other) == ["event_id_reused"]
    status = await roster.status(event)
    assert status is not None
    assert status.state == "accepted"


async def test_within_one_batch_too(roster: Roster) -> None:
    event = cloud_event()
    other = cloud_event(id=event["id"], number="0999999")
    assert await roster.states(event, event, other) == ["accepted", "unchanged", "event_id_reused"]


async def test_several_statements_about_one_person_in_one_batch(roster: Roster) -> None:
    outcomes = await roster.take(
        cloud_event("EnrollmentVoided", enrollment_id="e2", time=at(3)),
        cloud_event(enrollment_id="e1", time=at(-5)),
        cloud_event("StudentCorrected", first_name="Marianne", time=at(-2)),
        cloud_event(enrollment_id="e2", time=at(-1)),
        now=at(4),
    )
    assert [o.state for o in outcomes] == ["accepted", "accepted", "accepted", "accepted"]
    assert len({o.person_id for o in outcomes}) == 1
    history = await roster.history(outcomes[0].person_id)
    assert history == ["EnrollmentVoided", "StudentEnrolled", "NameCorrected", "NameCorrected"]


async def test_the_marks_survive_between_batches(roster: Roster) -> None:
    """A confirmation that recorded nothing outranks what is older."""
    await roster.take(cloud_event(time=at(-10)))
    assert await roster.states(cloud_event("StudentCorrected", first_name="Mary-Ann", time=at(-1))) == [
        "unchanged"
    ]
    assert await roster.states(cloud_event("StudentCorrected", first_name="Wrong", time=at(-2))) == [
        "unchanged"
    ]


async def test_one_refusal_leaves_the_others_alone(roster: Roster) -> None:
    unknown = cloud_event("StudentCorrected", source_id="nobody", grade="08")
    assert await roster.states(unknown, cloud_event()) == ["person_unknown", "accepted"]
    status = await roster.status(unknown)
    assert status is not None
    assert (status.state, status.reason, status.details) == (
        "refused",
        "person_unknown",
        {"source_id": "nobody"},
    )
    async with roster.db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM identity") == 1


async def test_what_was_refused_may_be_said_again(roster: Roster) -> None:
    correction = cloud_event("StudentCorrected", grade="08", time=at(1))
    await roster.take(correction)
    await roster.take(cloud_event())
    assert await roster.states(correction, now=at(2)) == ["accepted"]
    status = await roster.status(correction)
    assert status is not None
    assert (status.state, status.reason) == ("accepted", None)


async def test_what_was_refused_and_says_nothing_new_now_is_no_longer_refused(roster: Roster) -> None:
    correction = cloud_event("StudentCorrected", first_name="Mary-Ann", time=at(1))
    assert await roster.states(correction) == ["person_unknown"]
    await roster.take(cloud_event())
    assert await roster.states(correction) == ["unchanged"]
    status = await roster.status(correction)
    assert status is not None
    assert (status.state, status.reason) == ("unchanged", None)


async def test_a_refusal_that_could_not_be_understood_never_hides_what_was_taken(roster: Roster) -> None:
    taken, never = cloud_event(), cloud_event()
    await roster.take(taken)
    refusals = [
        Outcome(
            event_id=e["id"], state="refused", reason="number_malformed", details={"hint": "number_length"}
        )
        for e in (taken, never)
    ]
    async with roster.db.transaction() as conn:
        await handlers.note_refused(conn, DISTRICT, refusals, now=NOON)
    for event, state in ((taken, "accepted"), (never, "refused")):
        status = await roster.status(event)
        assert status is not None
        assert status.state == state


async def test_an_operator_takes_published_pupils_as_baseline(roster: Roster) -> None:
    event = cloud_event()
    await roster.take(event)
    assert await roster.states(event, baseline=True) == ["accepted"]
    assert await roster.states(event, baseline=True) == ["unchanged"]
    assert await roster.states(event) == ["unchanged"]
    status = await roster.status(event)
    assert status is not None
    assert (status.state, status.baseline) == ("accepted", True)


async def test_two_districts_share_no_ids(roster: Roster) -> None:
    event = cloud_event()
    [here] = await roster.take(event)
    [there] = await roster.take(event, district="elsewhere")
    assert (here.state, there.state) == ("accepted", "accepted")
    assert here.person_id != there.person_id


async def test_the_status_tells_the_consequence(roster: Roster) -> None:
    """Of the person, from everything that counts; not of the event alone."""
    late = cloud_event(enrollment_id="e2", time=at(1))
    [outcome] = await roster.take(late, now=at(2))
    early = cloud_event(enrollment_id="e1", time=at(-30), entered_at="2026-08-02T06:00:00Z")
    await roster.take(early)
    status = await roster.status(late)
    assert status is not None
    assert (status.person_id, status.enrolled, status.basis) == (outcome.person_id, True, at(-30))
    assert status.type == "StudentEnrolled"
    await roster.take(cloud_event("StudentWithdrawn", time=at(5)), now=at(6))
    gone = await roster.status(late)
    assert gone is not None
    assert gone.enrolled is False


async def test_nothing_is_known_of_what_never_came(roster: Roster) -> None:
    assert await roster.status(cloud_event()) is None


async def test_old_outcomes_are_forgotten_and_a_late_repeat_still_changes_nothing(roster: Roster) -> None:
    old, recent = cloud_event(), cloud_event(source_id="p2")
    [outcome] = await roster.take(old)
    later = NOON + handlers.OUTCOMES.kept + timedelta(hours=1)
    await roster.take(recent, now=later)
    assert await handlers.OUTCOMES.delete(roster.db, later) == 1
    assert await handlers.OUTCOMES.delete(roster.db, later) == 0
    assert await roster.status(old) is None
    assert await roster.states(old, now=later) == ["unchanged"]
    assert await roster.history(outcome.person_id) == ["StudentEnrolled"]


async def test_many_ways_at_once_end_in_one_person(roster: Roster) -> None:
    """Concurrent batches about the same new pupils, in different orders: one person each, nothing twice."""
    events = [cloud_event(source_id=f"p{n}", id=f"event {n}") for n in range(20)]

    async def deliver(order: list[dict[str, Any]]) -> None:
        for _ in range(10):
            try:
                await roster.take(*order)
            except VersionConflict:
                continue
            return
        raise AssertionError("never taken")

    await asyncio.gather(*(deliver(events[n:] + events[:n]) for n in range(0, 20, 4)))
    async with roster.db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM identity") == 20
        assert await conn.fetchval("SELECT count(*) FROM event") == 20


async def test_one_id_under_two_persons_at_once_is_settled_by_trying_again(roster: Roster) -> None:
    """Whoever commits second is told to try again, and is then refused."""
    first, second = cloud_event(id="same"), cloud_event(id="same", source_id="p2")

    async def deliver(event: dict[str, Any]) -> str | None:
        try:
            [outcome] = await roster.take(event)
        except VersionConflict:
            [outcome] = await roster.take(event)
        return outcome.reason

    reasons = await asyncio.gather(deliver(first), deliver(second))
    assert sorted(reasons, key=str) == [None, "event_id_reused"]


class TestMerges:
    """Two records are one person; what is decided of one changes the other's stream too."""

    async def both(self, roster: Roster) -> tuple[UUID | None, UUID | None]:
        stays, goes = await roster.take(cloud_event(), cloud_event(source_id="p2", number="7654321"))
        return stays.person_id, goes.person_id

    async def test_what_is_said_of_the_merged_goes_to_the_survivor_also_in_the_same_batch(
        self, roster: Roster
    ) -> None:
        stays, goes = await self.both(roster)
        merge = cloud_event("PersonsMerged", merged_source_id="p2", time=at(1))
        later = cloud_event("StudentCorrected", source_id="p2", number="0000009", time=at(2))
        outcomes = await roster.take(merge, later, now=at(3))
        assert [(o.state, o.person_id) for o in outcomes] == [("accepted", stays)] * 2
        assert await roster.history(stays) == [
            "StudentEnrolled", "PersonsMerged", "StudentEnrolled", "NumberChanged",
        ]  # fmt: skip
        assert await roster.history(goes) == ["StudentEnrolled", "PersonsMerged"]
        another = cloud_event("StudentCorrected", source_id="p2", first_name="Anna", time=at(4))
        assert (await roster.take(another, now=at(5)))[0].person_id == stays
        assert await roster.states(merge, another, now=at(6)) == ["unchanged", "unchanged"]

    async def test_a_record_that_nobody_knew_yet_is_the_survivors_when_it_comes(self, roster: Roster) -> None:
        (stays,) = await roster.take(cloud_event())
        merge = cloud_event("PersonsMerged", merged_source_id="p2", time=at(1))
        late = cloud_event(source_id="p2", time=at(-50), entered_at="2026-08-01T10:00:00+00:00")
        assert await roster.states(merge, now=at(1)) == ["accepted"]
        (outcome,) = await roster.take(late, now=at(2))
        assert outcome.person_id == stays.person_id
        status = await roster.status(late)
        assert status is not None
        assert (status.enrolled, status.basis) == (True, at(-50))

    async def test_a_split_is_recorded_in_both_and_the_other_comes_back(self, roster: Roster) -> None:
        stays, goes = await self.both(roster)
        merge = cloud_event("PersonsMerged", merged_source_id="p2", time=at(1))
        split = cloud_event("PersonsSplit", merged_source_id="p2", time=at(2))
        assert await roster.states(merge, split, now=at(3)) == ["accepted"] * 2
        assert (await roster.history(goes))[1:] == ["PersonsMerged", "PersonsSplit", "StudentEnrolled"]
        assert (await roster.history(stays))[-2:] == ["PersonsSplit", "EnrollmentVoided"]

    async def test_what_is_wrong_with_a_merge_is_said(self, roster: Roster) -> None:
        await self.both(roster)
        unknown = cloud_event("PersonsMerged", source_id="p9", merged_source_id="p1", time=at(1))
        merge = cloud_event("PersonsMerged", merged_source_id="p2", time=at(1))
        other = cloud_event(source_id="p3", number="0000003")
        elsewhere = cloud_event("PersonsMerged", source_id="p3", merged_source_id="p2", time=at(2))
        assert await roster.states(unknown, merge, other, elsewhere, now=at(3)) == [
            "survivor_unknown", "accepted", "accepted", "merged_already",
        ]  # fmt: skip
        with pytest.raises(Rejected, match="data_invalid"):
            await roster.take(cloud_event("PersonsMerged", merged_source_id="p1"))

    async def test_batches_that_reach_each_others_persons_get_through(self, roster: Roster) -> None:
        """Locks out of the order of the keys: whoever waits in a circle is tried again."""
        await self.both(roster)
        await roster.take(cloud_event("PersonsMerged", merged_source_id="p2", time=at(1)), now=at(1))

        async def say(hours: int) -> list[Outcome]:
            who = "p2" if hours % 2 else "p1"
            event = cloud_event("StudentCorrected", source_id=who, school=f"S{hours}", time=at(hours))
            while True:
                try:
                    return await roster.take(event, now=at(90))
                except LOST_RACE:
                    continue

        await asyncio.gather(*(say(hours) for hours in range(2, 22)))
        async with roster.db.connection() as conn:
            row = await conn.fetchrow("SELECT said FROM identity WHERE source_id = 'p1'")
        assert row is not None
        assert row["said"]["fields"]["school"]["time"].startswith("2026-08-04T09:00")


@pytest.mark.parametrize("upwards", [True, False])
async def test_merges_in_a_row_have_a_bound_and_whoever_is_below_is_spoken_of_all_the_same(
    roster: Roster, upwards: bool
) -> None:
    """Else a statement about the lowest would have to follow them without end, or would not find the last."""
    records = [f"r{n}" for n in range(merges.MAX_CHAIN + 1)]
    await roster.take(*(cloud_event(source_id=r, number=f"00000{n:02}") for n, r in enumerate(records)))
    pairs = list(itertools.pairwise(records))
    told = [
        cloud_event("PersonsMerged", source_id=into, merged_source_id=merged, time=at(1 + n))
        for n, (merged, into) in enumerate(pairs if upwards else reversed(pairs))
    ]
    became = [(await roster.states(event))[0] for event in told]
    most = merges.MAX_CHAIN - 1
    assert became == ["accepted"] * most + ["merges_too_deep"]
    lowest, highest = ("r0", f"r{most}") if upwards else ("r1", records[-1])
    [named] = await roster.take(
        cloud_event("StudentCorrected", source_id=lowest, first_name="Anna", time=at(20)), now=at(21)
    )
    [same] = await roster.take(
        cloud_event("StudentCorrected", source_id=highest, first_name="Anna", time=at(22)), now=at(23)
    )
    assert (named.state, named.person_id) == ("accepted", same.person_id)
