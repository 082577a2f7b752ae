"""Withdrawn readings: as if what was received of a meter's Day so far had never come; later pieces are a new batch (1.5, 4.2).

What stands only by a withdrawn piece is gone, also where a Day was closed out as actual on it. That Day then is a Failed Day,
its closed-out status and volume stay, and it is determined as others are (4.4.4, 4.4.5).
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from metering.facts import ReferenceIndex
from tests.metering.domain import Site, a_week_read, later, local, start

DAY, NEXT = "2026-01-08", "2026-01-09"
IN_TIME, AFTER = "2026-01-10 09:00", "2026-01-20 12:00"  # the 8th is closed out at 05:00 on the 14th


def read_once() -> Site:
    """13 m³ on the 8th, and nothing after it."""
    site = a_week_read()
    site.read(DAY, [620, 750])
    return site


# --- before the close-out -----------------------------------------------------------------------------------------------------


def test_1_5_what_was_received_so_far_is_as_if_it_had_never_come() -> None:
    site = read_once()
    site.withdraw(DAY, received=IN_TIME)
    before, after = site.day(DAY, "2026-01-10 08:59"), site.day(DAY, IN_TIME)
    assert (before.status, before.end_index, str(before.volume_m3)) == ("actual", 750, "13.000")
    assert (after.status, after.start_index, after.end_index, str(after.volume_m3)) == ("provisional", 620, None, "10.000")
    assert (after.valid, after.valid_at) == (False, None)


def test_4_2_1_later_pieces_form_a_new_batch() -> None:
    site = read_once()
    site.withdraw(DAY, received=IN_TIME)
    site.read(DAY, [620, 740], received="2026-01-11 12:00")
    view = site.ledger()
    found = view.day(DAY)
    assert (found.status, str(found.volume_m3), found.valid_at) == ("actual", "12.000", local("2026-01-11 12:00"))
    assert view.rejected(DAY) == []


def test_4_4_2_where_nothing_comes_in_their_place_the_day_fails() -> None:
    site = read_once()
    site.withdraw(DAY, received=IN_TIME)
    site.read(DAY, [620, 740], received=AFTER)
    before, after = site.ledger("2026-01-20 11:59"), site.ledger(AFTER)
    assert (before.statuses(DAY, 1), before.volumes(DAY, 1), before.determined(DAY, 1)) == (["assumed"], ["10.000"], [None])
    assert (after.how(DAY, 1), after.determined(DAY, 1)) == (["restored"], ["12.000"])


def test_4_2_3_a_boundary_that_the_neighbours_batch_has_too_stands_and_the_day_stays_valid() -> None:
    site = a_week_read()
    site.days(DAY, [620, 750, 860])
    site.withdraw(DAY, received=IN_TIME)
    found = site.day(DAY)
    assert (found.status, found.end_index, str(found.volume_m3)) == ("actual", 750, "13.000")
    assert (found.valid_at, found.by_11) == (local("2026-01-09 06:00"), True)


def test_4_2_3c_a_neighbours_reading_that_was_rejected_for_it_stands() -> None:
    site = read_once()
    site.read(NEXT, [740, 860])
    site.withdraw(DAY, received=IN_TIME)
    before, after = site.ledger("2026-01-10 08:59"), site.ledger(IN_TIME)
    assert (before.rejected(NEXT), before.day(NEXT).valid) == ([("boundary_mismatch", 740)], False)
    assert (after.rejected(NEXT), after.day(NEXT).valid_at) == ([], local(IN_TIME))
    assert (before.volumes(DAY, 1), after.volumes(DAY, 2)) == (["13.000"], ["12.000", "12.000"])


def test_1_5_the_rejections_and_comparisons_of_the_withdrawn_batch_are_gone() -> None:
    site = a_week_read()
    site.read(DAY, [625, 750], reference_index=ReferenceIndex(start=0, end=200))
    site.withdraw(DAY, received=IN_TIME)
    before, after = site.ledger("2026-01-10 08:59"), site.ledger(IN_TIME)
    assert before.rejected(DAY) == [("tolerance_1_percent", None)]
    assert before.tolerance(DAY) is not None
    assert (after.rejected(DAY), after.tolerance(DAY), after.day(DAY).failed) == ([], None, ())
    site.read(DAY, [620, 740], received="2026-01-11 12:00")
    assert site.ledger().volumes(DAY, 1) == ["12.000"]


def test_1_5_of_two_values_of_one_instant_the_second_stands_once_the_first_is_withdrawn_and_it_is_sent_after_that() -> None:
    site = a_week_read()
    site.read(DAY, [620, 760])
    site.read(DAY, [620, 750], received="2026-01-09 08:00")
    site.withdraw(DAY, received=IN_TIME)
    site.index(start(NEXT), 750, DAY, received="2026-01-11 12:00")
    before, after = site.ledger("2026-01-10 08:59"), site.ledger()
    assert before.rejected(DAY) == [("conflicting_reading", 750)]
    assert (after.rejected(DAY), after.volumes(DAY, 1)) == ([], ["13.000"])


# --- what it takes out, and what not ------------------------------------------------------------------------------------------


def test_a_copy_of_a_withdrawn_piece_that_arrives_again_has_no_effect() -> None:
    """Copies count once, at their earliest receipt, and that was before the withdrawal."""
    site = read_once()
    site.withdraw(DAY, received=IN_TIME)
    site.read(DAY, [620, 750], received="2026-01-11 12:00")
    site.read(DAY, [620, 750], received="2026-01-11 13:00", gateway="g", outbox="another", sequence=7)
    assert site.day(DAY, "2026-01-12 12:00").status == "provisional"
    at = [start(DAY), local("2026-01-08 12:00"), start(NEXT)]
    site.read(DAY, [620, 700, 750], at=at, received="2026-01-12 13:00")  # another piece, with the same values
    assert site.ledger().volumes(DAY, 1) == ["13.000"]


def test_a_piece_received_at_the_very_instant_of_the_withdrawal_stays() -> None:
    site = a_week_read()
    site.read(DAY, [620, 760])
    site.read(DAY, [620, 740], received=IN_TIME)
    site.withdraw(DAY, received=IN_TIME)
    view = site.ledger()
    assert (view.volumes(DAY, 1), view.rejected(DAY)) == (["12.000"], [])


@pytest.mark.parametrize(
    ("reason", "volumes"), [("again wrong", ["12.000", "10.000"]), ("wrong meter read", ["12.000", "12.000"])]
)
def test_withdrawn_twice(reason: str, volumes: list[str]) -> None:
    """What says word for word what the first withdrawal said is a copy of it, and counts when that was received."""
    site = read_once()
    site.withdraw(DAY, received=IN_TIME)
    site.read(DAY, [620, 740], received="2026-01-11 12:00")
    site.withdraw(DAY, received="2026-01-11 13:00", reason=reason)
    assert [str(site.day(DAY, f"2026-01-11 {at}:00").volume_m3) for at in (12, 13)] == volumes


def test_where_there_is_nothing_yet_nothing_is_withdrawn() -> None:
    site = a_week_read()
    site.withdraw(DAY, received="2026-01-09 05:30")
    site.days(DAY, [620, 750, 860])
    view = site.ledger()
    assert (view.statuses(DAY, 2), view.volumes(DAY, 2)) == (["actual"] * 2, ["13.000", "11.000"])


def test_only_the_readings_of_that_meter() -> None:
    """M until 14:00 on the 8th, then N; of the 9th nothing is read, and on the 10th N again."""
    site = a_week_read()
    site.remove("2026-01-08 14:00", 680)
    site.fit("2026-01-08 14:00", 5)
    site.index(start(DAY), 620, DAY, received="2026-01-08 06:00")
    site.index(start(NEXT), 25, DAY, received="2026-01-09 06:00", meter="N")
    site.read("2026-01-10", [60, 100], meter="N")
    site.withdraw(DAY, received="2026-01-11 12:00", meter="M")
    view = site.ledger("2026-01-11 12:00")
    assert view.volumes(DAY, 2) == ["26.000", "35.000"]  # M's 620 is said by the batch of the 7th, too
    site.withdraw(DAY, received="2026-01-11 13:00", meter="N")
    assert site.ledger("2026-01-11 13:00").statuses(DAY, 3) == ["provisional", "provisional", "actual"]


def test_only_the_readings_of_that_day() -> None:
    site = a_week_read()
    site.days(DAY, [620, 750, 860])
    site.withdraw("2026-01-10", received=IN_TIME)
    site.withdraw(DAY, received=IN_TIME, meter="X")
    assert site.ledger().volumes(DAY, 2) == ["13.000", "11.000"]


def test_3_9_1b_a_fitting_index_is_not_withdrawn() -> None:
    site = Site("2026-01-01", index=40)
    site.days("2026-01-01", [40, 140, 260])
    site.withdraw("2026-01-01", received="2026-01-04 12:00")
    assert site.ledger().volumes("2026-01-01", 2) == ["10.000", "12.000"]


@pytest.mark.parametrize(
    ("received", "by_11"), [("2026-01-09 10:30", False), ("2026-01-09 11:00", False), ("2026-01-09 11:00:01", True)]
)
def test_5_2_1_what_was_valid_by_11_was_valid_by_11(received: str, by_11: bool) -> None:
    site = read_once()
    site.withdraw(DAY, received=received)
    assert site.day(DAY).by_11 is by_11


# --- after the close-out as actual --------------------------------------------------------------------------------------------


def shared() -> Site:
    """8 and 9 January are actual at 13 and 15 m³; the boundary between them is read by the batch of the 8th only."""
    site = read_once()
    site.read("2026-01-10", [900, 1000])
    return site


def test_4_3_what_was_closed_out_stays() -> None:
    site = shared()
    site.withdraw(DAY, received=AFTER)
    before, after = site.ledger("2026-01-20 11:59"), site.ledger(AFTER)
    assert before.statuses(DAY, 2) == after.statuses(DAY, 2) == ["actual"] * 2
    assert before.volumes(DAY, 2) == after.volumes(DAY, 2) == ["13.000", "15.000"]
    for day in (DAY, NEXT):
        was, found = before.day(day), after.day(day)
        assert (found.valid_at, found.by_11, found.closed_out) == (was.valid_at, was.by_11, True)


def test_4_4_5b_both_days_of_the_lost_boundary_are_failed_days_and_apportioned() -> None:
    """28 m³ as 13 : 15; and a Failed Day that is not restored is no Ratchet Day (4.4.3)."""
    site = shared()
    site.withdraw(DAY, received=AFTER)
    view = site.ledger()
    assert view.how(DAY, 2) == ["apportioned"] * 2
    assert view.determined(DAY, 2) == ["13.000", "15.000"]
    assert view.reconciled(DAY, 2) == ["0.000", "0.000"]
    assert [view.day(day).since for day in (DAY, NEXT)] == [local(AFTER)] * 2
    assert [view.day(day).ratchet_day for day in (DAY, NEXT)] == [False, False]


@pytest.mark.parametrize(
    ("index", "determined", "reconciled"),
    [(740, ["12.000", "16.000"], ["1.000", "-1.000"]), (750, ["13.000", "15.000"], ["0.000", "0.000"])],
)
def test_4_4_5a_a_new_reading_restores_them(index: int, determined: list[str], reconciled: list[str]) -> None:
    site = shared()
    site.withdraw(DAY, received=AFTER)
    site.index(start(NEXT), index, DAY, received="2026-01-22 12:00")
    view = site.ledger()
    assert view.statuses(DAY, 2) == ["actual"] * 2
    assert view.how(DAY, 2) == ["restored"] * 2
    assert (view.determined(DAY, 2), view.reconciled(DAY, 2)) == (determined, reconciled)
    assert [view.day(day).ratchet_day for day in (DAY, NEXT)] == [True, True]


def test_4_4_4_a_boundary_that_the_neighbours_batch_has_too_is_not_lost() -> None:
    site = a_week_read()
    site.days(DAY, [620, 750, 860])
    site.withdraw(DAY, received=AFTER)
    view = site.ledger()
    assert (view.statuses(DAY, 2), view.volumes(DAY, 2)) == (["actual"] * 2, ["13.000", "11.000"])
    assert view.how(DAY, 2) == [None, None]
    assert view.reconciled(DAY, 2) == [None, None]


def test_4_4_4_until_both_batches_are_withdrawn() -> None:
    site = a_week_read()
    site.days(DAY, [620, 750, 860])
    site.withdraw(DAY, received=AFTER)
    site.withdraw(NEXT, received="2026-01-22 12:00")
    site.index(start(NEXT, 1), 870, NEXT, received="2026-01-23 12:00")
    view = site.ledger()
    assert (view.statuses(DAY, 2), view.volumes(DAY, 2)) == (["actual"] * 2, ["13.000", "11.000"])
    assert view.determined(DAY, 2) == ["13.542", "11.458"]  # 25 as 13 : 11, exactly 13541.67 and 11458.33
    assert view.reconciled(DAY, 2) == ["-0.542", "-0.458"]


def test_4_4_4_a_neighbours_reading_that_differed_takes_its_place() -> None:
    """The 9th had failed on its start, 740: assumed 11 m³, restored 11 (860 - 750); with 740 both Days are 12."""
    site = read_once()
    site.read(NEXT, [740, 860])
    site.withdraw(DAY, received=AFTER)
    before, after = site.ledger("2026-01-20 11:59"), site.ledger(AFTER)
    assert (before.how(DAY, 2), before.determined(DAY, 2)) == ([None, "restored"], [None, "11.000"])
    assert after.statuses(DAY, 2) == ["actual", "assumed"]
    assert (after.how(DAY, 2), after.determined(DAY, 2)) == (["restored"] * 2, ["12.000"] * 2)
    assert after.reconciled(DAY, 2) == ["1.000", "-1.000"]


def test_4_4_4_without_a_reading_to_go_by_nothing_is_determined() -> None:
    site = read_once()
    site.withdraw(DAY, received=AFTER)
    view = site.ledger("2026-01-24 12:00")
    assert (view.statuses(DAY, 1), view.volumes(DAY, 1), view.how(DAY, 1)) == (["actual"], ["13.000"], [None])
    assert view.reconciliation(DAY) is None
    assert view.day(DAY).ratchet_day is False


def test_4_4_5b_the_closed_out_volume_is_its_weight_in_the_run() -> None:
    """48 m³ as 13 : 11 : 12 : 10 of 46, exactly 13565.22, 11478.26, 12521.74 and 10434.78 litres."""
    site = read_once()
    site.withdraw(DAY, received=AFTER)
    site.index(start("2026-01-12"), 1100, "2026-01-12", received="2026-01-25 12:00")
    view = site.ledger()
    assert view.statuses(DAY, 4) == ["actual", "assumed", "assumed", "assumed"]
    assert view.determined(DAY, 4) == ["13.565", "11.478", "12.522", "10.435"]
    assert view.reconciled(DAY, 4) == ["-0.565", "-0.478", "-0.522", "-0.435"]


def test_4_4_2_the_week_after_assumes_what_was_closed_out() -> None:
    site = shared()
    site.withdraw(DAY, received=AFTER)
    site.index(start(NEXT), 740, DAY, received="2026-01-22 12:00")
    view = site.ledger("2026-01-30 12:00")
    assert (view.determined(DAY, 1), view.statuses("2026-01-15", 1)) == (["12.000"], ["assumed"])
    assert str(view.day(later(DAY, 7)).volume_m3) == "13.000"


def test_3_9_1b_an_exchange_day_that_loses_its_end() -> None:
    """26 m³ on the 8th (6 of M, 20 of N), 35 on the 9th; N's reading between them is withdrawn, and found to be 30."""
    site = a_week_read()
    site.remove("2026-01-08 14:00", 680)
    site.fit("2026-01-08 14:00", 5)
    site.index(start(NEXT), 25, DAY, received="2026-01-09 06:00", meter="N")
    site.read("2026-01-10", [60, 100], meter="N")
    site.withdraw(DAY, received=AFTER, meter="N")
    site.index(start(NEXT), 30, DAY, received="2026-01-22 12:00", meter="N")
    before, after = site.ledger(AFTER), site.ledger()
    assert before.volumes(DAY, 2) == after.volumes(DAY, 2) == ["26.000", "35.000"]
    assert (before.how(DAY, 2), before.determined(DAY, 2)) == (["apportioned"] * 2, ["26.000", "35.000"])
    assert (after.how(DAY, 2), after.determined(DAY, 2)) == (["restored"] * 2, ["31.000", "30.000"])


