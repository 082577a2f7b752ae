"""The contenders of `benchmarks.stream`, each in a process of its own: `python -m benchmarks.stream_contenders JOB.json`.

`ours` is the worker of the stream job. `quix` and `bytewax` are set up after their documentation, with their state, changelog
or recovery store, and commits as often as ours; points that are held stay in memory, as ours do. `faust` is a plain
Faust agent, `bare` a loop over confluent-kafka without any state that survives.

Prints a line of JSON: microseconds a meter-Day by the clock and of processor time, from the end of the warm-up until all is
acknowledged and committed, and how many states were made a meter-Day.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.stream_rules import CYCLES_EVERY, KINDS, RULES, Kind, arranged, by_point, is_readings, readings_in
from metering.wire import open_frame, read_entry

COMMIT_S = 1.0
LIMIT_S = 120.0


class Job(msgspec.Struct, frozen=True):
    """What a contender is told. `warm` and `total` are meter-Days; `messages` how many messages there are in all."""

    contender: str
    kind: str
    bootstrap: str
    facts: str
    ledger: str
    broadcast: str
    dead_letter: str
    group: str
    partitions: int
    folder: str
    warm: int
    total: int
    messages: int
    profile: bool = False


class Said(msgspec.Struct, frozen=True):
    """What a contender says."""

    wall_us: float
    cpu_us: float
    saves: float


class Meter:
    """Counts meter-Days, and what time and processor time they take."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.seen = self.saves = 0
        self._mark: tuple[float, float, int, int] | None = None

    def count(self, days: int) -> bool:
        """So many meter-Days more; whether they were the last."""
        if self._mark is None and self.seen >= self._job.warm:
            self.mark()
        self.seen += days
        return self.seen >= self._job.total

    def mark(self) -> None:
        """The warm-up is over."""
        self._mark = time.perf_counter(), time.process_time(), self.seen, self.saves

    def say(self) -> None:
        """All is committed: tell."""
        assert self._mark is not None
        assert self.seen == self._job.total, f"{self.seen} meter-Days of {self._job.total}"
        wall_s, cpu_s, seen, saves = self._mark
        days = self.seen - seen
        said = Said(
            (time.perf_counter() - wall_s) / days * 1e6, (time.process_time() - cpu_s) / days * 1e6, (self.saves - saves) / days
        )
        print(msgspec.json.encode(said).decode(), flush=True)


