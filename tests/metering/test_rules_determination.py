"""What is learned of Failed Days later: restored, apportioned, reconciled (4.4.3 to 4.4.5)."""

from __future__ import annotations

import pytest

from tests.metering.domain import Site, later, local, start

FIRST = "2026-01-01"
WEEK = [0, 100, 210, 330, 430, 500, 560, 620]  # indexes at the starts of 1 to 8 January: 10, 11, 12, 10, 7, 6 and 6 m³


def a_site(week: list[int] | None = None, **more: object) -> Site:
    """A first week that is read, and then silence."""
    site = Site(FIRST, **more)  # type: ignore[arg-type]
    site.days(FIRST, WEEK if week is None else week)
    return site


# --- restored (4.4.5(a)) ------------------------------------------------------------------------------------------------------


@pytest.mark.clause("4.4.4(a)", "4.4.5(a)(ii)")
def test_4_4_5a_the_days_own_readings_obtained_later_restore_it() -> None:
    site = a_site()
    site.read("2026-01-08", [620, 750], received="2026-01-20 12:00")
    view = site.ledger()
    found, record = view.day("2026-01-08"), view.reconciliation("2026-01-08")
    assert (found.status, str(found.volume_m3)) == ("assumed", "10.000")
    assert (found.determined_status, str(found.determined_m3), str(found.determined_kwh)) == ("restored", "13.000", "130.000")
    assert (found.since, found.valid, found.valid_at) == (local("2026-01-20 12:00"), True, local("2026-01-20 12:00"))
    assert record is not None
    assert (str(record.volume_m3), str(record.quantity_kwh)) == ("-3.000", "-30.000")
    assert (record.kind, record.since) == ("failed_daily_read", local("2026-01-20 12:00"))


@pytest.mark.clause("4.4.2(b)")
def test_4_4_4b_positive_where_the_assumption_was_too_high() -> None:
    site = a_site()
    site.read("2026-01-08", [620, 660], received="2026-01-20 12:00")
    record = site.ledger().reconciliation("2026-01-08")
    assert record is not None
    assert (str(record.volume_m3), str(record.quantity_kwh)) == ("6.000", "60.000")


def test_4_4_4b_a_reconciliation_of_0_is_a_record() -> None:
    site = a_site()
    site.read("2026-01-08", [620, 720], received="2026-01-20 12:00")
    record = site.ledger().reconciliation("2026-01-08")
    assert record is not None
    assert (str(record.volume_m3), str(record.quantity_kwh)) == ("0.000", "0.000")


def test_4_4_3_a_restored_day_is_eligible_as_a_ratchet_day_again_and_an_apportioned_one_is_not() -> None:
    site = a_site()
    site.read("2026-01-08", [620, 750], received="2026-01-20 12:00")
    site.read("2026-01-11", [1000, 1100], received="2026-01-20 12:00")
    view = site.ledger()
    statuses = [view.day(f"2026-01-{n:02}").determined_status for n in range(8, 12)]
    assert statuses == ["restored", "apportioned", "apportioned", "restored"]
    assert [view.day(f"2026-01-{n:02}").ratchet_day for n in range(8, 12)] == [True, False, False, True]


def test_4_4_5a_a_day_whose_start_differed_is_assumed_at_its_close_out_and_reconciled_at_once() -> None:
    site = a_site()
    site.read("2026-01-08", [625, 750])
    before, after = site.day("2026-01-08", start("2026-01-14", 0, -0.000001)), site.day("2026-01-08", start("2026-01-14"))
    assert (before.status, before.determined_status) == ("provisional", None)
    assert (after.status, str(after.volume_m3), str(after.determined_m3)) == ("assumed", "10.000", "13.000")
    assert (after.determined_status, after.since) == ("restored", start("2026-01-14"))


