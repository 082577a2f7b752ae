"""Real Kafka and InfluxDB for the integration tests, and a helper for the project's own processes; see ../README.md."""

from tests.integration.services.influx import GivenInflux, InfluxServer, given_influx
from tests.integration.services.kafka import GivenKafka, KafkaBroker, given_kafka
from tests.integration.services.parts import PartMissing
from tests.integration.services.process import Proc, Service, free_port

__all__ = [
    "GivenInflux",
    "GivenKafka",
    "InfluxServer",
    "KafkaBroker",
    "PartMissing",
    "Proc",
    "Service",
    "free_port",
    "given_influx",
    "given_kafka",
]
