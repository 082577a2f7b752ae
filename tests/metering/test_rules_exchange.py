"""Meter exchange: the old meter's part and the new one's, within a Day, at its boundary, with gas off between them (3.9.1(b)).

M is fitted on 1 January (0.1 m³ a tick) and stands at 620 at the start of the 8th. N (1 m³ a tick) takes its place; unless a
test says otherwise M is removed at 14:00 on the 8th showing 680 (6 m³), N is fitted then showing 5 and shows 25 at the Day's
end (20 m³).
"""

from __future__ import annotations

import pytest

from tests.metering.domain import EXCHANGED_AT as AT
from tests.metering.domain import Site, a_week_read, exchanged, local, start

DAY, NEXT = "2026-01-08", "2026-01-09"


# --- within a Day -------------------------------------------------------------------------------------------------------------


def test_3_9_1b_the_days_volume_is_the_old_meters_part_and_the_new_ones() -> None:
    view = exchanged().ledger()
    found = view.day(DAY)
    assert (found.status, found.valid, found.start_index, found.end_index) == ("actual", True, 620, 25)
    assert (str(found.volume_m3), str(found.quantity_kwh)) == ("26.000", "260.000")  # 6 and 20 m³, 10 kWh a m³
    assert view.volumes(NEXT, 1) == ["35.000"]
    assert (view.rejected(DAY), view.rejected(NEXT)) == ([], [])


@pytest.mark.parametrize(
    ("tick", "factor", "volume"),
    [
        ("1", None, "26.000"),
        ("1", "1.02264", "26.453"),  # R(25566.0) - R(5113.2) = 20453, and 6000
        ("2.8316846592", "1.022640", "63.916"),  # R(72394.850) - R(14478.970) = 57916, and 6000
        ("0.0005", None, "6.010"),  # R(12.5) - R(2.5) = 13 - 3, and 6000
    ],
)
def test_3_9_1b_each_part_by_its_own_register(tick: str, factor: str | None, volume: str) -> None:
    assert exchanged(tick=tick, factor=factor).ledger().volumes(DAY, 1) == [volume]


@pytest.mark.parametrize("fitted", ["2026-01-08 14:01", "2026-01-08 17:20", "2026-01-09 04:50"])
def test_3_9_1b_gas_is_off_between_removal_and_fitting(fitted: str) -> None:
    found = exchanged(fitted=fitted).day(DAY)
    assert (found.status, str(found.volume_m3)) == ("actual", "26.000")


def test_3_9_1b_two_exchanges_within_a_day() -> None:
    site = a_week_read()
    site.remove("2026-01-08 10:00", 680)  # 6 m³
    site.fit("2026-01-08 10:00", 5)
    site.remove("2026-01-08 16:00", 12, meter="N")  # 7 m³
    site.fit("2026-01-08 16:30", 100, meter="O", digits=8, tick="0.1")
    site.index(start(NEXT), 130, DAY, received="2026-01-09 06:00", meter="O")  # 3 m³
    found = site.day(DAY)
    assert (found.status, str(found.volume_m3), found.end_index) == ("actual", "16.000", 130)


def test_3_9_1b_a_meter_that_is_fitted_again_after_its_repair() -> None:
    site = a_week_read()
    site.remove("2026-01-08 14:00", 680)  # 6 m³
    site.fit("2026-01-08 20:00", 700, meter="M", digits=8, tick="0.1")
    site.index(start(NEXT), 720, DAY, received="2026-01-09 06:00")  # 2 m³; what it counted on the bench is nobody's gas
    site.read(NEXT, [720, 800])
    assert site.ledger().volumes(DAY, 2) == ["8.000", "8.000"]


def test_1_4_3_the_old_meter_may_roll_over_before_its_removal() -> None:
    site = Site(DAY, index=9950, digits=4)
    site.remove(AT, 20)  # R(1002000) - R(995000) litres
    site.fit(AT, 5)
    site.index(start(NEXT), 25, DAY, received="2026-01-09 06:00", meter="N")
    assert site.ledger().volumes(DAY, 1) == ["27.000"]


def test_1_4_3e_the_first_meter_counts_as_fitted_at_its_days_start() -> None:
    site = Site("2026-01-01", fitted="2026-01-08 12:00", index=50)
    site.remove("2026-01-08 16:00", 70)  # 2 m³
    site.fit("2026-01-08 16:00", 5)
    site.index(start(NEXT), 25, DAY, received="2026-01-09 06:00", meter="N")
    found = site.day(DAY)
    assert (found.status, found.start_index, str(found.volume_m3)) == ("actual", 50, "22.000")