def test_4_4_5a_a_deemed_day_too_and_the_kwh_are_those_that_were_deemed() -> None:
    site = Site(FIRST, aq="100000", value="39.5")
    site.read(FIRST, [0, 250], received="2026-01-20 12:00")
    view = site.ledger()
    record = view.reconciliation(FIRST)
    assert record is not None
    assert str(record.volume_m3) == "-0.030"  # 24.970 - 25.000
    assert str(record.quantity_kwh) == "-0.333"  # 273.973, not 24.970 × 39.5 / 3.6 = 273.976, less 274.306
    assert (str(view.day(FIRST).quantity_kwh), str(view.day(FIRST).determined_kwh)) == ("273.973", "274.306")


def test_4_4_4_no_calorific_value_no_kwh_and_no_volume_that_rests_on_it() -> None:
    site = Site(FIRST, values=None)
    site.read(FIRST, [0, 1200], received="2026-01-20 12:00")
    found = site.ledger("2026-01-24 12:00")
    assert (str(found.day(FIRST).determined_m3), found.day(FIRST).determined_kwh) == ("120.000", None)
    assert found.reconciliation(FIRST) is None
    site.value(FIRST, "36", received="2026-01-25 12:00")
    record = site.ledger().reconciliation(FIRST)
    assert record is not None
    assert (str(record.volume_m3), str(record.quantity_kwh)) == ("-20.000", "-200.000")
    assert record.since == local("2026-01-20 12:00")  # of the determined value


def test_4_4_4_kwh_follow_a_corrected_calorific_value() -> None:
    site = a_site()
    site.read("2026-01-08", [620, 750], received="2026-01-20 12:00")
    site.value("2026-01-08", "40", received="2026-01-22 12:00")
    record = site.ledger().reconciliation("2026-01-08")
    assert record is not None
    assert str(record.quantity_kwh) == "-33.333"  # 111.111 - 144.444
    assert record.since == local("2026-01-20 12:00")


# --- apportioned (4.4.5(b)) ---------------------------------------------------------------------------------------------------


def test_4_4_5b_a_run_waits_for_its_last_close_out() -> None:
    site = a_site()
    site.read("2026-01-10", [920, 1000])
    assert site.ledger(start("2026-01-15", 0, -0.000001)).determined("2026-01-08", 2) == [None, None]
    assert site.ledger(start("2026-01-15")).determined("2026-01-08", 2) == ["14.286", "15.714"]  # 30 as 10 : 11


def test_4_4_5b_a_standing_reading_within_the_run_splits_it() -> None:
    site = a_site()
    site.read("2026-01-14", [1620, 1700])
    assert site.ledger().determined("2026-01-08", 6) == ["17.857", "19.643", "21.429", "17.857", "12.500", "10.714"]
    site.read("2026-01-10", [920], at=[start("2026-01-10")], received="2026-01-25 12:00")
    view = site.ledger()
    assert view.determined("2026-01-08", 2) == ["14.286", "15.714"]
    assert view.determined("2026-01-10", 4) == ["24.000", "20.000", "14.000", "12.000"]  # 70 as 12 : 10 : 7 : 6
    assert {view.day(later("2026-01-08", n)).since for n in range(6)} == {local("2026-01-25 12:00")}


def test_4_4_5b_the_split_may_restore_a_day() -> None:
    site = a_site()
    site.read("2026-01-10", [920, 1000])
    site.read("2026-01-09", [780], at=[start("2026-01-09")], received="2026-01-25 12:00")
    view = site.ledger()
    assert [view.day(day).determined_status for day in ("2026-01-08", "2026-01-09")] == ["restored", "restored"]
    assert view.determined("2026-01-08", 2) == ["16.000", "14.000"]


def test_4_4_5b_all_assumed_0_in_equal_parts_and_the_litres_to_the_earlier_days() -> None:
    site = a_site([0] * 8)
    site.read("2026-01-11", [1000, 1000])
    view = site.ledger()
    assert view.volumes("2026-01-08", 3) == ["0.000"] * 3
    assert view.determined("2026-01-08", 3) == ["33.334", "33.333", "33.333"]


