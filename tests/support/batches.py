"""Record batches written by hand, for what no client would write: byte by byte, and sent as they are."""

import struct
from collections.abc import Sequence

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c, encode_varint

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)


def varint(number: int) -> bytes:
    written = bytearray()
    encode_varint(number, written.append)
    return bytes(written)


def entry(
    delta: int = 0,
    *,
    key: bytes | None = b"p1",
    value: bytes | None = b"{}",
    headers: Sequence[tuple[bytes, bytes | None]] = (),
    attributes: bytes = b"\0",
) -> bytes:
    """One record, `delta` offsets after the batch's first."""

    def sized(content: bytes | None) -> bytes:
        return varint(-1) if content is None else varint(len(content)) + content

    body = attributes + varint(0) + varint(delta) + sized(key) + sized(value) + varint(len(headers))
    body += b"".join(sized(name) + sized(content) for name, content in headers)
    return varint(len(body)) + body


def batch(content: bytes, count: int = 1, codec: int = NONE, *, first: int = 0) -> bytes:
    """`content` are the records one after the other, compressed already where `codec` says so."""
    rest = struct.pack(">hiqqqhii", codec, count - 1, 1000, 1000, -1, -1, -1, count) + content
    return struct.pack(">qiibI", first, len(rest) + 9, -1, 2, calc_crc32c(rest)) + rest


async def send(bootstrap: str, topic: str, *batches: bytes, part: int = 0) -> None:
    """Batches in order, each in a request of its own; the broker has to take every one."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        cluster = await client.fetch_all_metadata()
        leader = cluster.leader_for_partition(TopicPartition(topic, part))
        for content in batches:
            request = ProduceRequest(None, -1, 20_000, [(topic, [(part, content)])])
            answer = await client.send(leader, request)
            [(_, [(_, code, *_)])] = answer.topics
            assert code == 0, f"the broker refused it: {code}"
    finally:
        await client.close()
