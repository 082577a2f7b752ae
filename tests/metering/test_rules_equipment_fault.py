"""Faults of the Daily Read Equipment: what it failed to capture is not restored by readings of that time (4.4.5).

From 8 to 11 January nothing comes in time, so that the Days are assumed to be 10, 11, 12 and 10 m³. On the 20th their
boundaries are obtained: 620, 750, 850, 960 and 1100, that is 13, 10, 11 and 14 m³.
"""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.metering.domain import Site, a_week_read, later, local, start

DAY, NEXT = "2026-01-08", "2026-01-09"
OBTAINED = "2026-01-20 12:00"
BOUNDARIES = [620, 750, 850, 960, 1100]
RESTORED = ["13.000", "10.000", "11.000", "14.000"]
SHARED = [
    "11.163",
    "12.279",
    "13.395",
    "11.163",
]  # 48 as 10 : 11 : 12 : 10 of 43, exactly 11162.79, 12279.07, 13395.35, 11162.79
BROKE, TOLD = "2026-01-08 12:00", "2026-01-08 13:00"


def obtained_late() -> Site:
    site = a_week_read()
    for n in range(4):
        site.read(later(DAY, n), BOUNDARIES[n : n + 2], received=OBTAINED)
    return site


def test_4_4_5a_without_a_fault_the_days_are_restored() -> None:
    view = obtained_late().ledger()
    assert (view.how(DAY, 4), view.determined(DAY, 4)) == (["restored"] * 4, RESTORED)


@pytest.mark.clause("4.1.2(b)", "4.4.5(a)(i)")
def test_4_4_5a_where_only_the_transmission_failed_they_are_restored() -> None:
    site = obtained_late()
    site.fault(BROKE, "2026-01-11 12:00", part="comms", known=TOLD)
    view = site.ledger()
    assert (view.how(DAY, 4), view.determined(DAY, 4)) == (["restored"] * 4, RESTORED)
    assert [view.day(later(DAY, n)).ratchet_day for n in range(4)] == [True] * 4


@pytest.mark.clause("4.1.2(a)", "4.4.5(a)(i)")
def test_4_4_5b_readings_of_a_capture_fault_neither_restore_nor_split() -> None:
    site = obtained_late()
    site.fault(BROKE, "2026-01-11 12:00", known=TOLD)
    view = site.ledger()
    assert (view.how(DAY, 4), view.determined(DAY, 4)) == (["apportioned"] * 4, SHARED)
    assert [view.day(later(DAY, n)).ratchet_day for n in range(4)] == [False] * 4
    assert [view.day(later(DAY, n)).valid for n in range(4)] == [True] * 4  # the readings stand, they are only not used
    assert view.final(DAY, 4) == "48.000"


def test_4_4_5b_a_reading_of_the_fault_bounds_the_run_where_the_day_on_its_other_side_did_not_fail() -> None:
    """620 lies in the fault, and the 7th did not fail. 23 m³ as 10 : 11, exactly 10952.38 and 12047.62 litres."""
    site = obtained_late()
    site.fault("2026-01-08 04:00", "2026-01-09 12:00", known=TOLD)
    view = site.ledger()
    assert view.how(DAY, 4) == ["apportioned", "apportioned", "restored", "restored"]
    assert view.determined(DAY, 4) == ["10.952", "12.048", "11.000", "14.000"]


@pytest.mark.parametrize(
    ("from_", "until", "determined"),
    [  # the boundaries of 9 January, of 9 and 10 January, or of none lie in the fault
        (start(NEXT), start("2026-01-10"), ["10.952", "12.048", "11.000", "14.000"]),
        (start(NEXT, 0, 1), start("2026-01-10"), RESTORED),
        (start(NEXT), start("2026-01-10", 0, 1), ["10.303", "11.333", "12.364", "14.000"]),  # 34 as 10 : 11 : 12
        (start(NEXT), start(NEXT), RESTORED),
    ],
)
def test_4_4_5b_from_is_in_the_fault_and_until_is_not(from_: datetime, until: datetime, determined: list[str]) -> None:
    site = obtained_late()
    site.fault(from_, until, known=TOLD)
    assert site.ledger().determined(DAY, 4) == determined