def test_4_4_5b_a_day_assumed_0_gets_nothing_beside_others() -> None:
    site = a_site([0, 0, 110, 230, 330, 400, 460, 520])
    site.read("2026-01-11", [820, 900])
    assert site.ledger().determined("2026-01-08", 3) == ["0.000", "14.348", "15.652"]  # 30 as 0 : 11 : 12


def test_4_4_5b_deemed_days_take_part_with_their_deemed_volumes() -> None:
    site = Site(FIRST)
    site.read("2026-01-10", [1200, 1300])
    view = site.ledger()
    assert view.statuses(FIRST, 9) == ["deemed"] * 7 + ["assumed"] * 2
    assert view.determined(FIRST, 9) == ["13.334", "13.334", "13.334"] + ["13.333"] * 6


def test_4_4_5b_every_assumed_volume_must_be_known() -> None:
    site = Site(FIRST, values=None)
    for n in range(1, 7):
        site.value(later(FIRST, n), "36", received="2026-01-02 12:00")
    site.read("2026-01-10", [1200, 1300])
    assert site.ledger("2026-01-20 12:00").determined(FIRST, 9) == [None] * 9
    site.value(FIRST, "36", received="2026-01-22 12:00")
    view = site.ledger()
    assert view.determined(FIRST, 9) == ["13.334", "13.334", "13.334"] + ["13.333"] * 6
    assert view.day("2026-01-09").since == local("2026-01-22 12:00")


def test_4_4_5b_a_run_that_no_reading_ends_stays_as_assumed() -> None:
    view = a_site().ledger("2026-02-10 12:00")
    assert view.determined("2026-01-08", 20) == [None] * 20
    assert all(view.reconciliation(later("2026-01-08", n)) is None for n in range(20))


def test_4_4_5b_a_run_before_the_first_reading_begins_at_the_fitting() -> None:
    site = Site(FIRST, fitted="2026-01-03 12:00", index=50)
    site.read("2026-01-05", [250, 300])
    view = site.ledger()
    assert view.determined(FIRST, 5) == [None, None, "10.000", "10.000", None]
    assert view.day("2026-01-05").status == "actual"


def test_4_4_5b_no_litre_is_lost_whatever_the_weights() -> None:
    for advance in (1, 7, 999, 12_345):
        site = a_site(tick="0.001")
        site.read("2026-01-13", [620 + advance, 620 + advance])
        total = sum(each or 0 for each in (site.day(later("2026-01-08", n)).determined_m3 for n in range(5)))
        assert str(total) == f"{advance / 1000:.3f}"


def test_4_4_4_the_sum_of_the_reconciliations_is_assumed_less_measured() -> None:
    site = a_site()
    site.read("2026-01-13", [1137, 1200])
    view = site.ledger()
    found = [view.reconciliation(later("2026-01-08", n)) for n in range(5)]
    assert str(sum(each.volume_m3 for each in found if each is not None)) == "-1.700"  # 50 less 51.7


# --- better determinations, and since when ------------------------------------------------------------------------------------


def test_4_4_4_a_better_determination_replaces_the_earlier_record() -> None:
    site = a_site()
    site.read("2026-01-10", [920, 1000])
    site.read("2026-01-08", [620, 740], received="2026-01-25 12:00")
    before, after = site.ledger("2026-01-25 11:59"), site.ledger("2026-01-25 12:00")
    assert [before.day(day).determined_status for day in ("2026-01-08", "2026-01-09")] == ["apportioned"] * 2
    assert [after.day(day).determined_status for day in ("2026-01-08", "2026-01-09")] == ["restored"] * 2
    assert (before.determined("2026-01-08", 2), after.determined("2026-01-08", 2)) == (
        ["14.286", "15.714"],
        ["12.000", "18.000"],
    )
    records = [view.reconciliation("2026-01-09") for view in (before, after)]
    assert [each and (str(each.volume_m3), each.since) for each in records] == [
        ("-4.714", start("2026-01-15")), ("-7.000", local("2026-01-25 12:00")),
    ]  # fmt: skip


