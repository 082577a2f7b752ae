"""Polls over real pseudo-terminals: the Day's readings are the meter's, and what goes wrong is a failed poll with its cause."""

from __future__ import annotations

import asyncio
import os
import random
import time
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors.iec62056_21_session import Timing
from collectors.reading import PollError
from collectors.serial_port import ADD_EVEN_PARITY, STRIP_EVEN_PARITY, SerialLine
from metering.facts import ReferenceIndex
from simulators.faults import ClockOffset, Corrupt, Dead, Late, NotLogged
from simulators.iec62056_21_server import MeterSide
from tests.collectors.iec62056_21_rig import DAY, LONG_DAY, SITE, SITES, Rig, boundaries, rig, run, truth
from tests.patience import patient


@pytest.mark.parametrize("name", ["junction-mill", "harbour-offices", "lock-infirmary"])
@pytest.mark.parametrize(("day", "hours"), [(DAY, 24), (LONG_DAY, 25)])
@pytest.mark.parametrize("partial_blocks", [False, True])
def test_a_days_readings_are_the_meters(name: str, day: date, hours: int, partial_blocks: bool, tmp_path: Path) -> None:
    """With and without convertor, in UTC and in local time, over the Day in which the clock goes back."""

    async def work() -> None:
        async with rig(tmp_path, site=SITES[name], partial_blocks=partial_blocks) as it:
            readings = await it.read(day)
            first, last = boundaries(day)
            assert readings.at == tuple(first + n * timedelta(hours=1) for n in range(hours + 1))
            assert readings.at[-1] == last
            assert readings.index == truth(it, readings.at)
            assert readings.complete
            assert readings.reference_index == ReferenceIndex(start=readings.index[0], end=readings.index[-1])
            assert readings.clock_offset_s == 0
            assert readings.status == ()
            rows = it.meter.log(first, last, it.now)
            if it.site.convertor:
                assert readings.unconverted == tuple(row.unconverted for row in rows)
            else:
                assert readings.unconverted is None

    run(work)


def test_wrong_check_characters_are_asked_for_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, Corrupt(every=2), partial_blocks=True) as it:
            readings = await it.read()
            assert readings.index == truth(it, readings.at)

    run(work)


def test_an_answer_that_is_always_wrong_is_a_failed_poll_with_site_and_cause(tmp_path: Path) -> None:
    class AlwaysWrong(Rig):
        def serve(self) -> None:
            self.meter.spoils_answer = lambda: "wrong_check"  # type: ignore[method-assign]
            super().serve()

    async def work() -> None:
        it = AlwaysWrong(SITE, tmp_path)
        with pytest.raises(PollError, match=r"junction-mill: option select: WrongBcc: BCC 0x01, computed 0x00"):
            await it.read()
        it.server.close()
        await it.line.close()

    run(work)


def test_short_answers_are_asked_for_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, Corrupt(every=4, how="short")) as it:
            readings = await it.read(timing=Timing(answer_timeout_s=0.4, reaction_s=0.0, attempts=4))
            assert readings.index == truth(it, readings.at)

    run(work)


def test_a_meter_that_does_not_answer_is_a_failed_poll_in_bounded_time(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, Dead()) as it:
            begun = time.monotonic()
            with pytest.raises(PollError, match="junction-mill: sign-on: no answer"):
                await it.read(timing=Timing(answer_timeout_s=0.1, reaction_s=0.0, attempts=2))
            assert time.monotonic() - begun < patient(2)

    run(work)


def test_a_line_that_babbles_is_given_up_in_bounded_time(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path) as it:
            it.server._side.hears = lambda data, at_baud: b"\x00" * 64  # type: ignore[method-assign]

            async def babble() -> None:
                while True:
                    os.write(it.server._master, b"\x00" * 64)
                    await asyncio.sleep(0.01)

            babbling = asyncio.create_task(babble())
            with pytest.raises(PollError, match=r"junction-mill: sign-on: no whole answer within 0\.5 s"):
                await it.read(timing=Timing(answer_timeout_s=0.2, exchange_timeout_s=0.5, reaction_s=0.0))
            babbling.cancel()

    run(work)


