"""A Day's volume at its close-out and before: actual, deemed, assumed, provisional (4.2.6, 4.3, 4.4)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.metering.domain import Site, later, start

FIRST = "2026-01-01"


def a_month(missing: range | set[int], **more: object) -> Site:
    """From 1 January a Day's advance is 100 ticks and 10 for each Day of the month; of the Days missing nothing comes."""
    site, index = Site(FIRST, **more), 0  # type: ignore[arg-type]
    for n in range(1, 29):
        advance = 100 + 10 * n
        if n not in missing:
            site.read(f"2026-01-{n:02}", [index, index + advance])
        index += advance
    return site


def volume(n: int) -> str:
    return f"{(100 + 10 * n) / 10:.3f}"


def test_4_3_actual_where_valid_at_the_close_out() -> None:
    view = a_month(set()).ledger("2026-01-29 06:00")
    assert view.statuses(FIRST, 28) == ["actual"] * 28
    assert view.volumes(FIRST, 28) == [volume(n) for n in range(1, 29)]
    assert [view.day(later(FIRST, n)).closed_out for n in range(28)] == [True] * 23 + [False] * 5


def test_before_its_close_out_a_valid_day_is_actual_and_may_still_change() -> None:
    site = a_month(range(11, 29))
    found = site.day("2026-01-10", "2026-01-11 06:00")
    assert (found.status, found.closed_out, found.ratchet_day) == ("actual", False, True)
    site.read("2026-01-10", [1551], at=[start("2026-01-11")], received="2026-01-11 07:00")
    found = site.day("2026-01-10", "2026-01-11 07:00")
    assert (found.status, str(found.volume_m3), found.ratchet_day) == ("provisional", volume(3), False)


def test_4_2_6_the_registration_date_and_the_six_days_after_are_deemed() -> None:
    site = Site(FIRST)
    view = site.ledger(start(FIRST, 15))
    assert view.statuses(FIRST, 9) == ["deemed"] * 7 + ["assumed"] * 2
    assert {str(view.day(later(FIRST, n)).quantity_kwh) for n in range(7)} == {"1000.000"}
    assert view.volumes(FIRST, 9) == ["100.000"] * 9
    assert not any(view.day(later(FIRST, n)).ratchet_day for n in range(9))


@pytest.mark.parametrize(
    ("annual", "value", "kwh", "m3"),
    [
        ("365000", "36", "1000.000", "100.000"),
        ("100000", "39.5", "273.973", "24.970"),  # 273.97260..., 24.96969... m³ of the rounded quantity
        ("1", "39.5", "0.003", "0.000"),  # 0.0027..., 0.27 litres
        ("0.1825", "36", "0.001", "0.000"),  # 0.0005 rounds up
        ("0", "39.5", "0.000", "0.000"),
        ("123456.789", "38.7", "338.238", "31.464"),
    ],
)
def test_4_2_6_annual_quantity_by_365_rounded_and_the_volume_from_it(annual: str, value: str, kwh: str, m3: str) -> None:
    found = Site(FIRST, aq=annual, value=value).day(FIRST, start(FIRST, 6))
    assert (found.status, str(found.quantity_kwh), str(found.volume_m3)) == ("deemed", kwh, m3)


def test_4_2_6_the_volume_waits_for_the_first_calorific_value_and_keeps_it() -> None:
    site = Site(FIRST, values=None)
    site.value(FIRST, "36", received="2026-01-20 12:00")
    site.value(FIRST, "40", received="2026-01-22 12:00")
    waiting, known, after = (site.day(FIRST, f"2026-01-{day} 12:00") for day in (19, 20, 22))
    assert (waiting.status, waiting.volume_m3, str(waiting.quantity_kwh)) == ("deemed", None, "1000.000")
    assert (str(known.volume_m3), str(known.quantity_kwh)) == ("100.000", "1000.000")
    assert (str(after.volume_m3), str(after.quantity_kwh)) == ("100.000", "1000.000")


