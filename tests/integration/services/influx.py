"""A real InfluxDB 1.8 on loopback behind the v2 write and query API, and the stand-in for one that is there already.

Bucket is `database/retention`, token is `user:password`; the organisation is not looked at. Nothing in the project may
need 1.x: the tests take a 2.x server by $INFLUXDB_URL, $INFLUXDB_TOKEN, $INFLUXDB_ORG, $INFLUXDB_BUCKET.
"""

from __future__ import annotations

import os
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tests.integration.services.parts import influxd
from tests.integration.services.process import Service, free_port

# The default limits on series and tag values drop points without a word.
_CONFIG = """\
reporting-disabled = true
bind-address = "127.0.0.1:{rpc_port}"
[meta]
  dir = "{data}/meta"
[data]
  dir = "{data}/data"
  wal-dir = "{data}/wal"
  index-version = "tsi1"
  max-series-per-database = 0
  max-values-per-tag = 0
  query-log-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  auth-enabled = true
  flux-enabled = true
  log-enabled = false
[monitor]
  store-enabled = false
"""
_VARIABLES = ("INFLUXDB_URL", "INFLUXDB_TOKEN", "INFLUXDB_ORG", "INFLUXDB_BUCKET")


@dataclass(frozen=True)
class GivenInflux:
    """A server that the environment points to; tests never stop it."""

    url: str
    token: str
    org: str
    bucket: str

    @property
    def env(self) -> dict[str, str]:
        return dict(zip(_VARIABLES, (self.url, self.token, self.org, self.bucket), strict=True))


class InfluxServer(Service):
    """A server with its port and its data in `data_dir`, one user, one empty bucket."""

    org = "dailyread"
    bucket = "dailyread/autogen"

    def __init__(self, data_dir: Path) -> None:
        super().__init__("influxdb", data_dir)
        self.port = free_port()
        self._rpc_port = free_port()
        self._user, self._password = "tester", "not-a-secret"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        return f"{self._user}:{self._password}"

    @property
    def env(self) -> dict[str, str]:
        return dict(zip(_VARIABLES, (self.url, self.token, self.org, self.bucket), strict=True))

    def command(self) -> list[str]:
        config = self.data_dir / "influxdb.conf"
        config.write_text(_CONFIG.format(port=self.port, rpc_port=self._rpc_port, data=self.data_dir))
        return [str(influxd()), "-config", str(config)]

    def check(self) -> None:
        """Make the user and the bucket (which changes nothing after the first start), and write a point beside it."""
        self._query(f"CREATE USER {self._user} WITH PASSWORD '{self._password}' WITH ALL PRIVILEGES")
        for database in ("dailyread", "readiness"):
            self._query(f'CREATE DATABASE "{database}"')
        place = urllib.parse.urlencode({"org": self.org, "bucket": "readiness/autogen"})
        self._post(f"/api/v2/write?{place}", b"started value=1i")

    def _query(self, statement: str) -> None:
        self._post("/query", urllib.parse.urlencode({"q": statement}).encode())

    def _post(self, path: str, body: bytes) -> None:
        request = urllib.request.Request(self.url + path, data=body, headers={"Authorization": f"Token {self.token}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            answer.read()


def given_influx() -> GivenInflux | None:
    """The server that the environment points to, or None; ValueError where only some of the variables are set."""
    values = {name: os.environ.get(name, "") for name in _VARIABLES}
    if not values["INFLUXDB_URL"]:
        return None
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise ValueError(f"INFLUXDB_URL is set, {', '.join(missing)} not: set all of {', '.join(_VARIABLES)}, or none")
    return GivenInflux(*values.values())
