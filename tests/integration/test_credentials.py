"""Certificates and passwords of both brokers change while a gateway runs: it goes on by itself with the new ones."""

from __future__ import annotations

import shutil
import subprocess
import time
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest

from dailyread import kafka as clients
from dailyread.tls import client_context
from simulators.mqtt_logger import Access, MqttLogger
from tests.integration.conftest import Start
from tests.integration.mosquitto import Mosquitto
from tests.integration.services import Proc, free_port
from tests.integration.test_kafka_security import SecureBroker
from tests.integration.test_mqtt import HOUR, START, truth
from tests.patience import patient

PASSWORDS = ("the-first-of-them", "the-one-after-it")
CONFIG = """
gateway = "gw"
state_dir = "state"
[kafka]
bootstrap_servers = ["127.0.0.1:{kafka}"]
security = "tls"
ca_file = "kafka-ca.pem"
partitions = 2
[kafka.sasl]
mechanism = "PLAIN"
user = "gw"
password_file = "password"
[mqtt]
broker = "127.0.0.1:{mqtt}"
security = "tls"
ca_file = "mqtt-ca.pem"
certificate_file = "gw.pem"
key_file = "gw.key"
user = "gw"
password_file = "password"
[[mqtt.loggers]]
logger = "L2"
meter_point = "MP3"
meter = "M-3"
"""


class Changing:
    """Two brokers that want a password over TLS, one of them a certificate of the client too, and the gateway's files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.broker_files = folder, folder / "mosquitto"
        self.kafka = SecureBroker(folder / "kafka")
        ours = self.broker_files
        self.mqtt = Mosquitto(
            ours,
            f"cafile {ours}/clients.pem\ncertfile {ours}/broker.pem\nkeyfile {ours}/broker.key\nrequire_certificate true\n"
            f"allow_anonymous false\npassword_file {ours}/passwords",
        )
        self.metrics_port = free_port()
        (folder / "gateway.toml").write_text(CONFIG.format(kafka=self.kafka.secure_port, mqtt=self.mqtt.port))

    def change(self, password: str) -> None:
        """Both brokers come back with other certificates and another password, and the gateway's files are replaced."""
        self.kafka.end()
        self.mqtt.kill()
        make_certificate(self.broker_files / "broker.pem", self.broker_files / "broker.key")
        make_certificate(self.folder / "gw.pem", self.folder / "gw.key")
        shutil.copy(self.folder / "gw.pem", self.broker_files / "clients.pem")
        command = ["mosquitto_passwd", "-c", "-b", str(self.broker_files / "passwords"), "gw", password]
        subprocess.run(command, check=True, capture_output=True)
        self.kafka.password = password
        self.mqtt.start()
        self.kafka.start()
        shutil.copy(self.broker_files / "broker.pem", self.folder / "mqtt-ca.pem")
        shutil.copy(self.kafka.certificate, self.folder / "kafka-ca.pem")
        (self.folder / "password").write_text(password + "\n")

    def push(self, password: str, hour: int) -> None:
        """A logger pushes one more reading, with what counts now."""
        context = client_context(self.folder / "mqtt-ca.pem", self.folder / "gw.pem", self.folder / "gw.key")
        logger = MqttLogger("L2", {"M-3": truth(3)}, Access("127.0.0.1", self.mqtt.port, context, "gw", password))
        logger.start()
        logger.push(START + hour * HOUR, START + hour * HOUR + timedelta(minutes=30))
        assert logger.wait_acknowledged(patient(10))
        logger.stop()

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=patient(5)) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"dailyread_collect_{name} "))

    def wait(self, process: Proc, readings: int) -> None:
        """Until the gateway has so many readings, and Kafka has all of them."""
        deadline = time.monotonic() + patient(45)
        said: list[float] = []
        while time.monotonic() < deadline:
            assert process.running, process.output()
            try:
                said = [self.metric(name) for name in ("readings_total", "facts_waiting", "kafka_away", "mqtt_away")]
            except OSError:  # it has just been started
                said = []
            if said == [readings, 0, 0, 0]:
                return
            time.sleep(0.2)
        pytest.fail(f"{said}; {process.output()}")


def make_certificate(certificate: Path, key: Path) -> None:
    """A new one of a new key, which vouches for itself."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    outputs = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *outputs], check=True, capture_output=True)


def test_certificates_and_passwords_change_while_the_gateway_runs(tmp_path: Path, start: Start) -> None:
    site = Changing(tmp_path)
    try:
        site.change(PASSWORDS[0])
        config = site.kafka.config(ca_file=tmp_path / "kafka-ca.pem")
        with clients.admin(config) as admin:
            clients.create_topics(admin, clients.wanted_topics(config))
        process = start("collect", "--config", tmp_path / "gateway.toml", "--metrics", f"127.0.0.1:{site.metrics_port}")
        site.wait(process, readings=0)
        site.push(PASSWORDS[0], hour=1)
        site.wait(process, readings=1)
        site.change(PASSWORDS[1])
        site.push(PASSWORDS[1], hour=2)
        site.wait(process, readings=2)
        assert not any(password in process.output() for password in PASSWORDS)
    finally:
        site.mqtt.kill()
        site.kafka.end()
