"""DM Check Reads: their periods and quantities, and how a difference is shared out (4.7)."""

from __future__ import annotations

import random
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.check_periods import Read
from metering.check_read import Share, SharedSince, keep_since, reconciliation
from metering.gasday import to_us
from metering.rules import Rules, Validation, load
from metering.volumes import quantity_wh
from tests.metering.checked import FIRST, Checked, View, ordinal
from tests.metering.domain import RULES, gas_day, later, local

# --- the period and the quantities (4.7.3, 4.7.4) ----------------------------------------------------------------------------


def test_4_7_3_the_first_period_begins_at_the_fitting_and_ends_with_the_day_before_the_check_read() -> None:
    site = Checked()
    site.days(FIRST, ["10", "11", "12", "99"])
    site.check("2026-01-04", 340)  # 34 m³; at 14:00 it counts as taken at 05:00
    view = site.found()
    assert view.record("2026-01-04") == (FIRST, "34.000", "340.000", "330.000", "-10.000", False)
    assert (view.shares, view.tolerances, view.rejections) == ({}, {}, [])


def test_4_7_3_the_next_period_begins_with_the_check_reads_own_day() -> None:
    site = Checked()
    site.days(FIRST, ["10", "11", "12", "13"])
    site.check("2026-01-03", 215)
    site.check("2026-01-05", 460)
    view = site.found()
    assert view.record("2026-01-03") == (FIRST, "21.500", "215.000", "210.000", "-5.000", False)
    assert view.record("2026-01-05") == ("2026-01-03", "24.500", "245.000", "250.000", "5.000", False)


@pytest.mark.parametrize(("at", "day"), [("04:59", "2026-01-03"), ("05:00", "2026-01-04")])
def test_1_4_3e_the_day_is_that_which_holds_the_instant(at: str, day: str) -> None:
    site = Checked()
    site.days(FIRST, ["10", "11", "12"])
    site.check("2026-01-04", 330, at=at)
    assert list(site.found().records) == [day]


def test_4_7_4_the_check_quantity_is_at_what_a_m3_of_the_period_was_worth() -> None:
    """(300.000 + 110.000 × 39.6 / 3.6) kWh over (30 + 110) m³, for 70 m³."""
    site = Checked()
    site.days(FIRST, ["30"])
    site.days("2026-01-02", ["110"], value="39.6")
    site.check("2026-01-03", 700)
    assert site.found().record("2026-01-03") == (FIRST, "70.000", "755.000", "1510.000", "755.000", False)


def test_1_4_4_the_check_quantity_is_rounded_half_up_to_a_watt_hour() -> None:
    """7 m³ of 1,000.005 kWh over 1,000 m³ are 7.000035 kWh; of 1,000.500, 7.0035 and so 7.004."""
    for quantity, check in [("1000.005", "7.000"), ("1000.500", "7.004")]:
        site = Checked()
        site.days(FIRST, ["1000"])
        site.quantity(FIRST, quantity)
        site.check("2026-01-02", 70)
        assert site.found().record("2026-01-02")[2] == check


def test_4_7_3_a_meter_that_was_fitted_after_the_registration_date() -> None:
    site = Checked("2026-01-01", fitted="2026-01-03", index=50)
    site.days(FIRST, ["1", "2", "3", "4"])
    site.check("2026-01-05", 120)
    assert site.found().record("2026-01-05") == ("2026-01-03", "7.000", "70.000", "70.000", "0.000", False)


def test_4_7_3_a_meter_that_was_fitted_before_the_registration_date() -> None:
    """The period begins with the reading that stands at the start of the registration date; without one there is no record."""
    site = Checked("2026-01-02", fitted="2025-06-01", index=0)
    site.days("2026-01-02", ["10", "10"])
    site.check("2026-01-04", 5210)
    assert site.found().records == {}
    site.boundary("2026-01-02", 5000)
    assert site.found().record("2026-01-04") == ("2026-01-02", "21.000", "210.000", "200.000", "-10.000", False)


def test_4_7_3_a_check_read_without_an_opening_opens_the_next_period() -> None:
    site = Checked("2026-01-02", fitted="2025-06-01")
    site.days("2026-01-02", ["10", "10", "10"])
    site.check("2026-01-03", 5100)
    site.check("2026-01-05", 5300)
    assert list(site.found().records) == ["2026-01-05"]
    assert site.found().record("2026-01-05") == ("2026-01-03", "20.000", "200.000", "200.000", "0.000", False)


