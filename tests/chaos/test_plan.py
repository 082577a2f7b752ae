"""A round is all in its seed, and its faults are such as can be done and mended."""

from __future__ import annotations

from itertools import combinations

from tests.chaos.plan import FEWEST, KINDS, LATE, MOST, WINDOW_S, plan

SEEDS = range(300)


def test_a_seed_gives_the_same_round_again() -> None:
    assert [plan(seed) for seed in SEEDS] == [plan(seed) for seed in SEEDS]
    assert len({plan(seed).faults for seed in SEEDS}) == len(SEEDS)


def test_every_kind_of_fault_befalls_everybody_it_may_befall() -> None:
    found = {(fault.kind, fault.target) for seed in SEEDS for fault in plan(seed).faults}
    assert found == {(name, target) for name, kind in KINDS.items() for target in kind.targets}


def test_no_two_faults_of_one_process_disk_or_link_overlap() -> None:
    for seed in SEEDS:
        faults = plan(seed).faults
        assert FEWEST <= len(faults) <= MOST
        assert all(0 <= fault.at_s <= WINDOW_S for fault in faults)
        for a, b in combinations(faults, 2):
            if (KINDS[a.kind].of, a.target) == (KINDS[b.kind].of, b.target):
                assert a.at_s + a.for_s < b.at_s, f"seed {seed}: {a}; {b}"


def test_a_worker_that_is_not_there_is_added_and_nothing_else() -> None:
    for seed in SEEDS:
        kinds = {fault.kind for fault in plan(seed).faults if fault.target == LATE}
        assert kinds <= {"add"} if LATE not in plan(seed).workers else "add" not in kinds, seed
