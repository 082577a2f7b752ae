"""The chain of one round: its topics, its bucket, its meters, its processes, and what is done to each of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

from metering.facts import AnyFact, CalorificValue
from metering.gasday import to_datetime
from storage.influx_client import Connection
from tests.chaos.nursery import ForkedProc, run_forked
from tests.chaos.outbox_witness import place_witness
from tests.chaos.plan import (
    BROKER,
    DISKS,
    GATEWAY,
    INFLUXDB,
    KINDS,
    STORE,
    STORE_TO_INFLUXDB,
    WORKERS,
    Fault,
    Plan,
)
from tests.chaos.processes import Disk, Kept, disk, kept_running
from tests.chaos.services import Services, remove_topics
from tests.integration.cluster import Cluster, VirtualTime, wait_for
from tests.integration.services import Proc
from tests.integration.storage.buckets import fresh_bucket
from tests.integration.truth import GAS_DAYS, mistaken, some_sites
from tests.patience import patient

DISK_MIB = {GATEWAY: 16, STORE: 16} | dict.fromkeys(WORKERS, 64)
DELAY_S = 0.15
GATEWAY_NAME = "gateway-1"  # as the simulators call it in the configuration that they write


class KeptCluster(Cluster):
    """A cluster whose processes are forked, and kept running by somebody else."""

    def run(self, *words: str | Path, stdin: bytes = b"") -> bytes:
        """A command that ends by itself; its standard output. AssertionError where it fails."""
        code, written, said = run_forked([*map(str, words), "--config", str(self.config)], stdin, self._env)
        assert code == 0, f"dailyread {' '.join(map(str, words))}: exit {code}\n{said}"
        return written

    def _go_on(self, until_s: float, trouble: str) -> None:
        assert time.monotonic() < until_s, trouble
        time.sleep(0.3)


class Chain:
    """All of a round's processes, those of `services` too, by the names of `plan`."""

    def __init__(self, services: Services, plan: Plan, bucket: Connection, folder: Path, name: str) -> None:
        self.folder, self.plan = folder, plan
        self._services, self._bucket = services, bucket
        self.cluster = KeptCluster(services.broker, bucket, folder, name, self._start, time="broker")
        self.sites = some_sites(folder / "sites.toml", plan.days, plan.seed)
        self.disks: dict[str, Disk] = {}
        self.entered: list[AnyFact] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the block runs all processes do, but as faults have it; the meters' time stands still."""
        with ExitStack() as stack:
            for name in DISKS:
                self.disks[name] = stack.enter_context(disk(self._state_dir(name), DISK_MIB[name]))
            place_witness(self.outbox, GATEWAY_NAME)
            self.simulate = self.cluster.simulate(self.folder / "sites.toml", "--collectors", "2")
            stack.callback(self.simulate.end)
            self.processes = self._processes()
            ours = [kept for name, kept in self.processes.items() if name not in (BROKER, INFLUXDB)]
            stack.enter_context(kept_running(ours))
            self.time = stack.enter_context(VirtualTime(self.cluster.virtual_clock))
            yield

    @property
    def outbox(self) -> Path:
        """The gateway's."""
        return self._state_dir(GATEWAY) / "outbox.sqlite"

    def begin(self, fault: Fault) -> None:
        """Let it happen."""
        kept, target = self.processes.get(fault.target), fault.target
        match fault.kind:
            case "kill" if kept:
                kept.kill()
            case "lose the disk of" if kept:
                kept.kill()
                self.disks[target].lose()
            case "stop" if kept:
                kept.stop()
            case "add" if kept:
                kept.release()
            case "pause" if kept:
                kept.pause()
            case "fill the disk of":
                self.disks[target].fill()
            case "cut":
                self._services.links[target].cut()
            case "silence":
                self._services.links[target].silence()
            case "lose the answers of":
                self._services.links[target].lose_answers()
            case "delay":
                self._services.links[target].delay(DELAY_S)

    def end(self, fault: Fault) -> None:
        """Let it be over."""
        of, kept = KINDS[fault.kind].of, self.processes.get(fault.target)
        if of == "disk":
            self.disks[fault.target].free()
        elif of == "link":
            self._services.links[fault.target].mend()
        elif kept and fault.kind == "pause":
            kept.resume()
        elif kept and fault.kind == "add":
            kept.kill()
        elif kept:
            kept.release()

    def enter(self, part: int, parts: int) -> None:
        """What people enter, in so many parts; again until the command says that Kafka has it."""
        facts = self.sites.reference_facts()
        values = [fact for fact in facts if isinstance(fact, CalorificValue)][part::parts]
        others = [mistaken(fact) for fact in facts if not isinstance(fact, CalorificValue)] if part == 0 else []
        corrected = [fact for fact in facts if mistaken(fact) != fact] if part == parts - 1 else []
        self._submit([*others, *values, *corrected])

    def pass_days(self, from_: int, to: int, day_s: float) -> None:
        """Let the Gas Days of these numbers end, one after the other, and be read."""
        for day in self.sites.gas_days()[from_:to]:
            self.time.wait_until(to_datetime(GAS_DAYS.end_us(day.toordinal())) + timedelta(minutes=30))
            time.sleep(day_s)

    def wait_collecting(self) -> None:
        """Wait until the gateway takes part in virtual time."""
        wait_for(self._collects, "the gateway takes part", 60)

    def end_of_time(self) -> None:
        """Let virtual time end; returns when Kafka has all of the outbox."""
        gateway = self.processes[GATEWAY]
        gateway.retire()
        self.time.__exit__()
        assert self.simulate.wait(60) == 0
        assert gateway.process is not None
        assert gateway.process.wait(60) == 0, "the gateway did not end as it should"

    def remove_topics(self) -> None:
        """Leave nothing in the broker."""
        remove_topics(self.cluster.kafka, self.cluster.group)

    def _submit(self, facts: list[AnyFact]) -> None:
        until_s = time.monotonic() + patient(60)
        while True:
            try:
                self.cluster.submit(facts)
            except AssertionError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(0.5)
            else:
                self.entered += facts
                return

    def _collects(self) -> bool:
        process = self.processes[GATEWAY].process
        return isinstance(process, Proc) and process.running and f"gateway {GATEWAY_NAME}: meters" in process.output()

    def _processes(self) -> dict[str, Kept]:
        broker, influxdb = self._services.broker, self._services.influxdb
        kept = [
            Kept(BROKER, broker.start, process=broker),
            Kept(INFLUXDB, influxdb.start, process=influxdb),
            Kept(STORE, lambda: self.cluster.store(self._store_env())),
            Kept(GATEWAY, lambda: self.cluster.collect(self.sites.first_day, self._gateway_env())),
        ]
        for name in WORKERS:
            instance = name.removeprefix("worker-")
            # The names are bound now, or all would be the last one's.
            start = lambda name=name, instance=instance: self.cluster.worker(instance, self._kafka_env(name))  # noqa: E731
            kept.append(Kept(name, start, held=name not in self.plan.workers))
        return {each.name: each for each in kept}

    def _kafka_env(self, name: str) -> dict[str, str]:
        """By its link, where the plan has it in for that; otherwise straight."""
        port = self._services.ports[name] if self._is_linked(name) else self._services.broker.port
        return {"DAILYREAD_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"}

    def _store_env(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self._services.ports[STORE_TO_INFLUXDB]}"
        return self._kafka_env(STORE) | ({"DAILYREAD_INFLUX__URL": url} if self._is_linked(STORE_TO_INFLUXDB) else {})

    def _gateway_env(self) -> dict[str, str]:
        topics = {f"DAILYREAD_KAFKA__TOPICS__{role.upper()}": topic for role, topic in self.cluster.topics.items()}
        kafka = {
            "DAILYREAD_KAFKA__PARTITIONS": str(self.cluster.kafka.partitions),
            "DAILYREAD_KAFKA__TIME": "broker",
        }
        return topics | kafka | self._kafka_env(GATEWAY)

    def _is_linked(self, name: str) -> bool:
        return any(KINDS[fault.kind].of == "link" and fault.target == name for fault in self.plan.faults)

    def _state_dir(self, name: str) -> Path:
        names = {GATEWAY: "gateway.state", STORE: "state"} | {name: name.replace("worker", "state") for name in WORKERS}
        return self.folder / names[name]

    def _start(self, *words: str | Path, log: Path | None = None, env: Mapping[str, str] | None = None) -> Proc:
        return ForkedProc(*words, log=log or self.folder / f"{words[0]}.log", env=env)


@contextmanager
def chain_of(services: Services, plan: Plan, folder: Path, name: str) -> Iterator[Chain]:
    """The chain, its processes running; where all goes well no topic of it is left behind."""
    with fresh_bucket(services.influxdb) as bucket:
        chain = Chain(services, plan, bucket, folder, name)
        with chain.running():
            yield chain
        chain.remove_topics()
