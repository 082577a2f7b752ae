"""The whole chain for one test: topics and a bucket of its own, the project's processes on them, and what must then hold."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, Self

import msgspec
from kafka import TopicPartition

from dailyread import kafka as clients
from dailyread.config import KafkaConfig, TopicNames
from dailyread.jsonlines import in_order, read_facts, write_fact
from metering.facts import AnyFact, Tick
from metering.gasday import GasDays
from storage.influx_client import Connection, InfluxClient
from storage.ledger_influx import InfluxLedgerStore
from storage.offset_index import OffsetIndex
from tests.integration.conftest import Start
from tests.integration.services import GivenKafka, KafkaBroker, Proc, free_port
from tests.integration.services.process import ROOT, log_tail
from tests.patience import patient

PARTITIONS = 3
SESSION_TIMEOUT_S = 6.0  # the least that a broker allows by default

Lines = list[bytes]


class Ends(NamedTuple):
    """Where a topic ends, and how far its readers say that they are done, by partition."""

    end: dict[int, int]
    done: dict[int, int]

    @property
    def lag(self) -> int:
        return sum(end - self.done.get(number, 0) for number, end in self.end.items())


class Cluster:
    """`dailyread` commands on one configuration. `time` is the configuration's `kafka.time`."""

    def __init__(
        self,
        kafka: KafkaBroker | GivenKafka,
        bucket: Connection,
        folder: Path,
        name: str,
        start: Start,
        time: Literal["broker", "simulated"],
    ) -> None:
        self.folder, self._start, self._bucket = folder, start, bucket
        self.config = folder / "stream.toml"
        self.topics = {role: f"{role}-{name}" for role in ("facts", "broadcast", "ledger", "dead_letter")}
        self.kafka = KafkaConfig(
            bootstrap_servers=(kafka.bootstrap,), partitions=PARTITIONS, topics=TopicNames(**self.topics), time=time
        )  # fmt: skip
        self.group = f"g-{name}"
        self.config.write_text(f"""
            state_dir = "{folder / "state"}"
            group = "{self.group}"
            session_timeout_s = {SESSION_TIMEOUT_S}
            tick_s = 15.0
            [kafka]
            bootstrap_servers = ["{kafka.bootstrap}"]
            partitions = {PARTITIONS}
            time = "{time}"
            [kafka.topics]
            {_toml(self.topics)}
            [influx]
            url = "{bucket.url}"
            org = "{bucket.org}"
            bucket = "{bucket.bucket}"
            security = "plaintext"
        """)
        self._env = {"DAILYREAD_INFLUX__TOKEN": bucket.token}
        self._workers: dict[str, Proc] = {}
        self._store: Proc | None = None
        self.run("topics", "--create")

    # The commands.

    def run(self, *words: str | Path, stdin: bytes = b"") -> bytes:
        """A command that ends by itself; its standard output. AssertionError where it fails."""
        command = [sys.executable, "-m", "dailyread", *map(str, words), "--config", str(self.config)]
        done = subprocess.run(command, input=stdin, capture_output=True, env=os.environ | self._env, cwd=ROOT, check=False)
        assert done.returncode == 0, f"dailyread {' '.join(command[3:])}: exit {done.returncode}\n{done.stderr.decode()}"
        return done.stdout

    def worker(self, instance: str = "1", env: Mapping[str, str] | None = None) -> Proc:
        """Start a worker of the stream job, or start it again: what it keeps is its own."""
        own = {
            "DAILYREAD_INSTANCE": instance,
            "DAILYREAD_STATE_DIR": str(self.folder / f"state-{instance}"),
            "DAILYREAD_WEB": f"127.0.0.1:{free_port()}",
        }
        started = self._start(
            "stream", "--config", self.config, log=self.folder / f"stream-{instance}.log", env=self._env | own | dict(env or {})
        )
        self._workers[instance] = started
        return started

    def kill_worker(self, instance: str) -> None:
        """Kill it with -9; nobody starts it again unless the test does."""
        self._workers.pop(instance).kill()

    def wait_shared(self, *instances: str, timeout_s: float = 60.0) -> None:
        """Wait until each of these workers has partitions."""
        wait_for(lambda: all(self._owned(instance) for instance in instances), f"{instances} share", timeout_s)

    def _owned(self, instance: str) -> list[str]:
        """The partitions that a worker works on, as it says itself."""
        said = re.findall(r"working on (.*)", self._workers[instance].output())
        return re.findall(r"facts\[(\d+)\]", said[-1]) if said else []

    def store(self, env: Mapping[str, str] | None = None) -> Proc:
        """Start what writes the ledger to InfluxDB."""
        self._store = self._start("store", "--config", self.config, env=self._env | dict(env or {}))
        return self._store

    def simulate(self, sites: Path, *words: str | Path) -> Proc:
        """Start simulated meters in virtual time; `gateway_config` is there when it returns."""
        simulate = self._start(
            "simulate", "--sites", sites, "--clock", "stepped", "--gateway-config", self.gateway_config, *words,
            env=self._env,
        )  # fmt: skip
        simulate.wait_for_log("^ready", timeout_s=60)
        return simulate

    def collect(self, since: object, env: Mapping[str, str] | None = None) -> Proc:
        """Start the gateway, or start it again; `env` has what the simulators did not write into its configuration."""
        return self._start("collect", "--config", self.gateway_config, "--since", str(since), env=env)

    @property
    def gateway_config(self) -> Path:
        return self.folder / "gateway.toml"

    @property
    def virtual_clock(self) -> str:
        """The address of the simulators' clock."""
        lines = self.gateway_config.read_text().splitlines()
        return str(next(json.loads(line.partition("=")[2]) for line in lines if line.startswith("clock =")))

    def submit(self, facts: Iterable[AnyFact]) -> None:
        """As a person would enter them: without the instant of receipt."""
        entered = [msgspec.structs.replace(fact, received_at=None) for fact in facts]
        self.run("submit", "-", stdin=b"".join(write_fact(fact) + b"\n" for fact in entered))

    def export(self) -> Lines:
        """All facts that are in the topics now."""
        return self.run("export").splitlines()

    # What must hold.

    def equals_replay(self, timeout_s: float = 60.0) -> Lines:
        """Give a last tick, wait until all is quiet, and hold InfluxDB's ledger to `replay` of the facts; returns these."""
        until_s = time.monotonic() + patient(timeout_s)
        self.submit([Tick(now=datetime.now(UTC))])
        while True:
            self.wait_done(until_s)
            before = self.ends()
            facts = self.export()
            self.wait_equal(replayed(facts), until_s)
            if self.ends() == before:
                return facts  # nothing came meanwhile: both speak of the same facts
            assert time.monotonic() < until_s, "facts come all the time; there is no last one to compare at"

    def wait_done(self, until_s: float) -> None:
        """Wait until the stream job has done all that is in the topics."""
        while sum(topic.lag for topic in self.ends()):
            self._go_on(until_s, f"the stream job is not done: {self.ends()}")

    def wait_equal(self, expected: Lines, until_s: float) -> None:
        """Wait until the ledger in InfluxDB is this one, record for record."""
        while (found := self.ledger()) != expected:
            self._go_on(until_s, f"InfluxDB is not what it must be: {difference(found, expected)}")

    def ledger(self) -> Lines:
        """The records in InfluxDB, in the order of `replay`."""
        index = OffsetIndex(self.folder / "of-this-test.sqlite")
        store = InfluxLedgerStore(InfluxClient(self._bucket), index, lambda *_: None, GasDays())
        try:
            return list(in_order(store.records()))
        finally:
            store.close()

    def ends(self) -> tuple[Ends, Ends]:
        """Of the broadcast and the facts topic. In this order: what the relay is done with is in the facts topic."""
        broadcast = self._ends(self.topics["broadcast"], 1, f"{self.group}-relay")
        return broadcast, self._ends(self.topics["facts"], PARTITIONS, self.group)

    def dead_letters(self) -> int:
        """How many there are."""
        return sum(self._ends(self.topics["dead_letter"], 1, "nobody").end.values())

    def _ends(self, topic: str, partitions: int, group: str) -> Ends:
        tps = [TopicPartition(topic, number) for number in range(partitions)]
        with clients.admin(self.kafka) as admin:
            done = admin.list_group_offsets({group: None})[group]
        consumer = clients.consumer(self.kafka)
        try:
            end = consumer.end_offsets(tps)
        finally:
            consumer.close()
        return Ends(
            {tp.partition: end[tp] for tp in tps}, {tp.partition: at.offset for tp, at in done.items() if tp.topic == topic}
        )

    def _go_on(self, until_s: float, trouble: str) -> None:
        """Pause; fail where it is too late. A worker that has ended is started again, as systemd would."""
        assert self._store is None or self._store.running, f"store has ended:\n{log_tail(self._store.log)}"
        assert time.monotonic() < until_s, trouble
        for instance, worker in self._workers.items():
            if not worker.running:
                self.worker(instance)
        time.sleep(0.2)

    def print_logs(self) -> None:
        """The logs' ends; pytest shows them where the test failed."""
        for log in sorted(self.folder.glob("*.log")):
            print(f"--- {log.name}\n{log_tail(log, 40)}")


