"""An empty bucket for a test, on InfluxDB 2.x by its own API, on 1.8 as a database of the same name."""

from __future__ import annotations

import secrets
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from influxdb_client import BucketRetentionRules, InfluxDBClient

from storage.influx_client import Connection
from tests.integration.services import GivenInflux, InfluxServer

Influx = InfluxServer | GivenInflux

# A shard of a week, the default, costs a 1.8 server some 20 open files for each week of which there is a record.
SHARD_WEEKS = 520


@contextmanager
def fresh_bucket(influx: Influx) -> Iterator[Connection]:
    """A bucket of its own, empty, kept without end, and removed with the block's end.

    A 1.8 server is known by the form of its bucket, `database/retention`.
    """
    name = f"test-{secrets.token_hex(4)}"
    if "/" in influx.bucket:
        v1(influx, f'CREATE DATABASE "{name}" WITH DURATION INF SHARD DURATION {SHARD_WEEKS}w NAME "autogen"')
        yield Connection(influx.url, influx.org, f"{name}/autogen", influx.token)
        with suppress(OSError):  # the test may have ended the server
            v1(influx, f'DROP DATABASE "{name}"')
        return
    with InfluxDBClient(influx.url, influx.token, org=influx.org) as client:
        shards = BucketRetentionRules(type="expire", every_seconds=0, shard_group_duration_seconds=SHARD_WEEKS * 7 * 86_400)
        made = client.buckets_api().create_bucket(bucket_name=name, org=influx.org, retention_rules=shards)
        yield Connection(influx.url, influx.org, name, influx.token)
        client.buckets_api().delete_bucket(made)


def v1(influx: Influx, query: str) -> str:
    """What a 1.8 server answers to an InfluxQL query."""
    request = urllib.request.Request(
        f"{influx.url}/query",
        data=urllib.parse.urlencode({"q": query}).encode(),
        headers={"Authorization": f"Token {influx.token}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())
