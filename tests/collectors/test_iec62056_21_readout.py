"""Meters without a log: what their readout has with a time of its own is a reading of that time, and nothing else is one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from collectors.iec62056_21 import Malformed
from collectors.iec62056_21_data import MeterTime, data_sets
from collectors.iec62056_21_poll import read_day
from collectors.iec62056_21_readout import Codes, readout_rows
from collectors.reading import PollError
from simulators.faults import ClockOffset, Corrupt
from simulators.iec62056_21_server import Make
from tests.collectors.iec62056_21_rig import DAY, PTY_TIMING, boundaries, rig, run, truth

NOW = datetime(2026, 10, 6, 5, 3, tzinfo=UTC)
CODES = Codes(("7-0:13.0.0", "7-0:3.0.0"), "7-0:13.0.0", "7-0:13.26.0")
STORED = "7-0:13.26.0"


def rows(text: str) -> list[tuple[datetime, dict[str, Decimal | None]]]:
    return [(row.at, row.values) for row in readout_rows(list(data_sets(text)), CODES, MeterTime("local"), NOW)]


def test_stored_values_have_their_own_times_and_the_present_one_has_now() -> None:
    text = "7-0:13.0.0(12.5*m3)\r\n7-0:13.26.0*01(12.4*m3)(12610060600)\r\n13.26.0*02(11.0*m3)(26-10-05 06:00)\r\n!\r\n"
    assert rows(text) == [
        (datetime(2026, 10, 5, 5, tzinfo=UTC), {"7-0:13.0.0": Decimal("11.0")}),
        (datetime(2026, 10, 6, 5, tzinfo=UTC), {"7-0:13.0.0": Decimal("12.4")}),
        (NOW, {"7-0:13.0.0": Decimal("12.5")}),
    ]


def test_a_stored_value_of_a_time_that_comes_twice_is_no_reading() -> None:
    assert rows("7-0:13.26.0*01(12.4*m3)(2610250130)\r\n!") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("7-0:13.26.0*01(12.4*m3)\r\n!", "with 1 values; allowed: a value and its time"),
        ("7-0:13.26.0*01(12.4*m3)(yesterday)\r\n!", "time"),
        ("7-0:13.26.0*01(12.4*kWh)(12610060600)\r\n!", "is not in m³"),
        ("7-0:13.0.0(x)\r\n!", "is no number"),
    ],
)
def test_what_is_no_reading(text: str, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        rows(text)


@pytest.mark.parametrize(("mode", "speed"), [("A", "x"), ("B", "C"), ("C", "5")])
def test_both_boundaries_from_stored_values(mode: str, speed: str, tmp_path: Path) -> None:
    async def work() -> None:
        make = Make(mode=mode, speed=speed, stored_days=5)  # type: ignore[arg-type]
        async with rig(tmp_path, make=make, log="readout", stored_code=STORED) as it:
            readings = await it.read()
            assert readings.at == boundaries(DAY)
            assert readings.index == truth(it, readings.at)
            assert readings.complete
            assert readings.clock_offset_s == 0

    run(work)


@pytest.mark.parametrize("mode", ["A", "B"])
def test_a_damaged_readout_is_had_by_another_call(mode: str, tmp_path: Path) -> None:
    async def work() -> None:
        make = Make(mode=mode, speed="D", stored_days=5)  # type: ignore[arg-type]
        async with rig(tmp_path, Corrupt(every=2), make=make, log="readout", stored_code=STORED) as it:
            for _ in range(3):
                assert (await it.read()).index == truth(it, boundaries(DAY))

    run(work)


def test_the_present_value_is_a_reading_of_its_own_time_and_moved_to_no_boundary(tmp_path: Path) -> None:
    async def work() -> None:
        late = ClockOffset(from_=boundaries(DAY)[0], until=boundaries(DAY)[1], offset_s=-120)
        async with rig(tmp_path, late, make=Make(mode="B", speed="E"), log="readout") as it:
            first, last = boundaries(DAY)
            readings = await it.read(after=timedelta(hours=-5))
            taken_at = it.now - timedelta(seconds=120)
            assert readings.at == (first, taken_at, last)
            assert readings.index == (None, it.meter.true_index_at(it.now), None)
            assert readings.clock_offset_s == -120
            assert not readings.complete

    run(work)


def test_of_a_day_that_lasts_the_present_value_is_there_though_the_last_interval_ended_before(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, make=Make(mode="A", speed="x"), log="readout") as it:
            first, _ = boundaries(DAY)
            it.now = first + timedelta(hours=4, minutes=3)
            readings = await read_day(it.line, it.known, first, first + timedelta(hours=4), lambda: it.now, PTY_TIMING)
            assert readings.at == (first, it.now)
            assert readings.index == (None, it.meter.true_index_at(it.now))

    run(work)


def test_a_meter_without_a_clock_is_read_at_the_time_of_reading(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, make=Make(mode="A", speed="!", has_clock=False), log="readout") as it:
            with pytest.raises(PollError, match="sign-on"):
                await it.read(after=timedelta(hours=-5))
        async with rig(tmp_path, make=Make(mode="A", speed="@", has_clock=False), log="readout") as it:
            readings = await it.read(after=timedelta(hours=-5))
            assert (readings.at[1], readings.index[1]) == (it.now, it.meter.true_index_at(it.now))
            assert readings.clock_offset_s is None

    run(work)


def test_a_readout_without_anything_of_the_day_is_a_failed_poll_that_says_what_it_has(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, make=Make(mode="A", speed="x"), log="readout") as it:
            with pytest.raises(PollError, match=r"readout: nothing of 2026-10-05T04.* it has 2026-10-06T04:10:00"):
                await it.read()

    run(work)


def test_a_meter_that_only_reads_out_has_no_log_to_ask_for(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, make=Make(mode="B", speed="E")) as it:
            with pytest.raises(PollError, match="a meter of mode A or B"):
                await it.read()

    run(work)
