"""`dailyread explain`: why a Gas Day's number is what it is, and who knew what when."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from dailyread.arguments import gas_day, instant
from dailyread.config import StreamConfig, config_or_exit
from dailyread.jsonlines import BadLine, read_facts
from dailyread.report.explanation import print_explanation
from dailyread.report.tables import console
from metering.explain import Unexplained, explain
from metering.explanation import Explanation
from metering.facts import AnyFact, Registered
from metering.gasday import to_us
from metering.replay import latest_us
from metering.rules import Rules, load
from metering.wire import Origin, UnknownVersion, canonical, partition_of
from storage.fact_store import FACT_STORES, read_fact_store
from storage.sqlite import StoreError

HELP = """Explain a Gas Day of a Supply Meter Point as of an instant: its volume and quantity step by step, with the readings,
their source and their times; what the rules found; what it was before and since when; what would change it. The facts come
from a file, from the folder of a worker or a demo, which may be running, or from Kafka. Exit 0: explained; 2: there is no such
meter point or Day, a line is not a fact (the others count), or a file or the configuration is wrong; 1: no broker answers."""


class Trouble(Exception):
    """What keeps the Day from being explained, in words, and the exit code."""

    def __init__(self, reason: str, code: int = 2) -> None:
        super().__init__(reason)
        self.code = code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("meter_point", metavar="METER_POINT", help="the Supply Meter Point")
    parser.add_argument("gas_day", metavar="DAY", type=gas_day, help="the Gas Day, as 2026-01-31")
    sources = parser.add_mutually_exclusive_group(required=True)
    sources.add_argument("--facts", metavar="FACTS.jsonl", help="facts in JSON Lines; - is standard input")
    sources.add_argument(
        "--store", metavar="FOLDER", type=Path, help=f"the `state_dir` of a worker or a demo, with its {FACT_STORES}"
    )
    sources.add_argument("--config", metavar="FILE", type=Path, help="the stream job's configuration: the facts in Kafka")
    parser.add_argument(
        "--as-of", metavar="INSTANT", type=instant, help="as it was known then; without it, when the latest fact was received"
    )
    parser.add_argument(
        "--rules",
        metavar="RULES.toml",
        type=Path,
        help="settings of the rules, where they are not the default, or `--config`'s",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, for other programs")


def run(args: argparse.Namespace) -> int:
    """Print the explanation; returns the exit code."""
    try:
        rules = _rules(args.rules)
        if args.config is not None:
            config = config_or_exit(StreamConfig, args.config)
            rules = rules or _rules(config.rules)
            facts, bad = _from_kafka(config, args.meter_point), 0
        elif args.store is not None:
            facts, bad = _from_store(args.store, args.meter_point), 0
        else:
            facts, bad = _from_file(args.facts)
        explained = _explained(args, facts, rules or Rules())
    except Trouble as trouble:
        print(f"dailyread explain: {trouble}", file=sys.stderr)
        return trouble.code
    _print(explained, rules or Rules(), args.json)
    return 2 if bad else 0


def _explained(args: argparse.Namespace, facts: list[AnyFact], rules: Rules) -> Explanation:
    as_of_us = latest_us(facts) if args.as_of is None else to_us(args.as_of)
    if as_of_us is None:
        raise Trouble("there are no facts")
    try:
        return explain(args.meter_point, args.gas_day, facts, as_of_us, rules)
    except Unexplained as error:
        raise Trouble(str(error)) from error


def _print(explained: Explanation, rules: Rules, as_json: bool) -> None:
    if as_json:
        line = msgspec.json.Encoder(decimal_format="string").encode(explained)
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
        return
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    print_explanation(console(sys.stdout), explained, rules.calendar().zone)


def _rules(path: Path | None) -> Rules | None:
    try:
        return None if path is None else load(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Trouble(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _from_file(path: str) -> tuple[list[AnyFact], int]:
    """The facts of a file, and how many of its lines are none; each of those is told."""
    facts: list[AnyFact] = []
    bad = 0
    try:
        with sys.stdin.buffer if path == "-" else Path(path).open("rb") as lines:
            for item in read_facts(lines):
                if isinstance(item, BadLine):
                    bad += 1
                    print(f"dailyread explain: {path}: {item}", file=sys.stderr)
                else:
                    facts.append(item)
    except OSError as error:
        raise Trouble(f"{path}: {error.strerror}") from error
    return facts, bad


def _from_store(folder: Path, meter_point: str) -> list[AnyFact]:
    """The facts about a meter point in a worker's folder, whichever of its partitions has them."""
    files = sorted(folder.glob(FACT_STORES))
    if not files:
        raise Trouble(f"{folder}: no {FACT_STORES} here, as a worker's `state_dir` or a demo's has them")
    for path in files:
        try:
            store = read_fact_store(path)
            try:
                own = store.of_point(meter_point)
                values = store.calorific_values({fact.ldz for fact in own if isinstance(fact, Registered)})
            finally:
                store.close()
        except StoreError as error:
            raise Trouble(str(error)) from error
        if own:
            return [*own, *values]
    raise Trouble(f"{folder}: no fact here is about the meter point {meter_point}")


def _from_kafka(config: StreamConfig, meter_point: str) -> list[AnyFact]:
    """The facts in Kafka that concern a meter point: of its partition, and of the broadcast topic."""
    try:
        from kafka.errors import KafkaError

        from dailyread.facts_topic import origins_of, read_messages, received_facts
        from dailyread.kafka import TopicsError, trouble
    except ModuleNotFoundError as error:
        raise Trouble(f"--config needs {error.name}: pip install 'dailyread[gateway]'", 1) from error
    wanted = {config.kafka.topics.broadcast: 0, config.kafka.topics.facts: partition_of(meter_point, config.kafka.partitions)}
    found: list[tuple[Origin, AnyFact]] = []
    left_out: set[tuple[Origin, bytes]] = set()
    try:
        for message in read_messages(config.kafka, lambda at: print(f"read {at.read} of {at.total}", file=sys.stderr)):
            if wanted[message.topic] == message.partition:
                place = Origin(message.topic, message.partition, message.offset)
                facts = [fact for fact in received_facts(message, config.kafka) if not isinstance(fact, str)]
                found += [(place, fact) for fact in facts]
                left_out |= {(origin, canonical(fact)) for origin in origins_of(message) for fact in facts}
    except UnknownVersion as error:
        raise Trouble(f"{error}; upgrade this program", 1) from error
    except TopicsError as error:
        raise Trouble("\n".join(error.differences), 1) from error
    except KafkaError as error:
        raise Trouble(trouble(config.kafka, error), 1) from error
    return [fact for place, fact in found if not left_out or (place, canonical(fact)) not in left_out]
