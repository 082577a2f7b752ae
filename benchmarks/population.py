"""Any number of meter points with 30 Days of history, made of a few hundred that the rules have gone through.

Thirty Days of a thousand points take the rules some seconds, of a million hours. So each state here is one that the processor
wrote for one of `MODELS` different points (`replay_facts.py`: four kinds of registers; late, missing, wrong and doubled
batches), under another name of the same length: byte for byte what it would have written for a point of that name. The same
holds of the facts in the fact store.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.replay_facts import DAYS, FIRST, LDZS, Site, calorific_values
from dailyread.jsonlines import BadLine, read_facts
from metering.facts import AnyFact, Tick
from metering.gasday import to_datetime
from metering.rules import Rules
from metering.wire import VERSION, Entry, decode_entry, encode_fact, received_us
from storage.fact_store import MemoryFactStore, Row, Subject
from storage.fact_store_rocksdb import RocksFactStore
from stream.marks import OFFSET_BYTES, is_point
from stream.processor import Facts, Processor

HISTORY_DAYS = 30
FOLLOWING_DAYS = 10
MODELS = 150
LAST = FIRST + HISTORY_DAYS - 1  # the last Day whose readings have come
TURN_US = DAYS.start_us(LAST + 2)  # 05:00, when the Day after it ends
UNTIL_US = TURN_US - 3600 * 1_000_000
RULES = Rules()
# All states rest on the first frame of their partition, and all facts of before are said to have come in it.
AT_OFFSET = 0
ROWS_TOGETHER = 10_000


class Model(NamedTuple):
    """A meter point: its state, its facts as (received_us, packed), and the batches of the Days that come next, as
    entries of frames."""

    meter_point: str
    state: bytes
    facts: list[tuple[int, bytes]]
    following: list[bytes]

    def of(self, meter_point: str, told: bytes) -> bytes:
        """The state, or one of the facts, of another point with the same history."""
        return told.replace(self.meter_point.encode(), meter_point.encode())


class Models(NamedTuple):
    """What points are made of. Those that owe a batch lack that of `LAST`; the others have it, and the Day after has not ended.
    `values` are the calorific values, as (LDZ, received_us, packed); `rules` what stands among the states and is no point's."""

    owing: list[Model]
    settled: list[Model]
    values: list[tuple[str, int, bytes]]
    rules: dict[str, bytes]


def models(owing: int = MODELS // 5, settled: int = MODELS - MODELS // 5, seed: int = 1) -> Models:
    """Go through the Days of so many points, until an hour before the last one ends."""
    facts: list[AnyFact] = []
    following: dict[str, list[bytes]] = {}
    for number in range(owing + settled):
        site, end = Site(number, seed), LAST if number < owing else LAST + 1
        facts += _facts(site.reference(number))
        facts += [batch for day in range(FIRST, end) if (batch := site.batch(day)) is not None]
        following[site.meter_point] = [_sound_batch(site, day) for day in range(end, end + FOLLOWING_DAYS)]
    dice = random.Random(seed)
    facts += _facts(line for day in range(FIRST, LAST + 1) for _, line in calorific_values(day, dice))
    begins = map(to_datetime, map(DAYS.start_us, range(FIRST, LAST + 2)))
    facts += [Tick(now=at, received_at=at) for at in begins]
    store, states = _gone_through(fact for fact in facts if received_us(fact) < UNTIL_US)
    made = [
        Model(name, AT_OFFSET.to_bytes(OFFSET_BYTES, "big") + states[name][OFFSET_BYTES:], _rows(store.of_point(name)), batches)
        for name, batches in following.items()
    ]
    values = [(each.ldz, received_us(each), encode_fact(each)) for each in store.calorific_values(LDZS)]
    rules = {name: value for name, value in states.items() if not is_point(name)}
    return Models(made[:owing], made[owing:], values, rules)


def name(number: int) -> str:
    """The name of the point of that number; as long as the models' are, and none of theirs."""
    return f"75{number:08}"


def frame(entries: Iterable[bytes], gateway: str) -> bytes:
    """A frame of facts that are packed."""
    payload = msgspec.msgpack.encode((None, [*map(msgspec.Raw, entries)]))
    return msgspec.msgpack.encode((VERSION, gateway, "", payload, b""))


def write_fact_store(path: Path, points: Iterable[tuple[str, Model]], values: Sequence[tuple[str, int, bytes]]) -> None:
    """A partition's fact store, with all facts of these points and the calorific values, as if they had come in one frame."""
    store = RocksFactStore(path)
    rows: list[tuple[Subject, Row]] = [
        (("ldz", ldz), (AT_OFFSET, place, at, packed)) for place, (ldz, at, packed) in enumerate(values)
    ]
    for meter_point, model in points:
        own = enumerate(model.facts, len(values))
        rows += [(("point", meter_point), (AT_OFFSET, place, at, model.of(meter_point, packed))) for place, (at, packed) in own]
        if len(rows) > ROWS_TOGETHER:
            store.write(rows, AT_OFFSET + 1)
            rows.clear()
    store.write(rows, AT_OFFSET + 1)
    store.close()


def _facts(lines: Iterable[bytes]) -> Iterator[AnyFact]:
    for fact in read_facts(lines):
        assert not isinstance(fact, BadLine)
        yield fact


def _sound_batch(site: Site, day: int) -> bytes:
    """A batch of the Day as most are."""
    batch = None
    while batch is None or None in batch.index:
        site.silent_until = day  # it may have fallen silent
        batch = site.batch(day)
    return encode_fact(msgspec.structs.replace(batch, received_at=None))


def _gone_through(facts: Iterable[AnyFact]) -> tuple[MemoryFactStore, dict[str, bytes]]:
    """The facts in the order of their receipt, a frame each: the fact store and the states that they leave."""
    store, states = MemoryFactStore(), dict[str, bytes]()
    processor = Processor(0, store, states, RULES)
    for offset, fact in enumerate(sorted(facts, key=received_us)):
        packed, received_at = encode_fact(fact), to_datetime(received_us(fact))
        frame = Facts(offset, [Entry(received_at, packed, decode_entry(packed))], [])
        processor.keep([frame])
        for part in processor.follow(frame):
            states |= part.states
    return store, states


def _rows(facts: Iterable[AnyFact]) -> list[tuple[int, bytes]]:
    return sorted(((received_us(fact), encode_fact(fact)) for fact in facts), key=itemgetter(0))
