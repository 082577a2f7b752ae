"""What becomes an alarm: each status once when it begins, a clock that is off when it begins and when it ends."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from collectors.alarms import CLOCK, Alarms, of_clock, of_day
from collectors.outbox import Told
from metering.facts import Status

AT = datetime(2026, 10, 26, 5, tzinfo=UTC)
DAY = date(2026, 10, 25).toordinal()
NONE: frozenset[Told] = frozenset()


def days(*read: tuple[int, tuple[Status, ...]], told: frozenset[Told] = NONE, oldest: int = 0) -> list[tuple[int, str]]:
    """(Day of the month, kind) of each alarm, where these Days are read in this order."""
    said = []
    for number, status in read:
        found = of_day("MP1", "M-1", date(2026, 10, number).toordinal(), AT, status, told, oldest)
        said += [(number, fact.kind) for fact in found.facts]
        told = found.told
    return said


def test_a_status_is_told_once_while_it_lasts() -> None:
    assert days((1, ()), (2, ("tamper",)), (3, ("tamper",)), (4, ("tamper", "battery_low"))) == [
        (2, "tamper"),
        (4, "battery_low"),
    ]


def test_a_status_that_comes_back_is_told_again() -> None:
    assert days((1, ("tamper",)), (2, ()), (3, ()), (4, ("tamper",))) == [(1, "tamper"), (4, "tamper")]


def test_days_of_one_trouble_are_one_alarm_whichever_is_read_first() -> None:
    assert days((4, ("reed_switch",)), (3, ("reed_switch",)), (2, ("reed_switch",)), (5, ("reed_switch",))) == [
        (4, "reed_switch")
    ]


def test_a_day_read_again_tells_nothing() -> None:
    assert days((4, ("bypass_open",)), (4, ("bypass_open",))) == [(4, "bypass_open")]


def test_a_wrong_clock_marks_readings_and_is_no_alarm_of_the_equipment() -> None:
    assert days((1, ("clock_invalid",))) == []


def test_what_was_told_long_ago_is_forgotten_but_not_a_clock_that_is_still_off() -> None:
    told = frozenset({Told("tamper", DAY - 50), Told("tamper", DAY - 3), Told(CLOCK, DAY - 50)})
    found = of_day("MP1", "M-1", DAY, AT, (), told, oldest=DAY - 41)
    assert found == Alarms((), frozenset({Told("tamper", DAY - 3), Told(CLOCK, DAY - 50)}))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_clock_is_told_when_it_goes_beyond_the_limit_and_when_it_is_well_within_it_again(sign: int) -> None:
    said, told = [], NONE
    for offset_s in (59.9, 60.1, 500.0, 59.0, 31.0, 30.0, 10.0, 61.0):
        found = of_clock("MP1", "M-1", DAY, AT, sign * offset_s, 60, told)
        said += [fact.detail for fact in found.facts]
        told = found.told
    way = "ahead" if sign > 0 else "behind"
    assert said == [
        f"its clock is 60.1 s {way}; allowed: 60 s",
        f"its clock is right again: 30.0 s {way}",
        f"its clock is 61.0 s {way}; allowed: 60 s",
    ]
