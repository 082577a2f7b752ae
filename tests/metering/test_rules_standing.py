"""Which readings stand: the chain with the most mutually admissible readings, and what becomes of the others (1.5, 4.2.3)."""

from __future__ import annotations

from datetime import timedelta
from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from metering.chain import Node, standing
from metering.volumes import Verdict
from tests.metering.domain import Site, hours, local, start

FIRST = "2026-01-08"


def a_site(boundaries: list[int], **more: object) -> Site:
    """A point whose meter was fitted at the start of 8 January with the first of these indexes."""
    site = Site(FIRST, index=boundaries[0], **more)  # type: ignore[arg-type]
    site.days(FIRST, boundaries)
    return site


def test_one_wrong_reading_does_not_make_the_right_ones_after_it_fail() -> None:
    site = a_site([0, 100, 200])
    site.read("2026-01-10", [200, 9_000_000])
    site.days("2026-01-11", [300, 400, 500])
    view = site.ledger()
    assert view.rejected("2026-01-10") == [("excess_flow", 9_000_000)]
    assert view.statuses(FIRST, 5) == ["actual", "actual", "deemed", "actual", "actual"]
    assert view.volumes("2026-01-11", 2) == ["10.000", "10.000"]


def test_4_2_3c_of_a_boundarys_two_readings_the_end_of_the_day_before_stands() -> None:
    site = a_site([0, 100])
    site.read("2026-01-09", [102, 200])
    view = site.ledger()
    assert view.rejected("2026-01-09") == [("boundary_mismatch", 102)]
    assert view.records("2026-01-09")[0].clause == "4.2.3(c)"
    assert [view.day(day).valid for day in (FIRST, "2026-01-09")] == [True, False]
    assert (view.day("2026-01-09").start_index, view.day("2026-01-09").end_index) == (100, 200)


def test_4_2_3c_also_where_both_are_received_at_once() -> None:
    for values in [(100, 102), (102, 100)]:
        site = Site(FIRST)
        site.read(FIRST, [0, values[0]], received="2026-01-10 06:00")
        site.read("2026-01-09", [values[1], 300], received="2026-01-10 06:00")
        assert site.ledger().rejected("2026-01-09") == [("boundary_mismatch", values[1])]


def test_of_two_equal_chains_the_one_whose_first_differing_reading_was_received_first_stands() -> None:
    """Here the start came before the end of the Day before."""
    site = Site(FIRST)
    site.read("2026-01-09", [102, 200])
    site.read(FIRST, [0, 100], received="2026-01-10 07:00")
    view = site.ledger()
    assert view.rejected(FIRST) == [("boundary_mismatch", 100)]
    assert [view.day(day).valid for day in (FIRST, "2026-01-09")] == [False, True]


def test_the_chain_with_more_readings_stands_whatever_came_first() -> None:
    site = Site(FIRST)
    site.read("2026-01-09", [5000, 5100])  # received first, and too high for all that follow
    site.days("2026-01-10", [300, 400, 500, 600])
    view = site.ledger()
    assert view.rejected("2026-01-09") == [("negative_advance", 5000), ("boundary_mismatch", 5100)]
    assert view.statuses("2026-01-10", 3) == ["actual"] * 3
    assert (view.day("2026-01-09").start_index, view.day("2026-01-09").end_index) == (None, 300)


def test_a_reading_in_both_days_batches_counts_twice() -> None:
    site = Site(FIRST)
    site.read("2026-01-09", [100], at=[start(FIRST, 2)], received="2026-01-10 05:30")  # once, and first
    site.read(FIRST, [0, 900], received="2026-01-10 06:00")
    site.read("2026-01-09", [900], at=[start(FIRST, 1)], received="2026-01-10 06:00")
    view = site.ledger()
    assert (view.rejected(FIRST), view.rejected("2026-01-09")) == ([], [("negative_advance", 100)])
    assert view.day(FIRST).end_index == 900


def test_the_index_at_the_fitting_is_a_standing_reading_at_its_instant() -> None:
    site = Site(FIRST, index=500)
    site.read(FIRST, [510, 600])
    view = site.ledger()
    assert view.rejected(FIRST) == [("boundary_mismatch", 510)]
    assert (view.day(FIRST).start_index, view.day(FIRST).valid) == (500, False)


