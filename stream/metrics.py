"""All metrics of a stream worker in one place: kind, meaning, and what to do about it.

`METRICS` is what the code counts with; the names are those that Prometheus sees.
"""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY = CollectorRegistry()


class Metric(NamedTuple):
    """One metric, as the documentation and the alarms want it."""

    name: str
    kind: type[Counter] | type[Gauge] | type[Histogram]
    labels: tuple[str, ...]
    meaning: str
    to_do: str


_P = ("partition",)
DEFINITIONS = (
    Metric("dailyread_stream_frames", Counter, _P, "Frames of the facts topic that are done.",
           "None for long while gateways send: look at dailyread_stream_lag_frames and dailyread_stream_stalled."),
    Metric("dailyread_stream_records", Counter, _P, "Ledger records and voids that the broker acknowledged.",
           "None after 05:00: ticks do not come; look at dailyread_stream_ticks."),
    Metric("dailyread_stream_states", Counter, _P, "States of meter points written to the changelog and to disk.", ""),
    Metric("dailyread_stream_dead_letters", Counter, (), "Facts and frames that could not be used: in the dead-letter topic.",
           "Read the topic: each says where it stood and why. A gateway that keeps sending them needs repair."),
    Metric("dailyread_stream_edge_facts", Counter, ("kind",), "What gateways told beside readings: `alarm`, `given_up`, "
           "`interval_set`, `poll_failed`, `gateway_status`.",
           "`given_up`, or many `poll_failed`: `dailyread status` says of which meter points, and since when."),
    Metric("dailyread_stream_position", Gauge, _P, "Offset of the first frame that is not done.", ""),
    Metric("dailyread_stream_lag_frames", Gauge, _P, "Frames in the facts topic that are not done.",
           "Grows: the worker is too slow; add workers, up to one a partition."),
    Metric("dailyread_stream_stalled", Gauge, _P, "1 while there is lag and the position has not moved for long.",
           "The watchdog restarts the worker; if it comes again, read the log of the worker that has the partition."),
    Metric("dailyread_stream_halted", Gauge, _P, "1 where a frame of a later version than the program stopped the partition.",
           "Upgrade the stream job. The frames wait in the topic."),
    Metric("dailyread_stream_recovery_lag", Gauge, (), "Changelog records still to be read before work can begin.",
           "Stays: the worker cannot read the changelog; its log says why."),
    Metric("dailyread_stream_kafka_away", Gauge, (), "1 while no broker answers.",
           "See to the brokers and the network. Nothing is lost: gateways and this worker wait."),
    Metric("dailyread_stream_owned_partitions", Gauge, (), "Partitions that this worker has.",
           "0 on all workers: the group does not form; are the workers of one version and one group?"),
    Metric("dailyread_stream_rebalances", Counter, (), "How often the partitions were given out anew.",
           "Many: workers come and go, or are too slow to answer within the session time-out."),
    Metric("dailyread_stream_batch_seconds", Histogram, (), "How long it took to publish what came together.",
           "Above a few seconds: the broker is slow to acknowledge, or the machine is too small."),
    Metric("dailyread_stream_relayed", Counter, (), "Broadcast frames copied into every facts partition.", ""),
    Metric("dailyread_stream_relay_owner", Gauge, (), "1 on the worker that relays broadcast frames and publishes ticks.",
           "The sum over all workers is 1; 0 for minutes: calorific values and ticks do not reach the partitions."),
    Metric("dailyread_stream_ticks", Counter, (), "Ticks published, which make due records come out.",
           "None on all workers: nothing is emitted at 05:00 and 11:00; look at dailyread_stream_relay_owner."),
)  # fmt: skip


class _Metrics:
    """The metrics by the name that follows `dailyread_stream_`."""

    frames: Counter
    records: Counter
    states: Counter
    dead_letters: Counter
    edge_facts: Counter
    position: Gauge
    lag_frames: Gauge
    stalled: Gauge
    halted: Gauge
    recovery_lag: Gauge
    kafka_away: Gauge
    owned_partitions: Gauge
    rebalances: Counter
    batch_seconds: Histogram
    relayed: Counter
    relay_owner: Gauge
    ticks: Counter

    def __init__(self) -> None:
        for entry in DEFINITIONS:
            made = entry.kind(entry.name, entry.meaning, entry.labels, registry=REGISTRY)
            setattr(self, entry.name.removeprefix("dailyread_stream_"), made)

    def forget(self, partition: int) -> None:
        """Drop the gauges of a partition that another worker has now."""
        for gauge in (self.position, self.lag_frames, self.stalled, self.halted):
            gauge.remove(str(partition))


METRICS = _Metrics()


def exposition() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(REGISTRY)