class VirtualTime:
    """A test's own part in the simulators' clock: time stands still but while the test waits."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=120)
        self._lines = self._socket.makefile("rwb")
        self._ask({"join": "test"})

    def wait_until(self, instant: datetime) -> None:
        """Let time pass until an instant; returns when it is there."""
        self._ask({"wait": instant.isoformat()})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave: time goes on without us."""
        self._lines.close()
        self._socket.close()

    def _ask(self, request: dict[str, str]) -> None:
        self._lines.write(json.dumps(request).encode() + b"\n")
        self._lines.flush()
        answer = json.loads(self._lines.readline() or b'{"error": "the clock has gone"}')
        assert "error" not in answer, answer


def replayed(facts: Lines) -> Lines:
    """What `dailyread replay` says of the facts, but of performance: that is of many points, and no record on `ledger`."""
    command = [sys.executable, "-m", "dailyread", "replay", "-"]
    done = subprocess.run(command, input=b"\n".join(facts) + b"\n", capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [line for line in done.stdout.splitlines() if not line.startswith(b'{"record":"performance"')]


def decoded(lines: Lines) -> list[AnyFact]:
    """The facts of an export."""
    facts = list(read_facts(lines))
    return [fact for fact in facts if isinstance(fact, msgspec.Struct)]


def difference(found: Lines, expected: Lines, shown: int = 5) -> str:
    """How two ledgers differ, record by record, in words; empty where they do not."""
    both = set(found) & set(expected)
    missing = [line for line in expected if line not in both]
    surplus = [line for line in found if line not in both]
    if not missing and not surplus:
        return "" if found == expected else "the order, or how often a record is there"
    present = {_key(line): line for line in surplus}
    changed = [_changed(present.pop(_key(line)), line) for line in missing if _key(line) in present]
    absent = [line.decode() for line in missing if _key(line) not in {_key(line) for line in surplus}]
    return "\n".join([
        f"{len(changed)} of {len(expected)} records differ, {len(absent)} are missing, {len(present)} must not be there",
        *changed[:shown],
        *(f"missing: {line}" for line in absent[:shown]),
        *(f"must not be there: {line.decode()}" for line in list(present.values())[:shown]),
    ])  # fmt: skip


def _key(line: bytes) -> tuple[str, ...]:
    record = msgspec.json.decode(line)
    return tuple(str(record.get(name)) for name in ("record", "meter_point", "gas_day", "kind", "check", "rule", "at", "index"))


def _changed(found: bytes, expected: bytes) -> str:
    is_, should = msgspec.json.decode(found), msgspec.json.decode(expected)
    fields = [f"{name} is {is_[name]!r}, not {value!r}" for name, value in should.items() if is_[name] != value]
    return f"{should['record']} of {should['meter_point']}, {should['gas_day']}: {'; '.join(fields)}"


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    """Wait until the condition holds."""
    until_s = time.monotonic() + patient(timeout_s)
    while not condition():
        assert time.monotonic() < until_s, f"after {timeout_s} s still not: {what}"
        time.sleep(0.1)


def _toml(values: Mapping[str, str]) -> str:
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