def test_a_fitting_received_later_for_the_same_meter_and_instant_replaces_the_earlier() -> None:
    site = Site(FIRST, index=500)
    site.read(FIRST, [510, 600])
    site.facts.append(Site(FIRST, index=510, known="2026-01-10 12:00").facts[1])
    before, after = site.ledger("2026-01-10 11:59"), site.ledger("2026-01-10 12:00")
    assert (before.day(FIRST).valid, after.day(FIRST).valid) == (False, True)
    assert after.rejected(FIRST) == []
    assert after.day(FIRST).valid_at == local("2026-01-10 12:00")


def test_readings_on_which_a_day_was_closed_out_are_fixed_whatever_arrives_later() -> None:
    site = a_site([0, 100])
    close_out = start(FIRST, 6)
    for n in (2, 3, 4):  # more readings, all too low for the one that is fixed
        site.read(f"2026-01-{8 + n:02}", [30 + 10 * n, 40 + 10 * n], received=close_out + timedelta(hours=1))
    view = site.ledger()
    assert (view.day(FIRST).status, view.day(FIRST).end_index) == ("actual", 100)
    assert view.rejected("2026-01-11") == [("negative_advance", 60), ("negative_advance", 70)]
    in_time = a_site([0, 100])
    in_time.days("2026-01-10", [50, 60, 70, 80])
    view = in_time.ledger()
    assert (view.rejected(FIRST), view.rejected("2026-01-11")) == ([("negative_advance", 100)], [])


def test_at_a_fixed_boundary_a_nearer_reading_that_comes_late_changes_nothing() -> None:
    site = Site(FIRST)
    site.read(FIRST, [0, 100], at=[start(FIRST), start(FIRST, 1, 30)], received="2026-01-09 06:00")
    site.read(
        "2026-01-09", [99, 104, 200], at=[start(FIRST, 1), start(FIRST, 1, 30), start(FIRST, 2)], received="2026-01-15 06:00"
    )
    view = site.ledger()
    assert (view.day(FIRST).end_index, view.day("2026-01-09").start_index) == (100, 100)
    assert ("boundary_mismatch", 104) in view.rejected("2026-01-09")


# --- the rule that a rejected reading is named by -----------------------------------------------------------------------------


def test_named_by_its_conflict_with_the_standing_reading_before_it_first_of_all() -> None:
    """It also differs from the one of its instant."""
    site = a_site([500, 600])
    site.read("2026-01-09", [400, 700])
    assert site.ledger().rejected("2026-01-09") == [("negative_advance", 400)]
    site = a_site([500, 600])
    site.read("2026-01-09", [9_000_000, 700])
    view = site.ledger()
    assert view.rejected("2026-01-09") == [("excess_flow", 9_000_000)]
    assert "from 500 at 2026-01-08T05:00:00Z" in view.records("2026-01-09")[0].detail


def test_named_by_its_instant_where_it_agrees_with_the_one_before() -> None:
    site = a_site([500, 600])
    site.read("2026-01-09", [590, 700])
    assert site.ledger().rejected("2026-01-09") == [("boundary_mismatch", 590)]


def test_named_by_its_conflict_with_the_one_after_where_there_is_no_other() -> None:
    site = Site(FIRST)
    site.read(FIRST, [900], at=[start(FIRST, 1)])
    site.days("2026-01-10", [200, 300, 400])
    view = site.ledger()
    assert view.rejected(FIRST) == [("negative_advance", 900)]
    assert "to 200 at 2026-01-10T05:00:00Z" in view.records(FIRST)[0].detail


def test_every_rejection_shows_its_values_and_its_receipt() -> None:
    site = a_site([500, 600, 590])
    record = site.ledger().records("2026-01-09")[0]
    assert (record.rule, record.clause, record.index, record.at) == ("negative_advance", "1.5", 590, start(FIRST, 2))
    assert record.received_at == start(FIRST, 2, 3600)
    assert "600" in record.detail
    assert "590" in record.detail


