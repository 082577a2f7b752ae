"""`dailyread redrive`: puts dead letters back, after what made them is mended."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping

from kafka import KafkaProducer
from kafka.errors import KafkaError

from collectors.publisher import give_up
from dailyread.arguments import instant
from dailyread.config import KafkaConfig, StreamConfig, add_config_argument, config_or_exit
from dailyread.facts_topic import Position, read_messages
from dailyread.kafka import TopicsError, consumer, producer, trouble
from dailyread.redriving import Found, Lost, Wanted, find, lost_by_place, notes, read_again
from dailyread.sender import ACKNOWLEDGED_WITHIN_S
from metering.wire import Origin

HELP = """Put back what the stream job could not use, after a mend: of the dead letters those that were not put back yet, and
that this program can read. It lists them, by where they stood and why, and asks. Facts go where they belong, and count as
received when they are put back: nobody had used them before. They keep their identity, so that a fact that is put back twice
counts once. First see that all workers are of this version. What the ledger's writer could not use is not put back by this,
but by `dailyread rebuild influx`. Exit 0: done, or nothing to do; 1: Kafka did not take or give all; 2: the configuration is
wrong, or there is nobody to ask."""

REASONS_SHOWN = 20
TOGETHER = 500  # messages that are read before their facts are waited for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config_argument(parser)
    parser.add_argument("--topic", metavar="NAME", help="only what stood in this topic")
    parser.add_argument("--partition", metavar="N", type=int, help="only what stood in this partition")
    parser.add_argument("--reason", metavar="TEXT", help="only letters whose reason has this in it")
    parser.add_argument("--since", metavar="INSTANT", type=instant, help="only letters written then or later")
    parser.add_argument("--again", action="store_true", help="also what was put back before")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--dry-run", action="store_true", help="list what would be put back, and change nothing")
    action.add_argument("--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    """List, ask, put back; returns the exit code."""
    config = config_or_exit(StreamConfig, args.config).kafka
    if config.time == "simulated":
        print("kafka.time is simulated: nothing is received there any more; run the simulation again", file=sys.stderr)
        return 2
    wanted = Wanted(args.topic, args.partition, args.reason, args.since, args.again)
    try:
        return _redrive(config, wanted, args)
    except TopicsError as error:
        print(*error.differences, sep="\n", file=sys.stderr)
    except TimeoutError as error:
        print(error, file=sys.stderr)
    except KafkaError as error:
        print(f"{trouble(config, error)}; what Kafka has already counts once, so run it again", file=sys.stderr)
    return 1


def _redrive(config: KafkaConfig, wanted: Wanted, args: argparse.Namespace) -> int:
    lost = lost_by_place(read_messages(config, _progress, ("dead_letter",)), wanted)
    others = [place for place in lost if place.topic not in (config.topics.facts, config.topics.broadcast)]
    if others:
        print(f"{len(others)} letters are of other topics ({others[0].topic}): see `dailyread rebuild influx`", file=sys.stderr)
    lost = {place: each for place, each in lost.items() if place not in set(others)}
    facts = _show(config, lost)
    if not facts or args.dry_run:
        return 0
    if not args.yes:
        if not sys.stdin.isatty():
            print("nobody to ask: --yes puts them back, --dry-run only lists them", file=sys.stderr)
            return 2
        if input(f"put back {facts} facts? [y/N] ").strip().lower() not in ("y", "yes"):
            return 0
    print(f"{_send(config, lost)} facts put back")
    return 0


def _show(config: KafkaConfig, lost: Mapping[Origin, Lost]) -> int:
    """Say what there is, and why it stays where it does; how many facts can be put back."""
    usable: Counter[str] = Counter()
    stay: Counter[str] = Counter()
    facts = 0
    for found in _found(config, lost):
        where = f"{found.place.topic}[{found.place.partition}]"
        usable.update(f"{where}: {lost[found.place].numbers[number]}" for number in found.numbers)
        stay.update(f"{where}: {why}" for why in found.stay)
        facts += found.facts
    _say("can be put back", usable)
    _say("cannot be used yet, and stay", stay)
    print(f"{facts} facts can be put back; {stay.total()} cannot be used yet")
    return facts


def _say(title: str, counts: Counter[str]) -> None:
    if counts:
        print(f"{title}:")
    for reason, count in counts.most_common(REASONS_SHOWN):
        print(f"  {count:6} {reason}")
    if len(counts) > REASONS_SHOWN:
        print(f"         and {len(counts) - REASONS_SHOWN} more reasons")


def _send(config: KafkaConfig, lost: Mapping[Origin, Lost]) -> int:
    """Put them back; each is noted when Kafka has it. How many facts."""
    client = producer(config, ("facts", "broadcast", "dead_letter"))
    sent, together = 0, []
    try:
        for found in _found(config, lost):
            sent += found.facts
            together.append(found)
            if len(together) >= TOGETHER:
                _publish(client, config, together)
                together = []
        _publish(client, config, together)
    finally:
        give_up(client)
    return sent


def _publish(client: KafkaProducer, config: KafkaConfig, together: list[Found]) -> None:
    frames = [frame for found in together for frame in found.frames]
    for future in [client.send(frame.topic, value=frame.value, partition=frame.partition) for frame in frames]:
        future.get(timeout=ACKNOWLEDGED_WITHIN_S)
    for future in [client.send(config.topics.dead_letter, value=note) for note in notes(together)]:
        future.get(timeout=ACKNOWLEDGED_WITHIN_S)


def _found(config: KafkaConfig, lost: Mapping[Origin, Lost]) -> Iterator[Found]:
    client = consumer(config)
    try:
        for place, message in read_again(client, lost):
            yield find(place, message, lost[place], config)
    finally:
        client.close()


def _progress(position: Position) -> None:
    print(f"read {position.read} of {position.total} dead letters", file=sys.stderr)