def test_4_4_5b_it_is_the_readings_own_instant_that_counts() -> None:
    """Read 30 s after the boundary, 10 s after the fault."""
    site = a_week_read()
    at = start(NEXT, 0, 30)
    site.read(DAY, [620, 750], at=[start(DAY), at], received=OBTAINED)
    site.fault(BROKE, start(NEXT, 0, 20), known=TOLD)
    view = site.ledger()
    assert (view.how(DAY, 1), view.determined(DAY, 1)) == (["restored"], ["13.000"])


# --- how long -----------------------------------------------------------------------------------------------------------------


def test_4_4_5b_while_it_lasts_only_days_that_did_not_fail_bound_the_run() -> None:
    site = obtained_late()
    site.fault(BROKE, None, known=TOLD)
    assert site.ledger().determined(DAY, 4) == [None] * 4  # 1100 at the start of the 12th, which failed too
    site.read("2026-01-12", [1100, 1200])
    view = site.ledger()
    assert view.statuses("2026-01-12", 1) == ["actual"]
    assert (view.how(DAY, 4), view.determined(DAY, 4)) == (["apportioned"] * 4, SHARED)


def test_4_4_5_its_end_is_told_later_by_the_same_fault_again() -> None:
    site = obtained_late()
    site.fault(BROKE, None, known=TOLD)
    site.fault(BROKE, "2026-01-11 12:00", known="2026-01-25 12:00")
    before, after = site.ledger("2026-01-25 11:59"), site.ledger("2026-01-25 12:00")
    assert (before.determined(DAY, 4), after.determined(DAY, 4)) == ([None] * 4, SHARED)
    assert after.day(DAY).since == local("2026-01-25 12:00")


def test_4_4_5a_a_fault_that_proves_shorter_lets_the_days_be_restored() -> None:
    site = obtained_late()
    site.fault(BROKE, "2026-01-11 12:00", known=TOLD)
    site.fault(BROKE, "2026-01-08 13:00", known="2026-01-25 12:00")
    before, after = site.ledger("2026-01-25 11:59"), site.ledger("2026-01-25 12:00")
    assert (before.how(DAY, 4), before.determined(DAY, 4)) == (["apportioned"] * 4, SHARED)
    assert (after.how(DAY, 4), after.determined(DAY, 4)) == (["restored"] * 4, RESTORED)


def test_4_4_5b_a_fault_that_we_learn_of_later_takes_a_restoration_back() -> None:
    site = obtained_late()
    site.fault(BROKE, "2026-01-11 12:00", known="2026-01-25 12:00")
    before, after = site.ledger("2026-01-25 11:59"), site.ledger("2026-01-25 12:00")
    assert (before.how(DAY, 4), after.how(DAY, 4)) == (["restored"] * 4, ["apportioned"] * 4)
    assert before.reconciled(DAY, 4) == ["-3.000", "1.000", "1.000", "-4.000"]
    assert after.reconciled(DAY, 4) == ["-1.163", "-1.279", "-1.395", "-1.163"]
    assert [view.day(DAY).since for view in (before, after)] == [local(OBTAINED), local("2026-01-25 12:00")]


def test_4_4_5b_two_faults() -> None:
    """The boundaries of the 9th and of the 11th lie in one each; that of the 10th splits. 25 m³ as 12 : 10, exactly 13636.36
    and 11363.64 litres."""
    site = obtained_late()
    site.fault(BROKE, "2026-01-09 12:00", known=TOLD)
    site.fault("2026-01-10 12:00", "2026-01-11 12:00", known="2026-01-10 13:00")
    assert site.ledger().determined(DAY, 4) == ["10.952", "12.048", "13.636", "11.364"]


