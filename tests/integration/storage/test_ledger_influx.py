"""The ledger in a real InfluxDB: the contract of ledger stores, and what is InfluxDB's own."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from metering.gasday import GasDays
from metering.messages import LedgerMessage
from storage.influx_client import Connection, InfluxClient, InfluxError
from storage.influx_lines import Lines
from storage.ledger_influx import InfluxLedgerStore
from storage.ledger_store import LedgerStore
from storage.offset_index import OffsetIndex
from tests.integration.storage.buckets import Influx, fresh_bucket
from tests.storage.ledger_contract import (
    ACTUAL,
    MESSAGES,
    RECONCILIATION,
    REJECTED,
    LedgerStoreContract,
    changed,
    folded,
    put,
    void,
)


def unexpected(message: LedgerMessage, reason: str) -> None:
    raise AssertionError(f"refused: {message}: {reason}")


def open_store(
    connection: Connection, index: Path, refuse: Callable[[LedgerMessage, str], None] = unexpected
) -> InfluxLedgerStore:
    return InfluxLedgerStore(InfluxClient(connection), OffsetIndex(index), refuse, GasDays())


@pytest.fixture
def bucket(influx: Influx) -> Iterator[Connection]:
    with fresh_bucket(influx) as made:
        yield made


class TestInflux(LedgerStoreContract):
    @pytest.fixture
    def store(self, bucket: Connection, tmp_path: Path) -> Iterator[LedgerStore]:
        store = open_store(bucket, tmp_path / "index.sqlite")
        yield store
        store.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=MESSAGES)
def test_influxdb_is_the_fold_of_the_messages_in_any_pieces(influx: Influx, messages: list[LedgerMessage]) -> None:
    with tempfile.TemporaryDirectory() as directory, fresh_bucket(influx) as bucket:
        store = open_store(bucket, Path(directory) / "index.sqlite")
        for n in range(0, len(messages), 4):
            store.write(messages[n : n + 4])
        assert list(store.records()) == folded(messages)
        store.close()


def test_a_late_message_changes_nothing_after_the_writer_was_started_again(bucket: Connection, tmp_path: Path) -> None:
    store = open_store(bucket, tmp_path / "index.sqlite")
    store.write([put(ACTUAL, 7), void(RECONCILIATION, 7), put(REJECTED, 7)])
    store.close()
    again = open_store(bucket, tmp_path / "index.sqlite")
    again.write([put(changed(ACTUAL, status="assumed"), 6), put(RECONCILIATION, 6), void(REJECTED, 6)])
    assert list(again.records()) == [ACTUAL, REJECTED]
    assert (again.counts.written, again.counts.late) == (0, 3)
    again.close()


def test_a_record_that_is_being_written_is_read_when_it_is_whole(bucket: Connection, tmp_path: Path) -> None:
    store, client = open_store(bucket, tmp_path / "index.sqlite"), InfluxClient(bucket)
    line = Lines(GasDays()).line(put(ACTUAL, 7))
    point, _, time = line.split(" ")
    client.write([f"{point} void=false {time}"])
    rest = threading.Timer(1.0, client.write, [[line]])
    rest.start()
    assert list(store.records()) == [ACTUAL]
    rest.join()
    store.close()
    client.close()


def test_a_record_that_stays_incomplete_is_named(bucket: Connection, tmp_path: Path) -> None:
    store = open_store(bucket, tmp_path / "index.sqlite")
    point, _, time = Lines(GasDays()).line(put(ACTUAL, 7)).split(" ")
    store.client.write([f"{point} void=false {time}"])
    with pytest.raises(InfluxError, match=f"day of {ACTUAL.meter_point} at .*: there is no .*written by something else"):
        list(store.records())
    store.close()
