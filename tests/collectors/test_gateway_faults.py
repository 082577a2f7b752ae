"""The gateway where something is wrong with itself: its clock, its disk, its own code at one meter."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from collectors import gateway as gateway_module
from collectors import outbox as outbox_module
from collectors.gateway import Evidence, Gateway, no_evidence
from collectors.outbox import Outbox, OutboxFull
from collectors.poll import Polled, to_fact
from collectors.reading import DayReadings
from collectors.schedule import MeterState, Outcome
from collectors.trace import Frame
from metering.facts import PollFailed, Readings
from simulators.clock import SteppedClock
from simulators.serve import ServedMeter, serve
from tests.collectors.virtual import DAY, DAYS, FIRST, START, days_read, site, stored
from tests.patience import patient

AHEAD = timedelta(days=62)
HOUR = timedelta(hours=1)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox(tmp_path / "outbox.sqlite", "gateway-1", days=DAYS)) as opened:
        yield opened


def runs(
    outbox: Outbox,
    from_: datetime,
    hours: float,
    meters: int = 1,
    *,
    evidence: Evidence = no_evidence,
    meters_now: datetime | None = None,
    before: Callable[[Gateway], None] = lambda _: None,
) -> Gateway:
    """A gateway in virtual time, its meters' clocks right with it, or standing at `meters_now`."""

    async def main() -> Gateway:
        clock = SteppedClock(from_)
        service = await serve([site(number) for number in range(1, meters + 1)], lambda: meters_now or clock.now())
        gateway = Gateway(service.gateway(), clock.join("gateway"), outbox, days=DAYS, evidence=evidence)
        before(gateway)
        with clock.join("end") as end:
            moving = asyncio.create_task(clock.run(expected=2))
            running = asyncio.create_task(gateway.run())
            await end.wait_until(from_ + timedelta(hours=hours))
            while set(clock.working()) > {"end"}:
                await asyncio.sleep(0.01)
            gateway.stop()
            await running
            moving.cancel()
        await service.close()
        return gateway

    return asyncio.run(asyncio.wait_for(main(), patient(60)))


def test_days_to_come_are_still_read_after_the_clock_was_months_ahead(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway without a battery for its clock, for a morning, until it is synchronised and started again."""
    today = START + 2 * DAY + timedelta(hours=1)
    monkeypatch.setattr(gateway_module, "is_synchronised", lambda _clock: False)
    wrong = runs(outbox, today + AHEAD, 20, meters_now=today)
    assert wrong.counters.polls > 30
    assert not [day for day in outbox.done_days("M-1") if day > FIRST + DAY]
    monkeypatch.setattr(gateway_module, "is_synchronised", lambda _clock: True)
    runs(outbox, today, 24 * 3 + 2)
    assert {23, 24, 25, 26, 27} <= {day for day, _ in days_read(outbox, "MP1")}


def test_a_clock_that_goes_back_while_the_gateway_runs_leaves_nothing_out(outbox: Outbox) -> None:
    def was_ahead(gateway: Gateway) -> None:
        (meter,) = gateway._meters
        to_come = range(FIRST.toordinal(), FIRST.toordinal() + AHEAD.days)
        within_us = DAYS.start_us(to_come[-1])
        meter.state = MeterState(settled=frozenset(to_come), morning=to_come[-1], last_us=within_us, within_us=within_us)
        meter.reload = False

    runs(outbox, START, 24 * 3 + 2, before=was_ahead)
    assert {23, 24, 25} <= {day for day, _ in days_read(outbox, "MP1")}


def test_a_fault_of_ours_at_one_meter_does_not_end_the_others_polls(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    def faulty(meter: str, _day: date, _frames: Sequence[Frame]) -> None:
        if meter == "M-1":
            raise RuntimeError("a fault of ours")

    runs(outbox, START, 24 * 2 + 2, meters=2, evidence=faulty)
    assert [day for day, _ in days_read(outbox, "MP2")] == [23, 24]
    assert any(record.levelno == logging.ERROR and "M-1" in record.message for record in caplog.records)


def test_a_corrupt_outbox_on_a_full_disk_is_made_anew_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "outbox.sqlite"
    with closing(Outbox(path, "gateway-1", days=DAYS)) as first:
        runs(first, START, 24 + 2)
        first.put([PollFailed(meter_point="X", meter="X", gas_day=FIRST, reason="x" * 4000, attempts=1)] * 1200, START)
    full = iter([True, True])
    really = outbox_module.connect

    def connect(path: Path, days: object) -> sqlite3.Connection:
        if next(full, False):
            raise OutboxFull("the disk is full")
        return really(path, days)  # type: ignore[arg-type]

    with closing(Outbox(path, "gateway-1", days=DAYS)) as outbox:
        before = outbox.id
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(b"\xa5" * (path.stat().st_size - 8192))
        monkeypatch.setattr(outbox_module, "connect", connect)
        for _ in range(2):
            with pytest.raises(OutboxFull):
                outbox.pending(100_000)
        runs(outbox, START + DAY + timedelta(hours=12), 18)
        assert outbox.id != before
        assert {day for day, _ in days_read(outbox, "MP1")} >= {23, 24}
        assert outbox.files_set_aside() == 1


def test_a_meter_without_a_log_has_another_reading_at_each_poll_of_the_day(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reading at a time, that of now: as many as the last time, and not the same. The same one is stored once."""
    taken: list[datetime] = []

    async def poll(
        meter: ServedMeter, _reader: object, day: int, _days: object, now: Callable[[], datetime], *_: object
    ) -> Polled:
        if not taken or len(set(taken)) < 3:
            taken.append(now())
        reading = DayReadings(at=(taken[-1],), index=(1000 + len(taken),))
        return Polled(Outcome.PARTIAL, to_fact(meter, date.fromordinal(day), reading), 1)

    monkeypatch.setattr(gateway_module, "poll", poll)
    runs(outbox, START + 6 * HOUR, 18, before=lambda gateway: _settle_all_but(gateway, FIRST))
    read = [fact.at or (fact.first_at,) for fact in stored(outbox) if isinstance(fact, Readings) and fact.gas_day == FIRST]
    assert read == [(at,) for at in taken]
    assert len(read) == 3


def _settle_all_but(gateway: Gateway, day: date) -> None:
    (meter,) = gateway._meters
    meter.policy = meter.policy._replace(within_day_s=4 * 3600)
    meter.state = MeterState(settled=frozenset(range(day.toordinal() - 100, day.toordinal())))
    meter.reload = False
