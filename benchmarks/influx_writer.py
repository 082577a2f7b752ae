"""Records a second into a real InfluxDB: the project's line protocol beside influxdb-client's own Points.

    python -m tests.integration.services up      # in another terminal; export what it prints
    python -m benchmarks.influx_writer [RECORDS]

Both write the same `day` records, in batches of 5,000, synchronously, into the bucket of $INFLUXDB_BUCKET. Best of three,
after one to warm up. The last two rows are without the server: making the lines alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS

from metering.gasday import GasDays, to_us
from metering.ledger import Day
from metering.messages import LedgerMessage
from storage.influx_client import Connection, InfluxClient
from storage.influx_lines import Lines
from storage.ledger_influx import InfluxLedgerStore
from storage.offset_index import OffsetIndex

BATCH = 5_000
LINES = Lines(GasDays())


def messages(count: int, run: int) -> list[LedgerMessage]:
    """One Day each of `count` records, of 1,000 meter points."""
    first = date(2020, 1, 1)
    return [LedgerMessage(0, run, day(f"bench-{n % 1000:04}", first + timedelta(days=n // 1000), n)) for n in range(count)]


def day(meter_point: str, gas_day: date, n: int) -> Day:
    """A usual Day."""
    return Day(
        meter_point=meter_point, gas_day=gas_day, users=("user",), equipment="equipment", status="actual",
        start_index=100_000 + n, end_index=100_500 + n, volume_m3=Decimal("50.000"), quantity_kwh=Decimal("548.611"),
        closed_out=True, determined_status=None, determined_m3=None, determined_kwh=None, since=None, valid=True,
        valid_at=None, by_11=True, ratchet_day=True, failed=(), ran=("malformed", "from_the_future", "excess_flow"),
    )  # fmt: skip


def point(message: LedgerMessage) -> Point:
    """The same record as influxdb-client would have it made."""
    record = message.record
    assert isinstance(record, Day)
    made = Point("day").tag("meter_point", record.meter_point).time(LINES.time_s(record.gas_day), "s")
    for name in ("equipment", "status", "start_index", "end_index", "closed_out", "valid", "by_11", "ratchet_day"):
        made.field(name, getattr(record, name))
    made.field("volume_litres", int((record.volume_m3 or 0) * 1000)).field(
        "quantity_wh", int((record.quantity_kwh or 0) * 1000)
    )
    made.field("gas_day", record.gas_day.isoformat()).field("users", ",".join(record.users)).field(
        "failed", ",".join(record.failed)
    )
    made.field("ran", ",".join(record.ran)).field("void", False).field("nulls", "determined_status,determined_litres")
    made.field("facts_partition", message.partition).field("facts_offset", message.offset)
    return made.field("valid_at_us", to_us(record.valid_at) if record.valid_at else 0)


def rate(write: Callable[[Sequence[LedgerMessage]], object], count: int, first_run: int) -> float:
    """Records a second, best of three."""
    best = 0.0
    for run in range(4):
        batches = [messages(count, first_run + run)[n : n + BATCH] for n in range(0, count, BATCH)]
        began = time.perf_counter()
        for batch in batches:
            write(batch)
        seconds = time.perf_counter() - began
        best = max(best, count / seconds if run else 0.0)
    return best


def main(count: int) -> None:
    """Prints the table."""
    connection = Connection(*(os.environ[f"INFLUXDB_{name}"] for name in ("URL", "ORG", "BUCKET", "TOKEN")))
    client = InfluxDBClient(connection.url, connection.token, org=connection.org)
    api = client.write_api(write_options=SYNCHRONOUS)
    with tempfile.TemporaryDirectory() as folder:
        index = OffsetIndex(Path(folder) / "index.sqlite")
        store = InfluxLedgerStore(InfluxClient(connection), index, lambda *_: None, GasDays())
        results = {
            "points of influxdb-client": rate(
                lambda batch: api.write(connection.bucket, connection.org, [point(m) for m in batch]), count, 0
            ),
            "this project, with its index": rate(store.write, count, 10),
            "points of influxdb-client, lines alone": rate(
                lambda batch: "\n".join(point(m).to_line_protocol() for m in batch), count, 20
            ),
            "this project, lines alone": rate(lambda batch: "\n".join(LINES.line(m) for m in batch), count, 30),
        }
        store.close()
    client.close()
    for name, value in results.items():
        print(f"{name:40} {value:10,.0f} records/s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
