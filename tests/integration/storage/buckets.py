"""An empty bucket for a test, on InfluxDB 2.x by its own API, on 1.8 as a database of the same name."""

from __future__ import annotations

import secrets
import urllib.parse
import urllib.request

from influxdb_client import InfluxDBClient

from storage.influx_client import Connection
from tests.integration.services import GivenInflux, InfluxServer


def fresh_bucket(influx: InfluxServer | GivenInflux) -> Connection:
    """A bucket of its own, empty, kept without end. A 1.8 server is known by the form of its bucket, `database/retention`."""
    name = f"test-{secrets.token_hex(4)}"
    if "/" not in influx.bucket:
        with InfluxDBClient(influx.url, influx.token, org=influx.org) as client:
            client.buckets_api().create_bucket(bucket_name=name, org=influx.org)
        return Connection(influx.url, influx.org, name, influx.token)
    v1(influx, f'CREATE DATABASE "{name}"')
    return Connection(influx.url, influx.org, f"{name}/autogen", influx.token)


def v1(influx: InfluxServer | GivenInflux, query: str) -> str:
    """What a 1.8 server answers to an InfluxQL query."""
    request = urllib.request.Request(
        f"{influx.url}/query",
        data=urllib.parse.urlencode({"q": query}).encode(),
        headers={"Authorization": f"Token {influx.token}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())
