"""The broadcast relay: what concerns many comes into every partition, once in effect, whichever worker does it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from metering.wire import decode_frame, encode_frame
from stream.faults import FreezeGuard
from stream.processor import RELAY
from stream.relay import Relay
from stream.settings import Topics, WorkerSettings
from stream.sink import Sink
from tests.integration.stream.toy_cluster import (
    PARTITIONS,
    POINTS,
    SESSION_TIMEOUT_S,
    ToyCluster,
    calorific,
    fact,
    health,
    wait_for,
)
from tests.patience import patient

NAMES = [f"point-{n}" for n in range(POINTS)]


def final(toys: ToyCluster) -> dict[str, int]:
    """Each point's last record: of the greatest offset."""
    found: dict[str, tuple[int, int]] = {}
    for (_, offset, point), count in toys.ledger():
        found[point] = max(found.get(point, (-1, 0)), (offset, count))
    return {point: count for point, (_, count) in found.items()}


def test_every_partition_gets_it_as_of_its_first_receipt_and_kills_change_nothing(toys: ToyCluster) -> None:
    for name in NAMES:
        toys.send([fact(name, 1)])
    for n in range(3):
        worker = toys.worker()
        worker.wait_for_log("working on facts")
        wait_for(lambda: len(final(toys)) == POINTS, "all points are known")
        for k in range(20):
            toys.send_bytes(encode_frame([calorific(f"LDZ-{n}-{k}")], "submit"), 0, "broadcast")
        time.sleep(0.3 * n)
        worker.kill()
    toys.worker()
    wait_for(lambda: set(final(toys).values()) == {61}, "every point has had all sixty")
    first = {decode_frame(each.value).facts[0]: each.timestamp for each in toys.read("broadcast")}
    for message in toys.read("facts"):
        frame = decode_frame(message.value)
        if frame.gateway == RELAY:
            assert frame.received_at is not None
            assert round(frame.received_at.timestamp() * 1000) == first[frame.facts[0]]


def test_what_cannot_be_relayed_is_a_dead_letter_and_the_rest_goes_on(toys: ToyCluster) -> None:
    toys.send([fact("point-1", 1)])
    toys.send_bytes(b"no frame", 0, "broadcast")
    toys.send_bytes(encode_frame([fact("point-1", 2), calorific("LDZ")], "submit"), 0, "broadcast")
    toys.worker()
    wait_for(lambda: final(toys) == {"point-1": 2}, "the calorific value has come, the registration has not")
    reasons = [letter.value for letter in toys.read("dead_letter")]
    assert len(reasons) == 2
    assert b"not a frame" in reasons[0]
    assert b"belongs into its own partition" in reasons[1]


def test_a_later_version_halts_the_relay_alone(toys: ToyCluster) -> None:
    worker = toys.worker()
    toys.send_bytes(b"\x95\x02" + encode_frame([], "submit")[2:], 0, "broadcast")
    toys.send([fact("point-1", 1)])
    worker.wait_for_log("the broadcast relay is halted at offset 0")
    toys.check()
    wait_for(lambda: health(worker).get("state") == "halted", "health says so")


def test_one_of_two_workers_relays_and_the_other_takes_over(toys: ToyCluster) -> None:
    one, two = toys.worker("1"), toys.worker("2")
    wait_for(lambda: [health(each).get("relay") for each in (one, two)].count(True) == 1, "one of them relays")
    wait_for(lambda: all(len(health(each).get("partitions", ())) == 2 for each in (one, two)), "both have partitions")
    relaying, other = (one, two) if health(one)["relay"] else (two, one)
    relaying.kill()
    wait_for(lambda: health(other).get("relay"), "the other relays")
    toys.send_bytes(encode_frame([calorific("LDZ")], "submit"), 0, "broadcast")
    wait_for(lambda: len(toys.read("facts")) == PARTITIONS, "the copies are there")


def test_a_relay_that_was_held_up_and_lost_its_partition_goes_on(toys: ToyCluster) -> None:
    asyncio.run(_hold_up_and_go_on(toys))


def settings_of(toys: ToyCluster) -> WorkerSettings:
    servers = {"bootstrap_servers": [toys.bootstrap], "security_protocol": "PLAINTEXT"}
    return WorkerSettings(
        kafka=servers, topics=Topics(**toys.topics), partitions=PARTITIONS, group=toys.name, instance="1",
        state_dir=toys.folder, session_timeout_s=SESSION_TIMEOUT_S,
    )  # fmt: skip


async def _hold_up_and_go_on(toys: ToyCluster) -> None:
    settings = settings_of(toys)
    sink = await HeldUp(settings.aiokafka).start()
    relay = asyncio.create_task(Relay(settings, settings.aiokafka, sink, FreezeGuard(600)).run())
    for n in range(3):
        toys.send_bytes(encode_frame([calorific(f"LDZ-{n}")], "submit"), 0, "broadcast")
    async with asyncio.timeout(patient(60)):
        while sink.busy_s or toys.committed("broadcast", settings.relay_group) != {0: 3}:
            assert not relay.done(), relay.exception()
            await asyncio.sleep(0.5)
    relay.cancel()
    await asyncio.wait([relay])
    await sink.stop()
    assert len({message.value for message in toys.read("facts") if message.partition == 0}) == 3


def test_a_relay_that_was_given_nothing_by_a_broker_that_knew_no_topic_yet_is_given_it_soon(toys: ToyCluster) -> None:
    asyncio.run(_share_out_without_topics(toys))


async def _share_out_without_topics(toys: ToyCluster) -> None:
    """A broker that has just started says so for a moment; when the group is shared out then, nobody is given the topic."""
    settings = settings_of(toys)
    sink = await Sink(settings.aiokafka).start()
    relay = Relay(settings, settings.aiokafka, sink, FreezeGuard(600))
    running = asyncio.create_task(relay.run())
    async with asyncio.timeout(patient(40)):
        await _until(lambda: relay.owner)
        await _share_out_nothing(relay)
        await _until(lambda: relay.owner)
    running.cancel()
    await asyncio.wait([running])
    await sink.stop()


async def _share_out_nothing(relay: Relay) -> None:
    """Have the group shared out while the client knows no topic; the broker's next answer tells it."""
    cluster, coordinator = relay._consumer._client.cluster, relay._consumer._coordinator
    cluster.partitions_for_topic = lambda _topic: None
    coordinator.request_rejoin()
    await _until(lambda: not relay.owner and not coordinator.need_rejoin(relay._consumer._subscription.subscription))
    del cluster.partitions_for_topic


async def _until(reached: Callable[[], bool]) -> None:
    while not reached():
        await asyncio.sleep(0.005)


class HeldUp(Sink):
    """Keeps the whole process busy once, for longer than a worker may be unheard of."""

    busy_s = SESSION_TIMEOUT_S + 3

    async def send(self, *arguments: Any, **keywords: Any) -> int | None:
        sent = await super().send(*arguments, **keywords)
        if self.busy_s:
            time.sleep(self.busy_s)
            self.busy_s = 0
        return sent
