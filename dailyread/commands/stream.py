"""`dailyread stream`: a worker of the stream job."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from kafka import KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError

from dailyread.config import StreamConfig, add_config_argument, config_or_exit
from dailyread.kafka import (
    TopicsError,
    TopicSettings,
    admin,
    check_topics,
    client_options,
    create_topics,
    differences,
    existing,
)
from dailyread.rebuild_request import asked_us
from dailyread.rules_file import name_of, rules_or_exit
from dailyread.sdnotify import Notifier
from metering.rules import Rules
from metering.rules_digest import digest
from storage.fact_store import fact_store_path
from storage.fact_store_rocksdb import RocksFactStore
from stream.marks import LaterStates, OtherRules
from stream.opening import Opened
from stream.processor import Processor
from stream.settings import Topics, WorkerSettings
from stream.worker import run_worker

HELP = """Run a worker of the stream job until SIGTERM or Ctrl-C: it applies the rules to the facts in Kafka and publishes the
ledger. Several workers of one `group`, each with an `instance` and a `state_dir` of its own, share the partitions. Serves
/health and /metrics at `web`. While Kafka is away at the start it waits and says so once. A worker that is not sure of itself
ends, and is to be started again (systemd does): what it had not acknowledged is read again, and counts once. Exit 0: told to
stop; 1: something that somebody should look at, as the last line of the log says; 2: the configuration is wrong, or the
states that it finds were made under other rules, and nobody has asked for `dailyread rebuild state`."""

log = logging.getLogger(__name__)

RETRY_S = 2.0
SEEN_WITHIN_S = 10.0

# A worker that was frozen may wake and append an older state behind a newer one, and compaction would keep the older. So it
# must not touch what is younger than the next write of a state, and every point's state is written anew each Gas Day.
CHANGELOG = {
    "cleanup.policy": "compact",
    "min.compaction.lag.ms": str(7 * 86_400_000),
    "unclean.leader.election.enable": "false",
    "max.message.bytes": "1048588",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Work until told to stop; returns the exit code."""
    config = config_or_exit(StreamConfig, args.config)
    rules = rules_or_exit(config.rules)
    notify = Notifier()
    settings = worker_settings(config, digest(rules).hex())
    try:
        _wait_for_topics(config, settings.changelog, notify)
    except TopicsError as error:
        for difference in error.differences:
            print(difference, file=sys.stderr)
        print("`dailyread topics --create` makes the topics as they must be", file=sys.stderr)
        return 1
    return run_worker(settings, partial(open_partition, settings, rules, name_of(config.rules)), notify)


def worker_settings(config: StreamConfig, rules: str) -> WorkerSettings:
    """What the worker needs of the configuration, and the digest of its rules."""
    topics = config.kafka.topics
    return WorkerSettings(
        kafka=client_options(config.kafka),
        topics=Topics(topics.facts, topics.broadcast, topics.ledger, topics.dead_letter),
        partitions=config.kafka.partitions,
        group=config.group,
        instance=config.instance,
        state_dir=config.state_dir,
        time=config.kafka.time,
        tick_s=config.tick_s,
        session_timeout_s=config.session_timeout_s,
        rules=rules,
        web=None if config.web is None else _host_and_port(config.web),
    )


def open_partition(settings: WorkerSettings, rules: Rules, name: str, number: int, states: Mapping[str, bytes]) -> Opened:
    """The fact store of a partition, and the rules upon it. OtherRules, with what the rules are called, where it may not go
    on from its states."""
    facts = RocksFactStore(fact_store_path(settings.state_dir, number))
    rebuilt_us = asked_us(settings.state_dir, digest(rules))
    try:
        return Opened(
            Processor(number, facts, states, rules, settings.topics.facts, settings.partitions, rebuilt_us), facts
        )  # fmt: skip
    except LaterStates:
        facts.close()
        raise
    except OtherRules as error:
        facts.close()
        raise OtherRules(f"{name}: {error}") from None


def _wait_for_topics(config: StreamConfig, changelog: str, notify: Notifier) -> None:
    """Waits for Kafka, and checks the topics. TopicsError where they are wrong; SystemExit where it was told to stop."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    notify.ready()
    away = False
    while True:
        try:
            _check(config, changelog)
        except (KafkaError, OSError) as error:
            if not away:
                servers = ", ".join(config.kafka.bootstrap_servers)
                log.warning("Kafka at %s is away: %s; trying until it is back", servers, error)
            away = True
            notify.alive()
            time.sleep(RETRY_S)
            continue
        if away:
            log.info("Kafka is back")
        return


def _check(config: StreamConfig, changelog: str) -> None:
    check_topics(config.kafka, ("facts", "broadcast", "ledger", "dead_letter"))
    wanted = [TopicSettings(changelog, config.kafka.partitions, CHANGELOG)]
    with admin(config.kafka) as client:
        with suppress(TopicAlreadyExistsError):  # another worker was quicker
            create_topics(client, wanted)
        _wait_until_seen(client, changelog)
        if found := differences(client, wanted):
            raise TopicsError(found)


def _wait_until_seen(client: KafkaAdminClient, topic: str) -> None:
    """A topic that another worker has made this moment is not in what the broker tells for a little while."""
    until_s = time.monotonic() + SEEN_WITHIN_S
    while topic not in existing(client) and time.monotonic() < until_s:
        time.sleep(0.1)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
