"""The worked example of the rules: a silence of four Days, assumed, and apportioned when the meter is heard again (4.4)."""

from __future__ import annotations

import pytest

from metering.ledger import Reconciliation
from tests.metering.domain import Site, View, local, start

BOUNDARIES = [1000, 1100, 1210, 1330, 1430, 1500, 1560, 1620]  # starts of 1 to 8 January
SILENT = ["2026-01-08", "2026-01-09", "2026-01-10", "2026-01-11"]
DETERMINED = ["11.628", "12.791", "13.953", "11.628"]
DIFFERENCES = ["-1.628", "-1.791", "-1.953", "-1.628"]


def example(heard_again: str = "2026-01-13 06:00") -> Site:
    site = Site("2025-12-18", values=40)
    site.days("2026-01-01", BOUNDARIES)
    site.read("2026-01-12", [2120, 2180], received=heard_again)
    return site


def reconciliations(view: View) -> list[Reconciliation]:
    found = [view.reconciliation(day) for day in SILENT]
    return [each for each in found if each is not None]


@pytest.mark.clause("4.3(a)")
def test_actual_days_have_the_volume_between_their_readings() -> None:
    view = example().ledger()
    assert view.statuses("2026-01-01", 7) == ["actual"] * 7
    assert view.volumes("2026-01-01", 7) == ["10.000", "11.000", "12.000", "10.000", "7.000", "6.000", "6.000"]


@pytest.mark.clause("4.4.2(a)")
def test_4_4_2_each_silent_day_is_assumed_as_the_week_before_at_its_own_close_out() -> None:
    site = example()
    for n, (day, volume) in enumerate(zip(SILENT, ["10.000", "11.000", "12.000", "10.000"], strict=True)):
        before, after = site.day(day, start(day, 6, -0.000001)), site.day(day, start(day, 6))
        assert (before.status, before.closed_out, str(before.volume_m3)) == ("provisional", False, volume)
        assert (after.status, after.closed_out, str(after.volume_m3)) == ("assumed", True, volume)
        later_ones = site.ledger(start(day, 6)).statuses(day, 4 - n)
        assert later_ones == ["assumed"] + ["provisional"] * (3 - n)


@pytest.mark.clause("4.4.2(b)", "4.4.5(b)(i)", "4.4.5(b)(ii)")
def test_4_4_5b_the_run_is_apportioned_when_its_last_day_is_closed_out() -> None:
    site = example()
    before = site.ledger(start("2026-01-17", 0, -0.000001))
    assert before.determined("2026-01-08", 4) == [None] * 4
    assert reconciliations(before) == []
    after = site.ledger(start("2026-01-17"))
    assert after.determined("2026-01-08", 4) == DETERMINED
    assert [str(each.volume_m3) for each in reconciliations(after)] == DIFFERENCES
    assert {each.since for each in reconciliations(after)} == {start("2026-01-17")}
    assert {after.day(day).since for day in SILENT} == {start("2026-01-17")}
    assert {after.day(day).determined_status for day in SILENT} == {"apportioned"}


def test_4_4_5b_or_when_the_reading_arrives_if_later() -> None:
    site = example(heard_again="2026-01-20 10:00")
    site.read("2026-01-13", [2180, 2240], received="2026-01-20 10:00")
    before, after = site.ledger("2026-01-20 09:59:59"), site.ledger("2026-01-20 10:00")
    assert before.determined("2026-01-08", 4) == [None] * 4
    assert after.determined("2026-01-08", 4) == DETERMINED
    assert {each.since for each in reconciliations(after)} == {local("2026-01-20 10:00")}


def test_the_sums_agree_to_the_litre() -> None:
    found = reconciliations(example().ledger())
    assert str(sum(each.volume_m3 for each in found)) == "-7.000"
    assert str(sum(example().day(day).determined_m3 or 0 for day in SILENT)) == "50.000"


def test_kwh_are_the_differences_of_the_rounded_quantities() -> None:
    assert [str(each.quantity_kwh) for each in reconciliations(example().ledger())] == [
        "-16.280",
        "-17.910",
        "-19.530",
        "-16.280",
    ]


@pytest.mark.parametrize("day", SILENT)
def test_4_4_2_what_was_closed_out_stays_beside_what_is_determined(day: str) -> None:
    site = example()
    before, after = site.day(day, start("2026-01-17", 0, -1)), site.day(day)
    assert (after.status, after.closed_out) == ("assumed", True)
    assert (before.volume_m3, before.quantity_kwh) == (after.volume_m3, after.quantity_kwh)
    assert not after.ratchet_day  # 4.4.3


def test_the_boundary_readings_of_the_run_are_shown() -> None:
    view = example().ledger()
    shown = [(view.day(day).start_index, view.day(day).end_index) for day in SILENT]
    assert shown == [(1620, None), (None, None), (None, None), (None, 2120)]
