"""What the rules cost: one Day's batch of 25 readings, from the bytes on the wire to the new state's and the records' bytes.

    python -m benchmarks.engine [--compiled]

Beside it, in the same run of the same process and in CPU time: `json.loads` of the same readings' JSON line. Also the size
of a state with 400 Days of history, and whether a late fact for its tenth Day gives what the whole history gives. With
`--compiled` the rules are first compiled into a folder of their own (see setup.py), and measured from there.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

import msgspec

from dailyread.jsonlines import write_fact
from metering.facts import AnyFact, CalorificValue, MeterFitted, Readings, Registered
from metering.gasday import GasDays, to_datetime
from metering.messages import encode_change
from metering.point import Point
from metering.replay import FactsByPoint, Ledger, fold, point_ledger, rebuilt, replay
from metering.rules import Rules
from metering.state import decode_state, encode_state, prune
from metering.wire import PackedReadings, decode_entry, encode_frame, open_frame
from tests.compiled import is_compiled, run_compiled

DAYS = GasDays()
RULES = Rules()
FIRST = date(2026, 1, 1).toordinal()
WARM_DAYS = 40
COUNTED_DAYS = 300
ROUNDS = 7


def start(day: int) -> datetime:
    """When the Day begins."""
    return to_datetime(DAYS.start_us(day))


def batch(day: int, index: int, used: int) -> Readings:
    """Hourly readings of one Day, its two boundaries among them, 10 minutes after its end."""
    hours = round((start(day + 1) - start(day)) / timedelta(hours=1))
    return Readings(
        meter_point="7400000001", meter="M0001", gas_day=date.fromordinal(day), first_at=start(day), interval_s=3600,
        index=tuple(index + used * n // hours for n in range(hours + 1)), gateway="gw-01", outbox="3f2a", sequence=day,
        received_at=start(day + 1) + timedelta(minutes=10),
    )  # fmt: skip


def reference_facts() -> list[AnyFact]:
    """The point and its meter, known before the first Day."""
    received_at = start(FIRST) - timedelta(days=9)
    return [
        Registered(
            meter_point="7400000001", gas_day=date.fromordinal(FIRST), users=("ALDER",), ldz="EA", equipment="E1",
            annual_quantity_kwh=Decimal(36_500_000), received_at=received_at,
        ),
        MeterFitted(
            meter_point="7400000001", meter="M0001", at=start(FIRST), index=0, digits=8, m3_per_tick=Decimal("0.1"),
            q_max_m3_per_h=Decimal(1600), received_at=received_at,
        ),
    ]  # fmt: skip


def calorific_value(day: int) -> CalorificValue:
    """Known at 13:00 on the next Day."""
    received_at = start(day + 1) + timedelta(hours=8)
    return CalorificValue(ldz="EA", gas_day=date.fromordinal(day), mj_per_m3=Decimal("39.5"), received_at=received_at)


def measure(times: int, work: Callable[[int], object]) -> float:
    """Microseconds a call, of `times` calls with 0, 1, 2 ..."""
    began = time.thread_time()
    for n in range(times):
        work(n)
    return (time.thread_time() - began) / times * 1e6


def timer_us() -> float:
    """Microseconds that reading the timer twice takes by itself."""
    spent = 0.0
    for _ in range(3000):
        began = time.thread_time()
        spent += time.thread_time() - began
    return spent / 3000 * 1e6


class Spent(NamedTuple):
    """Microseconds a Day: json.loads of its line in two spellings, and the engine; the timer's own time left out."""

    interval: float
    instants: float
    engine: float


