"""The engine, incremental and in any order, agrees with the specification from scratch."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.determine import determine
from metering.facts import AnyFact
from metering.gasday import to_us
from metering.ledger import Day
from metering.replay import Ledger, replay, shuffled
from metering.rules import Rules
from tests.metering.scenarios import Scenario, as_of, some_rules


def scenario(seed: int) -> tuple[list[AnyFact], int, Rules]:
    dice = random.Random(seed)
    facts = Scenario(dice, points=dice.choice([1, 1, 2]), days=dice.choice([6, 14, 24])).facts
    dice.shuffle(facts)
    return facts, to_us(as_of(dice, facts)), some_rules(dice, facts)


def differences(left: Ledger, right: Ledger) -> list[tuple[object, object, object]]:
    return [
        (key, left.get(key), right.get(key)) for key in sorted(left.keys() | right.keys()) if left.get(key) != right.get(key)
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_the_engine_agrees_with_the_specification(seed: int) -> None:
    facts, now_us, rules = scenario(seed)
    assert differences(determine(facts, now_us, rules), replay(facts, now_us, rules)) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2**16))
def test_any_order_and_any_duplication_give_the_same_ledger(seed: int, shuffle: int) -> None:
    facts, now_us, rules = scenario(seed)
    assert differences(determine(facts, now_us, rules), shuffled(facts, now_us, rules, shuffle)) == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_closed_out_never_changes(seed: int) -> None:
    """Closed out once, a Day's status and volume stay, whatever is received later (a volume may become known)."""
    facts, _, rules = scenario(seed)
    instants = sorted({fact.received_at for fact in facts if fact.received_at is not None})
    earlier: Ledger = {}
    for instant in instants[:: max(1, len(instants) // 12)]:
        ledger = replay(facts, to_us(instant), rules)
        for key, record in earlier.items():
            later = ledger.get(key)
            if isinstance(record, Day) and record.closed_out:
                assert isinstance(later, Day)
                assert later.closed_out
                assert later.status == record.status
                assert record.volume_m3 in (None, later.volume_m3)
        earlier = ledger


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 2**32))
def test_over_many_months_the_engine_agrees_with_the_specification_in_any_order(seed: int) -> None:
    dice = random.Random(seed)
    facts = Scenario(dice, days=100).facts
    now_us, rules = to_us(as_of(dice, facts)), some_rules(dice, facts)
    specified = determine(facts, now_us, rules)
    assert differences(specified, replay(facts, now_us, rules)) == []
    assert differences(specified, shuffled(facts, now_us, rules, seed)) == []
