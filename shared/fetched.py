"""What the broker answered, taken apart into records, whatever a stranger put into it.

The broker checks less than the client's parser demands: names of headers that are not UTF-8, bytes after a compressed
batch, offsets outside of it. One such batch would stop its partition for ever. And a megabyte of zstd may hold 32 GB.
So `Fetched` stands in for the parser of aiokafka's fetcher: what reads is read by the client itself; header names are
read as text where only they are wrong; what is left of a batch that does not read becomes one record that says why.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import cramjam
from aiokafka import ConsumerRecord
from aiokafka.codec import snappy_decode
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import (
    DefaultRecord,
    DefaultRecordBase,
    DefaultRecordBatch,
    _DefaultRecordBatchPy,
)
from aiokafka.record.memory_records import MemoryRecords

# A batch may be 1 MB as it is sent. Ten times as much is what JSON and the headers shrink by at the very best.
MAX_BATCH_BYTES = 16 * 1024 * 1024
# After so much of compressed batches the rest of a partition's answer is left for the next fetch.
ENOUGH_BYTES = 8 * 1024 * 1024
# Python reads them one by one: more would keep everybody else waiting. No honest megabyte holds so many.
MAX_LENIENT_RECORDS = 20_000
UNREADABLE = "homeroom_unreadable"

_HEADER = DefaultRecordBase.HEADER_STRUCT.size
_ATTRIBUTES = DefaultRecordBase.ATTRIBUTES_OFFSET
_LENGTH = struct.Struct(">8xi")  # of a batch, after its first offset; what follows is so long
_DECOMPRESS_INTO: dict[int, Callable[[bytes, bytearray], int]] = {
    DefaultRecordBase.CODEC_GZIP: cramjam.gzip.decompress_into,
    DefaultRecordBase.CODEC_LZ4: cramjam.lz4.decompress_into,
    DefaultRecordBase.CODEC_ZSTD: cramjam.zstd.decompress_into,
}


def unreadable(record: ConsumerRecord) -> str | None:
    """Why a record stands for what could not be read; None for any other."""
    for name, value in record.headers:
        if name == UNREADABLE:
            return (value or b"").decode(errors="replace")
    return None


class Fetched:
    """The batches of one partition in one answer; used by aiokafka's fetcher in place of its MemoryRecords."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._batches = MemoryRecords(data)
        self._at = 0
        self.decompressed = 0

    def size_in_bytes(self) -> int:
        return len(self._data)

    def has_next(self) -> bool:
        return self.decompressed < ENOUGH_BYTES and self._batches.has_next()

    def next_batch(self) -> Any:
        batch = self._batches.next_batch()
        begin = self._at
        self._at += _LENGTH.size + _LENGTH.unpack_from(self._data, begin)[0]
        # Only a broker writes control batches; and no broker of today keeps batches of the first two formats.
        if not isinstance(batch, DefaultRecordBatch) or batch.is_control_batch:
            return batch
        return Batch(batch, self._data[begin : self._at], self)


class Batch:
    """One batch. What the fetcher asks it about itself, its client's own reading answers."""

    def __init__(self, batch: DefaultRecordBatch, data: memoryview, fetched: Fetched) -> None:
        self._batch, self._data, self._fetched = batch, data, fetched

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        """Its records. The last of them stands for all that cannot be read, at the batch's last offset."""
        last_offset = self._batch.next_offset - 1
        comes_next = self._batch.base_offset
        try:
            for record in self._records():
                # Where we go on after it would be elsewhere.
                if not comes_next <= record.offset <= last_offset:
                    raise CorruptRecordException(f"offset {record.offset} after {comes_next - 1}")
                comes_next = record.offset + 1
                yield record
        except Exception as error:  # a stranger's bytes against the client's parser
            why = f"offsets {comes_next} to {last_offset} of a batch: {error!r}"
            headers = [(UNREADABLE, why[:500].encode(errors="replace"))]
            stamp = self._batch.max_timestamp, self._batch.timestamp_type
            yield DefaultRecord(last_offset, *stamp, None, None, headers)

    def _records(self) -> Iterator[Any]:
        data: bytearray | memoryview = self._data
        batch = self._batch
        if batch.compression_type:
            data = self._decompressed()
            batch = DefaultRecordBatch(data)
        comes_next = batch.base_offset
        try:
            for record in batch:
                yield record
                comes_next = record.offset + 1
        except UnicodeDecodeError:
            yield from (record for record in _lenient(data) if record.offset >= comes_next)

    def _decompressed(self) -> bytearray:
        """The batch as if it had been sent plain."""
        codec, compressed = self._batch.compression_type, bytes(self._data[_HEADER:])
        self._fetched.decompressed += MAX_BATCH_BYTES  # until it is known: what is refused has cost as much
        if codec == DefaultRecordBase.CODEC_SNAPPY:
            content = bytearray(snappy_decode(compressed))  # cannot grow by more than 22 times
        else:
            content = bytearray(MAX_BATCH_BYTES)
            try:
                del content[_DECOMPRESS_INTO[codec](compressed, content) :]
            except cramjam.DecompressionError as error:
                said = f"cannot be decompressed into {MAX_BATCH_BYTES} bytes: {error}"
                raise CorruptRecordException(said) from None
        self._fetched.decompressed += len(content) - MAX_BATCH_BYTES
        plain = bytearray(self._data[:_HEADER])
        plain[_ATTRIBUTES + 1] &= ~DefaultRecordBase.CODEC_MASK
        plain += content
        return plain


class _Lenient(bytearray):
    """Bytes whose text is read whatever they are."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return found if isinstance(found, int) else _Lenient(found)

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, "replace")


def _lenient(data: bytearray | memoryview) -> Iterator[Any]:
    """The records of a plain batch, names of headers with U+FFFD where they are no UTF-8."""
    batch = _DefaultRecordBatchPy(data)
    if batch._num_records > MAX_LENIENT_RECORDS:
        raise CorruptRecordException("the name of a header is not UTF-8, among too many records")
    batch._buffer = _Lenient(batch._buffer)
    yield from batch
