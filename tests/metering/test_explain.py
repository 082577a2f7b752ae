"""An explanation says what the ledger says, and says how it came about: figures of the engine, steps that lead to them."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.explain import explain
from metering.gasday import to_us
from metering.ledger import Day
from metering.replay import replay
from metering.rules import Rules
from tests.metering.scenarios import Scenario, as_of, some_rules


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_every_figure_is_the_ledgers(seed: int) -> None:
    """Whatever was received, in whatever order the file has it: the Day's records are those of `replay`, and so is what the
    history ends with."""
    dice = random.Random(seed)
    facts = Scenario(dice, days=dice.choice([6, 14, 24])).facts
    dice.shuffle(facts)
    now_us, rules = to_us(as_of(dice, facts)), some_rules(dice, facts)
    ledger = replay(facts, now_us, rules)
    days = [each for each in ledger.values() if isinstance(each, Day)]
    for record in dice.sample(days, min(4, len(days))):
        found = explain(record.meter_point, record.gas_day, facts, now_us, rules)
        assert found.day == record
        own = {key: each for key, each in ledger.items() if key[2] == record.gas_day.isoformat()}
        ends = {}
        for moment in found.history:
            for change in moment.changes:
                before, after = change.before, change.after
                some = after or before
                assert some is not None
                assert ends.get(some.key()) == before
                ends[some.key()] = after
        assert {key: each for key, each in ends.items() if each is not None} == own