# --- of a Failed Day ----------------------------------------------------------------------------------------------------------


def test_4_4_5b_a_run_that_a_withdrawn_reading_split_is_whole_again() -> None:
    site = a_week_read()
    site.read("2026-01-12", [1100, 1200])
    site.index(start("2026-01-10"), 880, "2026-01-10", received=AFTER)
    site.withdraw("2026-01-10", received="2026-01-25 12:00")
    whole, split, again = (site.ledger(at) for at in ("2026-01-20 11:59", AFTER, "2026-01-25 12:00"))
    assert whole.determined(DAY, 4) == ["11.163", "12.279", "13.395", "11.163"]  # 48 as 10 : 11 : 12 : 10
    assert split.determined(DAY, 4) == ["12.381", "13.619", "12.000", "10.000"]  # 26 as 10 : 11, 22 as 12 : 10
    assert again.determined(DAY, 4) == whole.determined(DAY, 4)
    assert again.day(DAY).since == local("2026-01-25 12:00")


def test_4_4_4_a_restoration_whose_reading_is_withdrawn_is_taken_back() -> None:
    site = a_week_read()
    site.read(DAY, [620, 750], received=AFTER)
    site.withdraw(DAY, received="2026-01-25 12:00")
    before, after = site.ledger(AFTER), site.ledger()
    assert (before.how(DAY, 1), after.how(DAY, 1)) == (["restored"], [None])
    assert (after.reconciliation(DAY), after.day(DAY).since) == (None, None)


def test_1_5_readings_that_the_withdrawn_one_kept_out_stand() -> None:
    """The Day was fixed on 5000, so that two lower ones were rejected. Then 24 m³ as 438 : 11, exactly 23412.03 and 587.97
    litres."""
    site = a_week_read()
    site.read(DAY, [620, 5000])
    site.read("2026-01-10", [860, 980], received="2026-01-16 12:00")
    site.withdraw(DAY, received=AFTER)
    before, after = site.ledger("2026-01-20 11:59"), site.ledger(AFTER)
    assert (before.volumes(DAY, 1), before.rejected("2026-01-10")) == (
        ["438.000"], [("negative_advance", 860), ("negative_advance", 980)],
    )  # fmt: skip
    assert after.rejected("2026-01-10") == []
    assert after.determined(DAY, 2) == ["23.412", "0.588"]


def test_two_seconds_are_enough() -> None:
    """Withdrawn and read again at once."""
    site = read_once()
    moment = local(IN_TIME)
    site.withdraw(DAY, received=moment)
    site.read(DAY, [620, 740], received=moment + timedelta(seconds=2))
    assert [site.day(DAY, moment + timedelta(seconds=n)).status for n in (0, 1, 2)] == ["provisional", "provisional", "actual"]
