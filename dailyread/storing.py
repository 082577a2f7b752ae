"""Running the ledger's writer: opening what it needs, its loop, and its end by a signal. For `store` and `rebuild influx`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from kafka.errors import KafkaError

from dailyread.config import InfluxConfig, StreamConfig
from dailyread.kafka import TopicsError
from dailyread.ledger_topic import KafkaLedger
from dailyread.metrics_page import serve_metrics
from dailyread.presence import RETRY_MAX_S, RETRY_S
from dailyread.sdnotify import Notifier
from dailyread.stopping import Stop, Stopped
from dailyread.topic_reader import TopicChanged
from metering.gasday import GasDays
from metering.rules import Rules, load
from storage.influx_client import Connection, InfluxClient, NeedsAttention
from storage.metrics import exposition
from storage.offset_index import OffsetIndex
from storage.sqlite import StoreError
from storage.writer import LedgerWriter

log = logging.getLogger(__name__)

POLL_S = 0.5


def index_path(config: StreamConfig) -> Path:
    """The file of the writer's own index."""
    return config.state_dir / "ledger-index.sqlite"


def influx_or_exit(config: StreamConfig) -> InfluxConfig:
    """Where InfluxDB is; without it the program ends with exit code 2."""
    if config.influx is None:
        print("influx: missing; allowed: a table `[influx]` with `url`, `org`, `bucket`, and its token", file=sys.stderr)
        raise SystemExit(2)
    return config.influx


def run_writer(config: StreamConfig, once: bool, web: tuple[str, int] | None = None) -> int:
    """Writes the ledger topic to InfluxDB until a signal, or with `once` until all of it is written; the exit code."""
    influx, gas_days = influx_or_exit(config), _calendar_or_exit(config)
    try:
        return _Run(config, influx, gas_days, once, web).run()
    except Stopped:
        return 0
    except NeedsAttention as error:
        log.critical("InfluxDB at %s takes nothing more until somebody sees to it: %s", influx.url, error)
    except (TopicsError, TopicChanged, StoreError, KafkaError, OSError) as error:
        log.critical("%s", error)
    return 1


class _Run:
    def __init__(
        self, config: StreamConfig, influx: InfluxConfig, gas_days: GasDays, once: bool, web: tuple[str, int] | None
    ) -> None:
        self._config = config
        self._gas_days = gas_days
        self._influx = influx
        self._once = once
        self._web = web
        self._stop = Stop()
        self._notify = Notifier()

    def run(self) -> int:
        index = OffsetIndex(index_path(self._config))
        client = InfluxClient(_connection(self._influx), self._wait)
        topic: KafkaLedger | None = None
        try:
            self._notify.ready()
            topic = self._open(index)
            writer = LedgerWriter(topic, client, index, self._gas_days)
            self._serve(writer, topic, client)
            self._loop(writer, topic)
            counts = writer.counts
            log.info("written %d, too late %d, dead letters %d", counts.written, counts.late, counts.dead_letters)
        finally:
            self._notify.stopping()
            if topic is not None:
                topic.close()
            client.close()
            index.close()
        return 0

    def _loop(self, writer: LedgerWriter, topic: KafkaLedger) -> None:
        while not self._stop.asked:
            self._notify.alive()
            messages = topic.read(POLL_S)
            if messages:
                writer.write(messages)
            elif self._once and topic.at_end():
                return

    def _open(self, index: OffsetIndex) -> KafkaLedger:
        delay_s = RETRY_S
        while True:
            try:
                topic = KafkaLedger(self._config.kafka, f"{self._config.group}-store", index.positions(), self._wait)
            except (KafkaError, OSError) as error:
                if delay_s == RETRY_S:
                    servers = ", ".join(self._config.kafka.bootstrap_servers)
                    log.warning("Kafka at %s is away: %s; trying until it is back", servers, error)
                self._wait(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)
                continue
            if delay_s > RETRY_S:
                log.info("Kafka is back")
            return topic

    def _serve(self, writer: LedgerWriter, topic: KafkaLedger, client: InfluxClient) -> None:
        if self._web is not None:
            serve_metrics(self._web, _values(writer, topic, client))

    def _wait(self, seconds: float) -> None:
        self._notify.alive()
        self._stop.wait(seconds)


def _values(writer: LedgerWriter, topic: KafkaLedger, client: InfluxClient) -> Callable[[], bytes]:
    def page() -> bytes:
        counts = writer.counts
        return exposition({
            "dailyread_store_written_total": counts.written,
            "dailyread_store_late_total": counts.late,
            "dailyread_store_dead_letters_total": counts.dead_letters,
            "dailyread_store_lag": topic.lag,
            "dailyread_store_write_failures_total": client.failures,
            "dailyread_store_influxdb_away": int(client.away),
            "dailyread_store_kafka_away": int(topic.away),
        })  # fmt: skip

    return page


def _calendar_or_exit(config: StreamConfig) -> GasDays:
    """When Gas Days start, by the configured rules; a mistake in them ends the program with exit code 2."""
    try:
        return (Rules() if config.rules is None else load(config.rules.read_bytes())).calendar()
    except (OSError, ValueError) as error:
        print(f"{config.rules}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _connection(influx: InfluxConfig) -> Connection:
    token = influx.token.reveal() if influx.token is not None else ""
    return Connection(influx.url, influx.org, influx.bucket, token, influx.ca_file)