# --- readings within the Day --------------------------------------------------------------------------------------------------


def test_1_5_a_wrong_reading_within_the_day_is_rejected_alone() -> None:
    for wrong, rule in [(3, "negative_advance"), (99, "negative_advance"), (10**6, "excess_flow")]:
        site = Site(FIRST, index=100)
        index = [100 + 10 * n for n in range(25)]
        index[12] = wrong
        site.read(FIRST, index, at=hours(FIRST))
        view = site.ledger()
        assert view.rejected(FIRST) == [(rule, wrong)]
        assert (view.day(FIRST).valid, str(view.day(FIRST).volume_m3)) == (True, "24.000")
        assert view.day(FIRST).failed == (rule,)


def test_1_5_a_reading_within_the_day_above_its_end_is_named_by_what_follows() -> None:
    site = Site(FIRST, index=100)
    site.read(FIRST, [100, 150, 400, 200, 340], at=hours(FIRST, step=6))
    view = site.ledger()
    assert view.rejected(FIRST) == [("negative_advance", 400)]
    assert "from 400 at 2026-01-08T17:00:00Z to 200" in view.records(FIRST)[0].detail


def test_1_5_readings_within_a_day_without_boundaries_are_judged_too() -> None:
    site = Site("2026-01-01", index=0)
    site.read(FIRST, [500, 510, 5, 520], at=hours(FIRST, step=4)[1:5])
    view = site.ledger()
    assert view.rejected(FIRST) == [("negative_advance", 5)]


# --- the chain itself, against all there are ---------------------------------------------------------------------------------

nodes = st.builds(
    lambda at, ticks, received, weight: Node(at, ticks, received, at, at, weight),
    st.integers(0, 6), st.integers(0, 6), st.integers(0, 3), st.integers(1, 2),
)  # fmt: skip


def admit(before: Node, after: Node) -> Verdict:
    """At most two ticks an instant, and never down."""
    if after.ticks < before.ticks:
        return "negative_advance"
    return "excess_flow" if after.ticks - before.ticks > 2 * (after.at_us - before.at_us) else ""


def stands_together(chain: tuple[Node, ...], every: list[Node]) -> bool:
    fixed = [node for node in every if node.fixed]
    admissible = all(a.at_us < b.at_us and not admit(a, b) for a, b in pairwise(chain))
    return admissible and all(node in chain for node in fixed)


def unlike(every: list[Node]) -> list[Node]:
    return list({(node.at_us, node.ticks): node for node in every}.values())


@given(st.lists(nodes, max_size=9).map(unlike))
def test_no_chain_is_longer_and_no_equal_one_was_received_first(every: list[Node]) -> None:
    found = standing(every, admit)
    ordered = sorted(every, key=lambda node: (node.at_us, node.received_us, node.ticks))
    chains = [each for size in range(len(every) + 1) for each in combinations(ordered, size) if stands_together(each, every)]
    most = max(sum(node.weight for node in chain) for chain in chains)
    best = [chain for chain in chains if sum(node.weight for node in chain) == most]
    assert tuple(found) in best
    for other in best:
        differing = next(((a, b) for a, b in zip(found, other, strict=False) if a != b), None)
        assert differing is None or differing[0].received_us <= differing[1].received_us


@given(st.lists(nodes, max_size=8).map(unlike), st.lists(st.integers(0, 6), min_size=1, max_size=2, unique=True))
def test_the_chain_goes_through_what_is_fixed_whatever_arrives(every: list[Node], at: list[int]) -> None:
    fixed = [Node(each, each, 0, each, each, 1, True) for each in sorted(at)]
    free = [node for node in every if (node.at_us, node.ticks) not in {(each.at_us, each.ticks) for each in fixed}]
    found = standing([*fixed, *free], admit)
    chains = [
        each
        for size in range(len(free) + len(fixed) + 1)
        for each in combinations(sorted([*fixed, *free], key=lambda node: node.at_us), size)
        if stands_together(each, fixed)
    ]
    assert set(fixed) <= set(found)
    assert sum(node.weight for node in found) == max(sum(node.weight for node in chain) for chain in chains)
