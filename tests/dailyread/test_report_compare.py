"""The ledger beside the truth: what may differ, and what may not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import msgspec
import pytest

from dailyread.report.compare import Comparison, compare
from dailyread.report.summary import Summary, summarise
from metering.ledger import Day
from tests.dailyread.ledgers import AS_OF, FIRST, only, records, truth


def wrong(rows: list[Comparison]) -> list[tuple[str, int, str]]:
    return [(r.meter_point, (r.gas_day - FIRST).days, r.verdict) for r in rows if not r.agrees]


def with_day(site: str, n: int, **changes: object) -> Summary:
    """The whole ledger with one Day changed."""
    day = FIRST + timedelta(days=n)

    def changed(record: object) -> object:
        wanted = isinstance(record, Day) and (record.meter_point, record.gas_day) == (site, day)
        return msgspec.structs.replace(record, **changes) if wanted else record

    return summarise((changed(r) for r in records()), AS_OF)  # type: ignore[misc]


def test_true_ledger_agrees() -> None:
    rows = compare(summarise(records(), AS_OF), truth())
    assert wrong(rows) == []
    # 7 deemed Days, 6 assumed ones that were never determined, 5 provisional ones; and two Days of the run that was shared out.
    assert Counter(row.verdict for row in rows) == {"equal": 12 * 39 - 20, "estimated": 18, "shared": 2}


@pytest.mark.parametrize("litre", [Decimal("0.001"), Decimal("-0.001")])
def test_litre_wrong_in_a_read_day_differs(litre: Decimal) -> None:
    right = only("SMP-11", 3).volume_m3
    assert right is not None
    rows = compare(with_day("SMP-11", 3, volume_m3=right + litre), truth())
    assert wrong(rows) == [("SMP-11", 3, "differs")]
    assert next(r for r in rows if not r.agrees).difference_m3 == litre


def test_restored_day_must_be_the_truth() -> None:
    rows = compare(with_day("SMP-02", 12, determined_m3=Decimal("0.000")), truth())
    assert wrong(rows) == [("SMP-02", 12, "differs")]


def test_apportioned_run_must_sum_to_the_truth() -> None:
    rows = compare(with_day("SMP-03", 15, determined_m3=Decimal("1.000")), truth())
    assert wrong(rows) == [("SMP-03", n, "differs") for n in (14, 15, 16, 17)]


def test_reading_inside_a_run_splits_it() -> None:
    # The first two Days balance each other: with a reading between them each must be right by itself.
    rows = compare(with_day("SMP-03", 15, start_index=5), truth())
    assert wrong(rows) == [("SMP-03", n, "differs") for n in (14, 15, 16, 17)]


def test_estimates_may_differ() -> None:
    for site, n in (("SMP-08", 35), ("SMP-01", 4)):
        rows = compare(with_day(site, n, volume_m3=Decimal("1.000")), truth())
        assert wrong(rows) == []
        assert next(r for r in rows if (r.meter_point, r.gas_day) == (site, FIRST + timedelta(days=n))).verdict == "estimated"


def test_an_assumed_day_must_be_the_week_befores() -> None:
    assert wrong(compare(with_day("SMP-08", 30, volume_m3=Decimal("1.000")), truth()))[0] == ("SMP-08", 30, "differs")


def test_missing_day_is_a_disagreement() -> None:
    held = [r for r in records() if not (isinstance(r, Day) and r.meter_point == "SMP-05" and r.gas_day == FIRST)]
    rows = compare(summarise(held, AS_OF), truth())
    assert wrong(rows) == [("SMP-05", 0, "missing")]
    assert rows[4 * 39].difference_m3 is None


def test_day_without_truth_is_left_out() -> None:
    assert compare(summarise(records(), AS_OF), {}) == []


def test_rows_are_values() -> None:
    row = compare(summarise([only("SMP-11", 0)], AS_OF), {("SMP-11", FIRST): 1})[0]
    assert replace(row, verdict="equal").agrees
    assert (row.truth_m3, row.gas_day, row.status) == (Decimal("0.001"), date(2025, 9, 26), "actual")
