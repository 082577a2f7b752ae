"""When a Day's readings are Valid, since when, and whether they were by 11:00 (4.2.3, 4.4.1, 5.2.1)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.metering.domain import Site, local, start

DAY = "2026-01-10"
NEXT = "2026-01-11"
AFTER = "2026-01-12"


def a_site(**more: object) -> Site:
    return Site("2026-01-08", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("day", "received", "by_11"),
    [
        (DAY, "2026-01-11 05:00:01", True),
        (DAY, "2026-01-11 11:00:00", True),  # inclusive
        (DAY, "2026-01-11 11:00:00.000001", False),
        (DAY, "2026-01-14 11:00:00", False),
        ("2026-03-28", "2026-03-29 11:00:00", True),  # local time, on the Day on which the clocks change
        ("2026-03-28", "2026-03-29 11:00:01", False),
        ("2026-10-24", "2026-10-25 11:00:00", True),
        ("2026-10-24", "2026-10-25 11:00:01", False),
    ],
)
def test_5_2_1_by_11(day: str, received: str, by_11: bool) -> None:
    site = Site(day)
    site.read(day, [0, 100], received=received)
    for as_of in (local(received), start(day, 20)):
        found = site.day(day, as_of)
        assert (found.valid, found.by_11, found.valid_at) == (True, by_11, local(received))


def test_5_2_1_by_11_says_how_it_was_at_11_though_it_was_otherwise_before_or_after() -> None:
    spoilt_at_ten = a_site()
    spoilt_at_ten.read(DAY, [0, 100])
    spoilt_at_ten.read(DAY, [110], at=[start(DAY, 1)], received="2026-01-11 10:00")
    assert spoilt_at_ten.day(DAY, "2026-01-11 09:59").by_11
    assert not spoilt_at_ten.day(DAY).by_11
    spoilt_at_noon = a_site()
    spoilt_at_noon.read(DAY, [0, 100])
    spoilt_at_noon.read(DAY, [110], at=[start(DAY, 1)], received="2026-01-11 12:00")
    found = spoilt_at_noon.day(DAY)
    assert (found.valid, found.valid_at, found.by_11) == (False, None, True)


def test_5_2_1_of_a_point_known_later_nothing_was_valid_by_11() -> None:
    site = Site("2026-01-08", known="2026-01-20 12:00")
    site.read(DAY, [0, 100])
    found = site.day(DAY)
    assert (found.valid, found.valid_at, found.by_11) == (True, local("2026-01-20 12:00"), False)


@pytest.mark.clause("4.2.1(a)", "4.2.3(a)")
def test_4_2_1_start_and_end_are_needed() -> None:
    for index in ([0, None], [None, 100], [None, None]):
        site = a_site()
        site.read(DAY, index)
        assert not site.day(DAY).valid


def test_valid_from_when_the_last_of_what_is_needed_came() -> None:
    site = a_site()
    site.read("2026-01-09", [0, 50], received="2026-01-11 08:00")
    site.read(DAY, [100], at=[start(DAY, 1)], received="2026-01-11 06:00")
    assert site.day(DAY, "2026-01-11 07:59").valid_at is None
    assert site.day(DAY).valid_at == local("2026-01-11 08:00")


def test_a_day_is_valid_as_soon_as_the_next_days_first_piece_holds_its_end() -> None:
    site = a_site()
    site.read(DAY, [0], at=[start(DAY)], received="2026-01-10 06:00")
    site.read(NEXT, [100, 110], at=[start(NEXT), start(NEXT, 0, 4 * 3600)], received="2026-01-11 09:05")
    assert site.day(DAY).valid_at == local("2026-01-11 09:05")


@pytest.mark.clause("4.2.3(b)")
def test_not_valid_where_one_of_its_own_boundary_readings_was_rejected_though_both_boundaries_stand() -> None:
    site = a_site()
    site.read("2026-01-09", [0, 100])
    site.read(DAY, [103, 200])  # the start differs from the end before
    site.read(NEXT, [200, 300])
    found = site.day(DAY)
    assert (found.start_index, found.end_index, found.valid) == (100, 200, False)
    assert (site.day("2026-01-09").valid, site.day(NEXT).valid) == (True, True)


def test_the_rejection_of_anothers_boundary_reading_does_not_touch_a_day() -> None:
    site = a_site()
    site.read(DAY, [0, 100])
    site.read(NEXT, [70, 200])
    view = site.ledger()
    assert (view.day(DAY).valid, view.day(NEXT).valid) == (True, False)


def test_valid_at_begins_anew_after_a_break() -> None:
    """More readings of the days after show that the end was wrong after all, and more still that it was right."""
    site = a_site()
    site.read(DAY, [0, 900], received="2026-01-11 06:00")
    site.read(NEXT, [None, 300], received="2026-01-12 06:00")
    site.read(AFTER, [300, 400], received="2026-01-13 06:00")
    site.read(NEXT, [900], at=[start(NEXT)], received="2026-01-14 06:00")
    site.read("2026-01-13", [910, 920], received="2026-01-14 06:30")
    view = [site.day(DAY, f"2026-01-{day} 12:00") for day in (11, 12, 13, 14)]
    assert [each.valid for each in view] == [True, True, False, True]
    assert [each.valid_at for each in view] == [
        local("2026-01-11 06:00"), local("2026-01-11 06:00"), None, local("2026-01-14 06:30"),
    ]  # fmt: skip


def test_of_a_day_closed_out_as_actual_validity_stays_as_it_was() -> None:
    site = a_site()
    site.read(DAY, [0, 100])
    at_close_out = site.day(DAY, start(DAY, 6))
    site.read(DAY, [110], at=[start(DAY, 1)], received=start(DAY, 6) + timedelta(microseconds=1))
    found = site.day(DAY)
    assert (found.valid, found.valid_at, found.by_11) == (True, at_close_out.valid_at, True)
    assert site.ledger().rejected(DAY) == [("conflicting_reading", 110)]


def test_a_failed_day_may_become_valid_later() -> None:
    site = a_site()
    site.read(DAY, [0, 100], received="2026-01-25 06:00")
    found = site.day(DAY)
    assert (found.status, found.valid, found.valid_at, found.by_11) == ("deemed", True, local("2026-01-25 06:00"), False)


def test_facts_received_at_once_are_judged_together() -> None:
    site = a_site()
    for n in range(3):
        site.read(f"2026-01-{10 + n}", [100 * n, 100 * n + 100], received="2026-01-13 06:00")
    site.read(NEXT, [50], at=[start(NEXT)], received="2026-01-13 06:00")
    found = site.day(NEXT)
    assert (found.valid, found.valid_at) == (False, None)
