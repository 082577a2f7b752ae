"""The ledger in InfluxDB, 2.x or 1.8: the points of `influx_schema`, and beside them a local index of offsets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from metering.gasday import GasDays
from metering.ledger import AnyRecord, Key
from metering.messages import LedgerMessage
from storage.influx_client import InfluxClient, InfluxError
from storage.influx_lines import FIRST_DAY, LAST_DAY, CannotWrite, Lines, decode_row, decode_tag, encode_tag
from storage.influx_schema import MEASUREMENTS, VOID
from storage.ledger_store import latest
from storage.offset_index import OffsetIndex

WHOLE_TRIES, WHOLE_PAUSE_S = 10, 0.3
POINTS_AT_ONCE = 50  # meter points in one query, so that memory and the query's text stay small


@dataclass
class Counts:
    """What a store has done since it was opened: messages written, too late to change anything, and refused."""

    written: int = 0
    late: int = 0
    refused: int = 0


class InfluxLedgerStore:
    """The ledger in a bucket. What InfluxDB refuses goes to `refuse` with the reason, before `write` returns.

    `write` waits while InfluxDB is away, and raises NeedsAttention where a person must act; `records` raises InfluxError.
    `gas_days` says when a Gas Day starts, which is the time of its points. Closing the store closes client and index.
    """

    def __init__(
        self,
        client: InfluxClient,
        index: OffsetIndex,
        refuse: Callable[[LedgerMessage, str], None],
        gas_days: GasDays,
    ) -> None:
        self.client = client
        self.index = index
        self.counts = Counts()
        self._refuse = refuse
        self._lines = Lines(gas_days)

    def write(self, messages: Sequence[LedgerMessage]) -> None:
        fresh = self._fresh(latest(messages))
        lines: list[str] = []
        written: list[LedgerMessage] = []
        for message in fresh.values():
            try:
                lines.append(self._lines.line(message))
                written.append(message)
            except CannotWrite as error:
                self._give_up(message, str(error))
        for number, reason in self.client.write(lines):
            self._give_up(written[number], reason)
        self.index.note({key: message.offset for key, message in fresh.items()})
        self.counts.late += len(messages) - len(fresh)
        self.counts.written += len(fresh)

    def records(
        self, meter_point: str | None = None, first_day: date | None = None, last_day: date | None = None
    ) -> Iterator[AnyRecord]:
        first, last = max(first_day or FIRST_DAY, FIRST_DAY), min(last_day or LAST_DAY, LAST_DAY)
        if first > last:
            return
        for name in sorted(MEASUREMENTS):
            source = self._source(name, first, last)
            points = self._points(source) if meter_point is None else [meter_point]
            for n in range(0, len(points), POINTS_AT_ONCE):
                yield from self._of_points(name, source, points[n : n + POINTS_AT_ONCE])

    def close(self) -> None:
        self.client.close()
        self.index.close()

    def _fresh(self, standing: dict[Key, LedgerMessage]) -> dict[Key, LedgerMessage]:
        written = self.index.standing(standing)
        return {key: message for key, message in standing.items() if message.offset >= written.get(key, -1)}

    def _give_up(self, message: LedgerMessage, reason: str) -> None:
        self._refuse(message, reason)
        self.counts.refused += 1
        self.counts.written -= 1

    def _source(self, name: str, first: date, last: date) -> str:
        start, stop = self._lines.time_s(first), self._lines.time_s(last) + 1
        return (
            f'from(bucket: "{_quoted(self.client.connection.bucket)}")'
            f" |> range(start: {_instant(start)}, stop: {_instant(stop)})"
            f' |> filter(fn: (r) => r._measurement == "{name}")'
        )

    def _points(self, source: str) -> list[str]:
        # One value a series is enough to know its meter point.
        flux = f'{source} |> filter(fn: (r) => r._field == "{VOID}") |> first()'
        flux += ' |> keep(columns: ["meter_point"]) |> group() |> distinct(column: "meter_point")'
        return sorted(decode_tag(row["_value"]) for row in self.client.rows(flux))

    def _of_points(self, name: str, source: str, points: Sequence[str]) -> list[AnyRecord]:
        wanted = " or ".join(f'r.meter_point == "{encode_tag(point)}"' for point in points)
        flux = f"{source} |> filter(fn: (r) => {wanted})"
        flux += ' |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value") |> group()'
        records = self._whole(name, flux)
        return sorted(records, key=lambda record: record.key())

    def _whole(self, name: str, flux: str) -> list[AnyRecord]:
        """The records; asked for again while some are being written."""
        for tries_left in reversed(range(WHOLE_TRIES)):
            rows: Iterator[dict[str, Any]] = self.client.rows(flux)
            try:
                return [record for row in rows if (record := decode_row(name, row)) is not None]
            except ValueError as error:
                if not tries_left:
                    raise InfluxError(f"{error}: was it written by something else?") from error
                time.sleep(WHOLE_PAUSE_S)
        raise AssertionError("unreachable")


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
