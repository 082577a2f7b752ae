"""What was provided to each User by 11:00, and what does not count: facts in, performance out (5, 4.1.7, 4.9.2, 4.8.12)."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest

from metering.facts import Inspection, ReadErrorNotice, Readings
from metering.gasday import to_us
from metering.performance import statement
from metering.replay import replay
from tests.metering.area import PUBLISHED, Area, Reason, an_area, index_at, money, rules
from tests.metering.domain import RULES, gas_day, later, local, start

# --- 5.2.1: 97.5% of the Days by 11:00 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marks", "a", "b", "ratio", "met", "shortfall"),
    [
        (["." * 31], 31, 31, "1.000000", True, "0.000"),
        (["." * 30 + "x"], 31, 30, "0.967742", False, "0.225"),  # 30.225 - 30
        (["." * 30 + "l"], 31, 30, "0.967742", False, "0.225"),
        (["." * 31, "." * 29 + "xx"], 62, 60, "0.967742", False, "0.450"),  # 60.450 - 60
    ],
)
def test_5_2_1_the_standard(marks: list[str], a: int, b: int, ratio: str, met: bool, shortfall: str) -> None:
    found = an_area(*marks).january()
    assert (found.a, found.b, str(found.ratio), found.met) == (a, b, ratio, met)
    assert str(found.required) == "0.975"
    assert str(found.shortfall) == shortfall


@pytest.mark.parametrize(
    ("failing", "ratio", "met", "shortfall"),
    [
        (0, "1.000000", True, "0.000"),
        (1, "0.987500", True, "0.000"),
        (2, "0.975000", True, "0.000"),
        (3, "0.962500", False, "1.000"),
    ],
)
def test_5_2_1_exactly_97_5_percent_is_enough(failing: int, ratio: str, met: bool, shortfall: str) -> None:
    """Four points of 20 Days: 80 Days, of which 78 are needed."""
    area = an_area(*("." * 10 + ("x" if n < failing else ".") + "." * 9 for n in range(4)))
    found = area.january("2026-01-21 11:00")
    assert (found.a, found.b, str(found.ratio), found.met) == (80, 80 - failing, ratio, met)
    assert str(found.shortfall) == shortfall


@pytest.mark.parametrize(
    ("day", "eleven"),
    [("2026-01-10", "2026-01-11 11:00"), ("2026-03-28", "2026-03-29 11:00"), ("2026-10-24", "2026-10-25 11:00"),
     ("2028-02-29", "2028-03-01 11:00"), ("2015-09-30", "2015-10-01 11:00")],
)  # fmt: skip
def test_5_2_1_a_day_counts_once_its_11_00_has_passed(day: str, eleven: str) -> None:
    for received, b in [(local(eleven), 1), (local(eleven) + timedelta(microseconds=1), 0)]:
        area = Area()
        area.point(first=later(day, -1), known="2015-01-01 12:00")
        area.days("MP", ".", later(day, -1))
        area.read("MP", day, received)
        just_before = area.records(local(eleven) - timedelta(microseconds=1))
        assert [found.a for found in just_before.values()] == [1]
        now = area.records(eleven)
        assert (sum(found.a for found in now.values()), sum(found.b for found in now.values())) == (2, 1 + b)


def test_5_2_1_the_month_is_that_of_the_day_not_of_its_11_00() -> None:
    area = an_area("." * 33)
    assert {key[1]: (found.a, found.b) for key, found in area.records("2026-02-01 11:00").items()} == {"2026-01": (31, 31)}
    assert {key[1]: (found.a, found.b) for key, found in area.records("2026-02-02 11:00").items()} == {
        "2026-01": (31, 31), "2026-02": (1, 1),
    }  # fmt: skip


def test_5_2_1_what_comes_later_changes_nothing_of_what_was_provided_by_11() -> None:
    area = an_area("." * 20 + "x" + "." * 10)
    before = area.january()
    area.read("MP", "2026-01-21", "2026-02-10 12:00")
    assert area.january("2026-02-20 12:00") == before


def test_5_1_1b_start_and_end_count_as_one_and_both_are_needed() -> None:
    area = an_area("..")
    only_start = Readings(
        meter_point="MP", meter="M", gas_day=date(2026, 1, 3), at=(start("2026-01-03"),), index=(index_at("2026-01-03"),),
        received_at=start("2026-01-04", 0, 3600),
    )  # fmt: skip
    area.facts.append(only_start)
    found = area.january("2026-01-04 11:00")
    assert (found.a, found.b) == (3, 2)


def test_a_user_without_any_day_that_counts_has_met_the_standard() -> None:
    area = an_area("." * 31, telemetry=True)
    found = area.january()
    assert (found.a, found.b, found.ratio, found.met, str(found.shortfall)) == (0, 0, None, True, "0.000")


def test_no_record_before_the_first_11_00_of_the_month() -> None:
    area = an_area(".")
    assert area.records("2026-01-02 10:59:59") == {}
    assert area.records("2026-01-02 11:00").keys() == {("U", "2026-01")}


# --- whose equipment ---------------------------------------------------------------------------------------------------------


def test_each_user_has_its_own_points() -> None:
    area = Area()
    area.point("MP1", "." * 10, users="A")
    area.point("MP2", "." * 9 + "x", users="B")
    found = area.records("2026-01-11 11:00")
    assert {user: (each.a, each.b, each.met) for (user, _), each in found.items()} == {"A": (10, 10, True), "B": (10, 9, False)}


def test_a_shared_point_counts_for_each_of_its_users() -> None:
    area = an_area("." * 9 + "x", users="AB")
    assert {key[0]: (each.a, each.b) for key, each in area.records("2026-01-11 11:00").items()} == {"A": (10, 9), "B": (10, 9)}


@pytest.mark.clause("1.4.2")
def test_a_point_counts_for_the_user_of_the_day() -> None:
    area = an_area("." * 9 + "x", users="A")
    area.register("MP", "2026-01-08", users="B")
    assert {key[0]: (each.a, each.b) for key, each in area.records("2026-01-11 11:00").items()} == {"A": (7, 7), "B": (3, 2)}


@pytest.mark.parametrize(
    ("one", "other", "b"), [("...", "...", 3), ("..x", "...", 2), ("...", "..l", 2), (".xx", "x.x", 0), ("xxx", "...", 0)]
)
@pytest.mark.clause("4.1.4", "5.1.1(c)(i)", "5.1.1(c)(ii)")
def test_5_1_1c_equipment_with_several_meters_counts_once_and_only_when_all_are_valid(one: str, other: str, b: int) -> None:
    area = Area()
    for name, marks in [("MP1", "..." + one), ("MP2", "..." + other)]:
        area.point(name, marks, equipment="E")
    found = area.january("2026-01-07 11:00")
    assert (found.a, found.b) == (6, 3 + b)


def test_5_1_1c_a_meter_that_is_left_out_leaves_the_others() -> None:
    area = Area()
    for name, marks in [("MP1", "..xx.x"), ("MP2", ".....x")]:
        area.point(name, marks, equipment="E")
    area.exclude("2026-01-03", "2026-01-06", name="MP1")
    found = area.january("2026-01-07 11:00")
    assert (found.a, found.b) == (6, 5)
    assert [line.missing for line in area.lines("2026-01-07 11:00")] == [()] * 5 + [("MP2",)]
    area.exclude("2026-01-06", "2026-01-06", "force_majeure", name="MP2")
    found = area.january("2026-01-07 11:00")
    assert (found.a, found.b) == (5, 5)


def test_5_1_1c_another_users_meter_on_the_same_equipment_does_not_matter() -> None:
    area = Area()
    area.point("MP1", "....", equipment="E", users="A")
    area.point("MP2", ".xx.", equipment="E", users="B")
    assert {key[0]: (each.a, each.b) for key, each in area.records("2026-01-05 11:00").items()} == {"A": (4, 4), "B": (4, 2)}


# --- what does not count -----------------------------------------------------------------------------------------------------


def test_4_9_2_telemetry_does_not_count() -> None:
    area = an_area("..x...", telemetry=True)
    area.register("MP", "2026-01-05")  # Daily Read Equipment of our own from then on
    assert area.reasons("2026-01-07 11:00") == ["telemetry"] * 4 + [None] * 2
    found = area.january("2026-01-07 11:00")
    assert (found.a, found.b) == (2, 2)


@pytest.mark.parametrize(
    ("notice", "marks", "counted"),
    [
        (None, "......", 6),
        (None, "xxx...", 3),  # the first Valid Day is the fourth
        (None, "xxxl..", 3),  # its readings came late; it counts, as not provided
        ("2026-01-03", "......", 4),
        ("2026-01-03", "xxxx..", 2),
        ("2025-11-01", "......", 6),
        (None, "xxxxxx", 0),
    ],
)
@pytest.mark.clause("4.1.7(a)", "4.1.7(b)", "5.1.1(a)(ii)")
def test_4_1_7_operational_from_the_later_of_notice_and_first_valid_day(notice: str | None, marks: str, counted: int) -> None:
    area = an_area(marks, notice=notice)
    assert area.reasons("2026-01-07 11:00") == ["not_operational"] * (6 - counted) + [None] * counted
    assert area.january("2026-01-07 11:00").a == counted


def test_4_1_7_a_day_that_was_valid_by_11_makes_it_operational_though_its_readings_were_contradicted_later() -> None:
    area = an_area(".")
    wrong = Readings(
        meter_point="MP", meter="M", gas_day=date(2026, 1, 1), at=(start("2026-01-02"),), index=(index_at("2026-01-02") + 1,),
        received_at=local("2026-01-02 12:00"),
    )  # fmt: skip
    area.facts.append(wrong)
    found = area.january("2026-01-02 13:00")
    assert (found.a, found.b) == (1, 1)


@pytest.mark.clause("4.1.7(b)")
def test_4_1_7_new_equipment_is_operational_from_its_own_first_valid_day() -> None:
    area = an_area("...xx..")
    area.register("MP", "2026-01-04", equipment="NEW")
    assert [line.in_a for line in area.lines("2026-01-08 11:00")] == [True] * 3 + [False] * 2 + [True] * 2


def test_4_1_7_of_equipment_with_several_meters_each_joins_when_it_is_operational() -> None:
    area = Area()
    area.point("MP1", "....", equipment="E")
    area.point("MP2", "xx.x", equipment="E")
    assert [(line.in_a, line.in_b) for line in area.lines("2026-01-05 11:00")] == [(True, True)] * 3 + [(True, False)]


def test_4_1_7_a_new_user_does_not_make_equipment_new() -> None:
    area = an_area("...xxx", users="A")
    area.register("MP", "2026-01-04", users="B")
    assert area.records("2026-01-07 11:00")["B", "2026-01"].a == 3


@pytest.mark.clause("4.1.7(a)")
def test_4_1_7_a_registration_that_is_silent_about_the_notice_leaves_it() -> None:
    area = an_area("......", notice="2026-01-04")
    area.register("MP", "2026-01-02", users="U", known="2025-10-01 12:00")  # another Annual Quantity, say
    assert area.january("2026-01-07 11:00").a == 3


@pytest.mark.parametrize("reason", ["force_majeure", "no_access", "reed_switch"])
@pytest.mark.parametrize(("until", "counted"), [("2026-01-04", 4), ("2026-01-03", 5), (None, 2)])
@pytest.mark.clause("5.1.1(d)", "5.1.2", "5.1.3(d)")
def test_5_1_excluded_days_do_not_count_both_ends_included(reason: Reason, until: str | None, counted: int) -> None:
    area = an_area("..xx.x")
    area.exclude("2026-01-03", until, reason)
    days = {None: 4, "2026-01-04": 2, "2026-01-03": 1}[until]
    assert area.reasons("2026-01-07 11:00") == [None] * 2 + [reason] * days + [None] * (4 - days)
    assert area.january("2026-01-07 11:00").a == counted


def test_5_1_1d_a_day_of_force_majeure_is_left_out_though_it_was_provided() -> None:
    area = an_area("....")
    area.exclude("2026-01-02", "2026-01-02", "force_majeure")
    found = area.january("2026-01-05 11:00")
    assert (found.a, found.b) == (3, 3)


def test_5_1_of_one_reason_and_from_the_latest_received_counts_and_copies_once() -> None:
    area = an_area("......")
    area.exclude("2026-01-02", None, known="2026-01-02 12:00")
    area.exclude("2026-01-02", "2026-01-03", known="2026-01-05 12:00")
    area.exclude("2026-01-02", None, known="2026-01-06 12:00")  # a copy: received on the 2nd
    for _ in range(2):
        assert [area.january(f"2026-01-{now}").a for now in ("05 11:59", "05 12:00", "07 11:00")] == [1, 2, 4]
        area.facts.reverse()


def test_5_1_the_first_reason_is_told() -> None:
    area = an_area("...", notice="2026-01-02")
    reasons: list[Reason] = ["reed_switch", "no_access", "force_majeure"]
    for reason in reasons:
        area.exclude("2026-01-01", "2026-01-02", reason)
    assert area.reasons("2026-01-04 11:00") == ["not_operational", "force_majeure", None]


def test_an_exclusion_that_is_told_later_counts_from_then_on() -> None:
    area = an_area("..xx..")
    area.exclude("2026-01-03", "2026-01-04", known="2026-01-20 12:00")
    assert [area.january(f"2026-01-20 {hour}").a for hour in ("11:59", "12:00")] == [19, 17]


# --- provided by being published ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("published", "b"),
    [
        (["2026-01-02 06:30"], 1),
        (["2026-01-02 06:00"], 1),  # at the very instant at which the readings came
        (["2026-01-02 11:00"], 1),
        (["2026-01-02 11:00:00.000001"], 0),
        (["2026-01-02 13:00"], 0),  # the job was down until then
        ([], 0),
        (["2026-01-02 05:30"], 0),  # before the readings came
        (["2026-01-02 05:30", "2026-01-02 10:00"], 1),
        (["2026-01-02 05:30", "2026-01-02 12:00"], 0),
    ],
)
@pytest.mark.clause("4.2.3(b)")
def test_4_5_published_by_11(published: list[str], b: int) -> None:
    area = an_area(".", rules=PUBLISHED)
    for version, at in enumerate(published, 1):
        area.provide("2026-01-01", at, version=version)
    found = area.january("2026-01-03 10:00")
    assert (found.a, found.b) == (1, b)


@pytest.mark.clause("4.2.3(b)")
def test_4_5_what_was_published_must_have_been_valid() -> None:
    area = an_area(".l", rules=PUBLISHED)
    area.provide("2026-01-01", "2026-01-02 07:00")
    area.provide("2026-01-02", "2026-01-03 07:00")
    assert [line.in_b for line in area.lines("2026-01-04 10:00")] == [True, False]


def test_4_5_valid_anew_after_11_00_it_was_still_provided() -> None:
    """After 11:00 the end is contradicted by two readings, then borne out by more: it was Valid and published at 11:00."""
    area = an_area("..", rules=PUBLISHED)
    area.provide("2026-01-02", "2026-01-03 07:00")
    index = index_at("2026-01-03")
    for day, values, received in [
        ("2026-01-03", (index - 7, index - 6), "2026-01-04 06:00"), ("2026-01-04", (index - 6, index - 5), "2026-01-05 06:00"),
        ("2026-01-03", (index, index + 8), "2026-01-05 07:00"), ("2026-01-04", (index + 8, index + 9), "2026-01-05 08:00"),
    ]:  # fmt: skip
        read = Readings(
            meter_point="MP", meter="M", gas_day=gas_day(day), at=(start(day), start(day, 1)), index=values,
            received_at=local(received),
        )  # fmt: skip
        area.facts.append(read)
    for now in ("2026-01-03 12:00", "2026-01-04 12:00", "2026-01-05 12:00"):
        assert next(line.in_b for line in area.lines(now) if line.gas_day.day == 2)


def test_4_5_published_to_one_user_is_not_provided_to_another() -> None:
    area = an_area(".", rules=PUBLISHED, users="AB")
    area.provide("2026-01-01", "2026-01-02 07:00", user="A")
    found = area.records("2026-01-02 11:00")
    assert {user: each.b for (user, _), each in found.items()} == {"A": 1, "B": 0}


def test_4_5_a_copy_of_a_publication_is_no_later_one() -> None:
    area = an_area(".", rules=PUBLISHED)
    area.provide("2026-01-01", "2026-01-02 05:30")
    area.provide("2026-01-01", "2026-01-02 08:00")  # the same version again
    assert area.january("2026-01-02 11:00").b == 0


def test_4_5_from_a_gas_day_on() -> None:
    area = an_area("...", rules=rules({"since": "2026-01-03", "provided_by": "published"}))
    assert [line.in_b for line in area.lines("2026-01-04 11:00")] == [True, True, False]


# --- 4.8.12: what a Daily Read Error makes of the readings -------------------------------------------------------------------


def read_errors(**days: bool) -> dict[tuple[str, int], bool]:
    """Of MP, by the day in January: d03=False."""
    return {("MP", date(2026, 1, int(day[1:])).toordinal()): valid for day, valid in days.items()}


def test_4_8_12a_readings_of_a_daily_read_error_day_are_not_valid_for_the_whole_paragraph() -> None:
    area = an_area(".xxxx.")
    found = area.january("2026-01-07 11:00", read_errors=read_errors(d06=False))
    assert (found.a, found.b, money(found)) == (6, 1, (1, "75.00"))


def test_4_8_12b_readings_deemed_valid_count_for_the_standard_and_the_shortfall_only() -> None:
    area = an_area(".xxxxx.")
    found = area.january("2026-01-08 11:00", read_errors=read_errors(d03=True, d06=True))
    assert (found.a, found.b) == (7, 4)
    assert money(found) == (1, "75.00")
    assert str(found.shortfall) == "2.850"  # 0.975 x 6 - 3: the fifth in a row leaves both


def test_5_2_2_no_shortfall_where_the_standard_is_met_with_readings_deemed_valid() -> None:
    """39 of 40 Days is enough, though the further Day, which is deemed Valid, leaves 38 of 39, less than 38.025."""
    area = an_area(".xxxxx" + "." * 14, "." * 20)
    found = area.january("2026-01-21 11:00", read_errors=read_errors(d03=True, d04=True, d05=True, d06=True))
    assert (found.a, found.b, found.met, found.consecutive_days, found.shortfall) == (40, 39, True, 1, 0)


def test_4_8_12a_what_daily_read_errors_make_of_readings_is_found_from_the_facts() -> None:
    """The readings of the 3rd count until an inspection after the User's notice finds that the equipment does not work."""
    area = an_area("......")
    notice = ReadErrorNotice(
        meter_point="MP", user="U", gas_day=date(2026, 1, 3), volume_estimate_m3=Decimal(2),
        received_at=local("2026-01-05 12:00"),
    )  # fmt: skip
    inspection = Inspection(
        meter_point="MP", gas_day=date(2026, 1, 3), at=local("2026-01-06 10:00"), equipment_works=False, reed_switch_works=True,
        meter_works=True, received_at=local("2026-01-06 12:00"),
    )  # fmt: skip
    area.facts += [notice, inspection]
    assert [area.january(f"2026-01-{now}").b for now in ("05 11:59", "06 11:59", "06 12:00")] == [4, 5, 4]
    assert [line.in_b for line in area.lines("2026-01-07 11:00")] == [True, True, False, True, True, True]


