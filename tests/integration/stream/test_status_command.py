"""`dailyread status` against a real broker, a real worker, a real outbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from collectors.outbox import Outbox
from metering.facts import GatewayStatus
from tests.integration.conftest import Start
from tests.integration.services import GivenKafka, KafkaBroker, free_port
from tests.integration.stream.job import Job
from tests.integration.stream.toy_cluster import wait_for

NOW = datetime(2026, 1, 31, 5, tzinfo=UTC)
STATUS = GatewayStatus(gateway="gateway-7", backlog=12, clock_synchronised=False, version="1", received_at=NOW)
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
    assert found["gateways"][0]["note"] == ("the collector runs" if collector_runs else None)
    if collector_runs:
        outbox.close()
