"""One poll: what becomes of an answer, and of none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from collectors.poll import ATTEMPTS, Polled, make_readers, poll, to_fact
from collectors.reader import Answer, Unanswered
from collectors.reading import DayReadings, PollError
from collectors.schedule import Outcome
from metering.facts import PollFailed, Readings, ReferenceIndex
from metering.gasday import GasDays
from metering.wire import encode_fact
from simulators.serve import ServedMeter

DAYS = GasDays()
DAY = date(2026, 10, 1)
START = datetime(2026, 10, 1, 4, tzinfo=UTC)
NOW = START + timedelta(days=1, minutes=4)
METER = ServedMeter(
    meter_point="MP1", meter="M-1", protocol="modbus", address="tcp://127.0.0.1:5020", device=1, map="hourly_log"
)


def readings(index: Sequence[int | None]) -> DayReadings:
    return DayReadings(at=tuple(START + timedelta(hours=n) for n in range(len(index))), index=tuple(index), clock_offset_s=2.5)


class Says:
    """A reader that gives these answers, one after the other, and then the last again and again."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers, self.asked = list(answers), 0
        self.lock = asyncio.Lock()

    async def read_day(self, start: datetime, end: datetime, now: Callable[[], datetime]) -> Answer:
        assert (start, end, now()) == (START, START + timedelta(days=1), NOW)
        said = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(said, Exception):
            raise said
        return said

    async def close(self) -> None:
        pass


def polled(reader: Says, synchronised: bool = True) -> Polled:
    return asyncio.run(poll(METER, reader, DAY.toordinal(), DAYS, lambda: NOW, synchronised))


def test_a_reason_is_of_a_length_that_a_person_reads() -> None:
    """A part of it may be what the meter said, at any length, in any characters."""
    fact = polled(Says(Unanswered("MP1", "refused: \ud800" + "x" * 300_000))).fact
    assert isinstance(fact, PollFailed)
    assert fact.reason.startswith("refused: ?xxx")
    assert len(encode_fact(fact)) < 2000


FULL = Answer(readings(range(100, 125)), None)
BAD = PollError("MP1", "short answer")


def test_an_answer_is_the_days_readings() -> None:
    outcome, fact, count = polled(Says(FULL))
    assert (outcome, count) == (Outcome.COMPLETE, 25)
    assert fact == Readings(
        meter_point="MP1", meter="M-1", gas_day=DAY, first_at=START, interval_s=3600, index=tuple(range(100, 125)),
        clock_offset_s=2.5,
    )  # fmt: skip


def test_the_clock_offset_is_null_while_the_gateways_own_clock_is_not_known_to_be_right() -> None:
    fact = polled(Says(FULL), synchronised=False).fact
    assert isinstance(fact, Readings)
    assert fact.clock_offset_s is None


@pytest.mark.parametrize("bad", range(ATTEMPTS))
def test_a_bad_answer_is_asked_for_again_at_once(bad: int) -> None:
    assert polled(Says(*[BAD] * bad, FULL)).outcome is Outcome.COMPLETE


@pytest.mark.parametrize(("error", "attempts"), [(BAD, ATTEMPTS), (Unanswered("MP1", "no answer"), 1)])
def test_in_the_end_it_is_a_failed_poll_with_its_cause(error: PollError, attempts: int) -> None:
    reader = Says(error)
    outcome, fact, count = polled(reader)
    assert (outcome, count, reader.asked) == (Outcome.SILENT, 0, attempts)
    assert fact == PollFailed(meter_point="MP1", meter="M-1", gas_day=DAY, reason=error.cause, attempts=attempts)


def test_a_fault_of_ours_fails_one_poll_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    outcome, fact, _ = polled(Says(RuntimeError("oh")))
    assert outcome is Outcome.SILENT
    assert isinstance(fact, PollFailed)
    assert fact.reason == "RuntimeError: oh"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize(
    ("index", "log_from", "outcome", "count"),
    [
        ([1, *[None] * 24], None, Outcome.PARTIAL, 1),
        ([None] * 25, None, Outcome.PARTIAL, 0),
        ([*[None] * 24, 7], START + timedelta(hours=23), Outcome.PARTIAL, 1),
        ([*[None] * 24, 7], START + timedelta(hours=24), Outcome.GONE, 0),
        ([None] * 25, START + timedelta(days=9), Outcome.GONE, 0),
    ],
)
def test_what_is_missing_may_come_yet_or_is_gone(
    index: list[int | None], log_from: datetime | None, outcome: Outcome, count: int
) -> None:
    found = polled(Says(Answer(readings(index), log_from)))
    assert (found.outcome, found.readings) == (outcome, count)


def test_instants_that_are_not_evenly_spaced_are_written_out() -> None:
    at = (START, START + timedelta(hours=1, seconds=20), START + timedelta(hours=2))
    given = DayReadings(
        at=at, index=(1, None, 3), unconverted=(5, None, 6), reference_index=ReferenceIndex(start=1, end=3),
        interval_m3=(Decimal("0.1"), None), status=("tamper",),
    )  # fmt: skip
    fact = to_fact(METER, DAY, given)
    assert (fact.at, fact.first_at, fact.interval_s) == (at, None, None)
    assert (fact.index, fact.unconverted, fact.status) == (given.index, given.unconverted, given.status)
    assert (fact.reference_index, fact.interval_m3) == (given.reference_index, given.interval_m3)


def test_meters_of_one_address_share_its_line() -> None:
    async def main() -> None:
        other = msgspec.structs.replace(METER, meter_point="MP2", device=2)
        third = msgspec.structs.replace(METER, meter_point="MP3", address="tcp://127.0.0.1:5021")
        serial = msgspec.structs.replace(METER, protocol="iec62056_21", address="serial:/dev/nothing", map="hourly_profile")
        readers = make_readers([METER, other, third, serial, serial], 1.0)
        assert readers[0].lock is readers[1].lock
        assert readers[0].lock is not readers[2].lock
        assert readers[3].line is readers[4].line  # type: ignore[attr-defined]
        for reader in readers:
            await reader.close()

    asyncio.run(main())
