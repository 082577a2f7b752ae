"""How long after a meter's answer the broker has its Day, and how fast a backlog drains: a real Kafka, beside the bare client.

    python -m tests.integration.services with python -m benchmarks.publishing [--polls 200] [--batches 100000]

`answer`: one meter by Modbus TCP is polled again and again by the gateway; from the last octet of its answer, over the outbox
on disk, to the broker's acknowledgement and the fact's leaving the outbox. Beside it a bare kafka-python producer that sends
the same frame and waits for the acknowledgement. `backlog`: batches of 25 readings of 1,000 meters, put while Kafka was away.
Beside it the bare producer with the same frames, made beforehand. Both have the same options: `acks=all`, idempotent.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.collector import NOW, StandingClock, free_port, host, started_server
from collectors.frames import Message, Route, pack
from collectors.gateway import Gateway
from collectors.outbox import Outbox
from collectors.publisher import Publisher
from dailyread import kafka as clients
from dailyread.config import KafkaConfig, TopicNames
from metering.facts import Readings
from simulators.serve import ServedGateway, ServedMeter

METERS, READINGS = 1_000, 25
PUT_AT_A_TIME = 1_000
PARTITIONS = 12
WAIT_S = 600.0


def new_topics() -> tuple[KafkaConfig, Route]:
    """Topics of their own on the broker of $KAFKA_BOOTSTRAP_SERVERS."""
    unique = uuid.uuid4().hex[:8]
    topics = TopicNames(**{name: f"{name}-{unique}" for name in TopicNames.__struct_fields__})
    servers = tuple(os.environ["KAFKA_BOOTSTRAP_SERVERS"].split(","))
    config = KafkaConfig(bootstrap_servers=servers, partitions=PARTITIONS, topics=topics)
    with clients.admin(config) as admin:
        clients.create_topics(admin, clients.wanted_topics(config))
    return config, Route(facts_topic=topics.facts, broadcast_topic=topics.broadcast, partitions=PARTITIONS, gateway="benchmark")


def batch(n: int) -> Readings:
    """A Day of 25 readings of one of the meters."""
    day = date(2026, 1, 1) + timedelta(days=n // METERS)
    return Readings(
        meter_point=f"MP{n % METERS:06}", meter=f"M-{n % METERS}", gas_day=day, first_at=NOW, interval_s=3600,
        index=tuple(5_000_000 + n + 40 * hour for hour in range(READINGS)),
    )  # fmt: skip


async def answers_s(outbox: Outbox, publisher: Publisher, port: int, polls: int) -> list[float]:
    """Of each poll, how long from the answer to the acknowledgement."""
    answered_s: list[float] = []
    address = f"tcp://{host(0)}:{port}"
    meter = ServedMeter(meter_point="MP", meter="M", protocol="modbus", address=address, device=1, map="hourly_log")
    settings = ServedGateway(gateway="benchmark", meters=(meter,))
    gateway = Gateway(
        settings, StandingClock(), outbox, evidence=lambda *_: answered_s.append(time.perf_counter())
    )  # the evidence of a poll is handed on before anything is stored
    found = []
    for _ in range(polls):
        assert await gateway.poll_once() == 0
        assert await asyncio.to_thread(publisher.wait_empty, WAIT_S)
        found.append(time.perf_counter() - answered_s[-1])
    return found


def bare_answers_s(producer: Any, message: Message, polls: int) -> list[float]:
    """Of each frame, how long until it is acknowledged."""
    found = []
    for _ in range(polls):
        begun_s = time.perf_counter()
        producer.send(message.topic, value=message.value, partition=message.partition).get(WAIT_S)
        found.append(time.perf_counter() - begun_s)
    return found


def answer(folder: Path, polls: int) -> None:
    """Print how long an answer takes."""
    config, route = new_topics()
    outbox = Outbox(folder / "answers.db", "benchmark")
    outbox.put([batch(0)], NOW)
    (message,) = pack(outbox.pending(1), route)
    publisher = Publisher(outbox, lambda: clients.producer(config), route)
    publisher.start()
    assert publisher.wait_empty(WAIT_S)
    port = free_port()
    with started_server("benchmarks.collector", "--child", "serve", "--port", str(port)):
        ours = asyncio.run(answers_s(outbox, publisher, port, polls))
    publisher.stop()
    outbox.close()
    producer = clients.producer(config)
    bare_answers_s(producer, message, 10)
    bare = bare_answers_s(producer, message, polls)
    producer.close()
    print(f"from a meter's answer to the broker's acknowledgement, {polls} polls one after another")
    for name, values in (("gateway, over the disk", ours), ("bare producer", bare)):
        slow_ms = statistics.quantiles(values, n=100)[98] * 1e3
        print(f"{name:24} median {statistics.median(values) * 1e3:6.1f} ms, 99% within {slow_ms:6.1f} ms")
    print(f"ratio of the medians     {statistics.median(ours) / statistics.median(bare):.1f}", flush=True)


def bare_drain_s(producer: Any, messages: Sequence[Message]) -> float:
    """How long the bare producer takes for these frames, all acknowledged."""
    begun_s = time.perf_counter()
    sent = [producer.send(message.topic, value=message.value, partition=message.partition) for message in messages]
    for future in sent:
        future.get(WAIT_S)
    return time.perf_counter() - begun_s


def backlog(folder: Path, batches: int) -> None:
    """Print how fast a backlog drains."""
    config, route = new_topics()
    outbox = Outbox(folder / "backlog.db", "benchmark")
    begun_s = time.perf_counter()
    for n in range(0, batches, PUT_AT_A_TIME):
        outbox.put([batch(n + each) for each in range(min(PUT_AT_A_TIME, batches - n))], NOW)
    put_s = time.perf_counter() - begun_s
    messages, last = [], 0
    while stored := outbox.pending(250, last):  # as the publisher takes them
        messages += pack(stored, route)
        last = stored[-1].id
    octets = sum(len(message.value) for message in messages)
    producer = clients.producer(config)
    bare_s = bare_drain_s(producer, messages)
    producer.close()
    publisher = Publisher(outbox, lambda: clients.producer(config), route)
    begun_s = time.perf_counter()
    publisher.start()
    assert publisher.wait_empty(WAIT_S)
    ours_s = time.perf_counter() - begun_s
    publisher.stop()
    outbox.close()
    print(f"a backlog of {batches} batches of {READINGS} readings, {octets / 1e6:.0f} MB; put on disk in {put_s:.0f} s")
    for name, took_s in (("gateway, over the disk", ours_s), ("bare producer", bare_s)):
        print(f"{name:24} {took_s:6.1f} s, {batches / took_s:8,.0f} batches/s")
    print(f"ratio of the rates       {bare_s / ours_s:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--polls", type=int, default=200)
    parser.add_argument("--batches", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        answer(Path(folder), args.polls)
        backlog(Path(folder), args.batches)


if __name__ == "__main__":
    main()
