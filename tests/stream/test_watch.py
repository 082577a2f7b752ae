"""When a worker says that it is stuck: there is lag, and nothing has moved for long."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stream.letters import Letters
from stream.settings import Topics, WorkerSettings
from stream.worker import Watch


class Facts:
    """A worker's partitions as the watch sees them."""

    def __init__(self) -> None:
        self.partitions = {0: SimpleNamespace(position=5, beside=0, halted=None, letters=Letters("facts[0]"))}
        self.behind, self.recovering, self.recovered = 3, 0, True

    def lag(self, _: int) -> int:
        return self.behind

    def recovery_lag(self) -> int:
        return self.recovering


@pytest.fixture
def facts() -> Facts:
    return Facts()


@pytest.fixture
def watch(facts: Facts) -> Watch:
    topics = Topics("facts", "broadcast", "ledger", "dead-letter")
    settings = WorkerSettings({}, topics, 1, "g", "1", Path("."), stalled_after_s=60)
    relay: Any = SimpleNamespace(owner=False, halted=None, letters=Letters("broadcast"))
    nobody: Any = SimpleNamespace(unacknowledged_s=0.0)
    return Watch(settings, facts, relay, nobody, nobody)  # type: ignore[arg-type]


def state_after(watch: Watch, *instants_s: float) -> str:
    for instant_s in instants_s:
        watch._look(instant_s)
    return watch.health().state


def test_lag_that_does_not_move_is_a_stall_and_is_said_once(
    watch: Watch, facts: Facts, caplog: pytest.LogCaptureFixture
) -> None:
    assert state_after(watch, 0, 59) == "running"
    assert state_after(watch, 61, 62, 63) == "stalled"
    assert [record.message for record in caplog.records] == ["facts[0]: 3 wait, and nothing has moved for 61 s"]
    assert not watch.health().well
    facts.partitions[0].position = 6
    assert state_after(watch, 64) == "running"


def test_who_makes_states_anew_moves(watch: Watch, facts: Facts) -> None:
    for instant_s in range(0, 300, 50):
        facts.partitions[0].beside += 1
        assert state_after(watch, instant_s) == "running"


def test_no_lag_no_stall(watch: Watch, facts: Facts) -> None:
    facts.behind = 0
    assert state_after(watch, 0, 1000) == "running"
    facts.behind = 1
    assert state_after(watch, 1001, 1050) == "running"


def test_while_kafka_is_away_nothing_can_move(watch: Watch) -> None:
    watch._away = True
    assert state_after(watch, 0, 1000) == "kafka_away"


def test_a_recovery_that_does_not_go_on_is_a_stall(watch: Watch, facts: Facts) -> None:
    facts.partitions, facts.recovered, facts.recovering = {}, False, 1000
    assert state_after(watch, 0) == "starting"
    facts.recovering = 900
    assert state_after(watch, 50, 100) == "starting"
    assert state_after(watch, 111) == "stalled"
