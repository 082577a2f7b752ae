"""DM Check Reads and the meter: its register, its exchange, its error (1.10.1(b)), its name, and the equipment beside it."""

from __future__ import annotations

import pytest

from metering.rules import Rules, Validation
from tests.metering.checked import FIRST, Checked
from tests.metering.domain import gas_day, later, local

HUNDRED_CUBIC_FEET = "2.8316846592"


# --- registers ---------------------------------------------------------------------------------------------------------------


def test_3_a_roll_over() -> None:
    site = Checked(index=99_999_900)
    site.days(FIRST, ["10", "10"])
    site.check("2026-01-03", 103)
    assert site.found().record("2026-01-03") == (FIRST, "20.300", "203.000", "200.000", "-3.000", False)


def test_3_a_register_that_turned_more_than_once() -> None:
    """4 digits of 1 m³, from 500 to 8,600: 8,100, 18,100 or 28,100 m³. The Days say 18,000."""
    site = Checked(index=500, digits=4, tick="1")
    site.days(FIRST, ["6000"] * 3)
    site.check("2026-01-04", 8600)
    assert site.found().record("2026-01-04") == (FIRST, "18100.000", "181000.000", "180000.000", "-1000.000", False)


@pytest.mark.parametrize(("day", "volume"), [("5099.999", "100.000"), ("5100", "10100.000"), ("-20000", "100.000")])
def test_3_the_number_of_turns_is_that_which_comes_nearest_to_the_days(day: str, volume: str) -> None:
    """100, 10,100 or 20,100 m³; and the register never turns backwards."""
    site = Checked(digits=4, tick="1")
    site.days(FIRST, [day])
    site.check("2026-01-02", 100)
    assert site.found().record("2026-01-02")[1] == volume


def test_3_an_index_that_is_a_little_lower_is_no_roll_over() -> None:
    site = Checked(index=1000)
    site.days(FIRST, ["0", "0"])
    site.check("2026-01-03", 999)
    assert site.found().record("2026-01-03") == (FIRST, "-0.100", "-1.000", "0.000", "1.000", False)


def test_3_hundreds_of_cubic_feet_and_the_conversion_factor() -> None:
    """k = 2.8316846592 × 1.02264 = 2.895793999884288 m³. Index 100,040 less 99,990, each to the litre:
    289,695.231748 less 289,550.442048: 144.790 m³ (50 ticks: 144.7897). At 9,000,000 Wh over 900,000 litres."""
    site = Checked(index=99_990, digits=5, tick=HUNDRED_CUBIC_FEET, factor="1.02264")
    site.days(FIRST, ["450", "450"])
    site.check("2026-01-03", 40)
    assert site.found().record("2026-01-03") == (FIRST, "144.790", "1447.900", "9000.000", "7552.100", False)


# --- meter exchange (3.9.1(b)) -----------------------------------------------------------------------------------------------


def test_3_9_1b_the_old_meters_volume_to_its_removal_and_the_new_ones_from_its_fitting() -> None:
    """500 m³ on the old one; on the new one from 999,990 to 1,000,010 of 2.8316846592 m³: 2,831,712.976 less 2,831,656.342."""
    site = Checked()
    site.remove("2026-01-02 10:00", 5000)
    site.fit("2026-01-02 11:00", 999_990, digits=6, tick=HUNDRED_CUBIC_FEET)
    site.days(FIRST, ["400", "130", "25"])
    site.check("2026-01-04", 10, meter="M2")
    assert site.found().record("2026-01-04") == (FIRST, "556.634", "5566.340", "5550.000", "-16.340", False)


def test_3_9_1b_a_removal_without_an_index_no_record_and_the_next_period_has_one() -> None:
    site = Checked()
    site.remove("2026-01-02 10:00", None)
    site.fit("2026-01-02 10:00", 0)
    site.days(FIRST, ["10", "10", "10", "10"])
    site.check("2026-01-04", 200, meter="M2")
    site.check("2026-01-05", 300, meter="M2")
    view = site.found()
    assert list(view.records) == ["2026-01-05"]
    assert view.record("2026-01-05") == ("2026-01-04", "10.000", "100.000", "100.000", "0.000", False)


def test_3_9_1b_two_exchanges_in_one_period_and_two_on_one_day() -> None:
    site = Checked()
    site.remove("2026-01-02 08:00", 100)
    site.fit("2026-01-02 08:00", 7000, "M2")
    site.remove("2026-01-02 18:00", 7040)
    site.fit("2026-01-02 18:00", 0, "M3")
    site.remove("2026-01-03 12:00", 160)
    site.fit("2026-01-03 12:00", 500, "M")
    site.days(FIRST, ["10", "15", "15"])
    site.check("2026-01-04", 620, meter="M")
    assert site.found().record("2026-01-04") == (FIRST, "42.000", "420.000", "400.000", "-20.000", False)


