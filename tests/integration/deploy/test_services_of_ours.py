"""What runs under systemd says so: ready at once even where Kafka is away, alive while it works, stopping when told."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.integration.services import GivenInflux, GivenKafka, InfluxServer, KafkaBroker, free_port
from tests.patience import patient

GATEWAY = """
gateway = "site"
state_dir = "{folder}/gateway"
[kafka]
bootstrap_servers = ["{bootstrap}"]
partitions = 2
[kafka.topics]
facts = "{name}-facts"
broadcast = "{name}-broadcast"
ledger = "{name}-ledger"
dead_letter = "{name}-dead"
[[meters]]
meter_point = "MP1"
meter = "M1"
protocol = "modbus"
address = "tcp://127.0.0.1:{nobody}"
device = 1
map = "hourly_log"
"""
STREAM = """
state_dir = "{folder}/{command}"
group = "{name}"
web = "127.0.0.1:{web}"
provide.folder = "{folder}/users"
provide.topic_prefix = "{name}-user-"
[kafka]
bootstrap_servers = ["{bootstrap}"]
partitions = 2
[kafka.topics]
facts = "{name}-facts"
broadcast = "{name}-broadcast"
ledger = "{name}-ledger"
dead_letter = "{name}-dead"
[influx]
url = "{influx}"
org = "{org}"
bucket = "{bucket}"
security = "plaintext"
"""
COMMANDS = ("collect", "stream", "store", "provide")
every_command = pytest.mark.parametrize("command", COMMANDS)


class Systemd:
    """The socket on which systemd would hear."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def wait_for(self, message: str, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + patient(timeout_s)
        while message not in self.heard:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                self.heard.append(self._socket.recv(4096).decode())
            except TimeoutError:
                raise AssertionError(f"{message} not heard in {patient(timeout_s)} s, but {self.heard}") from None

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    listener = Systemd(tmp_path / "notify")
    yield listener
    listener.close()


def configuration(folder: Path, command: str, name: str, bootstrap: str, influx: InfluxServer | GivenInflux) -> Path:
    """A configuration of the command, in a file."""
    path = folder / f"{command}.toml"
    text = (GATEWAY if command == "collect" else STREAM).format(
        folder=folder, command=command, name=name, bootstrap=bootstrap, nobody=free_port(), web=free_port(),
        influx=influx.url, org=influx.org, bucket=influx.bucket,
    )  # fmt: skip
    path.write_text(text)
    return path


@every_command
def test_service_says_how_it_is(
    command: str,
    systemd: Systemd,
    start: Start,
    tmp_path: Path,
    unique: str,
    kafka: KafkaBroker | GivenKafka,
    influx: InfluxServer | GivenInflux,
) -> None:
    stream = configuration(tmp_path, "stream", unique, kafka.bootstrap, influx)
    environ = {"NOTIFY_SOCKET": str(systemd.path), "DAILYREAD_INFLUX__TOKEN": influx.token}
    made = start("topics", "--create", "--replicas", "1", "--config", stream, env=environ)
    assert made.wait(30) == 0, made.output()
    config = configuration(tmp_path, command, unique, kafka.bootstrap, influx)
    process = start(command, "--config", config, env=environ)
    systemd.wait_for("READY=1")
    systemd.wait_for("WATCHDOG=1")
    assert process.terminate() == 0, process.output()
    systemd.wait_for("STOPPING=1", timeout_s=1)


@every_command
def test_service_is_ready_and_alive_while_kafka_is_away(
    command: str, systemd: Systemd, start: Start, tmp_path: Path, unique: str, influx: InfluxServer | GivenInflux
) -> None:
    config = configuration(tmp_path, command, unique, f"127.0.0.1:{free_port()}", influx)
    environ = {"NOTIFY_SOCKET": str(systemd.path), "DAILYREAD_INFLUX__TOKEN": influx.token}
    process = start(command, "--config", config, env=environ)
    systemd.wait_for("READY=1", timeout_s=15)
    systemd.wait_for("WATCHDOG=1")
    assert process.terminate() == 0, process.output()


@every_command
def test_mistake_in_the_configuration_is_not_tried_again(command: str, start: Start, tmp_path: Path) -> None:
    config = tmp_path / "wrong.toml"
    config.write_text('gateway = "site"\ngruop = "typing error"\n')
    process = start(command, "--config", config)
    assert process.wait(15) == 2  # which the units' RestartPreventExitStatus names
    assert "gruop" in process.output()
