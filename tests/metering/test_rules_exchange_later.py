"""Meter exchange that is told late, is corrected, or falls into a run of Failed Days (3.9.1(b), 4.4.5).

M and N as in test_rules_exchange.py; from 8 January on what fails is assumed to be 10, 11, 12 and 10 m³.
"""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.metering.domain import EXCHANGED_AT as AT
from tests.metering.domain import Site, a_week_read, exchanged, later, local, start

DAY, NEXT = "2026-01-08", "2026-01-09"


# --- told late ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("removal_known", "fitting_known", "before"),
    [
        ("2026-01-11 12:00", "2026-01-11 12:00", ["provisional", "provisional"]),
        ("2026-01-08 15:00", "2026-01-11 12:00", ["provisional", "provisional"]),
        ("2026-01-11 12:00", "2026-01-08 15:00", ["provisional", "actual"]),  # of the 9th only N is asked
    ],
)
def test_3_9_1b_told_before_the_close_out(removal_known: str, fitting_known: str, before: list[str]) -> None:
    site = a_week_read()
    site.remove(AT, 680, known=removal_known)
    site.fit(AT, 5, known=fitting_known)
    site.index(start(NEXT), 25, DAY, received="2026-01-09 06:00", meter="N")
    site.read(NEXT, [25, 60], meter="N")
    assert site.ledger("2026-01-11 11:59").statuses(DAY, 2) == before
    view = site.ledger("2026-01-11 12:00")
    found = view.day(DAY)
    assert (found.status, str(found.volume_m3), found.valid_at) == ("actual", "26.000", local("2026-01-11 12:00"))
    assert (found.by_11, view.rejected(DAY), view.rejected(NEXT)) == (False, [], [])


def test_1_4_3_until_then_the_new_meters_readings_are_those_of_an_unknown_meter() -> None:
    site = exchanged(known="2026-01-11 12:00")
    before = site.ledger("2026-01-11 11:59")
    assert (before.rejected(DAY), before.rejected(NEXT)) == ([("malformed", 25)], [("malformed", 25), ("malformed", 60)])


@pytest.mark.parametrize(("known", "by_11"), [("2026-01-09 11:00", True), ("2026-01-09 11:00:01", False)])
def test_5_2_1_valid_by_11_only_if_the_exchange_was_known_by_then(known: str, by_11: bool) -> None:
    found = exchanged(known=known).day(DAY)
    assert (found.valid, found.by_11, found.valid_at) == (True, by_11, local(known))


def test_4_4_5a_told_after_the_close_out_it_restores_the_days() -> None:
    site = exchanged(known="2026-01-20 12:00")
    site.days("2026-01-10", [60, 95], meter="N")
    before, after = site.ledger("2026-01-20 11:59"), site.ledger("2026-01-20 12:00")
    assert before.statuses(DAY, 3) == ["assumed"] * 3
    assert before.determined(DAY, 3) == [None] * 3
    assert after.volumes(DAY, 3) == ["10.000", "11.000", "12.000"]
    assert after.how(DAY, 3) == ["restored"] * 3
    assert after.determined(DAY, 3) == ["26.000", "35.000", "35.000"]
    assert after.reconciled(DAY, 3) == ["-16.000", "-24.000", "-23.000"]
    assert (after.day(DAY).since, after.day(DAY).ratchet_day) == (local("2026-01-20 12:00"), True)


def test_4_3_what_was_closed_out_on_the_old_meters_readings_stays_whatever_is_told_of_it_later() -> None:
    site = a_week_read()
    site.days(DAY, [620, 700, 780])
    site.remove(AT, 680, known="2026-01-20 12:00")
    site.fit(AT, 5, known="2026-01-20 12:00")
    view = site.ledger()
    assert view.statuses(DAY, 2) == ["actual"] * 2
    assert view.volumes(DAY, 2) == ["8.000", "8.000"]


# --- corrected ----------------------------------------------------------------------------------------------------------------


