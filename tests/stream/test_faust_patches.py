"""What is built on Faust's inside: facts go past its streams, and only those that Faust itself would deliver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from stream import faust_patches
from stream.faust_patches import OrderedRecovery, SteadyConsumer

FACTS = [TP("facts", number) for number in range(3)]
CHANGELOG = TP("changelog", 0)


class Taken:
    """An intake that remembers."""

    def __init__(self) -> None:
        self.full: set[TP] = set()
        self.messages: list[tuple[TP, Sequence[Any]]] = []

    def takes(self, tp: TP) -> bool:
        return tp.topic == "facts"

    def wants(self, tp: TP) -> bool:
        return tp not in self.full

    def take(self, tp: TP, messages: Sequence[Any]) -> None:
        self.messages.append((tp, messages))


class Fetcher:
    """Stands for the consumer's thread: gives something of each partition that it is asked for."""

    def __init__(self) -> None:
        self.asked: list[frozenset[TP]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    async def getmany(self, active: frozenset[TP], timeout: float) -> dict[TP, list[str]]:
        assert active, "an empty set means all partitions to aiokafka"
        self.asked.append(active)
        await asyncio.sleep(0)
        self.meanwhile()
        return {tp: [f"of {tp.topic} {tp.partition}"] for tp in sorted(active)}


@pytest.fixture
def consumer() -> Any:
    """A consumer with all partitions active, between a fetcher and an intake that are stood in for."""
    consumer = SteadyConsumer.__new__(SteadyConsumer)
    consumer.__dict__ |= {
        "transport": SimpleNamespace(intake=Taken()), "app": SimpleNamespace(consumer_generation_id=7), "_thread": Fetcher(),
        "flow_active": True, "_active_partitions": {*FACTS, CHANGELOG}, "fetching": asyncio.Lock(),
    }  # fmt: skip
    return consumer


def fetch(consumer: Any) -> Any:
    return asyncio.run(consumer._getmany(consumer._active_partitions, 1.0))


def test_facts_go_to_the_intake_in_lists_and_the_changelog_to_faust(consumer: Any) -> None:
    assert fetch(consumer) == {CHANGELOG: ["of changelog 0"]}
    assert consumer.transport.intake.messages == [(tp, [f"of facts {tp.partition}"]) for tp in FACTS]


def test_a_partition_that_has_enough_is_not_asked_for(consumer: Any) -> None:
    consumer.transport.intake.full = {FACTS[1]}
    fetch(consumer)
    assert consumer._thread.asked == [{FACTS[0], FACTS[2], CHANGELOG}]


def test_where_all_have_enough_nobody_is_asked(consumer: Any) -> None:
    consumer.transport.intake.full = {*FACTS, CHANGELOG}
    assert fetch(consumer) == {}
    assert consumer._thread.asked == []


def test_a_set_that_is_emptied_while_the_fetcher_waits_does_not_mean_all(consumer: Any) -> None:
    consumer._thread.meanwhile = consumer._active_partitions.clear
    assert fetch(consumer) == {CHANGELOG: ["of changelog 0"]}
    assert consumer._thread.asked == [{*FACTS, CHANGELOG}]
    assert consumer.transport.intake.messages == []


def test_a_partition_that_is_paused_meanwhile_is_left_out(consumer: Any) -> None:
    consumer._thread.meanwhile = lambda: consumer._active_partitions.discard(FACTS[0])
    fetch(consumer)
    assert [tp for tp, _ in consumer.transport.intake.messages] == FACTS[1:]


@pytest.mark.parametrize("what", ["rebalanced", "stopped"])
def test_what_was_fetched_before_a_rebalance_is_dropped(consumer: Any, what: str) -> None:
    def meanwhile() -> None:
        if what == "rebalanced":
            consumer.app.consumer_generation_id = 8
        else:
            consumer.flow_active = False

    consumer._thread.meanwhile = meanwhile
    fetch(consumer)
    assert consumer.transport.intake.messages == []


def test_nobody_seeks_while_a_request_of_before_may_still_take_what_comes(consumer: Any) -> None:
    done: list[str] = []

    async def seek_wait(_offsets: object) -> None:
        done.append("sought")

    async def scenario() -> None:
        answer = asyncio.Event()

        async def getmany(_active: frozenset[TP], _timeout: float) -> dict[TP, list[str]]:
            await answer.wait()
            done.append("fetched")
            return {}

        consumer._thread.getmany, consumer.seek_wait = getmany, seek_wait
        request = asyncio.create_task(consumer._getmany(consumer._active_partitions, 1.0))
        await asyncio.sleep(0)
        recovery = OrderedRecovery.__new__(OrderedRecovery)
        seek = asyncio.create_task(recovery._seek_offsets(consumer, {CHANGELOG}, {CHANGELOG: 5}, "active"))
        await asyncio.sleep(0.01)
        assert done == []
        answer.set()
        await asyncio.gather(request, seek)

    asyncio.run(scenario())
    assert done == ["fetched", "sought"]


def test_another_version_of_faust_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(faust_patches.PINNED, "faust-streaming", "0.15.4")
    with pytest.raises(faust_patches.WrongVersion, match=r"faust-streaming is 0.15.3"):
        faust_patches.check_versions()
