"""Through Kafka: what the ingress topic brings becomes facts, and what cannot be taken holds up that pupil alone."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import cramjam
import msgspec
import pytest

from deploy.local import sample
from services.roster.consumer import _received_at
from shared import clock, dead_letter
from shared.messages import rfc3339
from tests.roster.conftest import Roster
from tests.roster.given import NOON, at, binary, cloud_event, record
from tests.support.batches import GZIP, ZSTD, batch, entry, send

NOT_TEXT = "the name of a header is not UTF-8 text"
LETTERS = "SELECT id, state, reason, detail, event_id, key, district, consumer FROM dead_letter ORDER BY id"


async def wish(database: str, event: dict[str, Any], what: str) -> None:
    """An operator asks for a retry or discards."""
    conn = await asyncpg.connect(database)
    letter_id = await conn.fetchval(
        "SELECT id FROM dead_letter WHERE event_id = $1 AND state = 'parked'", event["id"]
    )
    assert await dead_letter.wish(conn, letter_id, what, by="operator", note=None, now=clock.now())
    await conn.close()


async def letters(database: str) -> list[asyncpg.Record]:
    conn = await asyncpg.connect(database)
    rows = await conn.fetch(LETTERS)
    await conn.close()
    return list(rows)


@pytest.mark.parametrize("structured", [False, True], ids=["binary", "structured"])
async def test_what_is_published_becomes_a_person(roster: Roster, structured: bool) -> None:
    event = cloud_event(time=clock.now(), entered_at=rfc3339(clock.now() - timedelta(hours=25)))
    await roster.produce(event, structured=structured)
    told = await roster.became(event)
    assert (told["state"], told["type"]) == ("accepted", "StudentEnrolled")
    assert told["basis"] == event["data"]["entered_at"]
    status, body = await roster.publish(event)
    assert (status, body["unchanged"], body["results"][0]["person_id"]) == (202, 1, told["person_id"])


async def test_the_wait_counts_from_the_brokers_time(roster: Roster) -> None:
    before = clock.now() - timedelta(milliseconds=1)  # the broker counts whole ones
    event = cloud_event(time=clock.now() - timedelta(days=3))
    await roster.produce(event)
    told = await roster.became(event)
    assert before <= datetime.fromisoformat(told["basis"]) <= clock.now()


def test_a_time_that_the_sender_wrote_proves_nothing() -> None:
    event = cloud_event()
    assert _received_at(record(event, appended_at=at(-5)), NOON) == at(-5)
    assert _received_at(record(event, appended_at=at(-5), time_type=0), NOON) == NOON
    assert _received_at(record(event, appended_at=at(5)), NOON) == NOON


async def test_who_cannot_be_taken_waits_alone_until_it_is_mended(roster: Roster, database: str) -> None:
    """The first stands parked with its reason, later ones of that pupil wait behind it in order, others go on."""
    bad = cloud_event(source_id="p1", number="O123456", time=at(0))
    good = cloud_event(source_id="p1", time=at(1))
    correction = cloud_event("StudentCorrected", source_id="p1", first_name="Marianne", time=at(2))
    other = cloud_event(source_id="p2")
    for event in (bad, good, correction, other):
        await roster.produce(event)
    assert (await roster.became(other))["state"] == "accepted"
    refused = await roster.became(bad, "refused")
    assert (refused["reason"], refused["details"]) == (
        "number_malformed",
        {"hint": "number_letter_o", "digits": 7},
    )
    waiting = await roster.became(correction, "queued")
    assert waiting["details"] == {"behind": bad["id"], "reason": "number_malformed"}

    await wish(database, bad, "discard")
    assert (await roster.became(correction, "accepted"))["person_id"]
    assert (await roster.became(good))["state"] == "accepted"
    assert (await roster.became(bad))["state"] == "discarded"
    await roster.until(
        "/persons?number=0123456",
        lambda s, b: {p["first_name"] for p in b["persons"]} == {"Marianne", "Mary-Ann"},
        scope="desk",
    )


async def test_a_retry_takes_what_can_be_taken_now(roster: Roster, database: str) -> None:
    correction = cloud_event("StudentCorrected", first_name="Marianne", time=at(1))
    await roster.produce(correction, structured=True)
    assert (await roster.became(correction, "refused"))["reason"] == "person_unknown"
    enrolled = cloud_event(time=at(0))
    await roster.publish(enrolled)
    await wish(database, correction, "retry")
    await roster.became(correction, "accepted")
    await roster.until(
        "/persons?number=0123456",
        lambda s, b: [p["first_name"] for p in b["persons"]] == ["Marianne"],
        scope="desk",
    )


async def test_a_merge_into_somebody_who_is_not_known_yet_holds_up_nobody_and_follows_by_itself(
    roster: Roster, database: str
) -> None:
    """The survivor's own enrollment has the same key, and comes after it; or another way."""
    for source_id, number in (("twin", "0000001"), ("third", "0000002")):
        await roster.produce(cloud_event(source_id=source_id, number=number))
    early = cloud_event("PersonsMerged", source_id="ann", merged_source_id="twin", time=at(1))
    other = cloud_event("PersonsMerged", source_id="bea", merged_source_id="third", time=at(1))
    await roster.produce(early)
    await roster.produce(other)
    for event in (early, other):
        refused = await roster.became(event, "refused")
        survivor = {"source_id": event["data"]["source_id"]}
        assert (refused["reason"], refused["details"]) == ("survivor_unknown", survivor)
    enrolled = cloud_event(source_id="ann", number="0000003", time=at(2))
    await roster.produce(enrolled)
    ann = (await roster.became(enrolled, "accepted"))["person_id"]
    assert (await roster.became(early, "accepted"))["person_id"] == ann
    assert (await roster.became(other))["state"] == "refused"
    await roster.publish(cloud_event(source_id="bea", number="0000004"))
    await roster.became(other, "accepted")
    assert {row["state"] for row in await letters(database)} == {"applied"}


