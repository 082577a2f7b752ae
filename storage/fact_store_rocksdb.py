"""The fact store on disk: a RocksDB of its own for each partition, in which a meter point's facts stand together.

Points come in any order, and each writes little: RocksDB appends that to a log and sorts it later, where a tree of pages would
write a whole page for each fact.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rocksdict import AccessType, BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch

from metering.facts import AnyFact, CalorificValue
from metering.wire import Entry
from storage.fact_store import Row, Subject, calorific_values_of, facts_of, new_rows, rows_of
from storage.sqlite import StoreError

# A key is the subject (its kind, the length of its name, its name), then the frame's offset, then the number in the frame.
# A value is when the fact was received, in microseconds, and its bytes.
_KINDS = {"point": b"p", "ldz": b"z"}
_LENGTH, _OFFSET, _NUMBER, _INSTANT = 4, 8, 4, 8
_AFTER = b"\xff"  # greater than the first byte of any offset
_VERSION, _NEXT_OFFSET = b"\0version", b"\0next offset"
VERSION = 1

_BUFFER_BYTES = 4 * 1024**2
_BUFFERS = 2
_CACHE_BYTES = 4 * 1024**2
_OPEN_FILES = 256
_LOGS_KEPT = 3
_TRIES = 5  # while we open it for reading, its worker may remove files


class RocksFactStore:
    """The fact store in a folder. What is appended survives the end of the process, not always a power cut.

    Opening it raises StoreError where the folder is of another version, damaged, or in use; so does any later failure. With
    `read_only` the folder must be there; its worker may go on, and what it appends from then on is not seen.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self._path = path
        self._db = _view(path) if read_only else _open(path)
        try:
            version = self._get(_VERSION)
            if version is None and not read_only:
                version = VERSION.to_bytes(1)
                self._db.put(_VERSION, version)
            if version != VERSION.to_bytes(1):
                found = "no fact store" if version is None else f"of version {int.from_bytes(version)}"
                raise StoreError(f"{path}: {found}, and this program reads version {VERSION}; remove it, and it is made again")
            self._next_offset = int.from_bytes(self._get(_NEXT_OFFSET) or b"")
        except StoreError:
            self._db.close()
            raise

    def append(self, offset: int, facts: Sequence[AnyFact | Entry]) -> None:
        self.append_all([(offset, facts)])

    def append_all(self, frames: Sequence[tuple[int, Sequence[AnyFact | Entry]]]) -> None:
        rows, next_offset = new_rows(frames, self._next_offset)
        if next_offset != self._next_offset:
            self.write(rows, next_offset)

    def write(self, rows: Iterable[tuple[Subject, Row]], next_offset: int) -> None:
        """Keeps these rows as they are, and says that all frames before an offset are here; all, or none."""
        batch = WriteBatch(raw_mode=True)
        for subject, (offset, number, received_us, packed) in rows:
            key = _prefix(subject) + offset.to_bytes(_OFFSET) + number.to_bytes(_NUMBER)
            batch.put(key, received_us.to_bytes(_INSTANT, signed=True) + packed)
        batch.put(_NEXT_OFFSET, next_offset.to_bytes(_OFFSET))
        self._write(batch)
        self._next_offset = next_offset

    def leave_out(self, offset: int, facts: Sequence[Entry]) -> None:
        batch = WriteBatch(raw_mode=True)
        for subject, (_, _, _, packed) in rows_of(offset, facts):
            for key, value in self._each(_prefix(subject) + offset.to_bytes(_OFFSET)):
                if value[_INSTANT:] == packed:
                    batch.delete(key)
        self._write(batch)

    def next_offset(self) -> int:
        return self._next_offset

    def of_point(self, meter_point: str, before_offset: int | None = None) -> list[AnyFact]:
        return facts_of(self._of(("point", meter_point), before_offset))

    def calorific_values(self, ldzs: Iterable[str], before_offset: int | None = None) -> list[CalorificValue]:
        return calorific_values_of(row for ldz in set(ldzs) for row in self._of(("ldz", ldz), before_offset))

    def points(self) -> list[str]:
        found: list[str] = []
        at = kind = _KINDS["point"]
        while (key := next((key for key, _ in self._each(kind, at)), None)) is not None:
            prefix = key[: -_OFFSET - _NUMBER]
            found.append(prefix[len(kind) + _LENGTH :].decode())
            at = prefix + _AFTER
        return sorted(found)

    def close(self) -> None:
        self._db.close()

    def _of(self, subject: Subject, before_offset: int | None) -> Iterator[Row]:
        for key, value in self._each(_prefix(subject)):
            offset, number = int.from_bytes(key[-_OFFSET - _NUMBER : -_NUMBER]), int.from_bytes(key[-_NUMBER:])
            if before_offset is not None and offset >= before_offset:
                return
            yield offset, number, int.from_bytes(value[:_INSTANT], signed=True), value[_INSTANT:]

    def _each(self, prefix: bytes, at: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """What stands under keys that begin so, in their order, from one on."""
        try:
            for key, value in self._db.items(from_key=at or prefix):
                if not key.startswith(prefix):
                    return
                yield key, value
        except Exception as error:  # rocksdict has no class for what RocksDB says
            raise StoreError(f"{self._path}: cannot be read: {error}") from error

    def _get(self, key: bytes) -> bytes | None:
        try:
            return self._db.get(key)  # type: ignore[no-any-return]
        except Exception as error:
            raise StoreError(f"{self._path}: cannot be read: {error}") from error

    def _write(self, batch: WriteBatch) -> None:
        try:
            self._db.write(batch)
        except Exception as error:
            raise StoreError(f"{self._path}: cannot be written: {error}") from error


def _prefix(subject: Subject) -> bytes:
    kind, name = subject
    encoded = name.encode()
    return _KINDS[kind] + len(encoded).to_bytes(_LENGTH) + encoded


def _open(path: Path) -> Rdict:
    options = _options()
    options.create_if_missing(True)
    options.set_write_buffer_size(_BUFFER_BYTES)
    options.set_max_write_buffer_number(_BUFFERS)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_open_files(_OPEN_FILES)
    options.set_keep_log_file_num(_LOGS_KEPT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Rdict(str(path), options)
    except Exception as error:
        if "While lock file" in str(error) or "lock hold by" in str(error):
            raise StoreError(f"{path}: in use by another process") from error
        advice = "; remove it, and it is made again" if "Corruption" in str(error) else ""
        raise StoreError(f"{path}: cannot be opened: {error}{advice}") from error


def _view(path: Path) -> Rdict:
    """The RocksDB as it stands now. It is opened beside its folder, by links: opening it there would write there."""
    tried = 0
    while True:
        tried += 1
        try:
            with tempfile.TemporaryDirectory(prefix="dailyread-facts-") as folder:
                for each in path.iterdir():
                    if each.suffix in (".sst", ".log") or each.name.startswith(("CURRENT", "MANIFEST", "OPTIONS")):
                        (Path(folder) / each.name).symlink_to(each.absolute())
                return Rdict(folder, _options(), access_type=AccessType.read_only(False))  # all files are open now
        except Exception as error:
            if tried == _TRIES or not path.is_dir():
                raise StoreError(f"{path}: cannot be read: {error}") from error


def _options() -> Any:
    options, table = Options(raw_mode=True), BlockBasedOptions()
    table.set_block_cache(Cache(_CACHE_BYTES))
    table.set_cache_index_and_filter_blocks(True)
    options.set_block_based_table_factory(table)
    return options
