"""What an operator counts on: a stop in time whatever waits, a start from nothing, bounded memory, and what metrics say."""

from __future__ import annotations

import random
import re
import shutil
import urllib.request
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from dailyread import kafka as clients
from metering.facts import AnyFact, MeterFitted, PollFailed, Readings, Registered, Tick
from metering.gasday import GasDays, to_datetime, to_us
from metering.ledger import Day
from metering.messages import decode_change
from metering.replay import replay
from metering.rules import Rules
from metering.wire import partition_of
from stream.metrics import DEFINITIONS
from tests.integration.conftest import Start
from tests.integration.services import KafkaBroker, Proc
from tests.integration.stream.job import PARTITIONS, Job
from tests.integration.stream.toy_cluster import wait_for
from tests.metering.scenarios import Scenario
from tests.patience import patient

DAYS = GasDays()
MIB = 1024 * 1024
FLOOD = 130


def metrics(job: Job) -> dict[str, float]:
    """What the worker's /metrics says, by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{job.web}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def total(found: Mapping[str, float], name: str) -> float:
    """The sum over all partitions or kinds."""
    return sum(value for key, value in found.items() if re.fullmatch(rf"dailyread_stream_{name}(\{{.*)?", key))


def silent(job: Job) -> set[str]:
    """The metrics that have no value yet."""
    told = {re.sub(r"(_total|_bucket|_count|_sum|_created)?(\{.*)?$", "", name) for name in metrics(job)}
    return {entry.name for entry in DEFINITIONS} - told


def position(job: Job, partition: int) -> float | None:
    """The first frame of a partition that is not done."""
    return metrics(job).get(f'dailyread_stream_position{{partition="{partition}"}}')


def memory(process: Proc, kind: str) -> int:
    """Bytes of memory that a process has (`VmRSS`), or had at most (`VmHWM`)."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(rf"^{kind}:\s*(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def starts(worker: Proc) -> list[int]:
    """Where each partition began, as the worker's log has it."""
    line = worker.wait_for_log(r"working on (facts.*)")[1]
    return [int(start) for start in re.findall(r"from (\d+)", line)]


def test_stopped_amid_a_backlog_it_ends_in_time_and_goes_on_from_the_changelog_without_its_disk(
    job: Job, start: Start, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    facts = sorted(Scenario(random.Random(seed), points=12, days=12).facts, key=lambda fact: fact.received_at)  # type: ignore[arg-type,return-value]
    latest = facts[-1].received_at
    assert latest is not None
    facts.append(Tick(now=latest, received_at=latest))
    job.publish(facts[: len(facts) // 3])
    worker = start("stream", "--config", job.config, log=tmp_path / "first.log")
    wait_for(job.done, "a third is done", 60)
    assert worker.terminate(10) == 0

    job.publish(facts[len(facts) // 3 :])
    worker = start("stream", "--config", job.config, log=tmp_path / "second.log")
    starts(worker)
    assert worker.terminate(10) == 0
    said = {(message.partition, message.offset) for message in job.messages(job.topics.ledger)}

    shutil.rmtree(tmp_path / "state")
    worker = start("stream", "--config", job.config, log=tmp_path / "third.log")
    begun = starts(worker)
    assert len(facts) // 4 < sum(begun) < len(facts) - 20, f"seed {seed}: it was stopped amid its work"
    worker.wait_for_log("frames again for the fact store")
    wait_for(job.done, "all is done", 90)
    assert job.ledger() == replay(facts, to_us(latest), Rules()), f"seed {seed}"
    again = [each for each in job.messages(job.topics.ledger) if (each.partition, each.offset) not in said]
    changes = [decode_change(message.value) for message in again]
    assert all(change.offset >= begun[change.partition] for change in changes), f"seed {seed}: states were not in the changelog"


def a_fortnight(point: str) -> list[AnyFact]:
    """A point that was known in time, with a Day's readings each Day."""
    first = date(2026, 3, 1)
    before = to_datetime(DAYS.start_us(first.toordinal())) - timedelta(hours=9)
    facts: list[AnyFact] = [
        Registered(
            meter_point=point, gas_day=first, users=("u",), ldz="SC", annual_quantity_kwh=Decimal(800_000), equipment="E",
            received_at=before,
        ),
        MeterFitted(
            meter_point=point, meter="m", at=to_datetime(DAYS.start_us(first.toordinal())), index=0, digits=8,
            m3_per_tick=Decimal("0.1"), conversion_factor=Decimal("1.02264"), q_max_m3_per_h=Decimal(160), received_at=before,
        ),
    ]  # fmt: skip
    for number in range(14):
        start = to_datetime(DAYS.start_us(first.toordinal() + number))
        facts.append(
            Readings(
                meter_point=point,
                meter="m",
                gas_day=first + timedelta(days=number),
                first_at=start,
                interval_s=86_400,
                index=(100 * number, 100 * number + 100),
                received_at=start + timedelta(hours=25),
            )
        )
    return facts


def test_close_outs_state_size_and_dead_letters_are_counted(job: Job, start: Start) -> None:
    facts = [fact for n in range(6) for fact in a_fortnight(f"P-{n}")]
    latest = facts[-1].received_at
    assert latest is not None
    failed = PollFailed(
        meter_point="P-1", meter="m", gas_day=date(2026, 3, 2), reason="no answer", attempts=3, received_at=latest
    )
    start("stream", "--config", job.config)
    wait_for(lambda: job.health().get("state") == "running", "it runs", 60)
    job.publish([*sorted(facts, key=lambda fact: fact.received_at), failed, Tick(now=latest, received_at=latest)])  # type: ignore[arg-type,return-value]
    wait_for(job.done, "all is done", 60)
    found = metrics(job)
    closed = [record for record in job.ledger().values() if isinstance(record, Day) and record.closed_out]
    assert total(found, "close_outs_total") == len(closed) > 0
    assert total(found, "frames_total") == len(facts) + 1 + PARTITIONS
    assert total(found, "records_total") == len(job.read(job.topics.ledger))
    assert total(found, "states_total") > 0
    assert found['dailyread_stream_edge_facts_total{kind="poll_failed"}'] == 1
    assert total(found, "relayed_total") == 1
    wait_for(lambda: total(metrics(job), "state_bytes") > 5_000, "the states' size is told")
    wait_for(lambda: total(metrics(job), "fact_store_bytes") > 20_000, "the fact store's size is told")
    assert found["dailyread_stream_batch_seconds_count"] > 0


def test_what_the_metrics_say_while_the_broker_does_not_answer(
    own_kafka: KafkaBroker, tmp_path: Path, unique: str, start: Start
) -> None:
    job = Job(own_kafka.bootstrap, tmp_path, unique, "broker")
    job.make_topics()
    start("stream", "--config", job.config)
    wait_for(lambda: bool(job.health()) and metrics(job)["dailyread_stream_ticks_total"] > 1, "it ticks", 60)
    own_kafka.pause()
    wait_for(lambda: metrics(job)["dailyread_stream_kafka_away"] == 1, "it says that Kafka is away")
    wait_for(lambda: metrics(job)["dailyread_stream_unacknowledged_seconds"] > 2, "it says that a write waits")
    own_kafka.resume()
    wait_for(lambda: metrics(job)["dailyread_stream_kafka_away"] == 0, "it says that Kafka is back", 60)
    wait_for(lambda: metrics(job)["dailyread_stream_unacknowledged_seconds"] < 1, "nothing waits any more", 60)
    wait_for(lambda: silent(job) <= {"dailyread_stream_edge_facts"}, "each has a value by now")
    found = metrics(job)
    assert found["dailyread_stream_rebalances_total"] >= 1
    assert found["dailyread_stream_owned_partitions"] == PARTITIONS
    assert found["dailyread_stream_relay_owner"] == 1


def test_a_flood_of_large_spoilt_frames_takes_no_more_memory_than_a_few_of_them(job: Job, start: Start) -> None:
    """120 MB wait on one partition, of which nothing can be used; another goes on."""
    point = next(f"P-{n}" for n in range(99) if partition_of(f"P-{n}", PARTITIONS) == 1)
    worker = start("stream", "--config", job.config)
    wait_for(lambda: job.health().get("state") == "running", "it runs", 60)
    before = memory(worker, "VmHWM")
    assert worker.terminate(10) == 0
    producer = clients.producer(job.kafka)
    for number in range(FLOOD):
        at_ms = 1_770_000_000_000 + number
        producer.send(job.topics.facts, bytes(900_000), partition=0, timestamp_ms=at_ms).get(timeout=patient(30))
    producer.close()
    job.publish(a_fortnight(point))
    worker = start("stream", "--config", job.config)
    wait_for(lambda: bool(job.health()) and position(job, 0) == FLOOD, "the flood is worked off", 60)
    wait_for(lambda: position(job, 1) == 16, "the other partition goes on")
    found = metrics(job)
    assert found["dailyread_stream_dead_letters_total"] == FLOOD
    assert FLOOD / 2 < found["dailyread_stream_dead_letters_past_cap_total"] < FLOOD
    assert job.health()["state"] == "poisoned"
    assert sum(map(len, job.read(job.topics.dead_letter))) < 20 * MIB
    grown = memory(worker, "VmHWM") - before
    assert grown < 64 * MIB, f"{grown / MIB:.0f} MiB more than without"