async def test_a_merge_that_waited_behind_another_record_holds_up_nobody_either(
    roster: Roster, database: str
) -> None:
    bad = cloud_event(source_id="ann", number="O123456")
    early = cloud_event("PersonsMerged", source_id="ann", merged_source_id="twin")
    good = cloud_event(source_id="ann")
    for event in (cloud_event(source_id="twin", number="0000001"), bad, early, good):
        await roster.produce(event)
    await roster.became(good, "queued")
    await wish(database, bad, "discard")
    await roster.became(good, "accepted")
    await roster.became(early, "accepted")


async def test_every_kind_of_unusable_record_gets_a_reason(roster: Roster, database: str) -> None:
    """Whatever a stranger puts on the topic, the intake goes on."""
    first = cloud_event(source_id="taken")
    await roster.produce(first)
    await roster.became(first)
    await roster.produce(cloud_event(source_id="p1"), key="another")
    await roster.produce(cloud_event(id="event 2", source_id="p2") | {"district": "elsewhere"})
    await roster.produce(cloud_event("GuardianNamed", source_id="p3"))
    await roster.produce(cloud_event(id=first["id"], source_id="p4"))
    await roster.produce(cloud_event(source_id="p5", last_name="A\x00B"))
    await roster.produce(cloud_event(source_id="p6", entered_at="2026-08-03"))
    send = roster.producer.send_and_wait
    await send(roster.topic, b"\xff\x00", key=b"\xfe", headers=[("ce_id", b"\xff")])
    await send(
        roster.topic, b"[" * 100_000, key=b"p8", headers=[("content-type", b"application/cloudevents+json")]
    )
    await send(
        roster.topic,
        '{"data_base64": "é"}'.encode(),
        key=b"p10",
        headers=[("content-type", b"application/cloudevents+json")],
    )
    await send(roster.topic, None, key=b"p9")
    await send(roster.topic, b"{}", headers=[])
    last = cloud_event(source_id="last")
    await roster.produce(last)
    await roster.became(last)

    await roster.until("/enrollments/event%202", lambda status, _: status == 200)
    reasons: dict[str, int] = {}
    for row in await letters(database):
        assert (row["district"], row["consumer"], row["state"]) == ("ccps", "ingress.ccps", "parked")
        assert row["detail"]
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    assert reasons == {
        "key_mismatch": 1,
        "district_mismatch": 1,
        "type_unknown": 1,
        "event_id_reused": 1,
        "field_control_character": 1,
        "entry_time_ambiguous": 1,
        "event_malformed": 5,
    }