def test_4_2_6_of_values_known_at_the_close_out_the_latest_counts() -> None:
    site = Site(FIRST, values=None)
    site.value(FIRST, "36", received="2026-01-02 12:00")
    site.value(FIRST, "40", received="2026-01-03 12:00")
    assert [str(site.day(FIRST, at).volume_m3) for at in ("2026-01-02 12:00", start(FIRST, 6))] == ["100.000", "90.000"]


def test_4_2_6_days_that_rest_on_an_unknown_volume_are_unknown_too_and_follow() -> None:
    site = Site(FIRST, values=None)
    site.value(FIRST, "36", received="2026-01-26 12:00")
    before, after = site.ledger("2026-01-26 11:59"), site.ledger("2026-01-26 12:00")
    days = [FIRST, "2026-01-08", "2026-01-15", "2026-01-22"]
    assert [before.day(day).volume_m3 for day in days] == [None] * 4
    assert [str(after.day(day).volume_m3) for day in days] == ["100.000"] * 4
    assert [after.day(day).status for day in days] == ["deemed", "assumed", "assumed", "provisional"]
    assert [after.day(day).quantity_kwh for day in days[1:]] == [None] * 3  # their own values are not known


def test_4_2_6_the_annual_quantity_is_that_known_at_the_close_out() -> None:
    site = Site(FIRST)
    site.register(FIRST, known="2026-01-05 12:00", aq="730000")
    site.register("2026-01-03", known="2026-01-06 12:00", aq="36500")
    site.register(FIRST, known="2026-01-20 12:00", aq="1")
    view = site.ledger()
    assert [str(view.day(later(FIRST, n)).quantity_kwh) for n in range(4)] == ["2000.000", "2000.000", "100.000", "100.000"]


@pytest.mark.clause("4.4.2(a)")
def test_4_4_2_assumed_is_the_closed_out_volume_of_the_same_day_of_the_week_before() -> None:
    view = a_month({12, 13}).ledger()
    assert (view.day("2026-01-12").status, str(view.day("2026-01-12").volume_m3)) == ("assumed", volume(5))
    assert str(view.day("2026-01-13").volume_m3) == volume(6)


def test_4_4_2_a_single_day_between_two_read_ones_needs_no_assumption() -> None:
    found = a_month({12}).day("2026-01-12")
    assert (found.status, str(found.volume_m3)) == ("actual", volume(12))


def test_4_4_2_the_quantity_is_by_the_days_own_calorific_value() -> None:
    site = a_month({12, 13}, values=None)
    site.value("2026-01-12", "40", received="2026-01-13 12:00")
    site.value("2026-01-05", "36", received="2026-01-06 12:00")
    assert str(site.day("2026-01-12").quantity_kwh) == "166.667"  # 15 m³ × 40 / 3.6


def test_4_4_2_assumptions_rest_on_assumptions_over_weeks() -> None:
    view = a_month(range(8, 29)).ledger(start("2026-02-03"))
    assert view.statuses("2026-01-08", 21) == ["assumed"] * 21
    assert view.volumes("2026-01-08", 21) == [volume(n) for n in range(1, 8)] * 3


def test_4_4_2_and_on_deemed_days() -> None:
    view = a_month(range(1, 29)).ledger(start("2026-02-03"))
    assert view.statuses(FIRST, 28) == ["deemed"] * 7 + ["assumed"] * 21
    assert set(view.volumes(FIRST, 28)) == {"100.000"}


def test_4_4_2_on_what_was_closed_out_not_on_what_was_determined_later() -> None:
    site = a_month({8, 9, 15, 16})
    site.read("2026-01-08", [980, 1100], received="2026-01-20 12:00")  # 8 January restored, at 12.0
    view = site.ledger()
    assert (str(view.day("2026-01-08").volume_m3), str(view.day("2026-01-08").determined_m3)) == (volume(1), "12.000")
    assert str(view.day("2026-01-15").volume_m3) == volume(1)


def test_4_4_3_a_day_that_is_not_actual_is_no_ratchet_day() -> None:
    view = a_month({1, 2, 12, 13}).ledger("2026-01-29 12:00")
    assert [view.day(f"2026-01-{n:02}").ratchet_day for n in (1, 5, 12, 28)] == [False, True, False, True]


