"""What lives through a campaign: a broker, an InfluxDB, and the links by which the processes of a round reach them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from kafka import KafkaAdminClient

from dailyread import kafka as clients
from dailyread.config import KafkaConfig
from tests.chaos.plan import LINKS, STORE_TO_INFLUXDB
from tests.chaos.proxy import Link, Network
from tests.integration.services import InfluxServer, KafkaBroker, free_port


class Services(NamedTuple):
    """`links` by name; `ports` where they listen."""

    broker: KafkaBroker
    influxdb: InfluxServer
    links: dict[str, Link]
    ports: dict[str, int]


@contextmanager
def services(folder: Path) -> Iterator[Services]:
    """Both servers, running, with their data below the folder."""
    ports = {name: free_port() for name in LINKS}
    proxies = {_listener(name): port for name, port in ports.items() if name != STORE_TO_INFLUXDB}
    with ExitStack() as stack:
        influxdb = stack.enter_context(InfluxServer(folder / "influxdb"))
        broker = stack.enter_context(KafkaBroker(folder / "kafka", proxies))
        network = Network()
        stack.callback(network.close)
        behind = {name: broker.behind.get(_listener(name), influxdb.port) for name in LINKS}
        links = {name: network.link(ports[name], behind[name]) for name in LINKS}
        for port in proxies.values():
            _check_leads_back(port)
        yield Services(broker, influxdb, links, ports)


def _check_leads_back(port: int) -> None:
    """Who comes by a link is told to come by it again; else faults of the link would befall nobody."""
    with KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}") as admin:
        told = [broker["port"] for broker in admin.describe_cluster()["brokers"]]
    assert told == [port], f"by the link at {port} the broker tells of {told}"


def remove_topics(kafka: KafkaConfig, group: str) -> None:
    """All topics of a round, so that a broker that is killed has little to recover."""
    wanted = {topic.name for topic in clients.wanted_topics(kafka)}
    with clients.admin(kafka) as admin:
        there = [name for name in clients.existing(admin) if name in wanted or name.startswith(f"{group}-")]
        admin.delete_topics(there)


def _listener(link: str) -> str:
    return link.upper().replace("-", "_")
