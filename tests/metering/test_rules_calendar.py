"""Days of 23 and 25 hours, leap days, month and year ends, the 06:00 to 05:00 change of 2015, bank holidays, in the ledger.

Every case is told twice or more, for the Days at which the calendar is not even; the numbers are the same for all of them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.metering.domain import WEEK, Site, hours, later, local, start

SHORT, LONG, CHANGE = "2026-03-28", "2026-10-24", "2015-09-30"  # of 23, 25 and 23 hours
UNEVEN = [SHORT, LONG, CHANGE, "2024-02-29", "2025-12-31"]
RUNS = [
    "2026-03-20",
    "2026-10-16",
    "2025-12-23",
    "2024-02-20",
    "2015-09-21",
]  # a week read, then four Days of which one is uneven


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def a_site(day: str, **more: object) -> Site:
    """A point registered and fitted on this Day, and known a year before."""
    return Site(day, known=f"{int(day[:4]) - 1}-01-15 12:00", **more)  # type: ignore[arg-type]


def a_run(first: str) -> Site:
    """Seven Days read at 10, 11, 12, 10, 7, 6 and 6 m³, then four of silence."""
    site = a_site(first)
    site.days(first, WEEK)
    return site


# --- the length of the Day ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("day", "length"), [(SHORT, 23), (LONG, 25), (CHANGE, 23), ("2026-03-27", 24), ("2024-02-29", 24)])
def test_1_5_the_greatest_flow_is_by_the_days_own_hours(day: str, length: int) -> None:
    """100 ticks an hour and 1%, and one tick: 2324, 2425 or 2526."""
    most = 101 * length + 1
    for advance, rejected in [(most, []), (most + 1, [("excess_flow", most + 1)])]:
        site = a_site(day, q_max="10")
        site.read(day, [0, advance])
        assert site.ledger().rejected(day) == rejected


@pytest.mark.parametrize("day", UNEVEN)
def test_3_9_1b_an_exchange_on_an_uneven_day(day: str) -> None:
    """M reads every hour up to 14:00, 6 m³; N every hour from then on, 20 m³."""
    site = a_site(day, index=620)
    at = hours(day)
    changed = local(f"{day} 14:00")
    old, new = [each for each in at if each <= changed], [each for each in at if each >= changed]
    site.remove(changed, 680)
    site.fit(changed, 5)
    site.read(day, [min(680, 620 + 10 * n) for n in range(len(old))], at=old)
    site.read(day, [min(25, 5 + 2 * n) for n in range(len(new))], at=new, meter="N")
    view = site.ledger()
    found = view.day(day)
    assert (found.status, found.start_index, found.end_index, str(found.volume_m3)) == ("actual", 620, 25, "26.000")
    assert view.rejected(day) == []


def test_3_9_1b_an_exchange_in_the_hour_that_comes_twice() -> None:
    """M is removed at 01:30 of summer time and N fitted at 01:30 of winter time, an hour later. What is stamped 01:00 of winter
    time is after the removal."""
    site = a_site(LONG, index=620)
    site.remove(instant("2026-10-25T00:30Z"), 680)
    site.fit(instant("2026-10-25T01:30Z"), 5)
    site.read(LONG, [620, 670, 690], at=[start(LONG), instant("2026-10-25T00:00Z"), instant("2026-10-25T01:00Z")])
    site.read(LONG, [7, 25], at=[instant("2026-10-25T02:00Z"), start(LONG, 1)], meter="N")
    view = site.ledger()
    assert view.rejected(LONG) == [("malformed", 690)]
    assert view.volumes(LONG, 1) == ["26.000"]


@pytest.mark.parametrize("day", [SHORT, LONG, CHANGE])
def test_3_9_1b_an_exchange_at_the_end_of_an_uneven_day(day: str) -> None:
    site, after = a_site(day, index=620), later(day, 1)
    site.remove(start(after), 700)
    site.fit(start(after), 5)
    site.index(start(day, 2), 40, after, received=start(day, 2) + timedelta(hours=1), meter="N")
    assert site.ledger().volumes(day, 2) == ["8.000", "35.000"]


def test_3_9_1b_before_october_2015_a_day_ended_at_06() -> None:
    """05:30 on 30 September was still the Day of the 29th; 05:30 on 1 October was not the Day of the 30th."""
    site = a_site("2015-09-29", index=620)
    site.remove("2015-09-30 05:30", 680)
    site.fit("2015-09-30 05:30", 5)
    site.days("2015-09-30", [25, 60], meter="N")
    site.remove("2015-10-01 05:30", 70, meter="N")
    site.fit("2015-10-01 05:30", 0, meter="O")
    site.index(start("2015-10-02"), 9, "2015-10-01", received="2015-10-02 07:00", meter="O")
    assert site.ledger().volumes("2015-09-29", 3) == ["26.000", "35.000", "19.000"]  # 6 + 20; 35; 10 + 9


def test_4_2_1_06_on_1_october_2015_is_no_boundary_of_the_day_before() -> None:
    site = a_site(CHANGE)
    site.read(CHANGE, [0, 100], at=[start(CHANGE), local("2015-10-01 06:00")])
    view = site.ledger(start(CHANGE, 2))
    assert (view.rejected(CHANGE), view.day(CHANGE).valid) == ([("malformed", 100)], False)


@pytest.mark.parametrize("day", UNEVEN)
def test_4_2_6_a_deemed_day_is_a_365th_however_long_it_is(day: str) -> None:
    found = a_site(day).day(day, start(day, 6))
    assert (found.status, str(found.quantity_kwh), str(found.volume_m3)) == ("deemed", "1000.000", "100.000")


# --- runs, and the week before ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", RUNS)
def test_4_4_5b_a_run_over_an_uneven_day_is_shared_by_what_was_assumed(first: str) -> None:
    """48 m³ as 10 : 11 : 12 : 10 of 43, whatever the hours."""
    site, silent = a_run(first), later(first, 7)
    site.read(later(first, 11), [1100, 1200])
    view = site.ledger()
    assert view.statuses(silent, 4) == ["assumed"] * 4
    assert view.volumes(silent, 4) == ["10.000", "11.000", "12.000", "10.000"]
    assert view.determined(silent, 4) == ["11.163", "12.279", "13.395", "11.163"]


@pytest.mark.parametrize("first", RUNS)
def test_4_4_5b_with_an_exchange_in_it(first: str) -> None:
    """28 m³ of M and 20 of N."""
    site, silent = a_run(first), later(first, 7)
    noon = f"{later(first, 9)} 12:00"
    site.remove(noon, 900)
    site.fit(noon, 5)
    site.read(later(first, 11), [25, 60], meter="N")
    assert site.ledger().determined(silent, 4) == ["11.163", "12.279", "13.395", "11.163"]


@pytest.mark.parametrize("first", RUNS)
def test_4_4_5b_with_a_fault_that_ends_as_a_day_begins(first: str) -> None:
    """The boundaries are obtained later. That at which the fault ends is usable: 23 m³ as 10 : 11, then 11 and 14."""
    site, silent = a_run(first), later(first, 7)
    boundaries = [620, 750, 850, 960, 1100]
    for n in range(4):
        site.read(later(silent, n), boundaries[n : n + 2], received=start(silent, 12))
    site.fault(start(silent, 1), start(silent, 2), known=start(silent, 1))
    assert site.ledger().determined(silent, 4) == ["10.952", "12.048", "11.000", "14.000"]


@pytest.mark.parametrize("day", UNEVEN)
def test_4_4_2_the_same_day_of_the_week_before_by_its_date(day: str) -> None:
    """12.3 m³; read for a week more, then no longer."""
    site = a_site(later(day, -10))
    site.days(later(day, -10), [100 * n for n in range(11)])
    site.read(day, [1000, 1123])
    site.days(later(day, 1), [1123 + 100 * n for n in range(7)])
    view = site.ledger(start(day, 22))
    assert [view.day(later(day, n)).status for n in (0, 7, 14)] == ["actual", "assumed", "assumed"]
    assert [str(view.day(later(day, n)).volume_m3) for n in (0, 7, 14)] == ["12.300"] * 3


def test_4_4_2_after_a_leap_day_seven_days_are_counted_over_it() -> None:
    """1 March 2024 assumes 23 February, and 7 March the leap day."""
    site = a_site("2024-02-20")
    site.days("2024-02-20", [0, 1, 3, 6, 10, 15, 21, 28, 36, 45, 55])  # 20 to 29 February: 0.1 m³ more each Day
    view = site.ledger("2024-03-20 12:00")
    assert view.statuses("2024-03-01", 7) == ["assumed"] * 7
    assert view.volumes("2024-03-01", 7) == ["0.400", "0.500", "0.600", "0.700", "0.800", "0.900", "1.000"]


# --- deadlines ----------------------------------------------------------------------------------------------------------------


CLOSE_OUTS = [  # six Days later, Business Days or not
    ("2026-03-24", "2026-03-30T04:00Z"),  # over the change to summer time
    ("2026-10-20", "2026-10-26T05:00Z"),  # and back
    ("2025-12-22", "2025-12-28T05:00Z"),  # over Christmas, on a Sunday
    ("2026-03-31", "2026-04-06T04:00Z"),  # over Easter, on Easter Monday
    ("2024-02-25", "2024-03-02T05:00Z"),  # over a leap day
    ("2015-09-25", "2015-10-01T04:00Z"),  # as Days begin at 05:00
]


@pytest.mark.parametrize(("day", "close_out"), CLOSE_OUTS)
def test_4_4_1_the_close_out_counts_gas_days_and_not_business_days(day: str, close_out: str) -> None:
    for late, status in [(timedelta(0), "actual"), (timedelta(microseconds=1), "deemed")]:
        site = a_site(day)
        site.read(day, [0, 100], received=instant(close_out) + late)
        assert site.day(day).status == status


@pytest.mark.parametrize(("day", "close_out"), CLOSE_OUTS)
def test_3_9_1b_what_is_told_of_an_exchange_counts_until_then(day: str, close_out: str) -> None:
    for late, status, determined in [(timedelta(0), "actual", None), (timedelta(microseconds=1), "deemed", "restored")]:
        site, told = a_site(day, index=620), instant(close_out) + late
        site.remove(f"{day} 14:00", 680, known=told)
        site.fit(f"{day} 14:00", 5, known=told)
        site.index(start(day, 1), 25, day, received=start(day, 1) + timedelta(hours=1), meter="N")
        found = site.day(day)
        assert (found.status, found.determined_status) == (status, determined)
        assert str(found.volume_m3 if determined is None else found.determined_m3) == "26.000"


@pytest.mark.parametrize(
    ("day", "eleven"),
    [
        (SHORT, "2026-03-29T10:00Z"), (LONG, "2026-10-25T11:00Z"), (CHANGE, "2015-10-01T10:00Z"),
        ("2025-12-31", "2026-01-01T11:00Z"), ("2024-02-28", "2024-02-29T11:00Z"), ("2024-02-29", "2024-03-01T11:00Z"),
        ("2025-12-24", "2025-12-25T11:00Z"),
    ],
)  # fmt: skip
def test_5_2_1_by_11_of_local_time_on_the_next_date(day: str, eleven: str) -> None:
    for late, by_11 in [(timedelta(0), True), (timedelta(microseconds=1), False)]:
        site = a_site(day)
        site.read(day, [0, 100], received=instant(eleven) + late)
        assert site.day(day).by_11 is by_11


@pytest.mark.parametrize("day", [SHORT, LONG, CHANGE])
def test_2_4_4c_a_by_pass_used_until_the_very_end_of_an_uneven_day(day: str) -> None:
    for late, volumes in [(0, ["12.500", "11.000"]), (1, ["10.000", "13.500"])]:
        site = a_site(day)
        site.days(day, [0, 100, 210])
        site.bypass(f"{day} 12:00", start(day, 1, late), "2.5", known=start(day, 1, 60))
        assert site.ledger().volumes(day, 2) == volumes


@pytest.mark.parametrize("day", [SHORT, LONG, CHANGE])
def test_4_2_1_a_piece_belongs_to_the_day_that_it_names_at_the_boundary_of_an_uneven_day(day: str) -> None:
    """Within 60 s of the boundary a reading is of both Days; farther off it is of the one that holds it."""
    for seconds, rejected in [(60, []), (61, [("malformed", 100)]), (-60, []), (-61, [])]:
        site = a_site(day)
        site.read(day, [0, 100], at=[start(day), start(day, 1, seconds)])
        view = site.ledger(start(day, 2))
        assert view.rejected(day) == rejected
        assert view.day(day).valid is (abs(seconds) == 60)


@pytest.mark.parametrize("month", ["2026-03", "2026-10", "2015-09", "2015-10", "2024-02"])
def test_4_3_a_month_at_one_tick_an_hour_is_as_many_ticks_as_it_has_hours(month: str) -> None:
    first = f"{month}-01"
    site = a_site(first, values=31)
    lengths: list[int] = []
    while (day := later(first, len(lengths))).startswith(month):
        shown = sum(lengths)
        lengths.append(len(hours(day)) - 1)
        site.read(day, [shown, shown + lengths[-1]])
    assert site.ledger(start(first, 40)).volumes(first, len(lengths)) == [f"{each / 10:.3f}" for each in lengths]
