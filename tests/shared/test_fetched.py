"""Whatever a stranger put into a batch, its partition goes on: what reads is read, what does not says why."""

import gc
import struct
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cramjam
import pytest
from aiokafka import TopicPartition
from aiokafka.codec import lz4_encode, snappy_encode
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from hypothesis import given
from hypothesis import strategies as st

from shared import fetched, kafka
from shared.errors import Unavailable
from shared.fetched import ENOUGH_BYTES, MAX_BATCH_BYTES, Fetched, unreadable
from shared.messages import partition_of
from shared.projector import LiveProjection
from shared.reader import Reader
from tests.shared.topics import COUNTS, Scene, event, folded, person, running, scene_of, stream, until, wire
from tests.support.batches import GZIP, LZ4, NONE, SNAPPY, ZSTD, batch, entry, send, varint

PACK: dict[int, Callable[[bytes], bytes]] = {
    NONE: bytes,
    GZIP: lambda content: bytes(cramjam.gzip.compress(content)),
    SNAPPY: snappy_encode,
    LZ4: lz4_encode,
    ZSTD: lambda content: bytes(cramjam.zstd.compress(content)),
}
TP = TopicPartition("topic", 0)


def answer(*batches: bytes, position: int = 0) -> PartitionRecords:
    """One answer of the broker: from the batch on that holds the position."""
    rest = b"".join(content for content in batches if end_of(content) > position)
    return PartitionRecords(TP, Fetched(rest), [], position, None, None, True, READ_COMMITTED)


def read(*batches: bytes, position: int = 0) -> Iterator[Any]:
    """As the client's fetcher does: again and again, from where the last answer was left."""
    while any(end_of(content) > position for content in batches):
        records = answer(*batches, position=position)
        yield from records
        assert records.next_fetch_offset > position, "it would be fetched for ever"
        position = records.next_fetch_offset


def end_of(content: bytes) -> int:
    first, delta = struct.unpack_from(">q15xi", content)
    end: int = first + delta + 1
    return end


def packed(codec: int, *entries: bytes, first: int = 0) -> bytes:
    return batch(PACK[codec](b"".join(entries)), len(entries), codec, first=first)


def three(**middle: Any) -> list[bytes]:
    return [entry(0, key=b"a"), entry(1, **{"key": b"b"} | middle), entry(2, key=b"c")]


def test_the_client_reads_with_it() -> None:
    assert fetcher.MemoryRecords is Fetched, "or a stranger's record stops its partition for ever"


@pytest.mark.parametrize("codec", PACK)
def test_what_is_sound_is_read_as_it_was_sent(codec: int) -> None:
    sound = three(value=b"\xff\0", headers=[(b"ce_id", b"1"), (b"ce_id", None), ("ñ".encode(), b"\xff")])
    found = list(read(packed(codec, *sound), packed(codec, entry(value=None), first=3)))
    assert [(r.offset, r.key, r.value) for r in found] == [
        (0, b"a", b"{}"), (1, b"b", b"\xff\0"), (2, b"c", b"{}"), (3, b"p1", None),
    ]  # fmt: skip
    assert found[1].headers == (("ce_id", b"1"), ("ce_id", None), ("ñ", b"\xff"))
    assert [r.offset for r in read(packed(codec, *sound), position=2)] == [2]


@pytest.mark.parametrize("codec", PACK)
def test_a_header_whose_name_is_no_text_keeps_its_record_and_the_others(codec: int) -> None:
    odd = three(value=b"v", headers=[(b"ce_id", b"1"), (b"n\xffme", b"2")])
    found = list(read(packed(codec, *odd), packed(codec, entry(), first=3)))
    assert [(r.offset, r.key) for r in found] == [(0, b"a"), (1, b"b"), (2, b"c"), (3, b"p1")]
    assert (found[1].value, found[1].headers) == (b"v", (("ce_id", b"1"), ("n\ufffdme", b"2")))


def test_too_many_records_with_such_a_header_are_not_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched, "MAX_LENIENT_RECORDS", 2)
    found = list(read(packed(NONE, *three(headers=[(b"\xff", b"")])), packed(NONE, entry(), first=3)))
    assert [(r.offset, unreadable(r) is not None) for r in found] == [(0, False), (2, True), (3, False)]


BROKEN = {
    "bytes after what was compressed": batch(PACK[GZIP](b"".join(three())) + b"more", 3, GZIP),
    "another form of snappy": batch(snappy_encode(entry()).replace(b"\1", b"\2", 1), 3, SNAPPY),
    "not compressed at all": batch(b"".join(three()), 3, ZSTD),
    "an unknown codec": batch(b"".join(three()), 3, 5),
    "an attribute": batch(b"".join(three(attributes=b"\xff")), 3),
    "an attribute, compressed": packed(ZSTD, *three(attributes=b"\xff")),
    "an offset beyond the batch": batch(entry(0) + entry(7) + entry(2), 3),
    "an offset again": batch(entry(0) + entry(0) + entry(2), 3),
    "fewer records than it says": batch(entry(0), 3),
    "a length below zero": batch(entry(0) + varint(-5), 3),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=list(BROKEN))
