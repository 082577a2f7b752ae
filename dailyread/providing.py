"""Running the provision to Users: from the topics `ledger` and `facts` to files, Users' topics and `provided` facts.

The order makes it safe to stop anywhere. What was read and how far is in the book together. A version's content is in the
book before anybody sees it. Then comes its message, then its file, then its `provided` facts, and at last it leaves the
book. Whatever is done twice is the same: the same message under the same version, the same file, a copy of a fact.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from kafka import TopicPartition
from kafka.errors import KafkaError

from collectors.frames import Route, pack
from collectors.outbox import StoredFact
from dailyread.config import StreamConfig
from dailyread.facts_topic import Appended, received_facts
from dailyread.kafka import TopicsError, check_topics
from dailyread.metrics_page import serve_metrics
from dailyread.presence import Presence, patiently
from dailyread.sdnotify import Notifier
from dailyread.sender import Outgoing, Sender
from dailyread.stopping import Stop, Stopped
from dailyread.topic_reader import Read, TopicChanged, TopicReader
from dailyread.user_topics import MESSAGE_BYTES_MAX, UserTopics
from metering.facts import AnyFact, Provided
from metering.gasday import SECOND_US, to_datetime
from metering.messages import LedgerMessage, decode_change
from metering.provision import Timing
from metering.rules import Rules
from metering.wire import FrameError, UnknownVersion, encode_fact
from storage.ledger_store import BadMessage, check
from storage.metrics import PROVIDE_METRICS, exposition
from storage.provision import ProvisionBook, Publication, Terms
from storage.sqlite import StoreError
from storage.user_files import write_file

log = logging.getLogger(__name__)

GATEWAY = "provide"
POLL_S = 0.5
PUBLISH_TOGETHER = 16
DAY_MS = 86_400_000
ADVICE = "Remove the book ({}): it is made again from the topics"


@dataclass
class Counts:
    """Since the start: versions of files published, `provided` facts published, messages that could not be used."""

    versions: int = 0
    facts: int = 0
    unusable: int = 0


def book_path(config: StreamConfig) -> Path:
    """The file of the book."""
    return config.state_dir / "provision.sqlite"


def run_provision(config: StreamConfig, rules: Rules, once: bool, web: tuple[str, int] | None = None) -> int:
    """Provides Users until a signal, or with `once` until all that is due is published; the exit code."""
    try:
        return _Run(config, rules, once, web).run()
    except Stopped:
        return 0
    except (TopicsError, TopicChanged, StoreError, UnknownVersion, KafkaError, OSError) as error:
        log.critical("%s", error)
    return 1


class _Run:
    def __init__(self, config: StreamConfig, rules: Rules, once: bool, web: tuple[str, int] | None) -> None:
        self._config, self._once, self._web = config, once, web
        self._stop, self._notify = Stop(), Notifier()
        self._presence = Presence(config.kafka)
        self._book = ProvisionBook(book_path(config), _terms(config, rules))
        self._topics = UserTopics(config.kafka, config.provide.topic_prefix, self._presence, self._wait)
        self._sender = Sender(
            config.kafka, self._presence, self._wait, max_request_size=MESSAGE_BYTES_MAX, compression_type="gzip"
        )
        self._clock = _Clock(config.kafka.time == "simulated")
        self.counts = Counts()

    def run(self) -> int:
        reader: TopicReader | None = None
        try:
            self._notify.ready()
            reader = patiently(self._presence, self._wait, self._open)
            log.info("Users' files go to %s", self._config.provide.folder)
            self._serve(reader)
            self._loop(reader)
            log.info("published %d versions of files, %d provided facts", self.counts.versions, self.counts.facts)
        finally:
            self._notify.stopping()
            self._sender.close()
            if reader is not None:
                reader.close()
            self._book.close()
        return 0

    def _open(self) -> TopicReader:
        """The topics, from where the book says; a book that is new takes over first what was published before."""
        kafka = self._config.kafka
        check_topics(kafka, ("ledger", "facts"))
        if self._book.empty and (files := self._book.restore(self._topics.published())):
            log.warning("the book is new, and took over %d files from the Users' topics", files)
        places = [
            TopicPartition(name, number)
            for name in (kafka.topics.ledger, kafka.topics.facts)
            for number in range(kafka.partitions)
        ]
        positions = {TopicPartition(*place): at for place, at in self._book.positions().items()}
        since_ms = (
            None if kafka.time == "simulated" else int(time.time() * 1000) - (self._config.provide.back_days + 1) * DAY_MS
        )
        return TopicReader(
            kafka, places, f"{self._config.group}-provide", positions, presence=self._presence, wait=self._wait,
            advice=ADVICE.format(book_path(self._config)), since_ms=since_ms,
        )  # fmt: skip

    def _loop(self, reader: TopicReader) -> None:
        self._publish()
        while not self._stop.asked:
            self._notify.alive()
            found = reader.read(POLL_S)
            if found:
                self._take(reader, found)
            if not reader.caught_up:
                continue  # what is read now may have been superseded since
            done = self._once and not found and reader.at_end()
            self._book.prepare(self._clock.now_us + (int(self._config.provide.gather_s * SECOND_US) if done else 0))
            self._publish()
            if done:
                return

    def _take(self, reader: TopicReader, found: Sequence[Read]) -> None:
        ledger = self._config.kafka.topics.ledger
        messages = [message for each in found if each.topic == ledger and (message := self._message(each)) is not None]
        facts = [fact for each in found if each.topic != ledger for fact in self._facts(each)]
        positions = {TopicPartition(each.topic, each.partition): each.offset + 1 for each in found}
        self._clock.saw(max((each.timestamp_ms for each in found if each.topic != ledger), default=0))
        self._book.take(
            messages, facts, {(place.topic, place.partition): at for place, at in positions.items()}, self._clock.now_us
        )
        reader.commit(positions)

    def _message(self, read: Read) -> LedgerMessage | None:
        try:
            message = decode_change(read.value)
            check(message)
        except (FrameError, BadMessage) as error:
            self.counts.unusable += 1
            log.error("%s[%d] offset %d: %s", read.topic, read.partition, read.offset, error)
            return None
        return message

    def _facts(self, read: Read) -> list[AnyFact]:
        """The facts of a frame; what is none is in the stream job's dead letters."""
        return [fact for fact in received_facts(Appended(*read), self._config.kafka) if not isinstance(fact, str)]

    def _publish(self) -> None:
        while publications := self._book.waiting(PUBLISH_TOGETHER):
            self._notify.alive()
            self._topics.make(each.file.user for each in publications)
            self._sender.send([self._topics.message(each) for each in publications])
            for each in publications:
                path = write_file(self._config.provide.folder, each.file, each.version, each.content)
                log.info("%s: %d bytes", path, len(each.content))
            self._sender.send(self._provided(publications))
            self._book.done(publications)
            self.counts.versions += len(publications)
            self.counts.facts += sum(len(each.provided) for each in publications)

    def _provided(self, publications: Sequence[Publication]) -> list[Outgoing]:
        """The frames that say what was published."""
        kafka = self._config.kafka
        route = Route(
            facts_topic=kafka.topics.facts, broadcast_topic=kafka.topics.broadcast, partitions=kafka.partitions,
            gateway=GATEWAY, simulated=kafka.time == "simulated",
        )  # fmt: skip
        stored = [
            StoredFact(number, to_datetime(made_us), fact, len(encode_fact(fact)))
            for number, (made_us, fact) in enumerate(_facts_of(publications))
        ]
        return [
            Outgoing(frame.topic, frame.value, frame.partition, timestamp_ms=frame.timestamp_ms)
            for frame in pack(stored, route)
        ]

    def _serve(self, reader: TopicReader) -> None:
        if self._web is not None:
            serve_metrics(self._web, _values(self.counts, reader, self._presence))

    def _wait(self, seconds: float) -> None:
        self._notify.alive()
        self._stop.wait(seconds)


