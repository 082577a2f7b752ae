"""A real Kafka broker (KRaft, one node) on loopback, and the stand-in for one that is there already."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient

from tests.integration.services.parts import java, kafka_jars
from tests.integration.services.process import Service, free_port

# Topics are made on purpose, with their settings, never by a first message.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners={listeners},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners={advertised}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map={protocols},CONTROLLER:PLAINTEXT
log.dirs={log_dir}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""
_CLUSTER_ID = "ZGFpbHlyZWFkLXRlc3RzMQ"


@dataclass(frozen=True)
class GivenKafka:
    """A broker that $KAFKA_BOOTSTRAP_SERVERS points to; tests never stop it."""

    bootstrap: str

    @property
    def env(self) -> dict[str, str]:
        return {"KAFKA_BOOTSTRAP_SERVERS": self.bootstrap}


class KafkaBroker(Service):
    """A broker with its port and its log in `data_dir`.

    `proxies`: by name, the ports of what stands between the broker and clients. Each has a port of the broker behind it
    (`behind`), and who comes by that one is told to come by the proxy again.
    """

    def __init__(self, data_dir: Path, proxies: Mapping[str, int] | None = None) -> None:
        super().__init__("kafka", data_dir)
        self.port = free_port()
        self._controller_port = free_port()
        self._proxies = dict(proxies or {})
        self.behind = {name: free_port() for name in self._proxies}

    @property
    def bootstrap(self) -> str:
        """The address for clients, `host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        return {"KAFKA_BOOTSTRAP_SERVERS": self.bootstrap}

    def command(self) -> list[str]:
        properties = self.data_dir / "server.properties"
        if not properties.exists():
            self._format(properties)
        return [*self._java("512m"), "kafka.Kafka", str(properties)]

    def check(self) -> None:
        """A metadata request is answered, and names the broker as one of its cluster."""
        socket.create_connection(("127.0.0.1", self.port), timeout=2).close()  # the client logs each refusal
        with KafkaAdminClient(bootstrap_servers=self.bootstrap, bootstrap_timeout_ms=3000, request_timeout_ms=3000) as admin:
            if not admin.describe_cluster()["brokers"]:
                raise OSError("the cluster has no broker yet")

    def _format(self, properties: Path) -> None:
        text = _PROPERTIES.format(
            listeners=_addresses({"PLAINTEXT": self.port} | self.behind),
            advertised=_addresses({"PLAINTEXT": self.port} | self._proxies),
            protocols=",".join(f"{name}:PLAINTEXT" for name in ("PLAINTEXT", *self._proxies)),
            controller_port=self._controller_port,
            log_dir=self.data_dir / "kafka-logs",
        )
        properties.write_text(text)
        format_log = [
            *self._java("128m"),
            "kafka.tools.StorageTool",
            "format",
            "-t",
            _CLUSTER_ID,
            "-c",
            str(properties),
        ]
        with self.log.open("ab") as log:
            subprocess.run(format_log, stdout=log, stderr=log, check=True)

    def _java(self, memory: str) -> list[str]:
        quick = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=INFO"]
        return [java(), f"-Xmx{memory}", *quick, "-cp", f"{kafka_jars()}/*"]


def _addresses(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


def given_kafka() -> GivenKafka | None:
    """The broker that the environment points to, or None."""
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    return GivenKafka(servers) if servers else None