def test_4_7_3_a_check_read_on_the_first_day_has_no_days_before_it_and_opens_the_next_period() -> None:
    site = Checked()
    site.days(FIRST, ["10", "10"])
    site.check(FIRST, 7)
    site.check("2026-01-03", 207)
    view = site.found()
    assert list(view.records) == ["2026-01-03"]
    assert view.record("2026-01-03") == (FIRST, "20.000", "200.000", "200.000", "0.000", False)


def test_4_7_3_a_meter_exchanged_before_the_registration_date_is_in_no_period() -> None:
    site = Checked("2026-01-02", fitted="2025-06-01")
    site.remove("2025-12-01 12:00", None)
    site.fit("2025-12-01 12:00", 70)
    site.boundary("2026-01-02", 900)
    site.days("2026-01-02", ["10"])
    site.check("2026-01-03", 1000, meter="M2")
    assert site.found().record("2026-01-03") == ("2026-01-02", "10.000", "100.000", "100.000", "0.000", False)


# --- when it is found --------------------------------------------------------------------------------------------------------


def test_4_7_4_found_once_every_day_is_closed_out() -> None:
    site = Checked()
    site.days(FIRST, ["10", "10"])
    site.days("2026-01-03", ["10"], closed=False)
    site.check("2026-01-04", 300)
    assert site.found().records == {}
    site.days("2026-01-03", ["10"])
    assert list(site.found().records) == ["2026-01-04"]


@pytest.mark.parametrize("missing", ["litres", "wh", "mj_per_m3"])
def test_4_7_4_what_is_not_known_is_never_taken_for_0(missing: str) -> None:
    site = Checked()
    site.days(FIRST, ["10", "0", "10"])
    site.check("2026-01-04", 5_000_000, 5_000_000)
    site.check("2026-01-05", 5_000_000, 5_000_000)
    assert list(site.found().records) == ["2026-01-04"]  # nothing is known of the 4th
    site.days("2026-01-04", ["0"])
    assert list(site.found().records) == ["2026-01-04", "2026-01-05"]
    day = ordinal("2026-01-02")
    site.known[day] = site.known[day]._replace(**{missing: None})  # type: ignore[arg-type]
    view = site.found()
    assert (list(view.records), view.shares, list(view.tolerances)) == (["2026-01-05"], {}, ["2026-01-05"])


def test_4_7_4_found_again_when_a_days_determined_volume_changes() -> None:
    site = Checked()
    site.days(FIRST, ["12000", "12000"])
    site.check("2026-01-03", 120_000)
    assert site.found().record("2026-01-03") == (FIRST, "12000.000", "120000.000", "240000.000", "120000.000", True)
    site.days("2026-01-02", ["4000"])  # determined since
    view = site.found()
    assert view.record("2026-01-03") == (FIRST, "12000.000", "120000.000", "160000.000", "40000.000", False)
    assert view.shares == {}


# --- 100,000 kWh (4.7.4, 4.7.5) ----------------------------------------------------------------------------------------------


def ten_days(quantity: str, rules: Rules = RULES) -> View:
    """Ten Days of 2,000 m³ and 20,000 kWh, the first with another quantity; 10,000 m³ on the meter: half of the gas."""
    site = Checked(rules=rules)
    site.days(FIRST, ["2000"] * 10)
    site.quantity(FIRST, quantity)
    site.check("2026-01-11", 100_000)
    return site.found()


@pytest.mark.parametrize(
    ("quantity", "check", "difference", "reconciled"),
    [
        ("19999.998", "99999.999", "99999.999", False),
        ("20000.000", "100000.000", "100000.000", False),
        ("20000.002", "100000.001", "100000.001", True),
    ],
)
@pytest.mark.clause("4.7.4(a)")
def test_4_7_4_a_difference_of_more_than_100000_kwh(quantity: str, check: str, difference: str, reconciled: bool) -> None:
    view = ten_days(quantity)
    found = view.records["2026-01-11"]
    assert (str(found.check_kwh), str(found.difference_kwh), found.reconciled) == (check, difference, reconciled)
    assert len(view.shares) == (10 if reconciled else 0)


def test_4_7_5_shared_in_watt_hours_by_largest_remainder() -> None:
    """100,000.001 kWh over ten equal Days: a tenth of a watt-hour is over on each, and goes to the first."""
    assert ten_days("20000.002").shared() == [("1000.000", "10000.001"), *[("1000.000", "10000.000")] * 9]