class _Clock:
    """Which decides when files are due. In simulated time it is as late as the latest fact says."""

    def __init__(self, simulated: bool) -> None:
        self._simulated = simulated
        self._latest_us = 0

    @property
    def now_us(self) -> int:
        return self._latest_us if self._simulated else time.time_ns() // 1000

    def saw(self, timestamp_ms: int) -> None:
        self._latest_us = max(self._latest_us, timestamp_ms * 1000)


def _facts_of(publications: Sequence[Publication]) -> Iterator[tuple[int, Provided]]:
    """What the publications provide, each fact with the instant at which its version was made."""
    for each in publications:
        gas_day = date.fromordinal(each.file.gas_day)
        for meter_point, version in each.provided:
            yield each.made_us, Provided(meter_point=meter_point, user=each.file.user, gas_day=gas_day, version=version)


def _terms(config: StreamConfig, rules: Rules) -> Terms:
    provide = config.provide
    timing = Timing(int(provide.gather_s * SECOND_US), int(provide.margin_s * SECOND_US))
    back_days = max(provide.back_days, rules.close_out_days + 2)  # till after the Exit Close-Out
    return Terms(rules.calendar(), timing, rules.boundary_s * SECOND_US, back_days, frozenset(provide.hourly_users))


def _values(counts: Counts, reader: TopicReader, presence: Presence) -> Callable[[], bytes]:
    def page() -> bytes:
        values = {
            "dailyread_provide_versions_total": counts.versions,
            "dailyread_provide_facts_total": counts.facts,
            "dailyread_provide_unusable_total": counts.unusable,
            "dailyread_provide_lag": reader.lag,
            "dailyread_provide_kafka_away": int(presence.away),
        }
        return exposition(values, PROVIDE_METRICS)

    return page