def test_what_is_left_of_a_batch_that_does_not_read_is_one_record_that_says_why(content: bytes) -> None:
    *before, told, after = read(content, packed(NONE, entry(), first=3))
    assert [unreadable(r) for r in before] == [None] * len(before)
    assert "offsets" in (unreadable(told) or "")
    assert (told.offset, told.key, told.value, after.offset) == (2, None, None, 3)
    [again, _] = read(content, packed(NONE, entry(), first=3), position=2)
    assert (again.offset, again.headers) == (told.offset, told.headers), "a checkpoint there finds it again"


@given(st.integers(1, 5), st.sampled_from([NONE, GZIP, SNAPPY, LZ4, ZSTD, 5, 7]), st.booleans(), st.data())
def test_no_bytes_stop_a_partition(count: int, codec: int, compressed: bool, data: st.DataObject) -> None:
    sound = b"".join(entry(n, headers=[(b"name", b"value")]) for n in range(count))
    at = data.draw(st.integers(0, len(sound) - 1))
    content = sound[:at] + data.draw(st.binary(max_size=20)) + sound[at + data.draw(st.integers(0, 9)) :]
    if compressed and codec in PACK:
        content = PACK[codec](content)
    offsets = [r.offset for r in read(batch(content, count, codec), packed(NONE, entry(), first=count))]
    assert offsets == sorted(set(offsets))
    assert offsets[-1] == count
    assert set(offsets) <= set(range(count + 1))


@pytest.mark.parametrize("codec", [GZIP, LZ4, ZSTD])
def test_what_grows_without_measure_is_not_unpacked(codec: int) -> None:
    small = batch(PACK[codec](entry(value=bytes(3 * MAX_BATCH_BYTES))), 1, codec)
    assert len(small) < 256 * 1024
    gc.collect()
    tracemalloc.start()
    try:
        told = next(read(small))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(MAX_BATCH_BYTES) in (unreadable(told) or "")
    assert most < 2 * MAX_BATCH_BYTES


def test_of_many_batches_that_grow_only_some_are_unpacked_at_once() -> None:
    """The rest is fetched again, from where this answer was left."""
    each = MAX_BATCH_BYTES // 3
    many = [packed(ZSTD, entry(value=bytes(each)), first=n) for n in range(20)]
    assert [r.offset for r in answer(*many)] == [*range(-(-ENOUGH_BYTES // each))]
    assert [r.offset for r in read(*many)] == [*range(20)]


async def test_a_wrong_checksum_is_the_brokers_and_never_passed_over() -> None:
    damaged = bytearray(packed(NONE, entry()))
    damaged[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        list(read(bytes(damaged)))

    async def getmany(**_: Any) -> dict[Any, Any]:
        return {TP: list(read(bytes(damaged)))}

    with pytest.raises(Unavailable, match=r"topic.*CRC"):
        await Reader(SimpleNamespace(getmany=getmany), "count", "topic").read(1, 1)  # type: ignore[arg-type]


@pytest.fixture
async def scene(
    database: str, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Scene]:
    async with scene_of(database, kafka_bootstrap, topic_prefix, tmp_path) as scene:
        yield scene


async def test_in_a_topic_of_our_own_it_says_what_is_wrong_and_holds_up_whom_it_concerns(
    scene: Scene,
) -> None:
    """Only its owner may write there: whose events they were shows when their next version comes."""
    part = partition_of(person(1), scene.settings.partitions)
    await scene.publish(*stream(1, 1), *stream(2, 1))
    key, value, headers = wire(event(person(1), 2))
    spoiled = entry(key=key, value=value, headers=[(n.encode(), v) for n, v in headers], attributes=b"\xff")
    await send(scene.settings.kafka, scene.topic, batch(spoiled), part=part)
    await scene.publish(event(person(1), 3), event(person(2), 2))

    async def parked() -> list[tuple[str, str]]:
        found = await scene.letters()
        return sorted((x["reason"], x["key"] or "") for x in found) if len(found) == 2 else []

    async with running(scene.settings, LiveProjection(COUNTS, scene.settings, scene.db)):
        assert await until(parked) == [("batch_unreadable", ""), ("version_gap", str(person(1)))]
        rest = folded([*stream(1, 1), *stream(2, 2)])
        await until(lambda: _has(scene, rest))
    async with kafka.consuming(scene.settings) as consumer:
        tp = TopicPartition(scene.topic, part)
        end = (await consumer.end_offsets([tp]))[tp]
        offsets = [r.offset async for found in kafka.read_ranges(consumer, {tp: (0, end)}) for r in found]
        assert offsets == [*range(end)]


async def _has(scene: Scene, rows: object) -> bool:
    return await scene.rows() == rows
