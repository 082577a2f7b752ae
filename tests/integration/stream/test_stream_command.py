"""`dailyread stream` as a process on the real rules: its ledger is what `replay` finds in the same facts."""

from __future__ import annotations

import random
import time
import urllib.request
from pathlib import Path

from kafka.admin import ConfigResource, ConfigResourceType

from dailyread import kafka as clients
from metering.facts import Tick
from metering.gasday import to_us
from metering.replay import replay
from metering.rules import Rules
from tests.integration.conftest import Start
from tests.integration.services import GivenKafka, KafkaBroker, Proc, free_port
from tests.integration.stream.job import PARTITIONS, Job
from tests.integration.stream.toy_cluster import wait_for
from tests.metering.scenarios import Scenario


def test_the_ledger_of_a_worker_that_is_killed_is_that_of_replay(job: Job, start: Start) -> None:
    seed = random.randrange(10**6)
    scenario = Scenario(random.Random(seed), points=8)
    facts = sorted(scenario.facts, key=lambda fact: fact.received_at)  # type: ignore[arg-type,return-value]
    latest = facts[-1].received_at
    assert latest is not None
    facts.append(Tick(now=latest, received_at=latest))
    for part in range(4):
        job.publish(facts[part * len(facts) // 4 : (part + 1) * len(facts) // 4])
        worker = start("stream", "--config", job.config)
        worker.wait_for_log("working on facts")
        time.sleep(random.uniform(0, 0.5))
        worker.kill()
    start("stream", "--config", job.config)
    wait_for(lambda: job.done(), "all is done", 90)
    expected = replay(facts, to_us(latest), Rules())
    found = job.ledger()
    differences = {key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)}
    assert not differences, f"seed {seed}: {[(found.get(key), expected.get(key)) for key in sorted(differences)[:3]]}"


def test_health_metrics_ticks_and_an_orderly_end(
    kafka: KafkaBroker | GivenKafka, tmp_path: Path, unique: str, start: Start
) -> None:
    job = Job(kafka.bootstrap, tmp_path, unique, "broker")
    job.make_topics()
    worker = start("stream", "--config", job.config)
    wait_for(lambda: job.health().get("state") == "running" and job.health()["relay"], "the worker runs")
    wait_for(lambda: job.done() and len(job.read(job.topics.facts)) >= 2 * PARTITIONS, "ticks are in every partition")
    assert "dailyread_stream_relay_owner 1.0" in metrics(job)
    # Between two ticks: with each of them there is a lag, for a moment.
    wait_for(lambda: 'dailyread_stream_lag_frames{partition="2"} 0.0' in metrics(job), "there is no lag")
    opened = [*tmp_path.rglob("states-*.lmdb/opened")]
    assert len(opened) == PARTITIONS
    assert all(each.read_bytes() for each in opened), "they are open"
    assert worker.terminate(5) == 0
    assert not any(each.read_bytes() for each in opened), "the states would outlive the end of the machine, too"


def metrics(job: Job) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{job.web}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def test_it_refuses_topics_that_keep_another_time(job: Job, start: Start) -> None:
    with clients.admin(job.kafka) as admin:
        wrong = ConfigResource(ConfigResourceType.TOPIC, job.topics.facts, {"message.timestamp.type": "LogAppendTime"})
        admin.alter_configs([wrong])
    worker = start("stream", "--config", job.config)
    assert worker.wait(20) == 1
    assert f"topic {job.topics.facts}: message.timestamp.type is LogAppendTime; allowed: CreateTime" in worker.output()


def test_it_waits_for_kafka_and_says_so_once(tmp_path: Path, unique: str, start: Start) -> None:
    job = Job(f"127.0.0.1:{free_port()}", tmp_path, unique)
    worker = start("stream", "--config", job.config)
    worker.wait_for_log("is away")
    time.sleep(5)
    assert worker.output().count("is away") == 1
    assert worker.terminate(5) == 0


def test_an_outage_of_the_broker_loses_nothing(own_kafka: KafkaBroker, tmp_path: Path, unique: str, start: Start) -> None:
    job = Job(own_kafka.bootstrap, tmp_path, unique)
    job.make_topics()
    scenario = Scenario(random.Random(4), points=6)
    facts = sorted(scenario.facts, key=lambda fact: fact.received_at)  # type: ignore[arg-type,return-value]
    latest = facts[-1].received_at
    assert latest is not None
    worker = start("stream", "--config", job.config)
    worker.wait_for_log("working on facts")
    job.publish(facts)
    own_kafka.stop()
    time.sleep(8)
    own_kafka.start()
    worker = _again(worker, start, job)
    job.publish([Tick(now=latest, received_at=latest)])
    wait_for(lambda: job.done(), "all is done", 90)
    assert job.ledger() == replay([*facts, Tick(now=latest, received_at=latest)], to_us(latest), Rules())


def _again(worker: Proc, start: Start, job: Job) -> Proc:
    """The worker, or where it has ended, as systemd would, another one."""
    time.sleep(3)
    return worker if worker.running else start("stream", "--config", job.config)