def test_3_9_1b_a_removal_of_the_same_meter_and_instant_received_later_replaces_the_earlier() -> None:
    site = exchanged()
    site.remove(AT, 690, known="2026-01-10 12:00")
    assert site.ledger("2026-01-10 11:59").volumes(DAY, 1) == ["26.000"]
    assert site.ledger("2026-01-10 12:00").volumes(DAY, 1) == ["27.000"]  # 7 and 20 m³
    assert site.ledger().rejected(DAY) == []


def test_3_9_1b_a_fitting_too() -> None:
    site = exchanged()
    site.fit(AT, 7, known="2026-01-10 12:00")
    assert [site.ledger(at).volumes(DAY, 1) for at in ("2026-01-10 11:59", "2026-01-10 12:00")] == [["26.000"], ["24.000"]]


def test_4_4_1_a_correction_after_the_close_out_as_actual_changes_nothing() -> None:
    """The removal is a reading on which the Day was closed out: it is fixed."""
    site = exchanged()
    site.remove(AT, 690, known="2026-01-20 12:00")
    view = site.ledger()
    assert (view.statuses(DAY, 1), view.volumes(DAY, 1), view.determined(DAY, 1)) == (["actual"], ["26.000"], [None])
    assert view.reconciliation(DAY) is None


def test_4_4_4_a_correction_of_what_determines_failed_days_determines_them_anew() -> None:
    site = a_week_read()
    site.remove(AT, 680)
    site.fit(AT, 5)
    site.days("2026-01-10", [25, 60], meter="N")
    site.remove(AT, 690, known="2026-01-20 12:00")
    before, after = site.ledger("2026-01-20 11:59"), site.ledger("2026-01-20 12:00")
    assert before.determined(DAY, 2) == ["12.381", "13.619"]  # 26 as 10 : 11
    assert after.determined(DAY, 2) == ["12.857", "14.143"]  # 27 as 10 : 11, exactly 12857.14 and 14142.86
    assert [view.day(DAY).since for view in (before, after)] == [start("2026-01-15"), local("2026-01-20 12:00")]


# --- in a run of Failed Days (4.4.5) ------------------------------------------------------------------------------------------


def silent(*, known: str | None = None) -> Site:
    """From the 8th to the 11th nothing is read; at noon on the 10th M shows 900 and N 5, and on the 12th N shows 25."""
    site = a_week_read()
    site.remove("2026-01-10 12:00", 900, known=known)
    site.fit("2026-01-10 12:00", 5, known=known)
    site.days("2026-01-12", [25, 60], meter="N")
    return site


@pytest.mark.parametrize(("known", "since"), [(None, start("2026-01-17")), ("2026-01-20 12:00", local("2026-01-20 12:00"))])
def test_4_4_5b_the_run_is_apportioned_with_both_meters_parts(known: str | None, since: datetime) -> None:
    """28 and 20 m³ as 10 : 11 : 12 : 10 of 43, exactly 11162.79, 12279.07, 13395.35 and 11162.79 litres; the two that the
    floors leave go to the first and the last."""
    view = silent(known=known).ledger()
    assert view.statuses(DAY, 4) == ["assumed"] * 4
    assert view.determined(DAY, 4) == ["11.163", "12.279", "13.395", "11.163"]
    assert (view.how(DAY, 4), view.final(DAY, 4)) == (["apportioned"] * 4, "48.000")
    assert {view.day(day).since for day in (DAY, "2026-01-11")} == {since}


def test_4_4_5b_a_reading_of_the_old_meter_splits_the_run() -> None:
    site = silent()
    site.index(start("2026-01-10"), 880, "2026-01-10", received="2026-01-20 12:00")
    view = site.ledger()
    assert view.determined(DAY, 2) == ["12.381", "13.619"]  # 26 as 10 : 11
    assert view.determined("2026-01-10", 2) == ["12.000", "10.000"]  # 2 and 20, as 12 : 10


