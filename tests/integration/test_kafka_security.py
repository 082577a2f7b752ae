"""TLS and SASL on a real broker: what is encrypted is verified, and who has no password is refused."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import KafkaError

from collectors.outbox import Outbox
from collectors.publisher import Publisher, give_up
from dailyread import kafka as clients
from dailyread.commands.collect import route
from dailyread.config import KafkaConfig, SaslConfig
from dailyread.kafka_trouble import CLOSED
from dailyread.settings import Secret
from metering.facts import PollFailed
from tests.integration.services import KafkaBroker, free_port
from tests.integration.stream.toy_cluster import wait_for

RIGHT, WRONG = "hunter2-as-it-is", "hunter2-is-wrong"
_LISTENERS = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port},SECURE://127.0.0.1:{secure_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
listener.name.secure.sasl.enabled.mechanisms=PLAIN
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_gw="{right}";
"""


class SecureBroker(KafkaBroker):
    """A broker with one more listener, which speaks TLS and asks for a password."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.secure_port = free_port()
        self.certificate = data_dir / "broker.pem"
        self.password = RIGHT

    def command(self) -> list[str]:
        made = super().command()
        key, keystore = self.data_dir / "broker.key", self.data_dir / "keystore.pem"
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
        outputs = ["-keyout", str(key), "-out", str(self.certificate)]
        subprocess.run([*command.split(), *outputs], check=True, capture_output=True)
        keystore.write_text(key.read_text() + self.certificate.read_text())
        properties = self.data_dir / "server.properties"
        ports = {"port": self.port, "controller_port": self._controller_port, "secure_port": self.secure_port}
        # In a properties file the last of several lines counts.
        properties.write_text(properties.read_text() + _LISTENERS.format(**ports, right=self.password, keystore=keystore))
        return made

    def config(self, **settings: Any) -> KafkaConfig:
        sasl = SaslConfig(mechanism="PLAIN", user="gw", password=Secret(settings.pop("password", self.password)))
        options = {"security": "tls", "ca_file": self.certificate, "sasl": sasl, "partitions": 2} | settings
        return KafkaConfig(bootstrap_servers=(f"127.0.0.1:{self.secure_port}",), **options)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with SecureBroker(tmp_path_factory.mktemp("secure") / "kafka") as broker:
        yield broker


def test_facts_go_over_tls_with_a_password(secure: SecureBroker) -> None:
    config = secure.config()
    with clients.admin(config) as admin:
        clients.create_topics(admin, clients.wanted_topics(config))
    client = clients.producer(config)
    assert client.send("facts", value=b"x", partition=0).get(timeout=20).offset == 0
    give_up(client)


REFUSED = {
    "wrong password": (
        {"password": WRONG},
        'TLS, PLAIN as "gw"): user and password are refused: Authentication failed: Invalid username or password',
    ),
    "wrong mechanism": (
        {"sasl": SaslConfig(user="gw", password=Secret(RIGHT))},
        'TLS, SCRAM-SHA-512 as "gw"): the broker does not take this mechanism',
    ),
    "unknown certificate": (
        {"ca_file": None},
        'TLS, PLAIN as "gw"): TLS failed: certificate verify failed: self-signed certificate',
    ),
    "no password": ({"sasl": None}, f"TLS, no password): {CLOSED}"),
    "no TLS": ({"security": "plaintext", "ca_file": None}, 'no TLS, PLAIN as "gw"): what answers does not speak Kafka'),
}


@pytest.mark.parametrize(("settings", "said"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_with_address_way_and_reason_but_no_password(
    secure: SecureBroker, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(KafkaError) as caught, clients.admin(secure.config(**settings)) as admin:
        clients.existing(admin)
    # Whether the broker's answer or the end of the connection is seen first is a race.
    closed = said.partition("): ")[0] + "): " + CLOSED
    assert any(f"127.0.0.1:{secure.secure_port} ({each}" in str(caught.value) for each in (said, closed))
    assert RIGHT not in str(caught.value)
    assert WRONG not in str(caught.value)


@pytest.mark.parametrize("password", [RIGHT, WRONG])
def test_a_log_that_says_more_shows_no_password(secure: SecureBroker, tmp_path: Path, password: str) -> None:
    path = tmp_path / "stream.toml"
    path.write_text(
        f'[kafka]\nbootstrap_servers = ["127.0.0.1:{secure.secure_port}"]\nsecurity = "tls"\n'
        f'ca_file = "{secure.certificate}"\npartitions = 2\n[kafka.sasl]\nmechanism = "PLAIN"\nuser = "gw"\n'
    )
    command = [sys.executable, "-m", "dailyread", "topics", "-v", "--config", str(path)]
    env = os.environ | {"DAILYREAD_KAFKA__SASL__PASSWORD": password}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert "kafka.net" in done.stderr
    shown = done.stderr + done.stdout
    assert password not in shown
    assert base64.b64encode(password.encode()).decode().rstrip("=") not in shown


def test_a_gateway_that_is_not_let_in_says_why_once(
    secure: SecureBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(tmp_path / "outbox.db", "gw")
    config = secure.config(password=WRONG)
    outbox.put([PollFailed(meter_point="A", meter="m", gas_day=date(2026, 3, 1), reason="x", attempts=1)], datetime.now(UTC))
    publisher = Publisher(outbox, lambda: clients.producer(config), route(config, "gw"))
    publisher.start()

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "collectors.publisher"]

    wait_for(lines, "it says why")
    assert not publisher.wait_empty(8)  # another attempt
    publisher.stop()
    outbox.close()
    (said,) = lines()
    refused = "user and password are refused: Authentication failed: Invalid username or password"
    wanted = f'nothing goes to Kafka (127.0.0.1:{secure.secure_port} (TLS, PLAIN as "gw"): {{}}); 1 facts wait on disk'
    assert said in (wanted.format(refused), wanted.format(CLOSED))  # which of the two is seen first is a race