async def test_no_batch_stops_the_topic_whatever_the_broker_took(roster: Roster, database: str) -> None:
    """All into one partition, between two pupils: what aiokafka itself would never get past, and a bomb."""
    before, odd, behind, after = (cloud_event(source_id=pupil) for pupil in ("p1", "p2", "p2", "p3"))
    value, headers = binary(odd)
    named = [(name.encode(), content) for name, content in headers] + [(b"x-tr\xffce", b"1")]
    unreadable = {
        "beyond": batch(entry(5)),
        "attribute": batch(entry(attributes=b"\xff")),
        "left over": batch(bytes(cramjam.gzip.compress(entry())) + b"more", codec=GZIP),
        "bomb": batch(bytes(cramjam.zstd.compress(entry(value=bytes(256 * 1024 * 1024)))), codec=ZSTD),
    }
    await roster.produce(before, part=0)
    await send(roster.bootstrap, roster.topic, batch(entry(key=b"p2", value=value, headers=named)))
    await roster.produce(behind, part=0)
    await send(roster.bootstrap, roster.topic, *unreadable.values())
    await roster.produce(after, part=0)

    assert (await roster.became(after))["state"] == "accepted"
    assert (await roster.became(before))["state"] == "accepted"
    refused = await roster.became(odd, "refused")
    assert (refused["reason"], refused["details"]) == ("event_malformed", {"problem": NOT_TEXT})
    await roster.became(behind, "queued")
    told = [row["detail"] for row in await letters(database) if row["reason"] == "batch_unreadable"]
    assert len(told) == len(unreadable)
    assert "16777216 bytes" in told[-1]

    await wish(database, odd, "retry")
    await roster.until("/dead-letters", lambda _, body: body["dead_letters"][0]["attempts"] == 2)
    assert (await roster.became(odd))["reason"] == "event_malformed", "as it is stored it says the same"


async def test_a_district_sees_its_own_dead_letters(roster: Roster) -> None:
    bad, behind = cloud_event(number="O123456"), cloud_event()
    await roster.produce(bad)
    await roster.produce(behind)
    await roster.became(behind, "queued")
    status, body = await roster.ask("GET", "/dead-letters")
    assert (status, body["next_after"]) == (200, None)
    told = [(d["event_id"], d["key"], d["state"], d["reason"]) for d in body["dead_letters"]]
    assert told == [(bad["id"], "p1", "parked", "number_malformed"), (behind["id"], "p1", "queued", "behind")]
    number = body["dead_letters"][0]["id"]
    status, one = await roster.ask("GET", f"/dead-letters/{number}")
    assert (status, one["reason"], one["headers"]["ce_id"]) == (200, "number_malformed", bad["id"])
    assert msgspec.json.decode(one["value"]) == bad["data"]
    assert (await roster.ask("GET", "/dead-letters?state=queued"))[1]["dead_letters"] == body["dead_letters"][
        1:
    ]
    assert (await roster.ask("GET", "/dead-letters", scope="desk"))[0] == 403
    for unknown in ("99999", "x", "9" * 30):
        assert (await roster.ask("GET", f"/dead-letters/{unknown}"))[0] == 404


async def test_an_id_that_was_taken_keeps_its_outcome(roster: Roster) -> None:
    """Another event under the same id is a dead letter; who asks is told of both."""
    event = cloud_event()
    await roster.publish(event)
    await roster.produce(cloud_event(id=event["id"], number="0999999"))
    told = await roster.until(f"/enrollments/{event['id']}", lambda s, b: b["dead_letter"] is not None)
    assert told["state"] == "accepted"


async def test_the_sample_district_is_taken_whole_and_once(roster: Roster, database: str) -> None:
    """Published again within the hour, and again later: nothing is refused, and nothing is appended."""
    conn = await asyncpg.connect(database)

    async def taken(events: int) -> None:
        moved = "SELECT coalesce(sum(next_offset), 0) FROM checkpoint WHERE topic = $1"
        async with asyncio.timeout(60):
            while await conn.fetchval(moved, roster.topic) < events:
                await asyncio.sleep(0.05)

    anchor = clock.now()
    for n, published in enumerate((anchor, anchor, anchor + timedelta(minutes=90)), 1):
        told = await sample.publish(roster.producer, roster.topic, anchor=published)
        await taken(n * told)
        assert await conn.fetchval("SELECT count(*) FROM event") == told
        assert await conn.fetchval("SELECT count(*) FROM dead_letter") == 0
    await conn.close()
