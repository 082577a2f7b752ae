"""What is due to Users: for the readings short of the standard, and for consecutive failing Days; rates and settings (5.2)."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

import msgspec
import pytest

from metering.rules import Standard, load
from tests.metering.area import Area, an_area, money, rules
from tests.test_documents import RULES_PAGE, rows

# --- 5.2.3: consecutive failing Days -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marks", "further"),
    [
        (".xxxx.", 0),
        (".xxxxx.", 1),
        (".xxllx.", 1),
        (".xxxxxxx", 3),
        (".xx.xxxx.", 0),  # a Valid Day ends the run
        (".xxxxx.xxxxx", 2),
        (".xxxxx.xxxx", 1),
    ],
)
@pytest.mark.clause("5.2.3(a)")
def test_5_2_3_each_failing_day_after_the_fourth_in_a_row(marks: str, further: int) -> None:
    area = an_area(marks)
    found = area.january(f"2026-01-{len(marks) + 1:02} 11:00")
    assert money(found) == (further, f"{75 * further}.00")
    assert (found.a, found.b) == (len(marks), marks.count("."))


def test_5_2_3b_further_days_leave_the_shortfall_and_not_the_standard() -> None:
    found = an_area("." * 10 + "x" * 7 + "." * 14).january()  # 31 Days, 7 failing, 3 further
    assert (found.a, found.b, str(found.ratio), found.met) == (31, 24, "0.774194", False)
    assert str(found.shortfall) == "3.300"  # 0.975 x 28 - 24
    assert money(found) == (3, "225.00")


def test_5_2_2_no_shortfall_where_the_further_days_alone_missed_the_standard() -> None:
    area = an_area("." + "x" * 30, *("." * 31 for _ in range(10)))
    found = area.january()  # 341 Days, 30 failing, 26 further: 315 - 4 of 315, 307.125 needed
    assert (found.a, found.b, found.met, found.consecutive_days, str(found.shortfall)) == (341, 311, False, 26, "0.000")


def test_5_2_3_an_excluded_day_neither_counts_nor_ends_the_run() -> None:
    area = an_area(".xx....xxx.")
    area.exclude("2026-01-04", "2026-01-07")  # Valid or not
    assert money(area.january("2026-01-12 11:00")) == (1, "75.00")
    assert [line.run for line in area.lines("2026-01-12 11:00")] == [0, 1, 2, 2, 2, 2, 2, 3, 4, 5, 0]


def test_5_2_3_a_run_crosses_the_end_of_the_month_and_each_day_is_charged_in_its_own() -> None:
    area = an_area("." * 25 + "x" * 6 + "xxx.")
    found = area.records("2026-02-05 11:00")
    assert [money(found["U", month]) for month in ("2026-01", "2026-02")] == [(2, "150.00"), (3, "225.00")]
    assert [(each.a, each.b) for each in found.values()] == [(31, 25), (4, 1)]


def test_5_2_3_a_run_crosses_the_end_of_the_year() -> None:
    area = an_area(".xxxxxx.", first="2025-12-28")
    found = area.records("2026-01-05 11:00")
    assert {month: each.consecutive_days for (_, month), each in found.items()} == {"2025-12": 0, "2026-01": 2}


def test_5_2_3_runs_are_of_one_item_of_equipment() -> None:
    area = an_area(".xxxx...", "." * 4 + "xxxx")
    assert money(area.january("2026-01-09 11:00")) == (0, "0.00")
    exchanged = an_area(".xxxx.xx")
    exchanged.register("MP", "2026-01-06", equipment="NEW")
    assert money(exchanged.january("2026-01-09 11:00")) == (0, "0.00")


def test_5_2_3_runs_are_of_one_user_and_end_where_the_equipment_is_not_its_own() -> None:
    area = an_area(".xxxxxxxx", users="A")
    area.register("MP", "2026-01-05", users="B")
    area.register("MP", "2026-01-07", users="A")
    found = area.records("2026-01-10 11:00")
    assert {user: each.consecutive_days for (user, _), each in found.items()} == {"A": 0, "B": 0}


def test_5_1_1c_equipment_with_several_meters_is_charged_once() -> None:
    area = Area()
    for name, marks in [("MP1", ".xxxxxx"), ("MP2", ".......")]:
        area.point(name, marks, equipment="E")
    assert money(area.january("2026-01-08 11:00")) == (2, "150.00")


@pytest.mark.parametrize(
    ("users", "each"),
    [("A", "150.00"), ("AB", "75.00"), ("ABC", "50.00"), ("ABCD", "37.50"), ("ABCDEFG", "21.43")],  # 150 / 7 = 21.4286
)
def test_5_2_5_the_charge_is_divided_between_sharing_users(users: str, each: str) -> None:
    found = an_area(".xxxxxx", users=users).records("2026-01-08 11:00")
    assert [money(record) for record in found.values()] == [(2, each)] * len(users)


def test_5_2_5_shares_are_added_exactly_and_rounded_once() -> None:
    """Ten further Days between seven: 750 / 7 = 107.142857, and not ten times 10.71."""
    found = an_area("." + "x" * 14, users="ABCDEFG").records("2026-01-16 11:00")
    assert {money(record) for record in found.values()} == {(10, "107.14")}


# --- rates and settings, dated -----------------------------------------------------------------------------------------------


def test_5_2_2_without_a_rate_no_money_is_shown() -> None:
    found = an_area("." * 30 + "x").january()
    assert (str(found.shortfall), found.shortfall_gbp) == ("0.225", None)


@pytest.mark.parametrize(
    ("rate", "gbp"), [("10", "2.25"), ("0", "0.00"), ("100.02", "22.50"), ("100.03", "22.51"), ("22.2", "5.00")]
)  # 22.5045, 22.50675, 4.995
def test_5_2_2_the_charge_is_the_shortfall_times_the_rate_half_up_to_the_penny(rate: str, gbp: str) -> None:
    area = an_area("." * 30 + "x", rules=rules({"shortfall_gbp": Decimal(rate)}))
    assert str(area.january().shortfall_gbp) == gbp


def test_5_2_2_a_standard_that_was_met_costs_nothing() -> None:
    area = an_area("." * 31, rules=rules({"shortfall_gbp": Decimal(10)}))
    assert (area.january().shortfall_gbp, area.january().met) == (Decimal("0.00"), True)


@pytest.mark.parametrize(
    ("since", "january", "february"),
    [("2026-01-01", "2.25", "3.00"), ("2026-01-02", None, "3.00"), ("2026-02-01", None, "3.00"), ("2026-02-02", None, None)],
)  # 0.225 and, of 28 Days, 0.3 readings short
def test_5_2_2_the_rate_of_a_month_is_that_of_its_first_day(since: str, january: str | None, february: str | None) -> None:
    area = an_area("." * 30 + "x" + "." * 27 + "x", rules=rules({"since": since, "shortfall_gbp": Decimal(10)}))
    found = area.records("2026-03-01 11:00")
    amounts = [each.shortfall_gbp for each in found.values()]
    assert [each if each is None else str(each) for each in amounts] == [january, february]


@pytest.mark.clause("5.2.3(a)")
def test_5_2_3_charge_and_number_of_days_are_those_of_the_day() -> None:
    dated = rules(
        {}, {"since": "2026-01-08", "consecutive_gbp": Decimal("80.50")}, {"since": "2026-01-10", "consecutive_days": 9}
    )
    area = an_area(".xxxxx" + "xxxx" + "xx", rules=dated)
    assert [str(line.charge_gbp) for line in area.lines("2026-01-13 11:00")] == [
        *["0"] * 5,
        "75",
        "75",
        "80.50",
        "80.50",
        "0",
        "75",
        "75",
    ]
    assert money(area.january("2026-01-13 11:00")) == (6, "461.00")


def test_5_2_1_another_standard() -> None:
    found = an_area("." * 30 + "x", rules=rules({"required": Decimal("0.96")})).january()
    assert (str(found.required), found.met, str(found.shortfall)) == ("0.96", True, "0.00")


def test_settings_come_from_toml() -> None:
    text = RULES_PAGE.read_text()
    block = text[text.index("    [[performance]]") : text.index("| in an entry of `performance`")]
    found = load("\n".join(line.removeprefix("    ") for line in block.splitlines()).encode())
    before, after = found.standard(date(2026, 3, 31)), found.standard(date(2026, 4, 1))
    assert before == Standard()
    assert after == Standard(since=date(2026, 4, 1), shortfall_gbp=Decimal("12.50"), provided_by="published")


def test_every_setting_is_told_with_its_default() -> None:
    told = {row.cells[0]: row.cells[1] for row in rows(RULES_PAGE.read_text(), "in an entry of `performance`")}
    plain = {key: "unset" if value is None else str(value) for key, value in msgspec.structs.asdict(Standard()).items()}
    assert told == plain


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("performance = []", "performance: entries must be in the order of `since`"),
        ("[[performance]]\nsince=2026-01-02\n[[performance]]\nsince=2026-01-01", "performance: entries must be in the order"),
        ("[performance]\nrequired='0.9'", "Expected `array`, got `object` - at `$.performance`"),
        ("[[performance]]\nrequired='1.01'", "required: 1.01 is not a share from 0 to 1 of at most 6 places"),
        ("[[performance]]\nrequired='0.9750001'", "required: 0.9750001 is not a share from 0 to 1 of at most 6 places"),
        ("[[performance]]\nrequired='-0.1'", "required: -0.1 is not 0 or more"),
        ("[[performance]]\nrequired='NaN'", "required: NaN is not a number"),
        ("[[performance]]\nshortfall_gbp='-1'", "shortfall_gbp: -1 is not 0 or more"),
        ("[[performance]]\nshortfall_gbp='much'", "Invalid decimal string - at `$.performance[0].shortfall_gbp`"),
        ("[[performance]]\nconsecutive_gbp='1E+9'", "consecutive_gbp: 1E+9 is more than 1,000,000 pounds"),
        ("[[performance]]\nconsecutive_gbp='-75'", "consecutive_gbp: -75 is not 0 or more"),
        ("[[performance]]\nconsecutive_days=0", "consecutive_days: 0 is not 1 or more"),
        ("[[performance]]\nprovided_by='post'", "Invalid enum value 'post' - at `$.performance[0].provided_by`"),
        ("[[performance]]\nrate='1'", "unknown field `rate` - at `$.performance[0]`"),
    ],
)
def test_wrong_settings_say_what_is_wrong(toml: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        load(toml.encode())
