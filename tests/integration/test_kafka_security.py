"""TLS and SASL on a real broker: what is encrypted is verified, and who has no password is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import KafkaError

from collectors.publisher import give_up
from dailyread import kafka as clients
from dailyread.config import KafkaConfig, SaslConfig
from dailyread.settings import Secret
from tests.integration.services import KafkaBroker, free_port

_LISTENERS = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port},SECURE://127.0.0.1:{secure_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
listener.name.secure.sasl.enabled.mechanisms=PLAIN
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_gw="right";
"""


class SecureBroker(KafkaBroker):
    """A broker with one more listener, which speaks TLS and asks for a password."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.secure_port = free_port()
        self.certificate = data_dir / "broker.pem"

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
        properties.write_text(properties.read_text() + _LISTENERS.format(**ports, keystore=keystore))
        return made

    def config(self, **settings: Any) -> KafkaConfig:
        sasl = SaslConfig(mechanism="PLAIN", user="gw", password=Secret(settings.pop("password", "right")))
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


@pytest.mark.parametrize(
    "settings",
    [
        {"password": "wrong"},
        {"ca_file": None},  # a certificate that no known authority signed
        {"sasl": None},
        {"security": "plaintext", "ca_file": None},
    ],
    ids=["wrong password", "unknown certificate", "no password", "no TLS"],
)
def test_what_does_not_fit_is_refused_and_shows_no_password(secure: SecureBroker, settings: dict[str, Any]) -> None:
    with pytest.raises(KafkaError) as caught, clients.admin(secure.config(**settings)) as admin:
        clients.existing(admin)
    assert "right" not in str(caught.value)
    assert "wrong" not in str(caught.value)
