"""What goes away is said once, what is back is said once, and nothing is busy meanwhile: a gateway as its own process."""

from __future__ import annotations

import os
import re
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dailyread import kafka as clients
from dailyread.config import KafkaConfig
from tests.integration.conftest import Start
from tests.integration.services import KafkaBroker, Proc, free_port
from tests.integration.stream.toy_cluster import wait_for

AWAY_S = 15.0
SITES = """
first_day = {day}
days = 2
[ldz]
NW = "39.1"
[[sites]]
name = "here"
protocol = "modbus_tcp"
meter_point = "HERE"
meter = "M-1"
equipment = "E-1"
users = ["Alder"]
ldz = "NW"
registered = {day}
annual_quantity_kwh = "20000000"
profile = "office"
seed = 1
fitted_at = {day}T00:00:00Z
digits = 8
m3_per_tick = "0.1"
start_index = 1000
conversion_factor = "1.02264"
q_max_m3_per_h = "900"
address = "127.0.0.1:{here}"
"""
GATEWAY = """
gateway = "gateway-1"
state_dir = "state"
[kafka]
bootstrap_servers = ["{bootstrap}"]
partitions = 2
[polling]
timeout_s = 10.0
retry_first_s = 1.0
retry_max_s = 1.0
backfill_days = 0
within_day_s = 0
[[meters]]
meter_point = "HERE"
meter = "M-1"
protocol = "modbus"
address = "tcp://127.0.0.1:{here}"
device = 1
map = "hourly_log"
[[meters]]
meter_point = "GONE"
meter = "M-2"
protocol = "modbus"
address = "tcp://127.0.0.1:{gone}"
device = 1
map = "hourly_log"
[[meters]]
meter_point = "UNPLUGGED"
meter = "M-3"
protocol = "iec62056_21"
address = "serial:{folder}/ttyUSB0"
map = "hourly_profile"
"""


def test_what_goes_away_is_said_once_and_nothing_is_busy_meanwhile(
    own_kafka: KafkaBroker, start: Start, tmp_path: Path
) -> None:
    here, gone = free_port(), free_port()
    config = KafkaConfig(bootstrap_servers=(own_kafka.bootstrap,), partitions=2)
    with clients.admin(config) as admin:
        clients.create_topics(admin, clients.wanted_topics(config))
    (tmp_path / "sites.toml").write_text(SITES.format(day=(datetime.now(UTC) - timedelta(days=3)).date(), here=here))
    path = tmp_path / "gateway.toml"
    path.write_text(GATEWAY.format(bootstrap=own_kafka.bootstrap, here=here, gone=gone, folder=tmp_path))

    page = f"127.0.0.1:{free_port()}"
    collect = start("collect", "--config", path, "--metrics", page)
    collect.wait_for_log("UNPLUGGED: .* does not answer")
    own_kafka.stop()
    # A meter that is away is asked every few seconds, and each time there is a fact to publish.
    collect.wait_for_log("nothing goes to Kafka", timeout_s=60)
    used_s, began_s = processor_s(collect), time.monotonic()
    time.sleep(AWAY_S)
    wait_for(lambda: metrics(page)["facts_waiting"] > 3, "the meters were asked some more times")
    share = (processor_s(collect) - used_s) / (time.monotonic() - began_s)
    shown = metrics(page)
    assert shown["meters_away"] == 3
    assert shown["kafka_away"] == 1
    assert shown["polls_total"] == shown["polls_failed_total"] > 3
    own_kafka.start()
    collect.wait_for_log("Kafka takes facts again", timeout_s=60)
    start("simulate", "--sites", tmp_path / "sites.toml").wait_for_log("ready")
    collect.wait_for_log("HERE: .* answers again", timeout_s=60)
    wait_for(lambda: metrics(page)["facts_acknowledged_total"] > 3, "what waited is with Kafka")
    shown = metrics(page)
    assert (shown["meters_away"], shown["kafka_away"], shown["disk_full"]) == (2, 0, 0)
    assert 24 <= shown["readings_total"] <= 26  # a Gas Day's hours, and one
    assert collect.terminate() == 0

    said = [re.sub(r"^\S+ \S+ ", "", line) for line in collect.output().splitlines()]
    assert said.pop(0) == (
        "INFO dailyread.commands.collect: gateway gateway-1: meters: 3 asked; 0 facts wait on disk for Kafka"
    )
    assert sorted(said[:3]) == [
        f"WARNING collectors.gateway: GONE: meter M-2 at tcp://127.0.0.1:{gone} does not answer:"
        " no connection: Connection refused",
        f"WARNING collectors.gateway: HERE: meter M-1 at tcp://127.0.0.1:{here} does not answer:"
        " no connection: Connection refused",
        f"WARNING collectors.gateway: UNPLUGGED: meter M-3 at serial:{tmp_path}/ttyUSB0 does not answer:"
        f" line {tmp_path}/ttyUSB0: No such file or directory",
    ]
    (away, back, answers) = [re.sub("[0-9]+ ((facts )?wait)", r"N \1", line) for line in said[3:]]
    assert away.startswith("WARNING collectors.publisher: nothing goes to Kafka (")
    assert away.endswith(
        (
            f"({own_kafka.bootstrap} (no TLS, no password): connection refused); N facts wait on disk",
            "(KafkaTimeoutError: Failed to update metadata after 5.0 secs.); N facts wait on disk",  # a producer's first send
        )
    )
    assert back == "INFO collectors.publisher: Kafka takes facts again; N wait on disk"
    assert answers == "INFO collectors.gateway: HERE: meter M-1 answers again; 0 Days to fetch"
    assert share < 0.05, f"{share:.1%} of a processor while Kafka and meters are away"


def metrics(page: str) -> dict[str, int]:
    """The gateway's metrics, by the names that follow `dailyread_collect_`."""
    with urllib.request.urlopen(f"http://{page}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = [line.removeprefix("dailyread_collect_").split() for line in lines if not line.startswith("#")]
    return {name: int(value) for name, value in pairs}


def processor_s(process: Proc) -> float:
    """The processor time that it has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
