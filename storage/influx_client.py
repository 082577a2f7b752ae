"""InfluxDB's write and query API, versions 2.x and 1.8: one request at a time, each answer judged.

`influxdb-client` writes synchronously and without retries of its own; the back-off here knows what can be tried again,
what is one bad line, and what a person must see to.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

log = logging.getLogger(__name__)

LINES_MAX = 5_000
BYTES_MAX = 4_000_000
REFUSED_MAX = 100  # of one call; more is no bad line here and there, but a bucket that something else has written to
TIMEOUT_S = 30.0
DELAY_FIRST_S = 0.5
DELAY_MAX_S = 30.0

# What the server says when it drops points, or takes none, because it is full or set up too small. Status codes differ.
_LIMITS = re.compile(r"limit exceeded|max[- ]series|cardinality|retention policy|no space left|disk quota", re.IGNORECASE)


class InfluxError(Exception):
    """What InfluxDB answered, without the token."""


class Away(InfluxError):
    """It does not answer, or asks to be left alone for a while: try again."""


class Refused(InfluxError):
    """Something in what was sent is bad."""


class NeedsAttention(InfluxError):
    """It takes nothing more until a person has acted: access, bucket, series limit, retention, disk."""


@dataclass(frozen=True)
class Connection:
    """Where a bucket is and how to reach it. For 1.8: bucket `database/retention`, token `user:password`."""

    url: str
    org: str
    bucket: str
    token: str
    ca_file: Path | None = None

    def __repr__(self) -> str:
        return f"Connection({self.url}, {self.org}, {self.bucket})"


class InfluxClient:
    """Lines in, rows out. Waits while the server is away: `wait` is called with seconds, and may raise to give up."""

    def __init__(self, connection: Connection, wait: Callable[[float], None] = time.sleep) -> None:
        self.connection = connection
        self.away = False
        self.failures = 0  # writes that were not taken at once, and tried again
        self._wait = wait
        self._client = InfluxDBClient(
            url=connection.url,
            token=connection.token,
            org=connection.org,
            timeout=int(TIMEOUT_S * 1000),
            ssl_ca_cert=None if connection.ca_file is None else str(connection.ca_file),
        )
        self._write_api = self._client.write_api(write_options=SYNCHRONOUS)

    def write(self, lines: Sequence[str]) -> list[tuple[int, str]]:
        """Writes the lines, as whole seconds; returns the numbers of those refused, each with the reason.

        Returns when all others are acknowledged; raises NeedsAttention.
        """
        refused: list[tuple[int, str]] = []
        for first, last in _chunks(lines):
            self._bisect(lines, first, last, refused)
        return refused

    def rows(self, flux: str) -> Iterator[dict[str, Any]]:
        """The rows that a query gives, by column. Raises InfluxError; a query is not tried again."""
        try:
            for record in self._client.query_api().query_stream(flux):
                yield record.values
        except ApiException as error:
            raise judge(error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Away(_cause(error)) from error

    def close(self) -> None:
        """Closes the connections; to be called once."""
        self._write_api.close()
        self._client.close()

    def _bisect(self, lines: Sequence[str], first: int, last: int, refused: list[tuple[int, str]]) -> None:
        try:
            self._until_taken("\n".join(lines[first:last]))
        except Refused as error:
            if last - first == 1:
                refused.append((first, str(error)))
                if len(refused) > REFUSED_MAX:
                    raise NeedsAttention(f"more than {REFUSED_MAX} lines refused, the last with {error}") from error
                return
            middle = (first + last) // 2
            self._bisect(lines, first, middle, refused)
            self._bisect(lines, middle, last, refused)

    def _until_taken(self, body: str) -> None:
        delay_s = DELAY_FIRST_S
        while True:
            try:
                self._post(body)
            except Away as error:
                self.failures += 1
                if not self.away:
                    self.away = True
                    log.warning("InfluxDB at %s is away: %s; trying until it is back", self.connection.url, error)
                self._wait(delay_s)
                delay_s = min(delay_s * 2, DELAY_MAX_S)
                continue
            if self.away:
                self.away = False
                log.info("InfluxDB at %s is back", self.connection.url)
            return

    def _post(self, body: str) -> None:
        try:
            self._write_api.write(self.connection.bucket, self.connection.org, body, write_precision="s")
        except ApiException as error:
            raise judge(error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Away(_cause(error)) from error


def judge(error: ApiException) -> InfluxError:
    """What an answer that is no success means for us."""
    status, text = error.status or 0, " ".join(str(error.body or error.reason or "").split())[:500]
    said = f"HTTP {status}: {text}" if status else text
    if _LIMITS.search(text):
        return NeedsAttention(said)
    if status in (400, 413, 422):
        return Refused(said)
    if status in (0, 408, 429) or status >= 500:
        return Away(said)
    return NeedsAttention(said)


def _cause(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _chunks(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Ranges of lines that fit in one request; a line that is longer than that goes alone."""
    first, size = 0, 0
    for number, line in enumerate(lines):
        length = 4 * len(line)  # UTF-8 takes up to four bytes a character
        if number > first and (number - first == LINES_MAX or size + length > 4 * BYTES_MAX):
            yield first, number
            first, size = number, 0
        size += length
    if first < len(lines):
        yield first, len(lines)