def test_provisional_is_what_the_substitution_would_give_now() -> None:
    site = a_month({3, 10, 11})
    view = site.ledger("2026-01-12 12:00")
    assert view.statuses("2026-01-10", 3) == ["provisional"] * 3
    assert view.volumes("2026-01-10", 3) == [volume(3), volume(4), volume(5)]
    assert not any(view.day(f"2026-01-{n}").closed_out for n in (10, 11, 12))
    deemed = Site(FIRST).day(FIRST, "2026-01-01 12:00")
    assert (deemed.status, str(deemed.quantity_kwh), str(deemed.volume_m3)) == ("provisional", "1000.000", "100.000")


def test_provisional_of_a_point_known_late_rests_on_the_week_before_as_it_is_now() -> None:
    site = Site(FIRST, known="2026-01-20 12:00")
    site.read("2026-01-05", [0, 77])
    view = site.ledger("2026-01-20 12:00")
    assert [str(view.day(f"2026-01-{n:02}").volume_m3) for n in (5, 12, 19)] == ["7.700"] * 3
    assert [view.day(f"2026-01-{n:02}").status for n in (5, 12, 19)] == ["actual", "provisional", "provisional"]


def test_the_current_day_is_provisional() -> None:
    found = a_month(range(11, 29)).day("2026-01-11", "2026-01-11 06:00")
    assert (found.status, found.start_index, found.end_index, found.valid) == ("provisional", 1550, None, False)


def test_4_4_1_readings_by_the_close_out_count_though_late() -> None:
    site = a_month({12, 13})
    site.read("2026-01-12", [1760, 1980], received=start("2026-01-18"))
    assert site.day("2026-01-12").status == "actual"


def test_a_closed_out_volume_never_changes() -> None:
    site = a_month({12, 13})
    closed = site.day("2026-01-12", start("2026-01-18"))
    site.read("2026-01-12", [1760, 1980], received="2026-01-25 12:00")
    site.register("2026-01-12", known="2026-01-26 12:00", aq="1", users=("V", "W"), equipment="F")
    found = site.day("2026-01-12")
    assert (found.status, found.volume_m3) == (closed.status, closed.volume_m3)
    assert str(found.determined_m3) == volume(12)
    assert (found.users, found.equipment) == (("V", "W"), "F")  # from its Gas Day on


def test_a_later_registration_changes_users_zone_and_equipment_from_its_day_on() -> None:
    site = Site("2026-01-05")
    site.register("2026-01-08", known="2026-01-06 12:00", users=("V",), ldz="SW", equipment="F")
    site.register("2026-01-08", known="2026-01-07 12:00", users=("W",), ldz="SW", equipment="G")
    site.value("2026-01-08", "40", received="2026-01-09 12:00", ldz="SW")
    site.read("2026-01-07", [0, 100])
    site.read("2026-01-08", [100, 200])
    view = site.ledger()
    assert [(view.day(day).users, view.day(day).equipment) for day in ("2026-01-07", "2026-01-08")] == [
        (("U",), "E"), (("W",), "G"),
    ]  # fmt: skip
    assert [str(view.day(day).quantity_kwh) for day in ("2026-01-07", "2026-01-08")] == ["100.000", "111.111"]


def test_the_smallest_gas_day_is_the_registration_date() -> None:
    site = Site("2026-01-05")
    site.register("2026-01-10", known="2025-12-01 12:00")
    view = site.ledger(start("2026-01-20"))
    assert not view.has("2026-01-04")
    assert view.statuses("2026-01-05", 9) == ["deemed"] * 7 + ["assumed"] * 2


def test_4_4_2_the_volume_between_the_readings_of_a_day_is_exact() -> None:
    site = Site(FIRST, tick="0.028316846592", factor="1.02264", digits=10)
    site.days(FIRST, [0, 12_345, 99_999])
    view = site.ledger()
    k = Decimal("0.028316846592") * Decimal("1.02264")
    ends = [Decimal(0), *(index * k for index in (12_345, 99_999))]
    litres = [each.quantize(Decimal("0.001"), rounding="ROUND_HALF_UP") for each in ends]
    assert view.volumes(FIRST, 2) == [str(litres[1] - litres[0]), str(litres[2] - litres[1])]
