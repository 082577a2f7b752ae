"""The states of one partition's meter points: in RocksDB on this machine, and in the changelog topic for good.

A value begins with the `facts` offset that the state rests on, 8 bytes big-endian (`marks.py` has the rest of its head). That
makes states of one key comparable: whoever reads the changelog keeps the greatest, so that a worker which was paused, lost its
partition and wrote once more when it woke changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping
from pathlib import Path
from typing import Any

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch, WriteOptions

from stream.sink import Sink

_BUFFER_BYTES = 16 * 1024**2  # of each partition, twice: what is written to, and what is being sorted
_CACHE_BYTES = 8 * 1024**2  # for the keys; the states are in the operating system's own cache
_APART_BYTES = 256  # of a value that is kept apart
_FILE_BYTES = 16 * 1024**2
# The oldest part of these files is freed by copying what still holds. Not more of them: most states are replaced within a Day.
_FREED = 0.1
_BITS_A_KEY = 10
OFFSET_BYTES = 8
POSITION_KEY = b"__faust\0offset__"  # Faust's own: the changelog's offset up to which RocksDB has it
# RocksDB's log is the changelog: the states that a killed process had in memory, some thousands, come from there again.
WITHOUT_LOG = WriteOptions()
WITHOUT_LOG.disable_wal = True


def offset_of(state: bytes) -> int:
    """The `facts` offset that a state rests on; ValueError where the bytes are no state."""
    if len(state) < OFFSET_BYTES:
        raise ValueError(f"a state of {len(state)} bytes, which is too short to begin with an offset")
    return int.from_bytes(state[:OFFSET_BYTES], "big")


def open_states(path: Path) -> Rdict:
    """A partition's RocksDB, made where there is none.

    States are large beside their keys, and each is replaced several times a Day. So they stand in files apart, where the
    sorting of the keys does not copy them again and again.
    """
    options, table = Options(raw_mode=True), BlockBasedOptions()
    options.create_if_missing(True)
    options.set_write_buffer_size(_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_enable_blob_files(True)
    options.set_min_blob_size(_APART_BYTES)
    options.set_blob_file_size(_FILE_BYTES)
    options.set_blob_compression_type(DBCompressionType.lz4())
    options.set_enable_blob_gc(True)
    options.set_blob_gc_age_cutoff(_FREED)
    table.set_block_cache(Cache(_CACHE_BYTES))
    table.set_bloom_filter(_BITS_A_KEY, block_based=False)
    options.set_block_based_table_factory(table)
    return Rdict(str(path), options)


class _Items(ItemsView[str, bytes]):
    _mapping: States

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return self._mapping._each()


class States(Mapping[str, bytes]):
    """The partition's states by meter point, with those on top that are staged, or cut off for writing, and not yet written.

    `database` opens or returns the partition's RocksDB; it is never kept here, because a handle that is kept locks the
    database after the partition was given away.
    """

    def __init__(self, database: Callable[[], Any], changelog: str, partition: int, sink: Sink) -> None:
        self._database = database
        self._changelog = changelog
        self._partition = partition
        self._sink = sink
        self._staged: dict[str, bytes] = {}
        self._writing: dict[str, bytes] = {}

    def __getitem__(self, meter_point: str) -> bytes:
        state = self._staged.get(meter_point) or self._writing.get(meter_point)
        if state is None:
            state = self._database().get(meter_point.encode())
        if state is None:
            raise KeyError(meter_point)
        return bytes(state)

    def __iter__(self) -> Iterator[str]:
        return (meter_point for meter_point, _ in self.items())

    def items(self) -> ItemsView[str, bytes]:
        """All of them, one after the other as they stand on disk: there may be a million."""
        return _Items(self)

    def _each(self) -> Iterator[tuple[str, bytes]]:
        newer = self._writing | self._staged
        yield from newer.items()
        for key, state in self._database().items():
            if key != POSITION_KEY and (meter_point := key.decode()) not in newer:
                yield meter_point, state

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def stage(self, states: Mapping[str, bytes]) -> None:
        """Take new states as the present ones; they are kept nowhere else yet."""
        self._staged |= states

    def cut(self) -> None:
        """What is staged now is what `write` writes; what is staged from now on comes after that."""
        self._writing, self._staged = self._staged, {}

    async def write(self) -> int:
        """Keep the states that were cut off: the changelog first, awaited, then RocksDB. Returns how many there were."""
        states = [(meter_point.encode(), state) for meter_point, state in self._writing.items()]
        if states:
            offset = await self._sink.send(self._changelog, self._partition, states)
            _write(self._database(), states, offset)
            self._writing = {}
        return len(states)


def _write(database: Any, states: list[tuple[bytes, bytes]], offset: int | None) -> None:
    batch = WriteBatch(raw_mode=True)
    for key, state in states:
        batch.put(key, state)
    if offset is not None:
        batch.put(POSITION_KEY, str(offset).encode())
    database.write(batch, WITHOUT_LOG)