# --- at a boundary ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_too", [False, True])
def test_3_9_1b_an_exchange_at_the_boundary_ends_one_day_and_begins_the_next(read_too: bool) -> None:
    """Boundary readings are compared per meter: that M shows 700 and N shows 5 at one instant is no mismatch."""
    site = a_week_read()
    site.remove(start(NEXT), 700)
    site.fit(start(NEXT), 5)
    if read_too:
        site.read(DAY, [620, 700])
        site.read(NEXT, [5, 40], meter="N")
    else:
        site.index(start(NEXT, 1), 40, NEXT, received="2026-01-10 06:00", meter="N")
    view = site.ledger()
    assert view.statuses(DAY, 2) == ["actual"] * 2
    assert [(view.day(day).start_index, view.day(day).end_index) for day in (DAY, NEXT)] == [(620, 700), (5, 40)]
    assert view.volumes(DAY, 2) == ["8.000", "35.000"]
    assert (view.rejected(DAY), view.rejected(NEXT)) == ([], [])


@pytest.mark.parametrize(("removed", "fitted"), [("05:00", "05:40"), ("04:20", "05:00")])
def test_3_9_1b_gas_off_right_after_or_right_before_the_boundary(removed: str, fitted: str) -> None:
    """An instant of 05:00 is both the end of a Day and the start of the next: no gap reaches over it."""
    site = a_week_read()
    site.remove(f"2026-01-09 {removed}", 700)
    site.fit(f"2026-01-09 {fitted}", 5)
    site.index(start(NEXT, 1), 40, NEXT, received="2026-01-10 06:00", meter="N")
    view = site.ledger()
    assert view.statuses(DAY, 2) == ["actual"] * 2
    assert view.volumes(DAY, 2) == ["8.000", "35.000"]


def test_3_9_1b_a_removal_index_that_differs_from_the_reading_of_its_instant() -> None:
    """The reading came first (06:00, the removal at 07:00): it stands, and ends the Day."""
    site = a_week_read()
    site.read(DAY, [620, 700])
    site.remove(start(NEXT), 710, known="2026-01-09 07:00")
    site.fit(start(NEXT), 5)
    view = site.ledger()
    assert (view.statuses(DAY, 1), view.volumes(DAY, 1)) == (["actual"], ["8.000"])
    assert [(each.rule, each.index) for day in (DAY, NEXT) for each in view.records(day)] == [("boundary_mismatch", 710)]


# --- no successor by the Day's end --------------------------------------------------------------------------------------------


def test_3_9_1b_a_day_with_a_removal_and_no_successor_by_its_end_is_not_valid_nor_is_the_next() -> None:
    site = a_week_read()
    site.remove(AT, 680)
    site.fit("2026-01-09 09:00", 5)
    site.days("2026-01-10", [25, 60], meter="N")
    view = site.ledger()
    assert view.statuses(DAY, 3) == ["assumed", "assumed", "actual"]
    assert view.volumes(DAY, 3) == ["10.000", "11.000", "35.000"]
    assert [view.day(day).valid for day in (DAY, NEXT)] == [False, False]
    assert [(view.day(day).start_index, view.day(day).end_index) for day in (DAY, NEXT)] == [(620, None), (None, 25)]


def test_4_4_5b_and_both_are_apportioned_with_both_meters_parts() -> None:
    site = a_week_read()
    site.remove(AT, 680)
    site.fit("2026-01-09 09:00", 5)
    site.days("2026-01-10", [25, 60], meter="N")
    view = site.ledger()
    assert view.how(DAY, 2) == ["apportioned"] * 2
    assert view.determined(DAY, 2) == ["12.381", "13.619"]  # 26 as 10 : 11, exactly 12380.95 and 13619.05 litres
    assert view.reconciled(DAY, 2) == ["-2.381", "-2.619"]
    assert view.day(DAY).since == start("2026-01-15")  # the close-out of the 9th


def test_3_9_1a_a_meter_removed_for_good_ends_all_readings() -> None:
    site = a_week_read()
    site.remove(AT, 680)
    site.read(NEXT, [690, 700])
    view = site.ledger("2026-01-20 12:00")
    assert view.statuses(DAY, 7) == ["assumed"] * 7
    assert view.determined(DAY, 7) == [None] * 7
    assert view.rejected(NEXT) == [("malformed", 690), ("malformed", 700)]


# --- readings of a meter that is not in place ---------------------------------------------------------------------------------


