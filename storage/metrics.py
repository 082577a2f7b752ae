"""All metrics of the ledger's writer and of the provision to Users in one place: kind, meaning, and what to do about it.

And their text for Prometheus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """One metric, as the documentation and the alarms want it."""

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    to_do: str


METRICS = (
    Metric("dailyread_store_written_total", "counter", "Ledger messages written to InfluxDB and acknowledged.",
           "None for long while the stream job publishes: look at dailyread_store_lag and the two that say who is away."),
    Metric("dailyread_store_late_total", "counter", "Messages that rest on older facts than what is already written: left out.",
           "Grows steadily: two workers think that they have one partition; look at the stream job's log."),
    Metric("dailyread_store_dead_letters_total", "counter", "Messages that could not be used: in the dead-letter topic.",
           "Read the topic: each says where it stood and why."),
    Metric("dailyread_store_lag", "gauge", "Messages of the ledger topic that are not read yet.",
           "Grows: InfluxDB is away or too slow."),
    Metric("dailyread_store_write_failures_total", "counter", "Writes that InfluxDB did not take, and that were tried again.",
           "Grows while dailyread_store_influxdb_away comes and goes: InfluxDB is overloaded, or the line to it is bad."),
    Metric("dailyread_store_influxdb_away", "gauge", "1 while InfluxDB does not answer.",
           "Start InfluxDB; Kafka keeps what waits."),
    Metric("dailyread_store_kafka_away", "gauge", "1 while Kafka does not answer.", "Start Kafka."),
)  # fmt: skip

PROVIDE_METRICS = (
    Metric("dailyread_provide_versions_total", "counter", "Versions of Users' files that were published.",
           "None between 05:00 and 11:00: look at dailyread_provide_lag, and at the log."),
    Metric("dailyread_provide_facts_total", "counter", "Facts that say which Valid readings were published.", "Nothing."),
    Metric("dailyread_provide_unusable_total", "counter", "Messages of the ledger topic that could not be used.",
           "The log says where they stand and why."),
    Metric("dailyread_provide_lag", "gauge", "Messages of the topics ledger and facts that are not read yet.",
           "Grows: Kafka is away, or the disk of the folder is slow."),
    Metric("dailyread_provide_kafka_away", "gauge", "1 while Kafka does not answer.", "Start Kafka; what waits is kept."),
)  # fmt: skip


def exposition(values: Mapping[str, int], metrics: Sequence[Metric] = METRICS) -> bytes:
    """The metrics in Prometheus' text format; `values` has one for each name."""
    lines = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {metric.meaning}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        lines.append(f"{metric.name} {values[metric.name]}")
    return "\n".join([*lines, ""]).encode()