def ours(job: Job, meter: Meter) -> None:
    """The worker of the stream job, with the processor of the rules or a toy one."""
    from dailyread.sdnotify import Notifier
    from stream.metrics import METRICS
    from stream.settings import Topics, WorkerSettings
    from stream.worker import run_worker

    settings = WorkerSettings(
        kafka={"bootstrap_servers": [job.bootstrap]}, topics=Topics(job.facts, job.broadcast, job.ledger, job.dead_letter),
        partitions=job.partitions, group=job.group, instance=job.group, state_dir=Path(job.folder), time="simulated",
        commit_interval_s=COMMIT_S,
    )  # fmt: skip

    def make(number: int, states: Mapping[str, bytes]) -> Any:
        opened = {"toy": toy_processor, "whole": whole_processor}[job.kind](settings, number, states)
        return opened._replace(processor=Counting(opened.processor, meter))

    def watch() -> None:
        while sum(METRICS.frames.labels(n)._value.get() for n in range(job.partitions)) < job.messages:
            time.sleep(0.02)
        meter.saves = job.total - job.warm  # but for the few points of which several Days are done together
        meter.say()
        if job.profile:
            time.sleep(1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    run_worker(settings, make, Notifier())


class Counting:
    """A processor whose frames are counted."""

    def __init__(self, processor: Any, meter: Meter) -> None:
        self._processor, self._meter = processor, meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def follow(self, frame: Any) -> Iterator[Any]:
        self._meter.count(sum(is_readings(entry.packed) for entry in frame.entries))
        return self._processor.follow(frame)  # type: ignore[no-any-return]


def whole_processor(settings: Any, number: int, states: Mapping[str, bytes]) -> Any:
    """The processor of `dailyread stream`."""
    from dailyread.commands.stream import open_partition

    return open_partition(settings, RULES, "rules", number, states)


def toy_processor(settings: Any, number: int, states: Mapping[str, bytes]) -> Any:
    """The processor of the toy rules, with the fact store that a processor has."""
    from storage.fact_store import fact_store_path
    from storage.fact_store_rocksdb import RocksFactStore
    from stream.opening import Opened

    store = RocksFactStore(fact_store_path(settings.state_dir, number))
    return Opened(ToyProcessor(KINDS["toy"](), store), store)  # type: ignore[arg-type]


class ToyRecord(msgspec.Struct, frozen=True):
    """A toy record, as `encode_change` wants one."""

    name: str
    value: bytes

    def key(self) -> tuple[str, ...]:
        return (self.name,)


class ToyProcessor:
    """The toy rules as a processor of `stream/partition.py`."""

    rests_on = 0
    behind = None

    def __init__(self, kind: Kind, facts: Any) -> None:
        self._kind, self._facts = kind, facts
        self._points: dict[str, Any] = {}
        self.told: Counter[str] = Counter()
        self.closed_out = 0

    def remake(self, offset: int) -> Iterator[Any]:
        yield from ()

    def read(self, offset: int, timestamp: datetime, value: bytes) -> Any:
        from stream.processor import Facts

        return Facts(offset, [read_entry(packed, timestamp) for packed in open_frame(value).entries], [])

    def keep(self, frames: Sequence[Any]) -> None:
        self._facts.append_all([(frame.offset, frame.entries) for frame in frames])

    def follow(self, frame: Any) -> Iterator[Any]:
        from stream.processor import Slice

        offset, found = frame.offset, arranged(frame.entries)
        states, changes = {}, []
        for meter_point, entries in found.items():
            point = self._points.get(meter_point)
            if point is None:
                point = self._points[meter_point] = self._kind.load(meter_point, None)
            changes += [ToyRecord(key.decode(), value) for key, value in self._kind.apply(point, entries, offset)]
            states[meter_point] = offset.to_bytes(8, "big") + self._kind.save(point)
        yield Slice(changes, states, [])  # type: ignore[arg-type]


def quix(job: Job, meter: Meter) -> None:
    """Quix Streams: state in RocksDB with a changelog topic. A message's key is what its state is kept under."""
    import quixstreams
    from quixstreams import Application, message_context
    from quixstreams.models import Serializer

    class Value(Serializer):
        def __call__(self, record: Any, ctx: Any) -> bytes:
            return record[1]  # type: ignore[no-any-return]

    kind, points = KINDS[job.kind](), {}
    app = Application(
        broker_address=job.bootstrap, consumer_group=job.group, auto_offset_reset="earliest", state_dir=job.folder,
        commit_interval=COMMIT_S, loglevel="WARNING", processing_guarantee="at-least-once", auto_create_topics=True,
    )  # fmt: skip
    assert quixstreams.__version__ == "3.28.1"
    ledger = app.topic(job.ledger, value_serializer=Value(), key_serializer="bytes")

    def work(value: bytes, _key: Any, timestamp: int, _headers: Any, state: Any) -> list[tuple[bytes, bytes]]:
        found = by_point(value, timestamp)
        is_last = meter.count(readings_in(found))
        records: list[tuple[bytes, bytes]] = []
        offset = message_context().offset or 0
        for meter_point, entries in found.items():
            point = points.get(meter_point)
            if point is None:
                point = points[meter_point] = kind.load(meter_point, state.get_bytes(meter_point))
            records += kind.apply(point, entries, offset)
            state.set_bytes(meter_point, kind.save(point))
            meter.saves += 1
        if is_last:
            app.stop()
        return records

    frames = app.dataframe(app.topic(job.facts, value_deserializer="bytes", key_deserializer="bytes"))
    frames = frames.apply(work, stateful=True, expand=True, metadata=True)
    frames.to_topic(ledger, key=lambda record: record[0])
    app.run()
    meter.say()


def bytewax(job: Job, meter: Meter) -> None:
    """Bytewax: states in memory, those that changed in its recovery store (SQLite) at each epoch's end."""
    import bytewax.operators as op
    from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
    from bytewax.dataflow import Dataflow
    from bytewax.recovery import RecoveryConfig, init_db_dir
    from bytewax.testing import cluster_main

    kind = KINDS[job.kind]()

    class Logic(op.StatefulBatchLogic):  # type: ignore[type-arg]
        def __init__(self, state: Any) -> None:
            self._state, self._point = state, None

        def on_batch(self, batch: list[Any]) -> tuple[list[Any], bool]:
            records = []
            for meter_point, entries, offset in batch:
                if self._point is None:
                    self._point = kind.load(meter_point, self._state)
                records += kind.apply(self._point, entries, offset)
            return [KafkaSinkMessage(key, value) for key, value in records], False

        def snapshot(self) -> bytes:
            meter.saves += 1
            return kind.save(self._point)

    def split(batch: list[Any]) -> Iterator[tuple[str, Any]]:
        for message in batch:
            found = by_point(message.value, message.timestamp[1])
            meter.count(readings_in(found))
            for meter_point, entries in found.items():
                yield meter_point, (meter_point, entries, message.offset)

    flow = Dataflow("readings")
    frames = op.input("facts", flow, KafkaSource([job.bootstrap], [job.facts], tail=False))
    points = op.flat_map_batch("split", frames, split)
    records = op.stateful_batch("rules", points, Logic)
    op.output("ledger", op.map("values", records, lambda each: each[1]), KafkaSink([job.bootstrap], job.ledger))
    init_db_dir(Path(job.folder), 1)
    cluster_main(flow, [], 0, epoch_interval=timedelta(seconds=COMMIT_S), recovery_config=RecoveryConfig(job.folder))
    meter.say()


def faust(job: Job, meter: Meter) -> None:
    """A plain Faust agent: a table write and a record sent for each message."""
    import faust as library

    kind, points = KINDS[job.kind](), {}
    app = library.App(
        job.group, broker=f"kafka://{job.bootstrap}", store="rocksdb://", datadir=job.folder, web_enabled=False,
        topic_partitions=job.partitions, consumer_auto_offset_reset="earliest", broker_commit_interval=COMMIT_S,
        autodiscover=False, topic_disable_leader=True, key_serializer="raw", value_serializer="raw",
    )  # fmt: skip
    raw = {"value_type": bytes, "value_serializer": "raw", "key_type": bytes, "key_serializer": "raw"}
    facts, ledger = app.topic(job.facts, **raw), app.topic(job.ledger, **raw)
    table = app.Table("states", key_type=bytes, value_type=bytes)

    @app.agent(facts)  # type: ignore[untyped-decorator]
    async def work(stream: Any) -> None:
        async for event in stream.events():
            found = by_point(event.value, round(event.message.timestamp * 1000))
            is_last = meter.count(readings_in(found))
            for meter_point, entries in found.items():
                point = points.get(meter_point)
                if point is None:
                    point = points[meter_point] = kind.load(meter_point, None)
                for key, value in kind.apply(point, entries, event.message.offset):
                    ledger.send_soon(key=key, value=value)
                table[meter_point.encode()] = kind.save(point)
                meter.saves += 1
            if is_last:
                await app.producer.flush()
                meter.say()
                os._exit(0)

    library.Worker(app, loglevel="ERROR", console_port=None, redirect_stdouts=False).execute_from_commandline()


def bare(job: Job, meter: Meter) -> None:
    """A loop over confluent-kafka: states in a dictionary, records sent, offsets committed each second."""
    from confluent_kafka import Consumer, Producer

    kind, points, states = KINDS[job.kind](), {}, {}
    servers = {"bootstrap.servers": job.bootstrap}
    consumer = Consumer(servers | {"group.id": job.group, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    producer = Producer(servers | {"queue.buffering.max.messages": 1_000_000, "enable.idempotence": True})
    consumer.subscribe([job.facts])
    committed_s, is_last = time.monotonic(), False
    while not is_last:
        for message in consumer.consume(500, 1.0):
            found = by_point(message.value(), message.timestamp()[1])
            is_last = meter.count(readings_in(found))
            for meter_point, entries in found.items():
                point = points.get(meter_point)
                if point is None:
                    point = points[meter_point] = kind.load(meter_point, None)
                for key, value in kind.apply(point, entries, message.offset()):
                    producer.produce(job.ledger, value, key)
                states[meter_point] = kind.save(point)
                meter.saves += 1
        producer.poll(0)
        if is_last or time.monotonic() > committed_s + COMMIT_S:
            producer.flush()
            consumer.commit(asynchronous=False)
            committed_s = time.monotonic()
    meter.say()


CONTENDERS: dict[str, Callable[[Job, Meter], None]] = {
    "ours": ours, "quix": quix, "bytewax": bytewax, "faust": faust, "bare": bare,
}  # fmt: skip


def main() -> None:
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    limit = threading.Timer(LIMIT_S, lambda: os._exit(3))
    limit.daemon = True
    limit.start()
    gc.set_threshold(*CYCLES_EVERY)  # for all, as the rules of all hold as many objects
    CONTENDERS[job.contender](job, Meter(job))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