def test_a_line_that_is_gone_is_a_failed_poll_and_comes_back_by_itself(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path) as it:
            await it.read()
            it.server.close()
            for _ in range(2):
                with pytest.raises(PollError, match=r"junction-mill: line .*/line: "):
                    await it.read()
            it.serve()
            assert (await it.read()).complete

    run(work)


@pytest.mark.parametrize(
    ("known", "cause"),
    [
        ({"password": "99999999"}, r"password: refused: ER02"),
        ({"password": None}, r"0\.9\.2: refused: ER03"),
        ({"device_address": "4711"}, "sign-on: no answer"),
        ({"index_code": "7-0:13.2.0"}, r"no index 7-0:13\.2\.0 in it; it has in m³: 7-0:13\.0\.0, 7-0:3\.0\.0"),
        ({"m3_per_tick": Decimal(1)}, r"is not whole ticks of 1 m³"),
    ],
)
def test_what_is_wrongly_configured_says_so(known: dict[str, Any], cause: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, site=msgspec.structs.replace(SITE, device_address="1"), **known) as it:
            with pytest.raises(PollError, match=cause) as caught:
                await it.read()
            assert "99999999" not in str(caught.value)

    run(work)


@pytest.mark.parametrize("partial_blocks", [False, True])
def test_a_day_that_the_log_does_not_hold_is_an_answer_without_readings(partial_blocks: bool, tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, partial_blocks=partial_blocks) as it:
            readings = await it.read(date(2026, 9, 1), after=timedelta(days=10))
            assert (readings.at[0], readings.at[-1]) == boundaries(date(2026, 9, 1))
            assert readings.index == (None,) * 25
            assert readings.reference_index is None
            assert readings.clock_offset_s == 0
            assert (await it.read()).complete

    run(work)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("P.01(ER03)", r"P\.01: refused: ER03"),
        (
            "P.01(2261005050000)(0000)(60)(1)(7-0:13.0.0)(kWh)\r\n(1)\r\n(2)",
            r"no index 7-0:13\.0\.0 in it; it has in m³: nothing",
        ),
    ],
)
def test_a_log_that_cannot_be_used_is_a_failed_poll(answer: str, cause: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path) as it:
            it.server._side._registers.profile = lambda argument: answer  # type: ignore[method-assign]
            with pytest.raises(PollError, match=cause):
                await it.read()

    run(work)


@pytest.mark.parametrize("rows", ["", "\r\n(---)\r\n()", "\r\n(7)"])
def test_rows_without_values_or_of_other_days_are_missing_readings(rows: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path) as it:
            stamp = "2261004050000" if "7" in rows else "2261005050000"
            it.server._side._registers.profile = lambda argument: f"P.01({stamp})(0000)(60)(1)(7-0:13.0.0)(m3){rows}"  # type: ignore[method-assign]
            assert (await it.read()).index == (None,) * 25

    run(work)


def test_readings_that_are_missing_are_none_and_the_rest_is_there(tmp_path: Path) -> None:
    async def work() -> None:
        end = boundaries(DAY)[1]
        faults = NotLogged(first_day=DAY, last_day=DAY), Late(day=DAY, available_from=end + timedelta(hours=5))
        async with rig(tmp_path, *faults) as it:
            early = await it.read()
            assert early.index == (truth(it, early.at)[0], *(None,) * 24)
            assert early.reference_index is None
            assert not early.has_boundaries
            late = await it.read(after=timedelta(hours=6))
            assert late.index == (truth(it, late.at)[0], *(None,) * 23, truth(it, late.at)[-1])
            assert late.has_boundaries
            assert not late.complete

    run(work)


