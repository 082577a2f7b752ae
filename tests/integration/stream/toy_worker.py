"""A stream worker with toy rules, for the tests of what stands around the rules: it remembers which facts a point has had.

    python -m tests.integration.stream.toy_worker SETTINGS.json

A point's state is the offset and the numbers of its facts, as text. Its record says how many different numbers it has had.
A fact whose equipment is `boom` makes the rules fail; the LDZ of a calorific value goes to every point as a fact.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from dailyread.sdnotify import Notifier
from metering.facts import CalorificValue, Registered, Tick, meter_point_of
from metering.ledger import Change, Tolerance
from metering.messages import DeadLetter
from metering.wire import FrameError, UnknownVersion, decode_frame
from storage.fact_store import fact_store_path
from storage.fact_store_rocksdb import RocksFactStore
from stream.app import MakeProcessor
from stream.opening import Opened
from stream.settings import Topics, WorkerSettings
from stream.worker import run_worker


class Slice(NamedTuple):
    changes: list[Change]
    states: dict[str, bytes]
    dead: list[DeadLetter]


class Read(NamedTuple):
    offset: int
    timestamp: datetime
    value: bytes


class ToyProcessor:
    """Counts identities: a fact that comes again changes nothing, a fact that is lost is missing in the count."""

    behind = None  # a frame is done at once

    def __init__(self, partition: int, facts: RocksFactStore, states: Mapping[str, bytes]) -> None:
        self.partition, self.facts, self.states = partition, facts, states
        self.rests_on = 0
        self.told: Counter[str] = Counter()
        self.closed_out = 0

    def remake(self, offset: int) -> Iterator[Slice]:
        yield from ()

    def work_off(self) -> Slice:
        raise AssertionError("nothing is left to do")

    def remember(self, offset: int, timestamp: datetime, value: bytes) -> None:
        try:
            frame = decode_frame(value)
        except UnknownVersion:
            raise
        except FrameError:
            self.facts.append(offset, [])
            return
        at = frame.received_at or timestamp
        self.facts.append(offset, [msgspec.structs.replace(fact, received_at=at) for fact in frame.facts])

    def read(self, offset: int, timestamp: datetime, value: bytes) -> Read:
        try:
            decode_frame(value)
        except UnknownVersion:
            raise
        except FrameError:
            pass
        return Read(offset, timestamp, value)

    def keep(self, frames: Sequence[Read]) -> None:
        for frame in frames:
            assert self.facts.next_offset() >= frame.offset, f"the fact store lacks frames before {frame.offset}"
            self.remember(*frame)

    def follow(self, read: Read) -> Iterator[Slice]:
        offset, _, value = read
        try:
            frame = decode_frame(value)
        except FrameError as error:
            yield Slice([], {}, [self._letter(offset, None, str(error), value)])
            return
        dead = [self._letter(offset, each.number, each.reason, each.payload) for each in frame.broken]
        had: dict[str, set[str]] = {}
        for fact in frame.facts:
            if isinstance(fact, Registered):
                assert fact.equipment != "boom", "the rules fail on this fact"
                had.setdefault(fact.meter_point, set()).add(fact.equipment)
            elif isinstance(fact, CalorificValue):
                for point in self.states:
                    had.setdefault(point, set()).add(fact.ldz)
            else:
                assert isinstance(fact, Tick) or meter_point_of(fact) is None
        for point, numbers in had.items():
            state = self._state(offset, point, numbers)
            yield Slice(*state, []) if state else Slice([], {}, [])
        yield Slice([], {}, dead)

    def _state(self, offset: int, point: str, numbers: set[str]) -> tuple[list[Change], dict[str, bytes]] | None:
        state = self.states.get(point, bytes(8))
        if point in self.states and int.from_bytes(state[:8], "big") >= offset:
            return None
        all_of_it = sorted(set(state[8:].decode().split()) | numbers)
        new = offset.to_bytes(8, "big") + " ".join(all_of_it).encode()
        return [record_of(point, len(all_of_it))], {point: new}

    def _letter(self, offset: int, number: int | None, reason: str, payload: bytes) -> DeadLetter:
        return DeadLetter(topic="facts", partition=self.partition, offset=offset, number=number, reason=reason, payload=payload)


def record_of(point: str, count: int) -> Tolerance:
    """The toy's record: `a` is how many different facts the point has had."""
    day = date(2026, 1, 1)
    return Tolerance(
        meter_point=point, gas_day=day, check="interval_sum", a=Decimal(count), b=Decimal(1), deviation=None, within=True
    )


def make(settings: WorkerSettings) -> MakeProcessor:
    """How a partition's toy processor is made."""

    def processor(partition: int, states: Mapping[str, bytes]) -> Opened:
        store = RocksFactStore(fact_store_path(settings.state_dir, partition))
        return Opened(ToyProcessor(partition, store, states), store)

    return processor


def main() -> None:
    given = msgspec.json.decode(Path(sys.argv[1]).read_bytes())
    given |= {"topics": Topics(**given["topics"]), "state_dir": Path(given["state_dir"])}
    if given.get("web"):
        given["web"] = tuple(given["web"])
    settings = WorkerSettings(**given)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    run_worker(settings, make(settings), Notifier())


if __name__ == "__main__":
    main()
