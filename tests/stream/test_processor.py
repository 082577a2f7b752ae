"""The processor of a partition: frames in any order, processes that end at any step, and still the ledger of `replay`."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.facts import AnyFact, Registered, Tick
from metering.gasday import to_us
from metering.ledger import Key, Void
from metering.messages import LedgerMessage
from metering.replay import Ledger, replay
from metering.rules import Rules
from metering.wire import UnknownVersion, encode_frame, received_us
from storage.fact_store import FactStore, MemoryFactStore
from stream import processor as module
from stream.embedded import EmbeddedJob, Frame
from stream.marks import is_point, split
from stream.processor import RELAY, WORK_A_SLICE, Processor, Slice
from tests.metering.scenarios import Scenario

RULES = Rules()


class Log:
    """What survives a process: the topic, the fact store, the states, and the ledger by key with offsets."""

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames
        self.facts: FactStore = MemoryFactStore()
        self.states: dict[str, bytes] = {}
        self.ledger: dict[Key, LedgerMessage] = {}
        self.dead: list[str] = []

    def publish(self, message: LedgerMessage) -> None:
        held = self.ledger.get(message.key)
        if held is None or message.offset >= held.offset:
            self.ledger[message.key] = message

    def standing(self) -> Ledger:
        return {key: message.record for key, message in self.ledger.items() if message.record is not None}


def frames_of(facts: list[AnyFact], dice: random.Random) -> list[Frame]:
    """Frames of facts received together, in an order that is nearly that of receipt, with ticks between them."""
    late = sorted(facts, key=lambda fact: received_us(fact) + dice.choice([0, 0, 0, 3 * 86_400_000_000]))
    frames = []
    for received_at, together in groupby(late, key=lambda fact: fact.received_at):
        assert received_at is not None
        frames.append(Frame(received_at, encode_frame(together, "gw")))
        if dice.random() < 0.1:
            now = max(frame.timestamp for frame in frames)
            frames.append(Frame(now, encode_frame([Tick(now=now)], "gw")))
    latest = max(received_us(fact) for fact in facts)
    end = datetime.fromtimestamp(latest // 1_000_000 + 86_400 * 9, UTC)
    return [*frames, Frame(end, encode_frame([Tick(now=end)], "gw"))]


def parts(processor: Processor, log: Log, first: int, together: int, haste: float) -> Iterator[tuple[int, Slice]]:
    """What follows from frames from an offset on, so many kept together, each slice with the offset that it rests on. What
    ticks reach is worked off between the frames, the more the greater the haste, and what is left at the end."""
    dice = random.Random(first)
    for begin in range(first, len(log.frames), together):
        some = range(begin, min(begin + together, len(log.frames)))
        read = [processor.read(offset, *log.frames[offset]) for offset in some]
        processor.keep(read)
        for offset, facts in zip(some, read, strict=True):
            for part in processor.follow(facts):
                yield offset, part
            while (behind := processor.behind) is not None and dice.random() < haste:
                yield behind, processor.work_off()
    while (behind := processor.behind) is not None:
        yield behind, processor.work_off()


def work(log: Log, first: int, ends_after: int | None, together: int = 1, haste: float = 1.0) -> int:
    """Do `parts`; end as a killed process does, after so many steps. The offset of the first frame that is not done."""
    processor = Processor(0, log.facts, log.states, RULES)
    for step, (offset, part) in enumerate(parts(processor, log, first, together, haste)):
        for change in part.changes:
            log.publish(LedgerMessage.of(change, 0, offset))
        if step == ends_after:
            return offset if processor.behind is None else min(offset, processor.behind)  # outputs sent, states not written
        log.states |= part.states
        log.dead += [letter.reason for letter in part.dead]
    return len(log.frames)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_process_may_end_at_any_step(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(seed)
    facts = Scenario(dice, points=2, days=dice.choice([6, 16])).facts
    log = Log(frames_of(facts, dice))
    committed = 0
    while committed < len(log.frames):
        ends_after, together = dice.choice([None, dice.randint(0, 60)]), dice.choice([1, 2, 7, 100])
        monkeypatch.setattr(module, "POINTS_HELD", dice.choice([0, 2000]))  # 0: each point comes from its state each time
        done = work(log, committed, ends_after, together, dice.choice([0.0, 0.3, 1.0]))
        committed = done if done == len(log.frames) else max(committed, done - dice.randint(0, 4))
    assert log.dead == []
    as_of_us = to_us(log.frames[-1].timestamp)
    assert log.standing() == replay(facts, as_of_us, RULES)


def test_rules_leave_no_cycles_of_objects_behind() -> None:
    """So the worker may look for them rarely."""
    dice = random.Random(7)
    log = Log(frames_of(Scenario(dice, points=4, days=16).facts, dice))
    gc.collect()
    gc.disable()
    try:
        work(log, 0, None)
        assert gc.collect() < len(log.frames)
    finally:
        gc.enable()


def registered(**changes: object) -> Registered:
    fact = {
        "meter_point": "MP", "gas_day": "2026-01-01", "users": ["A"], "ldz": "EA", "annual_quantity_kwh": "365",
        "equipment": "E",
    }  # fmt: skip
    return msgspec.convert({**fact, **changes}, Registered)


NOW = datetime(2026, 1, 2, 9, tzinfo=UTC)


def processor(partitions: int | None = None) -> Processor:
    return Processor(0, MemoryFactStore(), {}, RULES, partitions=partitions)


def test_one_broken_fact_is_a_dead_letter_and_the_rest_counts() -> None:
    envelope = msgspec.msgpack.decode(encode_frame([registered(), registered()], "gw"))
    payload = msgspec.msgpack.decode(envelope[3])
    payload[1][0] = {"fact": "registered", "meter_point": "MP"}
    envelope[3] = msgspec.msgpack.encode(payload)
    first, second = processor().process(0, NOW, msgspec.msgpack.encode(envelope))
    assert [(letter.number, "missing required field" in letter.reason) for letter in first.dead] == [(0, True)]
    assert len(second.changes) == 2


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"no frame", "not a frame"),
        (encode_frame([registered()], "gw", received_at=NOW), "that is the broker's to say"),
        (encode_frame([Tick(now=NOW + timedelta(hours=1))], RELAY), "is after received_at"),
        (encode_frame([Tick(now=NOW)], "gw"), "belongs on the broadcast topic"),
        (encode_frame([registered()], RELAY), "belongs on the broadcast topic"),
        (encode_frame([registered(meter_point="other")], "gw"), "belongs to partition"),
    ],
)
def test_what_cannot_be_used_is_a_dead_letter(frame: bytes, reason: str) -> None:
    (part,) = processor(partitions=7).process(0, NOW, frame)
    assert part.changes == []
    assert [reason in letter.reason for letter in part.dead] == [True]


def test_a_relayed_frame_counts_from_its_first_receipt() -> None:
    one = processor()
    list(one.process(0, NOW, encode_frame([registered()], "gw")))
    early = NOW - timedelta(minutes=5)
    assert list(one.process(1, NOW, encode_frame([Tick(now=early)], RELAY, received_at=early))) == []


def test_what_takes_long_comes_in_small_parts() -> None:
    states: dict[str, bytes] = {}
    one = Processor(0, MemoryFactStore(), states, RULES)
    later = NOW + timedelta(days=2)
    frames = [encode_frame([registered(meter_point=f"MP{n}") for n in range(200)], "gw"), encode_frame([Tick(now=later)], "gw")]
    for offset, (at, frame) in enumerate(zip((NOW, later), frames, strict=True)):
        done: set[str] = set()
        for part in one.process(offset, at, frame):
            assert len([*filter(is_point, part.states)]) <= WORK_A_SLICE
            states |= part.states
            done |= set(filter(is_point, part.states))
        assert len(done) == 200


def follow(one: Processor, states: dict[str, bytes], offset: int, at: datetime, *facts: AnyFact) -> list[Slice]:
    """Do a frame but for what is not urgent."""
    read = one.read(offset, at, encode_frame(facts, "gw"))
    one.keep([read])
    found = []
    for part in one.follow(read):
        states |= part.states
        found.append(part)
    return found


def test_frames_go_on_while_a_tick_is_worked_off() -> None:
    states: dict[str, bytes] = {}
    one = Processor(0, MemoryFactStore(), states, RULES)
    later, names = NOW + timedelta(days=2), [f"MP{n}" for n in range(2 * WORK_A_SLICE)]
    follow(one, states, 0, NOW, *(registered(meter_point=name) for name in names))
    assert follow(one, states, 1, later, Tick(now=later)) == []
    assert one.behind == 1
    early = registered(meter_point=names[0], equipment="F")
    parts = follow(one, states, 2, later - timedelta(hours=1), early)  # the tick comes first at this point, too
    assert split(states[names[0]])[0][:2] == (2, to_us(later))
    assert {change.key()[2] for part in parts for change in part.changes if not isinstance(change, Void)} > {"2026-01-03"}
    reached = []
    while (behind := one.behind) is not None:
        part = one.work_off()
        assert {split(state)[0].offset for state in part.states.values()} <= {behind}
        reached += part.states
    assert sorted(reached) == sorted(names[1:])


def test_ticks_that_wait_are_worked_off_in_turn() -> None:
    states: dict[str, bytes] = {}
    one = Processor(0, MemoryFactStore(), states, RULES)
    follow(one, states, 0, NOW, registered())
    for offset in range(1, 4):
        later = NOW + timedelta(days=offset)
        follow(one, states, offset, later, Tick(now=later))
    behind = []
    while one.behind is not None:
        behind.append((one.behind, len(one.work_off().states)))
    assert behind == [(1, 1), (2, 1), (3, 1)]


def test_a_later_version_stops() -> None:
    with pytest.raises(UnknownVersion):
        list(processor().process(0, NOW, msgspec.msgpack.encode([9, "gw", "", b"", b""])))


def test_the_embedded_job_goes_on_where_it_stopped(tmp_path: Path) -> None:
    dice = random.Random(5)
    facts = Scenario(dice, points=2, days=16).facts
    frames = frames_of(facts, dice)
    for begin in range(0, len(frames), 7):
        job = EmbeddedJob(tmp_path, RULES)
        job.take(frames[begin : begin + 7])
        job.close()
    job = EmbeddedJob(tmp_path, RULES)
    ledger = {record.key(): record for record in job.ledger.records()}
    job.close()
    assert ledger == replay(facts, to_us(frames[-1].timestamp), RULES)


@pytest.mark.parametrize("kept", ["facts", "facts and ledger"])
def test_the_embedded_job_remakes_what_a_kill_left_undone(tmp_path: Path, kept: str) -> None:
    dice = random.Random(6)
    facts = Scenario(dice, points=2, days=16).facts
    frames = frames_of(facts, dice)
    job = EmbeddedJob(tmp_path, RULES)
    job.take(frames[:20])
    for offset, frame in enumerate(frames[20:30], 20):  # as far as a killed process may have come
        for part in job._processor.process(offset, frame.timestamp, frame.value):
            if kept == "facts and ledger":
                job.ledger.write([LedgerMessage.of(change, 0, offset) for change in part.changes])
    job.close()
    job = EmbeddedJob(tmp_path, RULES)
    job.take(frames[30:])
    ledger = {record.key(): record for record in job.ledger.records()}
    job.close()
    assert ledger == replay(facts, to_us(frames[-1].timestamp), RULES)
