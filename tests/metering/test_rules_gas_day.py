"""The Gas Day and its deadlines: clock changes, the 23 hours of 30 September 2015, leap days, year ends (2.1, 4.4.1, 5.2.1)."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest

from metering.gasday import DayStart, GasDays, to_datetime, to_us
from metering.rules import Rules
from tests.metering.domain import Site, gas_day, hours, local, start

HOUR = timedelta(hours=1)
LENGTHS = [
    ("2026-01-31", 24), ("2026-03-27", 24), ("2026-03-28", 23), ("2026-03-29", 24),  # the clocks go forward on the 29th
    ("2026-10-23", 24), ("2026-10-24", 25), ("2026-10-25", 24),  # and back on the 25th
    ("2015-09-29", 24), ("2015-09-30", 23), ("2015-10-01", 24),  # Days begin at 05:00 from 1 October 2015 on, before at 06:00
    ("2015-10-24", 25), ("2015-03-28", 23),
    ("2024-02-28", 24), ("2024-02-29", 24), ("2025-12-31", 24), ("2000-02-29", 24),
]  # fmt: skip
STARTS = [
    ("2026-01-31", "2026-01-31T05:00Z"), ("2026-03-29", "2026-03-29T04:00Z"), ("2026-10-25", "2026-10-25T05:00Z"),
    ("2015-09-30", "2015-09-30T05:00Z"), ("2015-10-01", "2015-10-01T04:00Z"), ("2014-12-31", "2014-12-31T06:00Z"),
]  # fmt: skip
ELEVEN = [
    ("2026-01-31", "2026-02-01T11:00Z"), ("2026-03-28", "2026-03-29T10:00Z"), ("2026-10-24", "2026-10-25T11:00Z"),
    ("2025-12-31", "2026-01-01T11:00Z"), ("2024-02-28", "2024-02-29T11:00Z"), ("2015-09-30", "2015-10-01T10:00Z"),
]  # fmt: skip
CLOSE_OUTS = [
    ("2026-01-10", "2026-01-16T05:00Z"), ("2026-03-24", "2026-03-30T04:00Z"), ("2026-10-20", "2026-10-26T05:00Z"),
    ("2025-12-27", "2026-01-02T05:00Z"), ("2024-02-25", "2024-03-02T05:00Z"), ("2015-09-25", "2015-10-01T04:00Z"),
]  # fmt: skip


def ordinal(day: str) -> int:
    return gas_day(day).toordinal()


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(("day", "length"), LENGTHS)
def test_how_long_a_day_is(day: str, length: int) -> None:
    assert start(day, 1) - start(day) == length * HOUR


@pytest.mark.parametrize(("day", "begins"), STARTS)
def test_when_a_day_begins(day: str, begins: str) -> None:
    assert start(day) == instant(begins)


@pytest.mark.parametrize(("day", "eleven"), ELEVEN)
def test_5_2_1_eleven_is_local_time_on_the_date_after(day: str, eleven: str) -> None:
    assert to_datetime(GasDays().eleven_us(ordinal(day))) == instant(eleven)


@pytest.mark.parametrize(("day", "close_out"), CLOSE_OUTS)
def test_4_4_1_exit_close_out_is_the_end_of_the_fifth_day_after(day: str, close_out: str) -> None:
    assert to_datetime(GasDays().exit_close_out_us(ordinal(day))) == instant(close_out)


@pytest.mark.parametrize(("day", "length"), LENGTHS)
def test_a_start_belongs_to_its_day_and_all_instants_to_one(day: str, length: int) -> None:
    days, begins = GasDays(), to_us(start(day))
    assert days.day_of(begins) == ordinal(day)
    assert days.day_of(begins - 1) == ordinal(day) - 1
    assert days.day_of(begins + length * 3_600_000_000 - 1) == ordinal(day)
    assert days.day_of(begins + length * 3_600_000_000) == ordinal(day) + 1


def test_zone_starts_and_close_out_are_configuration() -> None:
    days = GasDays("Europe/Berlin", (DayStart(date(1, 1, 1), time(6)),), close_out_days=2)
    assert to_datetime(days.start_us(ordinal("2026-01-10"))) == instant("2026-01-10T05:00Z")
    assert to_datetime(days.exit_close_out_us(ordinal("2026-01-10"))) == instant("2026-01-13T05:00Z")


@pytest.mark.parametrize("day", ["2026-03-28", "2026-10-24", "2015-09-30", "2024-02-29", "2025-12-31", "2026-01-15"])
@pytest.mark.clause("4.2.1(b)", "4.3(a)")
def test_4_3_hourly_readings_of_any_day_give_its_volume(day: str) -> None:
    site = Site(day, known=f"{int(day[:4]) - 1}-01-01 12:00", values=2)
    instants = hours(day)
    site.read(day, [10 * n for n in range(len(instants))], at=instants)
    found = site.day(day)
    assert (found.status, found.start_index, found.end_index) == ("actual", 0, 10 * (len(instants) - 1))
    assert found.volume_m3 == len(instants) - 1


@pytest.mark.parametrize(("day", "length"), [each for each in LENGTHS if each[1] != 24])
def test_readings_of_24_hours_do_not_reach_the_end_of_a_longer_day_nor_stay_within_a_shorter(day: str, length: int) -> None:
    site = Site(day, known=f"{int(day[:4]) - 1}-01-01 12:00", values=2)
    site.read(day, [0, 240], at=[start(day), start(day) + 24 * HOUR])
    view = site.ledger(start(day, 2))
    assert not view.day(day).valid
    assert view.rejected(day) == ([] if length == 25 else [("malformed", 240)])


def test_a_day_appears_at_its_start_and_not_before() -> None:
    site = Site("2026-01-01")
    assert not site.ledger(start("2026-01-01", 0, -0.000001)).has("2026-01-01")
    view = site.ledger(start("2026-01-01"))
    assert view.day("2026-01-01").status == "provisional"
    assert not view.has("2026-01-02")
    assert not view.has("2025-12-31")


def test_a_point_that_is_registered_late_appears_with_all_its_days() -> None:
    site = Site("2026-01-01", known="2026-01-10 12:00")
    assert not site.ledger("2026-01-10 11:59").ledger
    assert site.ledger("2026-01-10 12:00").statuses("2026-01-01", 10) == ["provisional"] * 10


def test_4_4_1_what_is_received_at_the_close_out_counts_and_later_does_not() -> None:
    for late, status in [(0, "actual"), (0.000001, "deemed")]:
        site = Site("2026-01-01")
        site.read("2026-01-01", [0, 1000], received=start("2026-01-07", 0, late))
        assert site.day("2026-01-01").status == status


def test_the_number_of_days_to_the_close_out_is_configuration() -> None:
    for days in (0, 2, 9):
        site = Site("2026-01-01", rules=Rules(close_out_days=days))
        assert not site.day("2026-01-01", start("2026-01-01", days + 1, -0.000001)).closed_out
        assert site.day("2026-01-01", start("2026-01-01", days + 1)).closed_out


def test_a_point_known_later_is_closed_out_when_the_day_of_its_registration_is() -> None:
    """An import of history is taken as readings and not as failures."""
    site = Site("2026-01-01", known="2026-01-20 12:00")
    site.days("2026-01-01", [0, 1000, 2000])
    for n in (0, 2):
        site.read(f"2026-01-{3 + n:02}", [2000 + 500 * n, 2500 + 500 * n], received="2026-01-25 12:00")
    before, after = site.ledger(start("2026-01-26", 0, -0.000001)), site.ledger(start("2026-01-26"))
    assert not any(before.day(f"2026-01-{n:02}").closed_out for n in range(1, 21))
    assert all(after.day(f"2026-01-{n:02}").closed_out for n in range(1, 21))
    assert after.statuses("2026-01-01", 6) == ["actual", "actual", "actual", "actual", "actual", "deemed"]


def test_an_earlier_registration_date_learned_later_closes_its_days_out_later() -> None:
    site = Site("2026-01-10")
    site.days("2026-01-10", [0, 1000])
    site.register("2026-01-08", known="2026-01-20 12:00")
    view = site.ledger(local("2026-01-20 12:00"))
    assert [view.day(f"2026-01-{n:02}").closed_out for n in (8, 9, 10, 14)] == [False, False, True, True]
    later_view = site.ledger(start("2026-01-26"))
    assert [later_view.day(f"2026-01-{n:02}").closed_out for n in (8, 9)] == [True, True]
    assert later_view.statuses("2026-01-08", 3) == ["deemed", "deemed", "actual"]
