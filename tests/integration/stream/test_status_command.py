"""`dailyread status` against a real broker, a real worker, a real outbox."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors.outbox import Outbox
from metering.facts import Alarm, AnyFact, GatewayStatus, GivenUp, IntervalSet, PollFailed
from tests.integration.conftest import Start
from tests.integration.services import GivenKafka, KafkaBroker, free_port
from tests.integration.stream.job import Job
from tests.integration.stream.toy_cluster import wait_for
from tests.patience import patient

NOW = datetime(2026, 1, 31, 5, tzinfo=UTC)
STATUS = GatewayStatus(gateway="gateway-7", backlog=12, clock_synchronised=False, version="1", received_at=NOW)
DAY = date(2026, 1, 30)
EDGE: list[AnyFact] = [
    PollFailed(meter_point="MP-1", meter="M-1", gas_day=DAY, reason="the connection was closed", attempts=1),
    PollFailed(meter_point="MP-1", meter="M-1", gas_day=DAY, reason="no answer", attempts=3),
    GivenUp(meter_point="MP-2", meter="M-2", gas_day=DAY, readings=24, reason="its cap: 100 bytes"),
    IntervalSet(meter_point="MP-3", interval_s=360, confirmed=True),
    Alarm(meter_point="MP-4", meter="M-4", at=NOW, kind="tamper"),
    Alarm(meter_point="MP-5", meter="M-5", at=NOW, kind="other", detail="its clock is 90.0 s ahead; allowed: 60 s"),
]
METER = """
[[meters]]
meter_point = "MP"
meter = "M"
protocol = "modbus"
address = "tcp://127.0.0.1:1"
device = 1
map = "hourly_log"
"""


def status(config: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "dailyread", "status", "--config", str(config), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"}, check=False)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def as_json(config: Path) -> dict[str, Any]:
    return json.loads(status(config, "--json")[1])  # type: ignore[no-any-return]


def test_what_runs_what_waits_and_who_said_what(job: Job, start: Start) -> None:
    job.publish([STATUS, STATUS])
    found = as_json(job.config)
    assert found["troubles"][0] == f"group {job.group}: nobody is in it; `dailyread stream` does not run"
    assert found["groups"][1]["lag"] == {"0": 2}
    start("stream", "--config", job.config)
    wait_for(lambda: job.health().get("state") == "running" and job.done(), "the worker is done")
    wait_for(lambda: sum(as_json(job.config)["groups"][0]["lag"].values()) == 0, "all is committed")
    code, text = status(job.config)
    assert code == 0, text
    assert "worker 1: running; partitions 0, 1, 2" in text
    assert "its clock is not synchronised" in text
    assert "gateway-7" in text
    assert "all runs" in text
    assert "Fri 30 Jan 2026: what is missing is not known: there is no `[influx]`" in text


def test_what_gateways_tell_beside_readings_reaches_the_worker_its_metrics_and_the_status(job: Job, start: Start) -> None:
    at = [NOW + timedelta(minutes=n) for n in range(len(EDGE))]
    old = Alarm(meter_point="MP-6", meter="M-6", at=NOW, kind="tamper", received_at=NOW - timedelta(days=3))
    job.publish([old, STATUS, *(msgspec.structs.replace(fact, received_at=when) for fact, when in zip(EDGE, at, strict=True))])
    start("stream", "--config", job.config)
    wait_for(lambda: job.health().get("state") == "running" and job.done(), "the worker is done")
    told = {each["kind"]: each for each in as_json(job.config)["edge"]}
    assert {kind: (each["facts"], each["points"]) for kind, each in told.items()} == {
        "alarm": (2, 2), "given_up": (1, 1), "interval_set": (1, 1), "poll_failed": (2, 1)
    }  # fmt: skip
    assert told["alarm"]["latest"] == "MP-5: meter M-5: its clock is 90.0 s ahead; allowed: 60 s"
    assert told["poll_failed"]["latest"] == "MP-1: meter M-1, 2026-01-30: no answer"
    text = status(job.config)[1]
    assert "MP-2: meter M-2, 2026-01-30: 24 readings; its cap: 100 bytes" in text
    assert "MP-3: 360 s, confirmed" in text
    counted = {"alarm": 3, "given_up": 1, "interval_set": 1, "poll_failed": 2, "gateway_status": 1}
    wait_for(lambda: metrics(job) == counted, "all is counted")


def metrics(job: Job) -> dict[str, int]:
    """What the worker has counted of the edge's facts, by kind."""
    with urllib.request.urlopen(f"http://127.0.0.1:{job.web}/metrics", timeout=patient(2)) as answer:
        text = answer.read().decode()
    found = re.findall(r'^dailyread_stream_edge_facts_total\{kind="(\w+)"\} (\d+)', text, re.MULTILINE)
    return {kind: int(count) for kind, count in found}


def test_no_broker_and_no_worker_are_troubles(tmp_path: Path, unique: str) -> None:
    job = Job(f"127.0.0.1:{free_port()}", tmp_path, unique)
    code, text = status(job.config)
    assert code == 1
    assert "! kafka at 127.0.0.1:" in text
    assert f"! no worker answers at http://127.0.0.1:{job.web}/health" in text


@pytest.mark.parametrize("collector_runs", [False, True])
def test_a_gateway_by_its_outbox(kafka: KafkaBroker | GivenKafka, tmp_path: Path, unique: str, collector_runs: bool) -> None:
    job = Job(kafka.bootstrap, tmp_path, unique)
    job.make_topics()
    job.publish([STATUS])
    config = tmp_path / "gateway.toml"
    kafka_table = job.config.read_text().partition("[kafka]")[2]
    config.write_text(f'gateway = "gateway-7"\nstate_dir = "gateway"\n{METER}[kafka]{kafka_table}')
    outbox = Outbox(tmp_path / "gateway" / "outbox.sqlite", "gateway-7")
    outbox.put([STATUS], NOW)
    if not collector_runs:
        outbox.close()
    found = as_json(config)
    assert ("the collector does not run" in found["troubles"]) is not collector_runs
    assert [each["backlog"] for each in found["gateways"]] == [12 if collector_runs else 1]
    said = "the collector runs; its clock is not synchronised"
    assert found["gateways"][0]["note"] == (said if collector_runs else None)
    if collector_runs:
        outbox.close()
