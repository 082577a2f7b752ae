"""`dailyread store` with a real Kafka and InfluxDB: whatever dies under it, InfluxDB ends as the fold of the topic."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import msgspec
import pytest

from storage.influx_client import InfluxClient
from storage.offset_index import OffsetIndex
from tests.integration.services import GivenKafka, InfluxServer, KafkaBroker, free_port
from tests.integration.storage.buckets import Influx, fresh_bucket
from tests.integration.storage.ledger_cluster import LedgerCluster
from tests.integration.stream.toy_cluster import wait_for
from tests.storage.ledger_contract import ACTUAL, RECONCILIATION, REJECTED, TOLERANCE, changed, put, void

Kafka = KafkaBroker | GivenKafka


@pytest.fixture
def cluster(kafka: Kafka, influx: Influx, tmp_path: Path, unique: str) -> Iterator[LedgerCluster]:
    with fresh_bucket(influx) as bucket, LedgerCluster(kafka, bucket, tmp_path, f"ledger-{unique}") as made:
        yield made


@pytest.fixture
def frail_kafka(own_kafka: KafkaBroker, influx: Influx, tmp_path: Path, unique: str) -> Iterator[LedgerCluster]:
    """A cluster whose Kafka the test may kill."""
    with fresh_bucket(influx) as bucket, LedgerCluster(own_kafka, bucket, tmp_path, f"ledger-{unique}") as made:
        yield made


@pytest.fixture
def frail_influx(kafka: Kafka, own_influx: InfluxServer, tmp_path: Path, unique: str) -> Iterator[LedgerCluster]:
    """A cluster whose InfluxDB the test may kill."""
    with fresh_bucket(own_influx) as bucket, LedgerCluster(kafka, bucket, tmp_path, f"ledger-{unique}") as made:
        yield made


def test_influxdb_is_the_fold_of_the_topic(cluster: LedgerCluster) -> None:
    cluster.send_some(2000)
    cluster.write_all()
    assert cluster.ledger() == cluster.expected()
    assert cluster.dead_letters() == []


def test_it_goes_on_where_it_was_and_late_messages_change_nothing_after_a_restart(cluster: LedgerCluster) -> None:
    cluster.send([put(ACTUAL, 50), void(RECONCILIATION, 50), put(TOLERANCE, 50)])
    cluster.write_all()
    cluster.send([put(changed(ACTUAL, status="assumed"), 49), put(RECONCILIATION, 20), void(TOLERANCE, 49)])
    cluster.write_all(log="second")
    assert cluster.ledger() == [ACTUAL, TOLERANCE]
    assert "written 0, too late 3, dead letters 0" in (cluster.folder / "second.log").read_text()


def test_influxdb_killed_and_started_again_under_it(frail_influx: LedgerCluster, own_influx: InfluxServer) -> None:
    writer = frail_influx.writer()
    with frail_influx.sending():
        for _ in range(2):
            time.sleep(1.5)
            mark = writer.mark()
            own_influx.kill()
            writer.wait_for_log("InfluxDB at .* is away: .*; trying until it is back", since=mark)
            time.sleep(2)
            own_influx.start()
            writer.wait_for_log(r"InfluxDB at \S+ is back$", timeout_s=40, since=mark)
    frail_influx.wait_for_equal()
    assert writer.terminate() == 0
    assert len(re.findall("is away", writer.output())) == 2
    assert len(re.findall(r"InfluxDB at \S+ is back$", writer.output(), re.MULTILINE)) == 2


def test_kafka_killed_and_started_again_under_it(frail_kafka: LedgerCluster, own_kafka: KafkaBroker) -> None:
    frail_kafka.send_some(300)
    writer = frail_kafka.writer()
    frail_kafka.wait_for_equal()
    own_kafka.kill()
    writer.wait_for_log("Kafka at .* is away")
    own_kafka.start()
    frail_kafka.send_some(300)
    frail_kafka.wait_for_equal(60)
    writer.wait_for_log("Kafka is back$")
    assert writer.terminate() == 0
    assert len(re.findall("is away", writer.output())) == 1


def test_it_starts_before_kafka_does(frail_kafka: LedgerCluster, own_kafka: KafkaBroker) -> None:
    frail_kafka.send_some(100)
    own_kafka.stop()
    writer = frail_kafka.writer()
    writer.wait_for_log("Kafka at .* is away")
    own_kafka.start()
    writer.wait_for_log("Kafka is back$", timeout_s=60)
    frail_kafka.wait_for_equal()
    assert writer.terminate() == 0


def test_the_writer_killed_again_and_again(cluster: LedgerCluster) -> None:
    with cluster.sending():
        for n in range(6):
            writer = cluster.writer(log=f"killed-{n}")
            time.sleep(1.0 + 0.17 * n)
            writer.kill()
    cluster.write_all()
    assert cluster.ledger() == cluster.expected()


def test_a_lost_index_is_made_again_from_the_topic(cluster: LedgerCluster) -> None:
    cluster.send_some(500)
    cluster.write_all()
    cluster.index.unlink()
    cluster.send_some(100)
    cluster.write_all()
    assert cluster.ledger() == cluster.expected()


def test_what_influxdb_cannot_take_goes_to_the_dead_letters_and_the_rest_goes_on(cluster: LedgerCluster) -> None:
    long_name = "x" * 70_000
    cluster.send_some(300)
    cluster.send_bytes(_encoded(put(changed(ACTUAL, meter_point=long_name), 7)), 1)
    cluster.send_bytes(_encoded(put(changed(REJECTED, gas_day=date(1, 1, 1)), 7)), 0)
    cluster.send_some(300)
    cluster.write_all()
    assert cluster.ledger() == cluster.expected()
    no_time, refused = sorted((letter.reason for letter in cluster.dead_letters()), key=len)
    assert "Gas Day 0001-01-01: InfluxDB's time goes from 1678-01-01" in no_time
    assert refused.startswith("InfluxDB cannot take it: HTTP 4")


def test_poison_goes_to_the_dead_letters_and_the_rest_goes_on(cluster: LedgerCluster) -> None:
    poison = [b"", b"\xff" * 600_000, b"\x93\x00\x01", _encoded(void(ACTUAL, 1)).replace(b"2026-01-01", b"2026-99-01")]
    for n, value in enumerate(poison):
        cluster.send_some(50)
        cluster.send_bytes(value, n % 3)
    cluster.write_all()
    assert cluster.ledger() == cluster.expected()
    letters = sorted(cluster.dead_letters(), key=lambda letter: letter.payload)
    assert [letter.payload for letter in letters] == sorted(value[:500_000] for value in poison)
    assert all(letter.topic == cluster.kafka.topics.ledger and letter.reason for letter in letters)


def test_without_access_it_stops_and_says_so_without_the_token(cluster: LedgerCluster) -> None:
    cluster.send([put(ACTUAL, 1)])
    writer = cluster.writer(token="tester:wrong-password")
    assert writer.wait(20) == 1
    assert re.search("CRITICAL .* takes nothing more until somebody sees to it: HTTP 401", writer.output())
    assert "wrong-password" not in writer.output()
    assert cluster.ledger() == []
    cluster.write_all()
    assert cluster.ledger() == [ACTUAL]


def test_a_bucket_of_another_type_of_fields_stops_it(cluster: LedgerCluster) -> None:
    client = InfluxClient(cluster.bucket)
    client.write(['day,meter_point=1 volume_litres="text" 1767243600'])
    client.close()
    cluster.send([put(changed(ACTUAL, meter_point=f"p{n}"), 1) for n in range(150)])
    writer = cluster.writer("--once")
    assert writer.wait(30) == 1
    assert "more than 100 lines refused" in writer.output()
    assert cluster.dead_letters() == []


def test_sigterm_ends_it_within_5_s_while_influxdb_hangs(frail_influx: LedgerCluster, own_influx: InfluxServer) -> None:
    writer = frail_influx.writer()
    frail_influx.send_some(100)
    frail_influx.wait_for_equal()
    own_influx.pause()
    frail_influx.send_some(100)
    time.sleep(1.5)
    assert writer.terminate(5.0) == 0
    own_influx.resume()
    frail_influx.write_all()
    assert frail_influx.ledger() == frail_influx.expected()


def test_sigterm_ends_it_within_5_s_while_influxdb_is_away(frail_influx: LedgerCluster, own_influx: InfluxServer) -> None:
    writer = frail_influx.writer()
    own_influx.stop()
    frail_influx.send_some(10)
    writer.wait_for_log("is away")
    assert writer.interrupt(5.0) == 0


def test_two_writers_on_one_index_are_refused(cluster: LedgerCluster) -> None:
    cluster.send_some(20)
    first = cluster.writer()
    cluster.wait_for_equal()
    second = cluster.writer(log="second")
    assert second.wait(20) == 1
    assert "ledger-index.sqlite: in use by another process" in second.output()
    assert cluster.writer("influx", command="rebuild", log="rebuild").wait(20) == 1
    assert first.terminate() == 0


def test_rebuild_writes_all_of_the_topic_again(cluster: LedgerCluster, influx: Influx) -> None:
    cluster.send_some(500)
    cluster.write_all()
    with fresh_bucket(influx) as other:
        cluster.use(other)
        cluster.write_all()
        assert cluster.ledger() == []  # all was written to the other bucket
        assert cluster.writer("influx", command="rebuild").wait(30) == 0
        assert cluster.ledger() == cluster.expected()


def test_a_topic_made_anew_is_noticed(cluster: LedgerCluster) -> None:
    cluster.send_some(10)
    cluster.index.parent.mkdir()
    index = OffsetIndex(cluster.index)
    index.set_positions({0: 1000})
    index.close()
    writer = cluster.writer("--once")
    assert writer.wait(20) == 1
    assert "is to be read from 1000: it was made anew" in writer.output()


def test_metrics_say_what_it_has_done(cluster: LedgerCluster) -> None:
    port = free_port()
    cluster.send([put(ACTUAL, 5), put(ACTUAL, 4)])
    cluster.send_bytes(b"poison")
    writer = cluster.writer("--metrics", f"127.0.0.1:{port}")
    cluster.wait_for_equal()
    wait_for(lambda: "\ndailyread_store_dead_letters_total 1\n" in _page(port), "the dead letter is with Kafka")
    page = _page(port)
    assert "\ndailyread_store_written_total 1\n" in page
    assert "\ndailyread_store_late_total 1\n" in page
    assert "\ndailyread_store_influxdb_away 0\n" in page
    assert writer.terminate() == 0


def _page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def _encoded(message: object) -> bytes:
    return msgspec.msgpack.encode(message)