@pytest.mark.parametrize(("meter", "at", "index", "before", "after"), [("M", "08:00", 250, "25.000", "26.000"),
                                                                       ("M2", "14:00", 30, "34.000", "17.000")])  # fmt: skip
def test_3_9_1b_a_check_read_on_the_day_of_the_exchange(meter: str, at: str, index: int, before: str, after: str) -> None:
    """Of either meter, and no gas is lost between the two periods: 51 m³ in all."""
    site = Checked()
    site.remove("2026-01-03 10:00", 310)
    site.fit("2026-01-03 10:00", 0)
    site.days(FIRST, ["12", "12", "13", "13"])
    site.check("2026-01-03", index, meter=meter, at=at)
    site.check("2026-01-05", 200, meter="M2")
    view = site.found()
    assert (view.record("2026-01-03")[1], view.record("2026-01-05")[1]) == (before, after)


def test_3_9_1b_a_small_old_register_turned_before_its_removal() -> None:
    site = Checked(index=9990, digits=4, tick="1")
    site.remove("2026-01-03 12:00", 9)
    site.fit("2026-01-03 12:00", 0, digits=8, tick="1")
    site.days(FIRST, ["10", "10", "10"])
    site.check("2026-01-04", 10, meter="M2")
    assert site.found().record("2026-01-04")[1] == "29.000"


def test_3_9_1b_the_turns_of_each_meter_by_its_own_days() -> None:
    """2,000 or 12,000 m³ on the old one, of 4 digits; 12,100 on the new one."""
    site = Checked(digits=4, tick="1")
    site.remove("2026-01-03 05:00", 2000)
    site.fit("2026-01-03 05:00", 1000, tick="1")
    site.days(FIRST, ["1000", "1000", "6000", "6000"])
    site.check("2026-01-05", 13_100, meter="M2")
    assert site.found().record("2026-01-05")[1] == "14100.000"


def test_3_9_1b_exchanged_at_the_very_start_of_the_registration_date() -> None:
    site = Checked("2026-01-02", fitted="2025-06-01")
    site.remove("2026-01-02 05:00", None)
    site.fit("2026-01-02 05:00", 70)
    site.days("2026-01-02", ["10"])
    site.check("2026-01-03", 170, meter="M2")
    assert site.found().record("2026-01-03") == ("2026-01-02", "10.000", "100.000", "100.000", "0.000", False)


# --- adjusted meter error (1.10.1(b)) ----------------------------------------------------------------------------------------


def test_1_10_1b_an_adjusted_index_is_a_check_read_and_the_next_period_begins_with_the_meters_own() -> None:
    """The meter showed 300 at the start of 4 January, and would have shown 120,300 had it worked."""
    site = Checked()
    site.days(FIRST, ["10"] * 6)
    site.adjusted("2026-01-04", 120_300)
    site.boundary("2026-01-04", 300)
    site.check("2026-01-07", 610)
    view = site.found()
    assert view.record("2026-01-04") == (FIRST, "12030.000", "120300.000", "300.000", "-120000.000", True)
    assert view.shared() == [("-4000.000", "-40000.000")] * 3
    assert view.record("2026-01-07") == ("2026-01-04", "31.000", "310.000", "300.000", "-10.000", False)


@pytest.mark.parametrize("told", ["2026-01-04 15:00", "2026-01-04 12:00"])
def test_1_10_1b_it_replaces_the_check_read_of_its_day_and_that_ones_index_goes_on(told: str) -> None:
    site = Checked()
    site.days(FIRST, ["10"] * 6)
    site.check("2026-01-04", 320, told="2026-01-04 14:00")
    site.adjusted("2026-01-04", 400, told=told, at="10:00")
    site.boundary("2026-01-04", 300)
    site.check("2026-01-07", 620)
    view = site.found()
    assert view.record("2026-01-04") == (FIRST, "40.000", "400.000", "300.000", "-100.000", False)
    assert view.record("2026-01-07") == ("2026-01-04", "30.000", "300.000", "300.000", "0.000", False)


def test_1_10_1b_without_any_own_index_there_is_no_next_period() -> None:
    site = Checked()
    site.days(FIRST, ["10"] * 9)
    site.adjusted("2026-01-04", 400)
    site.check("2026-01-07", 620)
    site.check("2026-01-10", 930)
    view = site.found()
    assert list(view.records) == ["2026-01-04", "2026-01-10"]
    assert view.record("2026-01-10") == ("2026-01-07", "31.000", "310.000", "300.000", "-10.000", False)


