"""A Day's batch: its pieces, copies, readings that conflict, and which readings are for a boundary (1.4.3, 1.5, 4.2)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from metering.facts import Readings
from metering.gasday import to_us
from metering.ledger import Day
from metering.replay import replay
from metering.rules import Rules
from tests.metering.domain import Site, hours, local, start

DAY = "2026-01-10"
AT_FIVE = start(DAY)


def a_site(**more: object) -> Site:
    return Site("2026-01-08", **more)  # type: ignore[arg-type]


def whole_day() -> list[int]:
    return [10 * n for n in range(25)]


# --- pieces ---------------------------------------------------------------------------------------------------------------


def test_4_6_1b_four_hourly_pieces_make_one_batch() -> None:
    site, instants = a_site(), hours(DAY)
    for n in range(0, 24, 4):
        cut = slice(n, n + 5)
        site.read(DAY, whole_day()[cut], at=instants[cut], received=instants[n + 4] + timedelta(minutes=5))
    last = site.ledger(instants[24] + timedelta(minutes=4)).day(DAY)
    assert (last.status, last.start_index, last.end_index) == ("provisional", 0, None)
    found = site.day(DAY, instants[24] + timedelta(minutes=5))
    assert (found.status, str(found.volume_m3), found.valid_at) == ("actual", "24.000", instants[24] + timedelta(minutes=5))


def test_one_batch_however_the_pieces_are_cut_and_ordered() -> None:
    instants, received = hours(DAY), "2026-01-11 06:00"
    ledgers = []
    for cuts in ([(0, 25)], [(12, 25), (0, 13)], [(n, n + 1) for n in reversed(range(25))], [(0, 25), (3, 20)]):
        site = a_site()
        for first, last in cuts:
            site.read(DAY, whole_day()[first:last], at=instants[first:last], received=received)
        ledgers.append(site.ledger().ledger)
    assert all(each == ledgers[0] for each in ledgers)


def test_first_at_and_interval_are_the_same_readings_as_instants() -> None:
    by_instants, by_interval = a_site(), a_site()
    by_instants.read(DAY, whole_day(), at=hours(DAY))
    fact = by_instants.facts[-1]
    assert isinstance(fact, Readings)
    by_interval.facts.append(msgspec.structs.replace(fact, at=None, first_at=AT_FIVE, interval_s=3600))
    assert by_instants.ledger().ledger == by_interval.ledger().ledger


def test_a_missing_reading_is_none_and_no_fault() -> None:
    site, index = a_site(), [*whole_day()]
    index[7] = None  # type: ignore[call-overload]
    site.read(DAY, index, at=hours(DAY))
    view = site.ledger()
    assert view.day(DAY).status == "actual"
    assert view.rejected(DAY) == []
    site = a_site()
    site.read(DAY, [None, 100])
    assert not site.day(DAY).valid


# --- copies ---------------------------------------------------------------------------------------------------------------


def test_a_copy_by_another_way_has_no_effect_and_the_first_receipt_counts() -> None:
    once, twice = a_site(), a_site()
    for site in (once, twice):
        site.read(DAY, [0, 100], received="2026-01-11 06:00", gateway="G1", outbox="O1", sequence=7)
    twice.read(DAY, [0, 100], received="2026-01-11 09:00", gateway="G2", outbox="O2", sequence=1)
    as_of = "2026-01-20 12:00"
    assert once.ledger(as_of).ledger == twice.ledger(as_of).ledger
    assert twice.day(DAY, as_of).valid_at == local("2026-01-11 06:00")


def test_a_copy_received_earlier_than_the_one_known_first_counts_at_its_own_receipt() -> None:
    site = a_site()
    site.read(DAY, [0, 100], received="2026-01-12 06:00", gateway="G1")
    site.read(DAY, [0, 100], received="2026-01-11 06:00", gateway="G2")
    found = site.day(DAY, "2026-01-20 12:00")
    assert (found.valid_at, found.by_11) == (local("2026-01-11 06:00"), True)


def test_the_same_value_in_another_piece_is_a_duplicate() -> None:
    site = a_site()
    site.read(DAY, [0, 100])
    site.read(DAY, [0, 50, 100], at=[AT_FIVE, AT_FIVE + timedelta(hours=3), start(DAY, 1)], received="2026-01-12 06:00")
    view = site.ledger("2026-01-20 12:00")
    assert view.rejected(DAY) == []
    assert view.day(DAY).valid_at == local("2026-01-11 06:00")


# --- two values for one instant ---------------------------------------------------------------------------------------------


def test_1_5_of_two_values_the_one_received_first_stands() -> None:
    site = a_site()
    noon = AT_FIVE + timedelta(hours=7)
    site.read(DAY, [0, 50, 100], at=[AT_FIVE, noon, start(DAY, 1)])
    site.read(DAY, [40], at=[noon], received="2026-01-11 07:00")
    site.read(DAY, [60], at=[noon], received="2026-01-11 08:00")
    view = site.ledger()
    assert view.rejected(DAY) == [("conflicting_reading", 40), ("conflicting_reading", 60)]
    assert [each.received_at for each in view.records(DAY)] == [local("2026-01-11 07:00"), local("2026-01-11 08:00")]
    assert {each.clause for each in view.records(DAY)} == {"1.5"}
    assert view.day(DAY).valid  # it is no boundary
    assert "conflicting_reading" in view.day(DAY).failed


def test_1_5_of_two_received_at_once_the_smaller_stands() -> None:
    for values in ([50, 40, 60], [60, 50, 40]):
        site = a_site()
        noon = AT_FIVE + timedelta(hours=7)
        site.read(DAY, [0, 100])
        for value in values:
            site.read(DAY, [value], at=[noon])
        assert site.ledger().rejected(DAY) == [("conflicting_reading", 50), ("conflicting_reading", 60)]


def test_4_2_3_a_conflicting_boundary_reading_leaves_the_day_not_valid_though_the_first_stands() -> None:
    site = a_site()
    site.read(DAY, [0, 100])
    site.read(DAY, [110], at=[start(DAY, 1)], received="2026-01-11 07:00")
    view = site.ledger()
    found = view.day(DAY)
    assert view.rejected(DAY) == [("conflicting_reading", 110)]
    assert (found.valid, found.start_index, found.end_index) == (False, 0, 100)
    assert (found.status, found.determined_status, str(found.determined_m3)) == ("deemed", "restored", "10.000")


def test_a_reading_rejected_by_itself_conflicts_with_none() -> None:
    site = a_site()
    site.read(DAY, [0, 90], status=("clock_invalid",))
    site.read(DAY, [0, 100], received="2026-01-11 07:00")
    view = site.ledger()
    assert view.rejected(DAY) == [("clock_invalid", 0), ("clock_invalid", 90)]
    assert view.day(DAY).end_index == 100


# --- which reading is for a boundary ----------------------------------------------------------------------------------------

NEAREST = [  # seconds off and index of the end of the Day before; the same of the Day's start; what stands
    ([(0, 100)], [(0, 100)], 100),
    ([(-30, 99)], [(20, 101)], 101),
    ([(-20, 99)], [(30, 101)], 99),
    ([(-20, 99)], [(20, 101)], 99),  # as near: the earlier instant
    ([(20, 101)], [(-20, 99)], 99),
    ([(60, 101)], [], 101),  # 60 s are near enough,
    ([], [(-60, 99)], 99),
    ([(-60.000001, 99)], [], None),  # and no more
    ([], [(60.000001, 101)], None),
    ([(-45, 98), (10, 100)], [(-12, 99), (50, 101)], 100),
    ([(-10, 99)], [(0, 100)], 100),
    ([(5, 100)], [], 100),
]


@pytest.mark.parametrize(("before", "after", "standing"), NEAREST)
def test_the_reading_nearest_to_a_boundary_counts_for_both_days(
    before: list[tuple[float, int]], after: list[tuple[float, int]], standing: int | None
) -> None:
    site = a_site()
    site.read("2026-01-09", [0, *(i for _, i in before)], at=[start("2026-01-09"), *(start(DAY, 0, s) for s, _ in before)])
    site.read(DAY, [*(i for _, i in after), 300], at=[*(start(DAY, 0, s) for s, _ in after), start(DAY, 1)])
    view = site.ledger()
    assert (view.day("2026-01-09").end_index, view.day(DAY).start_index) == (standing, standing)
    expected = "deemed" if standing is None else "actual"
    assert view.statuses("2026-01-09", 2) == [expected, expected]
    assert "boundary_mismatch" not in {rule for day in ("2026-01-09", DAY) for rule, _ in view.rejected(day)}


def test_how_near_is_configuration() -> None:
    for seconds, valid in [(900, True), (901, False)]:
        site = a_site(rules=Rules(boundary_s=900))
        site.read(DAY, [0, 100], at=[start(DAY, 0, seconds), start(DAY, 1)])
        assert site.day(DAY).valid is valid


def test_readings_farther_than_the_nearest_are_readings_within_the_day() -> None:
    site = a_site()
    site.read(DAY, [0, 5, 100], at=[start(DAY), start(DAY, 0, 30), start(DAY, 1)])
    view = site.ledger()
    assert view.rejected(DAY) == []
    assert view.day(DAY).start_index == 0


def test_1_4_3e_a_meter_fitted_within_a_day_counts_as_fitted_at_its_start() -> None:
    site = Site("2026-01-08", fitted="2026-01-08 14:30", index=700)
    site.read("2026-01-08", [760], at=[start("2026-01-08", 1)])
    found = site.day("2026-01-08")
    assert (found.status, found.start_index, found.end_index, str(found.volume_m3)) == ("actual", 700, 760, "6.000")


@pytest.mark.clause("1.4.3(c)", "4.2.4")
def test_1_4_3e_an_on_site_reading_counts_as_obtained_at_the_start_of_its_day() -> None:
    site = a_site()
    site.read("2026-01-09", [0], at=[start("2026-01-09")])
    site.read(DAY, [120], at=[AT_FIVE + timedelta(hours=6)], source="on_site")
    site.read("2026-01-11", [200], at=[start(DAY, 1)], source="on_site")
    view = site.ledger()
    assert view.volumes("2026-01-09", 2) == ["12.000", "8.000"]
    assert view.statuses("2026-01-09", 2) == ["actual", "actual"]


def test_1_4_3e_and_conflicts_with_another_value_of_that_instant() -> None:
    site = a_site()
    site.read(DAY, [100, 200])
    site.read(DAY, [120, "x"], at=[AT_FIVE + timedelta(hours=n) for n in (6, 7)], source="on_site", received="2026-01-12 12:00")
    view = site.ledger()
    assert view.rejected(DAY) == [("conflicting_reading", 120), ("malformed", "x")]
    assert {each.at for each in view.records(DAY)} == {AT_FIVE}
    assert not view.day(DAY).valid


@pytest.mark.clause("4.2.3(a)")
def test_a_day_without_a_batch_is_valid_on_its_neighbours_readings() -> None:
    site = a_site()
    site.read("2026-01-09", [0, 100])
    site.read("2026-01-11", [250, 300])
    found = site.day(DAY)
    assert (found.status, str(found.volume_m3), found.start_index, found.end_index) == ("actual", "15.000", 100, 250)
    assert found.valid_at == local("2026-01-12 06:00")
    assert found.ran == ("boundary_mismatch", "negative_advance", "excess_flow", "unusual_volume", "stuck_register")


def test_4_1_3_a_day_in_240_pieces_as_they_come_every_six_minutes_is_that_in_one() -> None:
    boundary, whole, pieces = start(DAY), Site(DAY), Site(DAY)
    at = [boundary + timedelta(minutes=6 * n) for n in range(241)]
    whole.read(DAY, list(range(241)), at=at)
    for n, instant in enumerate(at):
        pieces.read(DAY, [n], at=[instant], received=instant + timedelta(seconds=5))
    one, many = whole.day(DAY), replay(pieces.facts, to_us(at[-1] + timedelta(days=1)), pieces.rules)["day", "MP", DAY]
    assert isinstance(many, Day)
    assert (many.valid, many.volume_m3, many.ran) == (one.valid, one.volume_m3, one.ran) == (True, Decimal("24.000"), one.ran)