def spent_us(with_state_bytes: bool) -> Spent:
    """What the Days of a meter cost, one after the other: frame in, records and state out. Each Day's line goes through
    json.loads right before its frame goes through the engine, so that the processor's caches hold as little of either.
    Calorific values come between, not counted."""
    point = Point("7400000001", RULES, DAYS)
    point.apply(reference_facts())
    index, dice, state = 0, random.Random(1), b""
    spent = [0.0, 0.0, 0.0]
    for n in range(WARM_DAYS + COUNTED_DAYS):
        day, used = FIRST + n, dice.randint(2000, 9000)
        fact = batch(day, index, used)
        index += used
        frame, received_at = encode_frame([fact], "gw-01"), start(day + 1) + timedelta(minutes=10)
        lines = (
            write_fact(fact),
            write_fact(msgspec.structs.replace(fact, at=tuple(fact.instants()), first_at=None, interval_s=None)),
        )
        stamps = [time.thread_time()]
        for line in lines:
            json.loads(line)
            stamps.append(time.thread_time())
        if with_state_bytes and n >= WARM_DAYS:
            point = decode_state(state, RULES, DAYS)
        opened = open_frame(frame)
        entry = decode_entry(opened.entries[0])
        assert isinstance(entry, PackedReadings)
        records = [encode_change(change, 0, n) for change in point.apply_readings(received_at, entry, opened.entries[0])]
        prune(point)
        state = encode_state(point)
        stamps.append(time.thread_time())
        if n >= WARM_DAYS:
            assert len(records) >= 3
            spent = [sofar + after - before for sofar, (before, after) in zip(spent, pairwise(stamps), strict=True)]
        point.apply([calorific_value(day)])
    own_us = timer_us()
    return Spent(*(each / COUNTED_DAYS * 1e6 - own_us for each in spent))


def cost() -> None:
    """Print the engine's cost as a multiple of json.loads of the same Day's line."""
    for name, with_state_bytes in (("engine", False), ("engine, state from bytes", True)):
        rounds = [spent_us(with_state_bytes) for _ in range(ROUNDS)]
        interval, instants, engine = (statistics.median(each) for each in zip(*rounds, strict=True))
        of_interval = statistics.median(each.engine / each.interval for each in rounds)
        of_instants = statistics.median(each.engine / each.instants for each in rounds)
        lines = f"json.loads of the line {interval:5.1f} us, with each instant in it {instants:5.1f} us"
        print(f"{name:26} {engine:7.1f} us; {lines}; ratios {of_interval:5.1f}, {of_instants:5.1f}")
    line = write_fact(batch(FIRST, 1_234_567, 5000))
    again_us = measure(20_000, lambda _: json.loads(line))
    print(f"json.loads of one line again and again, when all is in the processor's caches: {again_us:.1f} us")


def history(days: int = 400, failed: int = 20, rejections: int = 10) -> list[AnyFact]:
    """Facts of `days` Days of varied volumes, so many of them without readings, and so many readings that are wrong."""
    dice, index = random.Random(2), 0
    facts = reference_facts()
    silent = set(dice.sample(range(20, days - 20), failed))
    wrong = set(dice.sample(sorted(set(range(20, days)) - silent), rejections))
    for n in range(days):
        used = dice.randint(0, 30_000)
        fact = batch(FIRST + n, index, used)
        if n in wrong:
            fact = msgspec.structs.replace(fact, index=(*fact.index[:12], fact.index[12] + 90_000, *fact.index[13:]))
        if n not in silent:
            facts.append(fact)
        index += used
        facts.append(calorific_value(FIRST + n))
    return facts


def size() -> None:
    """Print the size of a state, and check that a late fact gives the ledger of the whole history."""
    facts = history()
    now_us = DAYS.start_us(FIRST + 401)
    late = msgspec.structs.replace(batch(FIRST + 9, 0, 11), received_at=to_datetime(now_us))
    point, ledger = point_ledger("7400000001", facts, now_us - 1, RULES, DAYS)
    prune(point)
    state = encode_state(point)
    began = time.thread_time()
    _, changes = rebuilt("7400000001", facts, point.now_us, [*facts, late], RULES, DAYS)
    took_ms = (time.thread_time() - began) * 1e3
    known: Ledger = fold(ledger, changes)
    agrees = known == replay(FactsByPoint([*facts, late]).concerning("7400000001"), now_us, RULES)
    print(f"state of 400 Days, 20 failed, 10 rejections: {len(state)} bytes")
    print(f"a late fact for Day 10: {took_ms:.0f} ms; agrees with the whole history: {agrees}")


if __name__ == "__main__":
    if "--compiled" in sys.argv[1:]:
        sys.exit(run_compiled("benchmarks.engine", []))
    print("the rules are", "compiled" if is_compiled() else "plain Python")
    cost()
    size()
