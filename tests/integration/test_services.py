"""The servers of the integration tests keep what they acknowledged through kill -9, a stop, and a pause."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from tests.integration.services import (
    GivenInflux,
    GivenKafka,
    InfluxServer,
    KafkaBroker,
    PartMissing,
    Proc,
    given_influx,
    parts,
)

DAY = datetime(2026, 1, 31, 5, tzinfo=UTC)


def produce(bootstrap: str, topic: str, value: bytes) -> None:
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        if topic not in admin.list_topics():
            admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    try:
        producer.send(topic, value).get(timeout=20)
    finally:
        producer.close()


def consume(bootstrap: str, topic: str) -> list[bytes]:
    """All messages of the topic's one partition, up to its end as it is now."""
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, consumer_timeout_ms=20_000)
    try:
        consumer.assign([partition])
        consumer.seek_to_beginning()
        end = consumer.end_offsets([partition])[partition]
        return [next(consumer).value for _ in range(end)]
    finally:
        consumer.close()


def write(server: InfluxServer | GivenInflux, measurement: str, litres: int) -> None:
    with InfluxDBClient(server.url, server.token, org=server.org) as client:
        line = f"{measurement},meter_point=MP1 volume_l={litres}i {int(DAY.timestamp())}"
        client.write_api(SYNCHRONOUS).write(server.bucket, record=line, write_precision="s")


def query(server: InfluxServer | GivenInflux, measurement: str) -> list[tuple[datetime, object]]:
    flux = (
        f'from(bucket: "{server.bucket}") |> range(start: 2026-01-01) |> filter(fn: (r) => r._measurement == "{measurement}")'
    )
    with InfluxDBClient(server.url, server.token, org=server.org) as client:
        tables = client.query_api().query(flux)
    return [(record.get_time(), record.get_value()) for table in tables for record in table.records]


def test_message_survives_kill_and_stop_of_the_broker(own_kafka: KafkaBroker) -> None:
    produce(own_kafka.bootstrap, "kept", b"one")
    own_kafka.kill()
    assert not own_kafka.running
    own_kafka.start()
    produce(own_kafka.bootstrap, "kept", b"two")
    own_kafka.stop()
    own_kafka.start()
    assert consume(own_kafka.bootstrap, "kept") == [b"one", b"two"]


def test_paused_broker_goes_on_where_it_was(own_kafka: KafkaBroker) -> None:
    produce(own_kafka.bootstrap, "kept", b"one")
    own_kafka.pause()
    with pytest.raises(KafkaError):
        own_kafka.check()
    own_kafka.resume()
    produce(own_kafka.bootstrap, "kept", b"two")
    assert consume(own_kafka.bootstrap, "kept") == [b"one", b"two"]


def test_shared_broker_serves(kafka: KafkaBroker | GivenKafka, unique: str) -> None:
    produce(kafka.bootstrap, f"services-{unique}", b"one")
    assert consume(kafka.bootstrap, f"services-{unique}") == [b"one"]


def test_point_survives_kill_and_stop_of_the_server(own_influx: InfluxServer) -> None:
    write(own_influx, "kept", 11628)
    own_influx.kill()
    own_influx.start()
    assert query(own_influx, "kept") == [(DAY, 11628)]
    own_influx.stop()
    own_influx.start()
    assert query(own_influx, "kept") == [(DAY, 11628)]


def test_wrong_token_is_refused(influx: InfluxServer | GivenInflux, unique: str) -> None:
    wrong = GivenInflux(influx.url, "tester:wrong", influx.org, influx.bucket)
    with pytest.raises(ApiException, match="401"):
        write(wrong, f"services_{unique}", 1)


def test_more_meter_points_than_the_default_limit_are_kept(influx: InfluxServer | GivenInflux, unique: str) -> None:
    measurement = f"many_{unique}"
    lines = [f"{measurement},meter_point={number} volume_l=1i 1769835600" for number in range(100_500)]
    with InfluxDBClient(influx.url, influx.token, org=influx.org) as client:
        for first in range(0, len(lines), 20_000):
            client.write_api(SYNCHRONOUS).write(
                influx.bucket, record="\n".join(lines[first : first + 20_000]), write_precision="s"
            )
        flux = (
            f'from(bucket: "{influx.bucket}") |> range(start: 2026-01-01)'
            f' |> filter(fn: (r) => r._measurement == "{measurement}") |> group() |> count()'
        )
        assert client.query_api().query(flux)[0].records[0].get_value() == 100_500


def test_half_an_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFLUXDB_URL", "http://127.0.0.1:8086")
    monkeypatch.delenv("INFLUXDB_TOKEN", raising=False)
    with pytest.raises(ValueError, match="INFLUXDB_TOKEN"):
        given_influx()


def test_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for part, package in (
        (parts.java, "openjdk-17-jre-headless"),
        (parts.kafka_jars, "maven"),
        (parts.influxd, "golang-go"),
    ):
        with pytest.raises(PartMissing, match=f"apt-get install {package}"):
            part()
    assert [path for path in (tmp_path / "dailyread").iterdir() if path.suffix != ".lock"] == []


def test_process_that_ends_early_shows_its_log(tmp_path: Path) -> None:
    with Proc("nonsense", log=tmp_path / "nonsense.log") as process:
        with pytest.raises(AssertionError, match=r"ended with 2[\s\S]*invalid choice"):
            process.wait_for_log("ready", timeout_s=20)
        assert process.wait(1) == 2