@pytest.mark.parametrize("name", ["kiln-works", "lock-infirmary"])
def test_the_clocks_offset_is_measured_and_its_mark_is_read(name: str, tmp_path: Path) -> None:
    async def work() -> None:
        first, last = boundaries(LONG_DAY)
        fault = ClockOffset(from_=first, until=last + timedelta(hours=1), offset_s=600)
        async with rig(tmp_path, fault, site=SITES[name]) as it:
            assert (await it.read(LONG_DAY)).clock_offset_s == 600
            readings = await it.read(LONG_DAY, after=timedelta(hours=2))
            assert (readings.clock_offset_s, readings.status) == (0, ("clock_invalid",))

    run(work)


@pytest.mark.parametrize("after", [timedelta(hours=19), timedelta(hours=20, seconds=30), timedelta(hours=20, minutes=-1)])
def test_the_offset_is_right_about_midnight_and_in_the_hour_that_comes_twice(after: timedelta, tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, site=SITES["lock-infirmary"]) as it:
            assert (await it.read(date(2026, 10, 23), after=after)).clock_offset_s == 0

    run(work)


def test_a_collector_that_does_not_change_its_speed_reads_nothing(tmp_path: Path) -> None:
    class Slow(SerialLine):
        async def set_baud(self, baud: int) -> None:
            pass

    async def work() -> None:
        async with rig(tmp_path) as it:
            it.line = Slow(it.line.path)
            with pytest.raises(PollError, match="option select: no answer"):
                await it.read(timing=Timing(answer_timeout_s=0.3, reaction_s=0.0, attempts=1))

    run(work)


def test_a_poll_that_is_cancelled_ends_at_once_and_frees_the_line(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, Dead()) as it:
            polling = asyncio.create_task(it.read(timing=Timing(answer_timeout_s=20.0)))
            await asyncio.sleep(0.4)
            begun = time.monotonic()
            polling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await polling
            assert time.monotonic() - begun < patient(1)
            assert not it.line.lock.locked()

    run(work)


def test_two_polls_of_one_line_wait_for_each_other(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path) as it:
            both = await asyncio.gather(it.read(), it.read())
            assert both[0] == both[1]

    run(work)


@pytest.mark.parametrize("seed", range(4))
def test_a_meter_that_says_anything_at_any_time_gives_its_readings_or_a_failed_poll(seed: int, tmp_path: Path) -> None:
    """Now and then, instead of its answer: a NAK, a break, noise, an answer of before, a damaged one, or nothing."""
    chance = random.Random(seed)
    outcomes = set()

    class Erratic(MeterSide):
        said = b"\x15"

        def hears(self, data: bytes, at_baud: int | None = None) -> bytes:
            answer = super().hears(data, at_baud)
            if chance.random() < 0.8:
                self.said = answer
                return answer
            damaged = bytearray(answer or b"?")
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(7)
            return chance.choice(
                [b"\x15", b"\x06", b"\x01B0\x03q", b"\x00~\x02", self.said, bytes(damaged), b"", self.said + answer]
            )

    async def work() -> None:
        async with rig(tmp_path, partial_blocks=True) as it:
            it.server._side = Erratic(it.meter, it.site, lambda: it.now)
            for _ in range(30):
                try:
                    readings = await it.read(timing=Timing(answer_timeout_s=0.05, reaction_s=0.0, attempts=3))
                    assert readings.index == truth(it, readings.at)
                    outcomes.add("readings")
                except PollError:
                    outcomes.add("failed")

    run(work)
    assert outcomes == {"readings", "failed"}


def test_parity_is_added_checked_and_stripped() -> None:
    characters = bytes(range(128))
    sent = characters.translate(ADD_EVEN_PARITY)
    assert all(byte.bit_count() % 2 == 0 for byte in sent)
    assert sent.translate(STRIP_EVEN_PARITY) == characters
    for bit in range(8):
        assert set(bytes(byte ^ 1 << bit for byte in sent).translate(STRIP_EVEN_PARITY)) == {0xFF}