def test_1_10_1b_of_a_meter_fitted_on_that_day_its_own_index_is_that_of_the_fitting() -> None:
    site = Checked()
    site.remove("2026-01-03 10:00", 240)
    site.fit("2026-01-03 10:00", 5000)
    site.days(FIRST, ["10"] * 4)
    site.adjusted("2026-01-03", 5010, meter="M2")
    site.boundary("2026-01-03", 220)  # of the old meter
    site.check("2026-01-05", 5200, meter="M2")
    view = site.found()
    assert (view.record("2026-01-03")[1], view.record("2026-01-05")[1]) == ("25.000", "20.000")


def test_1_10_1b_of_a_meter_removed_at_the_very_start_of_that_day_its_own_index_is_that_of_the_removal() -> None:
    site = Checked()
    site.remove("2026-01-03 05:00", 240)
    site.fit("2026-01-03 05:00", 0)
    site.days(FIRST, ["10"] * 4)
    site.adjusted("2026-01-03", 260, at="05:00")
    site.check("2026-01-05", 200, meter="M2")
    view = site.found()
    assert (view.record("2026-01-03")[1], view.record("2026-01-05")[1]) == ("26.000", "20.000")


def test_1_10_1b_an_index_adjusted_downwards() -> None:
    site = Checked()
    site.days(FIRST, ["10000", "10000"])
    site.boundary("2026-01-03", 200_000)
    site.adjusted("2026-01-03", 80_000)
    view = site.found()
    assert view.record("2026-01-03") == (FIRST, "8000.000", "80000.000", "200000.000", "120000.000", True)
    assert view.shared() == [("6000.000", "60000.000")] * 2


# --- several of one Day, and those that cannot be used -----------------------------------------------------------------------


def test_4_7_of_one_day_the_latest_received_counts() -> None:
    site = Checked()
    site.days(FIRST, ["10", "10"])
    site.check("2026-01-03", 250, told="2026-01-04 12:00", at="18:00")
    site.check("2026-01-03", 201, told="2026-01-05 12:00", at="09:00")
    site.check("2026-01-03", 250, told="2026-01-06 12:00", at="18:00")  # a copy counts at its earliest receipt
    assert site.found().record("2026-01-03")[1] == "20.100"


def test_4_7_of_one_receipt_the_greater_in_canonical_bytes_counts() -> None:
    site = Checked()
    site.days(FIRST, ["10", "10"])
    for index in (202, 201):
        site.check("2026-01-03", index)
    assert site.found().record("2026-01-03")[1] == "20.200"


@pytest.mark.parametrize("adjusted", [False, True])
def test_1_4_3_a_meter_that_is_not_in_place_is_rejected(adjusted: bool) -> None:
    site = Checked()
    site.days(FIRST, ["10", "10"])
    site.check("2026-01-03", 200)
    tell = site.adjusted if adjusted else site.check
    tell("2026-01-03", 900, meter="X", told="2026-01-04 12:00")
    view = site.found()
    assert view.record("2026-01-03")[1] == "20.000"
    assert view.rejected() == [("2026-01-03", "malformed", 900, "meter X was not in place at that instant")]
    record = view.rejections[0]
    assert (record.clause, record.at, record.received_at) == ("1.4.3", local("2026-01-03 14:00"), local("2026-01-04 12:00"))


def test_1_4_3_a_meter_counts_until_its_removal_and_from_its_fitting() -> None:
    site = Checked()
    site.remove("2026-01-03 10:00", 240)
    site.fit("2026-01-03 12:00", 0)
    site.days(FIRST, ["10"] * 3)
    site.check("2026-01-03", 240, at="10:00")
    site.check("2026-01-03", 241, at="10:01")
    site.check("2026-01-03", 1, at="11:59", meter="M2")
    view = site.found()
    assert view.record("2026-01-03")[1] == "24.000"
    assert [each[2] for each in view.rejected()] == [241, 1]


def test_1_4_3_more_digits_than_the_register_has() -> None:
    site = Checked(digits=4)
    site.days(FIRST, ["10", "10"])
    site.check("2026-01-02", 10_000)
    site.check("2026-01-03", 200, 10_001)
    view = site.found()
    assert (view.records, view.tolerances) == ({}, {})
    assert [each[3] for each in view.rejected()] == [
        "index 10000 is not an integer in 0 .. 9999", "equipment_index 10001 is not an integer in 0 .. 9999"
    ]  # fmt: skip


def test_1_4_3_not_registered_or_before_the_registration_date() -> None:
    site = Checked(None)
    site.check(FIRST, 5)
    site.check(FIRST, 5, told="2026-01-05 12:00")
    assert site.found().rejected() == [(FIRST, "malformed", 5, "the meter point is not registered: no Day for it")]
    site.registered = later(FIRST, 1)
    assert site.found().rejected() == [(FIRST, "malformed", 5, "no Day for it: it lies before the registration date")]


