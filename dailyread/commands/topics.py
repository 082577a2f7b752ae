"""`dailyread topics`: makes the Kafka topics, and says where they are not as they must be."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from dailyread.config import StreamConfig, add_config_argument, config_or_exit
from dailyread.kafka import TopicSettings, admin, apply_settings, create_topics, differences, trouble, wanted_topics

HELP = """Verify the Kafka topics (facts, broadcast, ledger, dead letters) against the settings that the project needs, and
print what differs. With --create, make those that are missing and change settings that differ, first; how time is kept and
the number of partitions are never changed, because what is in the topic rests on them. Exit 0: all as it must be; 1: not,
or no broker answers; 2: the configuration is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config_argument(parser)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--create", action="store_true", help="make what is missing and change what differs, then verify")
    action.add_argument("--verify", action="store_true", help="only verify (the default)")
    parser.add_argument(
        "--replicas", type=int, default=-1, metavar="N", help="copies of each new topic (default: what the broker says)"
    )


def run(args: argparse.Namespace) -> int:
    """Create or verify; returns the exit code."""
    config = config_or_exit(StreamConfig, args.config)
    wanted = wanted_topics(config.kafka)
    try:
        with admin(config.kafka) as client:
            if args.create:
                _create(client, wanted, args.replicas)
            found = differences(client, wanted)
    except (KafkaError, OSError) as error:
        print(trouble(config.kafka, error), file=sys.stderr)
        return 1
    for difference in found:
        print(difference, file=sys.stderr)
    if not found:
        print("topics " + ", ".join(topic.name for topic in wanted) + ": as they must be")
    return 1 if found else 0


def _create(client: KafkaAdminClient, wanted: Sequence[TopicSettings], replicas: int) -> None:
    for name in create_topics(client, wanted, replicas):
        print(f"topic {name}: made")
    for change in apply_settings(client, wanted):
        print(change)