@pytest.mark.parametrize(
    ("index", "difference", "reconciled"), [(200_000, "-100000.000", False), (200_001, "-100001.000", True)]
)
def test_4_7_4_the_same_bound_where_the_meter_shows_more(index: int, difference: str, reconciled: bool) -> None:
    """Two Days of 5,000 m³; 20,000 m³ on the meter, and a tick more."""
    site = Checked()
    site.days(FIRST, ["5000", "5000"])
    site.check("2026-01-03", index)
    found = site.found().records["2026-01-03"]
    assert (str(found.difference_kwh), found.reconciled) == (difference, reconciled)


def test_4_7_4b_negative_where_the_previous_quantity_was_lower() -> None:
    site = Checked()
    site.days(FIRST, ["1000", "3000"])
    site.check("2026-01-03", 240_000)
    view = site.found()
    assert view.record("2026-01-03") == (FIRST, "24000.000", "240000.000", "40000.000", "-200000.000", True)
    assert view.shared() == [("-5000.000", "-50000.000"), ("-15000.000", "-150000.000")]


def test_4_7_5_shared_in_proportion_to_volumes_and_in_m3_by_the_days_own_calorific_value() -> None:
    """21,000 kWh over 2,000 m³ are 10.5 kWh a m³; 22,000 m³ are 231,000 kWh. -105,000 kWh at 11 kWh a m³: -9,545.4545 m³."""
    site = Checked()
    site.days(FIRST, ["1000"])
    site.days("2026-01-02", ["1000"], value="39.6")
    site.check("2026-01-03", 220_000)
    view = site.found()
    assert view.record("2026-01-03") == (FIRST, "22000.000", "231000.000", "21000.000", "-210000.000", True)
    assert view.shared() == [("-10500.000", "-105000.000"), ("-9545.455", "-105000.000")]


def test_4_7_5_largest_remainder_ties_to_the_earlier_day() -> None:
    """101,000 kWh over three equal Days."""
    site = Checked()
    site.days(FIRST, ["5000"] * 3)
    site.check("2026-01-04", 49_000)
    assert site.found().shared() == [("3366.667", "33666.667"), ("3366.667", "33666.667"), ("3366.667", "33666.666")]


def test_4_7_5_a_day_without_volume_has_no_share() -> None:
    site = Checked()
    site.days(FIRST, ["0", "20000", "0"])
    site.check("2026-01-04", 0)
    assert site.found().shared() == [("0.000", "0.000"), ("20000.000", "200000.000"), ("0.000", "0.000")]


def test_4_7_4_no_volume_at_all_the_mean_calorific_value_and_equal_parts() -> None:
    """12,000 m³ at the mean of 36 and 39.6, 10.5 kWh a m³."""
    site = Checked()
    site.days(FIRST, ["0"])
    site.days("2026-01-02", ["0"], value="39.6")
    site.check("2026-01-03", 120_000)
    view = site.found()
    assert view.record("2026-01-03") == (FIRST, "12000.000", "126000.000", "0.000", "-126000.000", True)
    assert view.shared() == [("-6300.000", "-63000.000"), ("-5727.273", "-63000.000")]


def test_4_7_4_no_volume_on_either_side() -> None:
    site = Checked()
    site.days(FIRST, ["0", "0"])
    site.check("2026-01-03", 0)
    assert site.found().record("2026-01-03") == (FIRST, "0.000", "0.000", "0.000", "0.000", False)


def test_4_7_4_the_threshold_is_a_setting_dated_by_the_check_reads_day() -> None:
    for since, reconciled in [("2026-01-11", True), ("2026-01-12", False)]:
        rules = load(f'[[validation]]\nsince = {since}\ncheck_read_threshold_kwh = "99999.999"'.encode())
        assert ten_days("20000.000", rules).records["2026-01-11"].reconciled is reconciled
    with pytest.raises(ValueError, match="check_read_threshold_kwh: -1 is not 0 or more"):
        Validation(check_read_threshold_kwh=Decimal(-1))


# --- since when --------------------------------------------------------------------------------------------------------------


def test_4_7_4_since_when_a_share_stands_without_a_break() -> None:
    one, two, other = Share(1, 10, 100), Share(2, 20, 200), Share(1, 11, 110)
    held = keep_since({}, [one, two], 1000)
    assert {day: each.since_us for day, each in held.items()} == {1: 1000, 2: 1000}
    held = keep_since(held, [other, two], 2000)
    assert held == {1: SharedSince(other, 2000), 2: SharedSince(two, 1000)}
    held = keep_since(held, [two], 3000)
    assert held == {2: SharedSince(two, 1000)}
    assert keep_since(held, [other, two], 4000) == {1: SharedSince(other, 4000), 2: SharedSince(two, 1000)}


