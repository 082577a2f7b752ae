"""The simulated meter: its truth is exact, and its equipment says of it what its faults have it say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.gasday import GasDays, to_datetime
from simulators.consumption import PROFILES, Consumption
from simulators.faults import AnyFault, ClockOffset, Corrupt, Dead, Late, NotLogged, ReadsLow, Reports, Silence, StartDiffers
from simulators.meter import Register, SimulatedMeter

FITTED = datetime(2026, 9, 21, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAYS = GasDays()


def start_of(day: date) -> datetime:
    return to_datetime(DAYS.start_us(day.toordinal()))


def end_of(day: date) -> datetime:
    return start_of(day + timedelta(days=1))


def meter(faults: Sequence[AnyFault] = (), start_index: int = 1000, digits: int = 8, drift_ppm: int = 0) -> SimulatedMeter:
    return SimulatedMeter(
        name="m",
        consumption=Consumption(PROFILES["factory"], 3_000_000_000_000, 7, FITTED),
        register=Register(digits, Decimal("0.1"), start_index),
        factor=Decimal("1.02264"),
        fitted_at=FITTED,
        faults=faults,
        drift_ppm=drift_ppm,
    )


def log_of(it: SimulatedMeter, day: date, read_after: timedelta = HOUR) -> dict[datetime, int]:
    return {row.at: row.index for row in it.log(start_of(day), end_of(day), end_of(day) + read_after)}


@pytest.mark.parametrize("name", PROFILES)
def test_weights_have_the_mean_of_a_thousand(name: str) -> None:
    profile = PROFILES[name]
    for weights, count in ((profile.months, 12), (profile.weekdays, 7), (profile.hours, 24)):
        assert (len(weights), sum(weights)) == (count, count * 1000)


@given(st.lists(st.integers(0, 40 * 24 * 60), min_size=2, max_size=30))
@settings(max_examples=50, deadline=None)
def test_the_index_never_falls_and_does_not_depend_on_the_order_of_asking(minutes: list[int]) -> None:
    it = meter()
    asked = {minute: it.true_index_at(FITTED + timedelta(minutes=minute)) for minute in minutes}
    ordered = [asked[minute] for minute in sorted(asked)]
    assert ordered == sorted(ordered)
    again = meter()
    assert [again.true_index_at(FITTED + timedelta(minutes=minute)) for minute in sorted(asked)] == ordered


def test_a_years_consumption_is_near_what_was_asked_for() -> None:
    consumption = Consumption(PROFILES["office"], 10**12, 1, FITTED)
    assert consumption.total_um3(FITTED + timedelta(days=365)) == pytest.approx(10**12, rel=0.03)


def test_the_days_volumes_add_up_to_the_period_to_the_litre() -> None:
    it = meter()
    days = [date(2026, 10, 20) + timedelta(days=n) for n in range(10)]
    k = Decimal("0.1") * Decimal("1.02264") * 1000
    start, end = it.true_index_at(start_of(days[0])), it.true_index_at(end_of(days[-1]))
    whole = int((end * k).quantize(Decimal(1), "ROUND_HALF_UP")) - int((start * k).quantize(Decimal(1), "ROUND_HALF_UP"))
    assert sum(it.true_volume_l(day) for day in days) == whole


def test_a_day_across_the_roll_over_has_the_volume_of_its_advance() -> None:
    day = date(2026, 10, 1)
    at_start = meter().true_index_at(start_of(day)) - 1000
    it = meter(start_index=10**6 - at_start - 500, digits=6)
    assert it.true_index_at(start_of(day)) > it.true_index_at(end_of(day))
    assert it.true_volume_l(day) == pytest.approx(meter().true_volume_l(day), abs=1)


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 10, 23), 24), (date(2026, 10, 24), 25), (date(2027, 3, 27), 23)])
def test_the_log_has_a_row_an_hour_and_both_boundaries_across_clock_changes(day: date, hours: int) -> None:
    it = meter()
    rows = log_of(it, day)
    assert list(rows) == [start_of(day) + n * HOUR for n in range(hours + 1)]
    assert list(rows)[-1] == end_of(day)
    assert all(index == it.true_index_at(at) for at, index in rows.items())


def test_the_log_holds_nothing_of_the_future_nor_of_before_its_time() -> None:
    it = meter()
    now = FITTED + timedelta(days=70, minutes=30)
    rows = it.log(FITTED - timedelta(days=1), now + timedelta(days=1), now)
    assert rows[0].at == FITTED + timedelta(days=10, hours=1)
    assert rows[-1].at == now - timedelta(minutes=30)


def test_silence_and_death() -> None:
    at = start_of(date(2026, 10, 5))
    it = meter([Silence(from_=at, until=at + HOUR)])
    assert [it.answers(now) for now in (at - HOUR, at, at + HOUR / 2, at + HOUR)] == [True, False, False, True]
    assert not meter([Dead()]).answers(at)


def test_what_is_not_logged_is_between_the_boundaries() -> None:
    first, last = date(2026, 10, 12), date(2026, 10, 15)
    it = meter([NotLogged(first_day=first, last_day=last)])
    rows = it.log(start_of(first) - HOUR, end_of(last) + HOUR, end_of(last) + 2 * HOUR)
    assert [row.at for row in rows] == [start_of(first) - HOUR, start_of(first), end_of(last), end_of(last) + HOUR]


def test_late_readings_can_be_had_from_their_instant_on() -> None:
    day = date(2026, 10, 14)
    it = meter([Late(day=day, available_from=end_of(day) + 10 * HOUR)])
    assert list(log_of(it, day, 9 * HOUR)) == [start_of(day)]
    assert len(log_of(it, day, 10 * HOUR)) == 25


def test_equipment_that_reads_low_is_brought_into_step_after_its_last_day() -> None:
    first, last = date(2026, 10, 17), date(2026, 10, 19)
    it = meter([ReadsLow(first_day=first, last_day=last, percent=3)])
    rows = it.log(start_of(first), end_of(first), end_of(first) + HOUR)
    advance, true_advance = rows[-1].index - rows[0].index, rows[-1].reference - rows[0].reference
    assert rows[0].index == it.true_index_at(start_of(first))
    assert advance == true_advance - true_advance * 3 // 100
    assert log_of(it, last)[end_of(last)] < it.true_index_at(end_of(last))
    after = log_of(it, last + timedelta(days=1))
    assert all(index == it.true_index_at(at) for at, index in after.items())


def test_a_start_that_differs_is_told_to_him_who_asks_for_the_later_day() -> None:
    day = date(2026, 10, 21)
    it = meter([StartDiffers(day=day, ticks=40)])
    right = it.true_index_at(start_of(day))
    assert log_of(it, day - timedelta(days=1))[start_of(day)] == right
    rows = log_of(it, day)
    assert rows[start_of(day)] == right + 40
    assert rows[end_of(day)] == it.true_index_at(end_of(day))


def test_a_clock_that_is_ahead_logs_early_and_marks_it_once_it_is_right_again() -> None:
    start = start_of(date(2026, 10, 28))
    fault = ClockOffset(from_=start + 6 * HOUR, until=start + 48 * HOUR - timedelta(minutes=5), offset_s=600)
    it = meter([fault])
    now = start + 24 * HOUR + timedelta(minutes=10)
    assert it.clock(now) - now == timedelta(minutes=10)
    rows = {row.at: row for row in it.log(start, start + 24 * HOUR, now)}
    assert rows[start + 24 * HOUR].index == it.true_index_at(start + 24 * HOUR - timedelta(minutes=10))
    assert all(row.status == () for row in rows.values())
    later = {row.at: row for row in it.log(start, start + 72 * HOUR, start + 73 * HOUR)}
    assert later[start + 24 * HOUR].status == ("clock_invalid",)
    assert later[start + 48 * HOUR].status == ()
    assert later[start + 48 * HOUR].index == it.true_index_at(start + 48 * HOUR)


def test_a_drifting_clock_gains() -> None:
    assert meter(drift_ppm=20).clock(FITTED + timedelta(days=10)) - (FITTED + timedelta(days=10)) == timedelta(seconds=17.28)


def test_a_clock_that_is_set_shows_what_it_was_told_and_what_was_logged_stays() -> None:
    now = FITTED + timedelta(days=10, minutes=30)
    fault = ClockOffset(from_=FITTED, until=FITTED + timedelta(days=99), offset_s=300)
    it = meter([fault])
    before = it.log(now - 3 * HOUR, now, now)
    it.set_clock(now + timedelta(seconds=280), now)
    assert it.clock(now) - now == timedelta(seconds=280)
    assert it.log(now - 3 * HOUR, now, now) == before
    (row,) = it.log(now, now + HOUR, now + HOUR)
    assert row.index == it.true_index_at(row.at - timedelta(seconds=280))


def test_what_is_logged_meanwhile_is_marked_with_what_the_equipment_reports() -> None:
    start = start_of(date(2026, 10, 28))
    it = meter([Reports(from_=start + HOUR, until=start + 3 * HOUR, status="tamper")])
    rows = it.log(start, start + 4 * HOUR, start + 5 * HOUR)
    assert [row.status for row in rows] == [(), ("tamper",), ("tamper",), (), ()]


def test_every_third_answer_is_spoiled() -> None:
    it = meter([Corrupt(every=3, how="short")])
    assert [it.spoils_answer() for _ in range(6)] == ["", "", "short", "", "", "short"]