# --- Days that have readings in time ------------------------------------------------------------------------------------------


def test_4_4_1_a_day_with_valid_readings_by_its_close_out_is_actual_whatever_broke() -> None:
    site = a_week_read()
    site.days(DAY, BOUNDARIES)
    site.fault(BROKE, "2026-01-11 12:00", known=TOLD)
    view = site.ledger()
    assert (view.statuses(DAY, 4), view.volumes(DAY, 4)) == (["actual"] * 4, RESTORED)
    assert view.how(DAY, 4) == [None] * 4


@pytest.mark.parametrize(
    ("from_", "until", "how"),
    [
        ("2026-01-08 04:00", "2026-01-09 06:00", "apportioned"),  # both its boundaries
        ("2026-01-08 12:00", "2026-01-09 06:00", "apportioned"),  # its end
        ("2026-01-08 04:00", "2026-01-08 12:00", "apportioned"),  # its start
        ("2026-01-08 06:00", "2026-01-09 04:00", "restored"),  # neither
    ],
)
def test_4_4_5b_one_failed_day_between_two_that_did_not_fail(from_: str, until: str, how: str) -> None:
    """The 8th failed on its start, which differed (4.2.3(c)); the Days beside it bound it. A run of one Day gets all."""
    site = a_week_read()
    site.read(DAY, [625, 750])
    site.read(NEXT, [750, 860])
    site.fault(from_, until, known="2026-01-09 07:00")
    found = site.day(DAY)
    assert (found.status, str(found.volume_m3)) == ("assumed", "10.000")
    assert (found.determined_status, str(found.determined_m3)) == (how, "13.000")
    assert found.ratchet_day is (how == "restored")


# --- with exchanges and withdrawals -------------------------------------------------------------------------------------------


def test_4_4_5b_a_fault_in_a_run_with_an_exchange() -> None:
    """M shows 880 at the start of the 10th, in the fault, and 900 at noon; N 5 then, and 25 on the 12th: 28 and 20 m³."""
    site = a_week_read()
    site.remove("2026-01-10 12:00", 900)
    site.fit("2026-01-10 12:00", 5)
    site.index(start("2026-01-10"), 880, "2026-01-10", received=OBTAINED)
    site.read("2026-01-12", [25, 60], meter="N")
    assert site.ledger().determined(DAY, 4) == ["12.381", "13.619", "12.000", "10.000"]
    site.fault("2026-01-09 12:00", "2026-01-10 12:00", known="2026-01-25 12:00")
    assert site.ledger().determined(DAY, 4) == SHARED


def test_4_4_5b_a_day_that_was_actual_and_whose_reading_was_withdrawn_is_a_failed_day_here_too() -> None:
    """Its start, in the fault, is no bound of the run after it: the run is 8 to 11 January, 48 m³ as 13 : 11 : 12 : 10 of 46,
    exactly 13565.22, 11478.26, 12521.74 and 10434.78 litres."""
    site = a_week_read()
    site.read(DAY, [620, 750])
    site.withdraw(DAY, received=OBTAINED)
    site.read(DAY, [620, 755], received="2026-01-22 12:00")
    site.index(start("2026-01-12"), 1100, "2026-01-12", received="2026-01-22 12:00")
    site.fault(BROKE, "2026-01-09 12:00", known="2026-01-25 12:00")
    before, after = site.ledger("2026-01-25 11:59"), site.ledger("2026-01-25 12:00")
    assert before.how(DAY, 4) == ["restored"] + ["apportioned"] * 3
    assert before.determined(DAY, 4) == ["13.500", "11.500", "12.545", "10.455"]  # 34.5 as 11 : 12 : 10 of 33
    assert after.determined(DAY, 4) == ["13.565", "11.478", "12.522", "10.435"]