def test_4_7_4_the_record_of_a_share() -> None:
    record = reconciliation("MP", SharedSince(Share(ordinal(FIRST), -1500, -15_001), to_us(local("2026-01-09 05:00"))))
    assert (str(record.volume_m3), str(record.quantity_kwh)) == ("-1.500", "-15.001")
    assert (record.kind, record.since, record.gas_day) == ("dm_check", local("2026-01-09 05:00"), gas_day(FIRST))


# --- whatever the numbers ----------------------------------------------------------------------------------------------------

litres = st.integers(0, 40_000_000)
values = st.decimals("30", "45", places=4)


@given(st.lists(st.tuples(litres, values), min_size=1, max_size=30), st.integers(0, 10**7))
def test_4_7_5_shares_sum_to_the_difference_with_its_sign(of_days: list[tuple[int, Decimal]], index: int) -> None:
    site = Checked()
    for n, (volume, value) in enumerate(of_days):
        site.days(later(FIRST, n), [str(Decimal(volume) / 1000)], value=str(value))
    end = later(FIRST, len(of_days))
    site.check(end, index)
    view = site.found()
    found, shares = view.records[end], list(view.shares.values())
    assert found.difference_kwh == found.previous_kwh - found.check_kwh
    assert found.reconciled == (abs(found.difference_kwh) > 100_000) == bool(shares)
    if shares:
        assert sum(each.wh for each in shares) == found.difference_kwh * 1000
        assert len(shares) == len(of_days)
        sign = 1 if found.difference_kwh > 0 else -1
        assert all(each.wh * sign >= 0 and each.litres * sign >= 0 for each in shares)
        for each, (_, value) in zip(shares, of_days, strict=True):
            assert abs(quantity_wh(each.litres, value) - each.wh) <= 7  # half a litre


@given(
    st.lists(st.integers(1, 39), min_size=1, max_size=6, unique=True), st.lists(st.integers(0, 900), min_size=40, max_size=40)
)
def test_3_the_periods_add_up_to_the_whole_whatever_is_read_between(checks: list[int], advances: list[int]) -> None:
    """Also across an exchange within them, and across a roll-over of the register."""
    site = Checked(index=99_990_000)
    site.days(FIRST, [str(Decimal(each) / 10) for each in advances])
    removed = 99_990_000 + sum(advances[:20])
    site.remove(f"{later(FIRST, 20)} 05:00", removed % 10**8)
    site.fit(f"{later(FIRST, 20)} 05:00", 77)
    for n in checks:
        ticks = (99_990_000 + sum(advances[:n])) % 10**8 if n < 20 else 77 + sum(advances[20:n])
        site.check(later(FIRST, n), ticks, meter="M" if n < 20 else "M2", at="05:00")
    records = site.found().records.values()
    assert len(records) == len(checks)
    assert sum(each.check_m3 for each in records) * 10 == sum(advances[: max(checks)])
    assert all(each.difference_kwh == 0 for each in records)


@given(st.integers(0, 2**32))
def test_4_7_what_counts_depends_only_on_what_was_received_and_when(seed: int) -> None:
    """Of each Day the check read received last, above it the adjusted index received last, and nothing else."""
    dice = random.Random(seed)
    site = Checked()
    site.days(FIRST, ["100"] * 12)
    for _ in range(dice.randint(1, 12)):
        day, told = later(FIRST, dice.randint(1, 10)), f"2026-02-{dice.randint(1, 9):02} 12:00"
        tell = site.check if dice.random() < 0.6 else site.adjusted
        tell(day, dice.randint(0, 9000), told=told, meter=dice.choice(["M", "M", "M", "X"]))
    for n in range(12):
        site.boundary(later(FIRST, n), n * 900)
    facts, before = site.facts, site.found()
    late = [msgspec.structs.replace(fact, received_at=local("2026-03-01 12:00")) for fact in facts if dice.random() < 0.5]
    site.facts = dice.sample(facts, len(facts)) + late
    assert vars(site.found()) == vars(before)
    replaced: dict[object, Read] = {}
    for fact in sorted((each for each in facts if each.meter == "M"), key=lambda each: (each.received_at, each.index)):
        replaced[type(fact), fact.at] = fact
    site.facts = list(replaced.values())
    assert (site.found().records, site.found().shares) == (before.records, before.shares)