def test_since_stays_where_the_value_does() -> None:
    site = a_site()
    site.read("2026-01-08", [620, 750], received="2026-01-20 12:00")
    site.read("2026-01-09", [750, 850], received="2026-01-22 12:00")
    site.tick("2026-01-25 12:00")
    view = site.ledger()
    assert [view.day(day).since for day in ("2026-01-08", "2026-01-09")] == [
        local("2026-01-20 12:00"), local("2026-01-22 12:00"),
    ]  # fmt: skip


def test_since_begins_anew_when_the_value_comes_back_after_another() -> None:
    site = a_site()
    site.read("2026-01-08", [None, 750], received="2026-01-20 12:00")
    site.read("2026-01-09", [650, 655], received="2026-01-21 12:00")  # two readings against one
    site.read("2026-01-10", [760, 770], received="2026-01-23 12:00")
    site.read("2026-01-11", [770, 780], received="2026-01-23 12:00")  # as many now, and 750 came first
    found = [site.day("2026-01-08", f"2026-01-{n} 12:00") for n in (20, 21, 22, 23, 24)]
    assert [str(each.determined_m3) for each in found] == ["13.000", "3.000", "3.000", "13.000", "13.000"]
    assert [each.since for each in found] == [local(f"2026-01-{n} 12:00") for n in (20, 21, 21, 23, 23)]


def test_a_determination_that_no_longer_holds_is_taken_back() -> None:
    """The reading that bounded the run is shown to be wrong by those that come after it."""
    site = a_site()
    site.read("2026-01-10", [5000], at=[start("2026-01-10")], received="2026-01-20 12:00")
    site.days("2026-01-20", [900, 1000, 1100])
    early, late = site.ledger("2026-01-20 12:00"), site.ledger()
    assert early.determined("2026-01-08", 2) == ["208.571", "229.429"]
    assert early.reconciliation("2026-01-08") is not None
    assert late.rejected("2026-01-10") == [("negative_advance", 5000)]
    assert late.day("2026-01-09").determined_status == "apportioned"
    assert str(sum(each or 0 for each in (late.day(later("2026-01-08", n)).determined_m3 for n in range(12)))) == "28.000"


def test_and_where_nothing_takes_its_place_the_record_is_gone() -> None:
    site = a_site()
    site.read("2026-01-08", [None, 5000], received="2026-01-20 12:00")
    site.read("2026-01-26", [900, 1000])
    site.read("2026-01-27", [1000, 1100])
    before, after = site.ledger("2026-01-20 12:00"), site.ledger("2026-01-28 12:00")
    assert (before.day("2026-01-08").determined_status, after.day("2026-01-08").determined_status) == ("restored", None)
    assert after.reconciliation("2026-01-08") is None
    assert after.day("2026-01-08").since is None


def test_as_of_shows_what_was_believed_then() -> None:
    site = a_site()
    site.read("2026-01-10", [920, 1000])
    site.read("2026-01-08", [620, 740], received="2026-01-25 12:00")
    shown = [site.ledger(at).determined("2026-01-08", 2) for at in ("2026-01-14 12:00", "2026-01-20 12:00", "2026-01-25 12:00")]
    assert shown == [[None, None], ["14.286", "15.714"], ["12.000", "18.000"]]


@pytest.mark.parametrize("silent", [1, 2, 6, 7, 8, 13, 14])
def test_4_4_5b_silences_of_all_lengths_keep_the_sum(silent: int) -> None:
    site = a_site()
    again = later("2026-01-08", silent)
    site.read(again, [620 + 77 * silent, 620 + 77 * silent], received=start(again, 8))
    view = site.ledger()
    total = sum(view.day(later("2026-01-08", n)).determined_m3 or 0 for n in range(silent))
    assert str(total) == f"{7.7 * silent:.3f}"
