"""Rules that change: a job refuses the states that others made, and makes them anew when it is told to, to the last record."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.gasday import to_us
from metering.messages import LedgerMessage
from metering.replay import replay
from metering.rules import Rules, load
from metering.rules_digest import digest
from stream.embedded import EmbeddedJob
from stream.marks import LaterStates, OtherRules, is_point, split
from stream.processor import Processor
from tests.metering.scenarios import Scenario, some_rules
from tests.stream.test_processor import Log, frames_of

STRICT = load(b'[[validation]]\ntolerance = "0.000001"\nexcess_factor = "0.5"\n')
LATER = load(b'[[validation]]\nsince = 2150-01-01\ntolerance = "0.05"\n')

# States that this program cannot read.
EARLIER, LATER_ONE, NO_STATE = b"\x93\x91\x01\xc0\xc0", b"\x94\x92\x63\xc0\xc0\xc0\xc0", b"\x93\x90\xc0\xc0"


class Worker:
    """A worker of one partition, with the rules it was configured with and when `rebuild` was asked for."""

    def __init__(self, log: Log, rules: Rules, rebuilt_us: int = 0) -> None:
        self._log = log
        self.processor = Processor(0, log.facts, log.states, rules, rebuilt_us=rebuilt_us)

    def remake(self, committed: int, ends_after: int | None = None) -> int:
        """Make states anew, and end after so many of them; how many that were."""
        offset = max(committed, self.processor.rests_on) - 1
        for number, part in enumerate(self.processor.remake(offset)):
            for change in part.changes:
                self._log.publish(LedgerMessage.of(change, 0, offset))
            if number == ends_after:
                return number  # its records are sent, its state is not written
            self._log.states |= part.states
        return 0

    def work(self, first: int, until: int) -> None:
        for offset in range(first, until):
            frame = self._log.frames[offset]
            for part in self.processor.process(offset, frame.timestamp, frame.value):
                for change in part.changes:
                    self._log.publish(LedgerMessage.of(change, 0, offset))
                self._log.states |= part.states


def scenario(seed: int, points: int = 3, days: int = 16) -> tuple[Log, random.Random]:
    dice = random.Random(seed)
    return Log(frames_of(Scenario(dice, points=points, days=days).facts, dice)), dice


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32))
def test_after_a_rebuild_the_ledger_is_that_of_the_new_rules(seed: int) -> None:
    """Wherever the change of rules fell, how often the rebuild was cut off, and whatever was not committed."""
    dice = random.Random(seed)
    facts = Scenario(dice, points=2, days=dice.choice([6, 16])).facts
    log = Log(frames_of(facts, dice))
    before, after = some_rules(dice, facts), some_rules(dice, facts)
    changed_at = dice.randrange(1, len(log.frames))
    Worker(log, before).work(0, changed_at)
    committed = max(0, changed_at - dice.randint(0, 3))
    while Worker(log, after, rebuilt_us=1).remake(committed, dice.choice([None, 0, 1])):
        pass
    worker = Worker(log, after, rebuilt_us=1)
    worker.remake(committed)
    worker.work(committed, len(log.frames))
    assert log.standing() == replay(facts, to_us(log.frames[-1].timestamp), after)


def test_records_that_hold_no_longer_are_voids_and_those_that_still_do_are_not_sent_again() -> None:
    log, _ = scenario(7)
    Worker(log, STRICT).work(0, len(log.frames))
    held = dict(log.ledger)
    worker = Worker(log, Rules(), rebuilt_us=1)
    worker.remake(len(log.frames))
    touched = {key for key, message in log.ledger.items() if held.get(key) != message}
    assert any(log.ledger[key].record is None for key in touched)
    assert all(held[key].record != log.ledger[key].record for key in touched & held.keys())
    assert len(touched) < len(log.ledger)


def test_states_of_other_rules_are_refused_with_what_to_do() -> None:
    log, _ = scenario(1)
    Worker(log, Rules()).work(0, 40)
    points = len([*filter(is_point, log.states)])
    with pytest.raises(OtherRules) as refused:
        Worker(log, STRICT)
    said = str(refused.value)
    assert said.startswith(f"these rules ({digest(STRICT).hex()}) cannot go on from the states of {points} meter points")
    assert f"made under other rules, {digest(Rules()).hex()}" in said
    assert "dailyread rebuild state" in said


def test_a_worker_that_still_has_the_rules_of_before_does_not_change_states_back() -> None:
    """Also where it once was asked, itself, to make states anew under them."""
    log, _ = scenario(1)
    Worker(log, Rules(), rebuilt_us=1).work(0, 40)
    Worker(log, STRICT, rebuilt_us=2).remake(40)
    with pytest.raises(OtherRules):
        Worker(log, Rules(), rebuilt_us=1)
    Worker(log, Rules(), rebuilt_us=3).remake(40)
    Worker(log, Rules()).work(40, len(log.frames))


def test_who_was_not_asked_finishes_what_another_began() -> None:
    log, _ = scenario(1)
    Worker(log, Rules()).work(0, 40)
    assert Worker(log, STRICT, rebuilt_us=1).remake(40, ends_after=1) == 1
    assert len({split(state)[0].digest for name, state in log.states.items() if is_point(name)}) == 2
    Worker(log, STRICT).remake(40)
    assert {split(state)[0].digest for name, state in log.states.items() if is_point(name)} == {digest(STRICT)}


def test_an_entry_for_days_to_come_may_be_added_and_taken_away() -> None:
    log, _ = scenario(1)
    Worker(log, Rules()).work(0, 40)
    Worker(log, LATER).work(40, 60)
    Worker(log, Rules()).work(60, len(log.frames))
    assert {split(state)[0].rebuilt_us for state in log.states.values()} == {0}


def test_an_entry_for_a_day_that_is_in_the_ledger_is_another_rule() -> None:
    log, _ = scenario(1)
    Worker(log, Rules()).work(0, len(log.frames))
    today = log.frames[-1].timestamp.date()
    for since, refused in [
        (today - timedelta(days=3), True),
        (today + timedelta(days=1), True),
        (today + timedelta(days=3), False),
    ]:
        rules = load(f'[[validation]]\nsince = {since}\ntolerance = "0.05"\n'.encode())
        if refused:
            with pytest.raises(OtherRules):
                Worker(log, rules)
        else:
            Worker(log, rules)


def spoil(log: Log, body: bytes) -> None:
    """Put these bytes in the place of each state's own, behind its head."""
    for name in filter(is_point, [*log.states]):
        log.states[name] = log.states[name][: -len(split(log.states[name])[1])] + body


