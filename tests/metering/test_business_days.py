"""Business Days: weekends, bank holidays of England and Wales and what the settings change of them (4.8.3)."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.business_days import BusinessDays
from metering.rules import load

COUNTED = [  # from a Day, so many Business Days on, is
    ("2026-01-12", 1, "2026-01-13"), ("2026-01-09", 1, "2026-01-12"), ("2026-01-09", 5, "2026-01-16"),
    ("2026-01-10", 1, "2026-01-12"), ("2026-01-11", 3, "2026-01-14"),  # from a Saturday, a Sunday
    ("2025-12-23", 3, "2025-12-30"), ("2025-12-24", 5, "2026-01-05"),  # Christmas on Thursday and Friday; New Year
    ("2021-12-24", 1, "2021-12-29"), ("2021-12-31", 1, "2022-01-04"),  # on a weekend: Monday and Tuesday are off instead
    ("2026-04-02", 1, "2026-04-07"), ("2026-04-01", 3, "2026-04-08"),  # Good Friday and Easter Monday
    ("2024-03-28", 1, "2024-04-02"), ("2027-03-25", 1, "2027-03-30"),
    ("2020-05-07", 1, "2020-05-11"), ("2020-05-01", 1, "2020-05-04"),  # the May holiday moved to Friday the 8th
    ("2022-06-01", 1, "2022-06-06"), ("2022-09-16", 1, "2022-09-20"), ("2023-05-05", 1, "2023-05-09"),  # held once
    ("2024-02-28", 2, "2024-03-01"), ("2026-02-27", 1, "2026-03-02"), ("2026-08-28", 1, "2026-09-01"),  # ends of months
    ("2002-05-31", 1, "2002-06-05"), ("1999-12-30", 1, "2000-01-04"),
    ("2020-01-01", 1, "2020-01-02"),  # in Scotland a holiday, not here
]  # fmt: skip


def ordinal(day: str) -> int:
    return date.fromisoformat(day).toordinal()


@pytest.mark.parametrize(("day", "count", "then"), COUNTED)
@pytest.mark.clause("1.11")
def test_4_8_3_business_days_are_counted_after_the_day(day: str, count: int, then: str) -> None:
    assert BusinessDays().after(ordinal(day), count) == ordinal(then)


@pytest.mark.clause("1.11")
def test_4_8_3_settings_add_and_remove_bank_holidays() -> None:
    rules = load(b"bank_holidays_added = [2026-01-13]\nbank_holidays_removed = [2026-04-06]")
    assert rules.business_days().after(ordinal("2026-01-12"), 1) == ordinal("2026-01-14")
    assert rules.business_days().after(ordinal("2026-04-02"), 1) == ordinal("2026-04-06")


@pytest.mark.clause("1.11")
def test_a_weekend_stays_one_whatever_is_removed() -> None:
    assert not BusinessDays(removed=[date(2026, 1, 10)]).holds(ordinal("2026-01-10"))


def test_a_bank_holiday_that_is_both_added_and_removed_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="bank_holidays_added: 2026-01-13 is in bank_holidays_removed too"):
        load(b"bank_holidays_added = [2026-01-13]\nbank_holidays_removed = [2026-01-13]")


def test_after_2100_only_weekends_are_known() -> None:
    assert not BusinessDays().holds(ordinal("2100-12-27"))  # a Monday, in lieu of the 25th
    assert BusinessDays().holds(ordinal("2110-12-25"))  # a Thursday
    assert not BusinessDays(added=[date(2110, 12, 25)]).holds(ordinal("2110-12-25"))


@given(st.dates(date(1970, 1, 1), date(2199, 11, 1)), st.integers(1, 12))
def test_the_period_holds_that_many_business_days_and_ends_with_one(day: date, count: int) -> None:
    calendar = BusinessDays()
    last = calendar.after(day.toordinal(), count)
    within = [one for one in range(day.toordinal() + 1, last + 1) if calendar.holds(one)]
    assert (len(within), within[-1]) == (count, last)
    assert all((day + timedelta(days=one - day.toordinal())).weekday() < 5 for one in within)