def test_4_4_5_a_reading_of_the_new_meter_restores_the_exchange_day() -> None:
    site = silent()
    site.index(start("2026-01-10"), 880, "2026-01-10", received="2026-01-20 12:00")
    site.index(start("2026-01-11"), 15, "2026-01-10", received="2026-01-22 12:00", meter="N")
    view = site.ledger()
    assert view.how(DAY, 4) == ["apportioned", "apportioned", "restored", "restored"]
    assert view.determined("2026-01-10", 2) == ["12.000", "10.000"]  # 2 and 10; 10


def test_4_4_5b_an_exchange_at_a_boundary_splits_the_run() -> None:
    site = a_week_read()
    site.remove(start("2026-01-10"), 900)
    site.fit(start("2026-01-10"), 5)
    site.days("2026-01-12", [25, 60], meter="N")
    view = site.ledger()
    assert view.determined(DAY, 2) == ["13.333", "14.667"]  # 28 as 10 : 11, exactly 13333.33 and 14666.67
    assert view.determined("2026-01-10", 2) == ["10.909", "9.091"]  # 20 as 12 : 10, exactly 10909.09 and 9090.91


def test_4_4_5b_without_the_removal_index_the_run_is_not_determined() -> None:
    site = a_week_read()
    site.fit("2026-01-10 12:00", 5)
    site.days("2026-01-12", [25, 60], meter="N")
    assert site.ledger().determined(DAY, 4) == [None] * 4
    site.remove("2026-01-10 12:00", 900, known="2026-02-03 12:00")
    assert site.ledger().determined(DAY, 4) == ["11.163", "12.279", "13.395", "11.163"]


def test_4_4_5b_gas_off_for_days_within_the_run() -> None:
    """26 m³ as 10 : 11 : 12 : 10 of 43, exactly 6046.51, 6651.16, 7255.81 and 6046.51 litres."""
    site = a_week_read()
    site.remove("2026-01-08 14:00", 680)
    site.fit("2026-01-11 09:00", 5)
    site.days("2026-01-12", [25, 60], meter="N")
    view = site.ledger()
    assert view.determined(DAY, 4) == ["6.047", "6.651", "7.256", "6.046"]
    assert view.final(DAY, 4) == "26.000"


def test_4_4_5b_two_exchanges_within_a_run() -> None:
    site = a_week_read()
    site.remove("2026-01-09 12:00", 800)  # 18 m³
    site.fit("2026-01-09 12:00", 5)
    site.remove("2026-01-11 12:00", 12, meter="N")  # 7 m³
    site.fit("2026-01-11 12:00", 0, meter="O", tick="0.1", digits=8)
    site.days("2026-01-12", [180, 200], meter="O")  # 18 m³
    view = site.ledger()
    assert view.determined(DAY, 4) == ["10.000", "11.000", "12.000", "10.000"]  # 43 as 10 : 11 : 12 : 10


def test_4_2_6_deemed_days_take_part_with_an_exchange_between_them() -> None:
    site = Site("2026-01-01")
    site.remove("2026-01-03 12:00", 400)  # 40 m³
    site.fit("2026-01-03 12:00", 5)
    site.days(NEXT, [405, 500], meter="N")  # 400 m³
    view = site.ledger()
    assert view.statuses("2026-01-01", 8) == ["deemed"] * 7 + ["assumed"]
    assert view.determined("2026-01-01", 8) == ["55.000"] * 8


def test_4_4_2_the_closed_out_volume_of_an_exchange_day_is_what_the_week_after_assumes() -> None:
    view = exchanged().ledger("2026-01-30 12:00")
    assert view.statuses("2026-01-15", 1) == ["assumed"]
    assert view.volumes("2026-01-15", 2) == ["26.000", "35.000"]


def test_5_2_1_the_days_after_an_exchange_are_valid_by_the_new_meter_alone() -> None:
    site = exchanged()
    site.days("2026-01-10", [60, 95, 130], meter="N")
    view = site.ledger()
    assert [view.day(later(DAY, n)).by_11 for n in range(4)] == [True] * 4
    assert [view.rejected(later(DAY, n)) for n in range(4)] == [[]] * 4