def test_states_of_an_earlier_version_are_made_anew_unasked_and_all_is_said() -> None:
    log, _ = scenario(1)
    Worker(log, Rules()).work(0, len(log.frames))
    right = log.standing()
    spoil(log, EARLIER)
    log.ledger.clear()
    Worker(log, Rules()).remake(len(log.frames))
    assert log.standing() == right  # all of it is said, as it is not known what the other version had said


def test_states_of_an_earlier_version_and_other_rules_are_refused() -> None:
    log, _ = scenario(1)
    Worker(log, Rules()).work(0, 40)
    spoil(log, EARLIER)
    with pytest.raises(OtherRules, match=r"made by an earlier version of this program .* under other rules"):
        Worker(log, STRICT)


def test_states_of_a_later_version_are_left_to_it_until_somebody_asks() -> None:
    log, _ = scenario(1)
    Worker(log, Rules()).work(0, len(log.frames))
    right = log.standing()
    spoil(log, LATER_ONE)
    kept = dict(log.states)
    with pytest.raises(LaterStates, match=r"made by a later version of this program"):
        Worker(log, Rules())
    assert log.states == kept
    Worker(log, Rules(), rebuilt_us=1).remake(len(log.frames))
    assert log.standing() == right


def test_what_is_no_state_of_any_version_is_refused_until_somebody_asks() -> None:
    log, _ = scenario(1)
    Worker(log, Rules()).work(0, len(log.frames))
    right = log.standing()
    spoil(log, NO_STATE)
    with pytest.raises(OtherRules, match="made by another version of this program"):
        Worker(log, Rules())
    Worker(log, Rules(), rebuilt_us=1).remake(len(log.frames))
    assert log.standing() == right


def test_the_embedded_job_refuses_and_remakes(tmp_path: Path) -> None:
    dice = random.Random(6)
    facts = Scenario(dice, points=2, days=16).facts
    frames = frames_of(facts, dice)
    job = EmbeddedJob(tmp_path, Rules())
    job.take(frames[:60])
    job.close()
    with pytest.raises(OtherRules):
        EmbeddedJob(tmp_path, STRICT)
    job = EmbeddedJob(tmp_path, STRICT, rebuild=True)
    job.close()
    job = EmbeddedJob(tmp_path, STRICT)
    job.take(frames[60:])
    ledger = {record.key(): record for record in job.ledger.records()}
    job.close()
    assert ledger == replay(facts, to_us(frames[-1].timestamp), STRICT)