def test_1_4_3_one_record_of_what_was_told_twice_as_first_received() -> None:
    site = Checked(None)
    site.check(FIRST, 5, 7)
    site.check(FIRST, 5, 8, told="2026-01-05 12:00")
    assert [each.received_at for each in site.found().rejections] == [local(f"{FIRST} 15:00")]


def test_1_5_stamped_later_than_it_was_received() -> None:
    for told, rejected in [("2026-01-03 13:59", []), ("2026-01-03 13:58:59", ["from_the_future"])]:
        site = Checked()
        site.check("2026-01-03", 5, told=told)
        assert [each[1] for each in site.found().rejected()] == rejected
    site.rules = Rules(validation=(Validation(action={"from_the_future": "flag"}),))
    assert site.found().rejected() == []


def test_1_5_told_too_late() -> None:
    for told, rejected in [("2026-01-13 12:00", []), ("2026-01-14 12:00", ["too_old"])]:
        site = Checked(rules=Rules(history_days=10))
        site.check("2026-01-03", 5, told=told)
        assert [each[1] for each in site.found().rejected()] == rejected


# --- the equipment against the meter (4.8.1(d)) ------------------------------------------------------------------------------


def compared(opening: tuple[int, int | None], closing: tuple[int, int | None], m3: str = "100") -> Checked:
    site = Checked(factor="1.02264")
    site.days(FIRST, ["10", m3, m3])
    site.check("2026-01-02", *opening)
    site.check("2026-01-04", *closing)
    return site


@pytest.mark.parametrize(
    ("equipment", "a", "deviation", "within"),
    [
        (7020, "202.000", "0.010000", True),
        (7021, "202.100", "0.010500", False),
        (6980, "198.000", "-0.010000", True),
        (6979, "197.900", "-0.010500", False),
    ],
)
def test_4_8_1d_the_equipments_advance_may_differ_by_1_percent(equipment: int, a: str, deviation: str, within: bool) -> None:
    """In m³ by the register's tick, without the conversion factor."""
    view = compared((100, 5000), (2100, equipment)).found()
    found = view.tolerances["2026-01-04"]
    assert (str(found.a), str(found.b), str(found.deviation), found.within) == (a, "200.000", deviation, within)
    assert (found.from_, found.until, found.check) == (gas_day("2026-01-02"), gas_day("2026-01-04"), "check_read")
    assert list(view.tolerances) == ["2026-01-04"]  # at the fitting nobody noted what the equipment showed


def test_4_8_1d_one_tick_is_always_allowed_and_of_no_advance_there_is_no_deviation() -> None:
    for equipment, within in [(5001, True), (5002, False)]:
        found = compared((100, 5000), (100, equipment), "0").found().tolerances["2026-01-04"]
        assert (found.deviation, found.within, str(found.b)) == (None, within, "0.000")


def test_4_8_1d_the_equipment_rolls_over_by_itself() -> None:
    found = compared((100, 99_999_000), (2100, 1010)).found().tolerances["2026-01-04"]
    assert (str(found.a), str(found.deviation), found.within) == ("201.000", "0.005000", True)


def test_4_8_1d_the_equipment_turned_as_often_as_the_meter() -> None:
    """4 digits of 0.1 m³: both went round twice, and 2,000 and 2,150 ticks more."""
    site = Checked(digits=4)
    site.days(FIRST, ["10", "1100", "1100"])
    site.check("2026-01-02", 100, 5000)
    site.check("2026-01-04", 2100, 7150)
    found = site.found().tolerances["2026-01-04"]
    assert (str(found.a), str(found.b), str(found.deviation), found.within) == ("2215.000", "2200.000", "0.006818", True)


@pytest.mark.parametrize(("opening", "closing"), [((100, None), (2100, 2100)), ((100, 100), (2100, None))])
def test_4_8_1d_only_where_the_equipment_was_read_at_both_ends(
    opening: tuple[int, int | None], closing: tuple[int, int | None]
) -> None:
    assert compared(opening, closing).found().tolerances == {}


def test_4_8_1d_not_across_an_exchange() -> None:
    site = compared((100, 5000), (2100, 7000))
    site.remove("2026-01-03 10:00", 2000)
    site.fit("2026-01-03 10:00", 0, "M")
    view = site.found()
    assert (view.tolerances, list(view.records)) == ({}, ["2026-01-02", "2026-01-04"])


def test_4_8_1d_against_the_meters_own_index_where_an_adjusted_one_counts() -> None:
    site = compared((100, 5000), (2100, 7010))
    site.adjusted("2026-01-04", 9000)
    found = site.found().tolerances["2026-01-04"]
    assert (str(found.a), str(found.b), found.within) == ("201.000", "200.000", True)