def test_1_4_3_readings_of_the_old_meter_after_its_removal_and_of_the_new_before_its_fitting_are_malformed() -> None:
    site = a_week_read()
    site.remove(AT, 680)
    site.fit(AT, 5)
    site.read(DAY, [620, 650, 690], at=[start(DAY), local("2026-01-08 10:00"), local("2026-01-08 16:00")])
    site.read(DAY, [3, 25], at=[local("2026-01-08 08:00"), start(NEXT)], meter="N")
    view = site.ledger()
    assert view.rejected(DAY) == [("malformed", 3), ("malformed", 690)]
    assert (view.statuses(DAY, 1), view.volumes(DAY, 1)) == (["actual"], ["26.000"])
    assert "malformed" in view.day(DAY).failed


def test_1_4_3_what_the_old_meter_is_said_to_show_at_the_days_end_is_no_boundary_reading_of_the_day() -> None:
    site = exchanged()
    site.read(DAY, [620, 700], meter="M")
    view = site.ledger()
    assert view.rejected(DAY) == [("malformed", 700)]
    assert (view.day(DAY).valid, view.volumes(DAY, 1)) == (True, ["26.000"])


def test_1_4_3_a_removal_of_a_meter_that_never_was_here_changes_nothing() -> None:
    site = a_week_read()
    site.days(DAY, [620, 720, 830])
    site.remove("2026-01-08 14:00", 680, meter="X")
    view = site.ledger()
    assert (view.statuses(DAY, 2), view.volumes(DAY, 2)) == (["actual"] * 2, ["10.000", "11.000"])


# --- fitting and removal are readings in the chain of their meter -------------------------------------------------------------


@pytest.mark.parametrize(("removal", "rule"), [(610, "negative_advance"), (200_000, "excess_flow")])
def test_1_5_a_removal_index_that_the_meters_readings_contradict_is_rejected_and_the_day_is_not_valid(
    removal: int, rule: str
) -> None:
    """From 620 at 05:00; nine hours of 10,000 ticks and 1% are 90,900."""
    site = exchanged(removal=removal)
    view = site.ledger()
    assert view.rejected(DAY) == [(rule, removal)]
    assert view.records(DAY)[0].at == local(AT)
    assert (view.statuses(DAY, 2), view.volumes(DAY, 1)) == (["assumed", "actual"], ["10.000"])
    assert view.determined(DAY, 1) == [None]


def test_4_4_5a_and_its_correction_restores_the_day() -> None:
    site = exchanged(removal=610)
    site.remove(AT, 680, known="2026-01-20 12:00")
    view = site.ledger()
    assert (view.how(DAY, 1), view.determined(DAY, 1), view.rejected(DAY)) == (["restored"], ["26.000"], [])
    assert view.day(DAY).since == local("2026-01-20 12:00")


def test_1_5_a_fitting_index_that_most_readings_contradict_is_rejected() -> None:
    """30 at the fitting; then 25 in two Days' batches, and 60."""
    site = exchanged(fitting=30)
    view = site.ledger()
    assert view.rejected(DAY) == [("negative_advance", 30)]
    assert view.statuses(DAY, 2) == ["assumed", "actual"]
    assert view.determined(DAY, 1) == [None]
    site.fit(AT, 5, known="2026-01-20 12:00")
    assert site.ledger().determined(DAY, 1) == ["26.000"]


def test_1_5_the_new_meters_advance_is_judged_by_its_own_register() -> None:
    """At most 15 hours of 1 m³ and 1%, and a tick: 16. The fitting, received first, stands against one reading."""
    site = a_week_read()
    site.remove(AT, 680)
    site.fit(AT, 5, q_max="1")
    site.index(start(NEXT), 25, DAY, received="2026-01-09 06:00", meter="N")
    view = site.ledger()
    assert view.rejected(DAY) == [("excess_flow", 25)]
    assert view.statuses(DAY, 1) == ["assumed"]


# --- facts that contradict each other -----------------------------------------------------------------------------------------


def test_3_9_1b_a_successor_without_a_removal_leaves_the_old_meters_part_unknown() -> None:
    site = a_week_read()
    site.fit(AT, 5)
    site.index(start(NEXT), 25, DAY, received="2026-01-09 06:00", meter="N")
    site.read(NEXT, [25, 60], meter="N")
    view = site.ledger()
    assert (view.statuses(DAY, 2), view.determined(DAY, 1)) == (["assumed", "actual"], [None])
    site.remove(AT, 680, known="2026-02-03 12:00")
    view = site.ledger()
    assert (view.how(DAY, 1), view.determined(DAY, 1)) == (["restored"], ["26.000"])


def test_3_9_1b_a_removal_told_for_an_instant_after_the_successors_fitting_does_not_count() -> None:
    site = exchanged(removed="2026-01-09 10:00", removal=800)
    view = site.ledger()
    assert view.statuses(DAY, 2) == ["assumed", "actual"]
    assert (view.volumes(NEXT, 1), view.determined(DAY, 1)) == (["35.000"], [None])
