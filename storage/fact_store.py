"""The fact store: every fact of one partition, kept so that a meter point can be determined again from the start.

The `facts` topic is the truth; this is a local copy of one partition of it, arranged by meter point. It is appended to
before a frame is acknowledged, and never changed. Copies of a fact are all kept: which of them counts is for the rules.

Offsets come without gaps, as they stand in the topic. One that is there already changes nothing; one that would leave a
gap is refused (`OffsetGap`), so that a frame which was skipped cannot pass unseen: read the topic again from
`next_offset()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from metering.facts import AnyFact, CalorificValue, meter_point_of
from metering.gasday import to_datetime, to_us
from metering.wire import Entry, PackedReadings, decode_fact, encode_fact
from storage.sqlite import StoreError

Subject = tuple[str, str]  # ("point", meter point) or ("ldz", LDZ)
Row = tuple[int, int, int, bytes]  # offset, number in the frame, received_at (µs), packed fact
FACT_STORES = "facts-*.rocksdb"


class OffsetGap(ValueError):
    """A frame between the last one appended and this one is missing."""


class FactStore(Protocol):
    """What all fact stores do. A store has one caller at a time."""

    def append(self, offset: int, facts: Sequence[AnyFact | Entry]) -> None:
        """Keeps the facts of one frame, as `append_all` does."""

    def append_all(self, frames: Sequence[tuple[int, Sequence[AnyFact | Entry]]]) -> None:
        """Keeps the facts of frames, each with its offset, the facts with their `received_at` or as they stand there; all,
        or none.

        When it returns they survive the end of the process. A power cut may take the latest frames, and `next_offset()`
        with them. Facts of a meter point and calorific values are kept; of others, and of a frame without facts, only
        that the frame has been. An offset below `next_offset()` changes nothing; one above it raises OffsetGap.
        """

    def leave_out(self, offset: int, facts: Sequence[Entry]) -> None:
        """Takes away those of a frame's facts that are these very bytes. Not for facts that the rules have had."""

    def next_offset(self) -> int:
        """The offset of the first frame that is not here; 0 when empty."""

    def of_point(self, meter_point: str, before_offset: int | None = None) -> list[AnyFact]:
        """The facts of a meter point, by offset and place in the frame; of the frames before `before_offset`."""

    def calorific_values(self, ldzs: Iterable[str], before_offset: int | None = None) -> list[CalorificValue]:
        """The calorific values of these LDZs, in the same order and of the same frames as `of_point`."""

    def points(self) -> list[str]:
        """The meter points of which there are facts, sorted."""

    def close(self) -> None:
        """Closes the store; to be called once."""


def fact_store_path(directory: Path, partition: int) -> Path:
    """The folder of a partition's facts: `facts-00003.rocksdb` for partition 3."""
    return directory / f"facts-{partition:05}.rocksdb"


def read_fact_store(path: Path) -> FactStore:
    """A fact store for reading, beside whoever writes it; StoreError where there is none that can be read."""
    try:
        from storage.fact_store_rocksdb import RocksFactStore
    except ModuleNotFoundError as error:
        raise StoreError(f"{path}: reading it needs {error.name}: pip install 'dailyread[stream]'") from error
    return RocksFactStore(path, read_only=True)


class MemoryFactStore:
    """Facts in memory, for runs that end with the process."""

    def __init__(self) -> None:
        self._rows: dict[Subject, list[Row]] = {}
        self._next_offset = 0

    def append(self, offset: int, facts: Sequence[AnyFact | Entry]) -> None:
        self.append_all([(offset, facts)])

    def append_all(self, frames: Sequence[tuple[int, Sequence[AnyFact | Entry]]]) -> None:
        rows, next_offset = new_rows(frames, self._next_offset)
        for subject, row in rows:
            self._rows.setdefault(subject, []).append(row)
        self._next_offset = next_offset

    def leave_out(self, offset: int, facts: Sequence[Entry]) -> None:
        for subject, (_, _, _, packed) in rows_of(offset, facts):
            held = self._rows.get(subject, [])
            held[:] = [row for row in held if (row[0], row[3]) != (offset, packed)]

    def next_offset(self) -> int:
        return self._next_offset

    def of_point(self, meter_point: str, before_offset: int | None = None) -> list[AnyFact]:
        return facts_of(self._of(("point", meter_point), before_offset))

    def calorific_values(self, ldzs: Iterable[str], before_offset: int | None = None) -> list[CalorificValue]:
        rows = [row for ldz in set(ldzs) for row in self._of(("ldz", ldz), before_offset)]
        return calorific_values_of(rows)

    def points(self) -> list[str]:
        return sorted(name for kind, name in self._rows if kind == "point")

    def close(self) -> None:
        self._rows.clear()

    def _of(self, subject: Subject, before_offset: int | None) -> list[Row]:
        rows = self._rows.get(subject, [])
        return rows if before_offset is None else [row for row in rows if row[0] < before_offset]


def new_rows(
    frames: Sequence[tuple[int, Sequence[AnyFact | Entry]]], next_offset: int
) -> tuple[list[tuple[Subject, Row]], int]:
    """The rows of those frames that are not there yet, and the offset after them."""
    found: list[tuple[Subject, Row]] = []
    for offset, facts in frames:
        rows = rows_of(offset, facts)
        if _is_next(offset, next_offset):
            found += rows
            next_offset = offset + 1
    return found, next_offset


def _is_next(offset: int, next_offset: int) -> bool:
    """Whether the frame is to be appended; False where it is there already."""
    if offset > next_offset:
        raise OffsetGap(f"frame {offset} comes after {next_offset - 1}: frame {next_offset} is missing")
    return offset == next_offset


def rows_of(offset: int, facts: Sequence[AnyFact | Entry]) -> list[tuple[Subject, Row]]:
    """The rows of a frame's facts that are kept. ValueError where one does not say when it was received."""
    rows: list[tuple[Subject, Row]] = []
    for number, fact in enumerate(facts):
        if isinstance(fact, Entry):
            if (subject := _subject(fact.content)) is not None:
                rows.append((subject, (offset, number, to_us(fact.received_at), fact.packed)))
            continue
        if fact.received_at is None:
            raise ValueError(f"fact {number} of frame {offset} has no received_at")
        subject = _subject(fact)
        if subject is not None:
            rows.append((subject, (offset, number, to_us(fact.received_at), encode_fact(fact))))
    return rows


def _subject(fact: AnyFact | PackedReadings) -> Subject | None:
    point = meter_point_of(fact)
    if point is not None:
        return ("point", point)
    return ("ldz", fact.ldz) if isinstance(fact, CalorificValue) else None


def facts_of(rows: Iterable[Row]) -> list[AnyFact]:
    """The facts of rows, each with its `received_at`."""
    return [decode_fact(packed, to_datetime(received_us)) for _, _, received_us, packed in rows]


def calorific_values_of(rows: Iterable[Row]) -> list[CalorificValue]:
    """The calorific values of rows, by offset and place in the frame."""
    return [fact for fact in facts_of(sorted(rows)) if isinstance(fact, CalorificValue)]