def test_4_8_12_does_not_bring_back_what_is_left_out() -> None:
    area = an_area("..")
    area.exclude("2026-01-02", None)
    found = area.january("2026-01-03 11:00", read_errors=read_errors(d02=True))
    assert (found.a, found.b) == (1, 1)


# --- the statement says why --------------------------------------------------------------------------------------------------


def test_a_statement_has_the_lines_that_the_record_sums_up() -> None:
    area = an_area("." * 25 + "xxxxxx" + "x.")
    area.point("MP7", "xx" + "." * 31, users="UV")
    now_us = to_us(local("2026-02-03 11:00"))
    ledger = list(replay(area.facts, now_us, RULES).values())
    found = statement("U", "2026-01", area.facts, ledger, now_us, RULES)
    assert found.record == area.january("2026-02-03 11:00")
    assert [(line.gas_day.day, line.equipment) for line in found.lines] == [
        (day, equipment) for day in range(1, 32) for equipment in ("E-MP", "E-MP7")
    ]
    assert [line.reason for line in found.lines if line.equipment == "E-MP"] == [None] * 29 + ["consecutive"] * 2
    assert [line.reason for line in found.lines if line.equipment == "E-MP7"] == ["not_operational"] * 2 + [None] * 29
    assert [(line.run, line.missing) for line in found.lines[-4::2]] == [(5, ("MP",)), (6, ("MP",))]
    february = statement("U", "2026-02", area.facts, ledger, now_us, RULES)
    assert [(line.run, str(line.charge_gbp), line.sharing) for line in february.lines if line.equipment == "E-MP"] == [
        (7, "75", 1), (0, "0", 1),
    ]  # fmt: skip
    assert statement("U", "2025-12", area.facts, ledger, now_us, RULES) == (None, [])
    assert statement("NOBODY", "2026-01", area.facts, ledger, now_us, RULES) == (None, [])
