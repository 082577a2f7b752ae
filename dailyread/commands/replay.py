"""`dailyread replay`: facts in, the ledger's records out."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from dailyread.arguments import instant
from dailyread.jsonlines import BadLine, in_order, read_facts
from metering.facts import AnyFact
from metering.gasday import to_us
from metering.ledger import AnyRecord, Performance
from metering.performance import performance
from metering.replay import latest_us, replay, shuffled
from metering.rules import Rules, load

HELP = """Compute the ledger from facts in JSON Lines, as of an instant (default: the latest that the file speaks of), and print
its records in a fixed order. Exit code 2 where a line is not a fact, or the rules are wrong; the other lines still count."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("facts", metavar="FACTS.jsonl", help="the facts; - is standard input")
    parser.add_argument("--as-of", metavar="INSTANT", type=instant, help="as it was known then, e.g. 2026-01-09T11:00:00Z")
    parser.add_argument(
        "--rules", metavar="RULES.toml", type=Path, help="settings of the rules, where they are not the default"
    )
    parser.add_argument(
        "--shuffle",
        metavar="SEED",
        type=int,
        help="deliver the facts in a random order, some twice, through the incremental form",
    )


def run(args: argparse.Namespace) -> int:
    """Print the ledger; 0, or 2 where a line or a setting was wrong."""
    reading = args.rules
    try:
        rules = Rules() if args.rules is None else load(args.rules.read_bytes())
        reading = args.facts
        facts, bad = _facts(args.facts)
    except (OSError, ValueError) as error:
        print(f"dailyread replay: {reading}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 2
    as_of_us = latest_us(facts) if args.as_of is None else to_us(args.as_of)
    if as_of_us is not None:
        for line in in_order(_records(facts, as_of_us, rules, args.shuffle)):
            sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
    for each in bad:
        print(f"dailyread replay: {args.facts}: {each}", file=sys.stderr)
    return 2 if bad else 0


def _records(facts: Sequence[AnyFact], as_of_us: int, rules: Rules, seed: int | None) -> list[AnyRecord | Performance]:
    if seed is None:
        ledger = replay(facts, as_of_us, rules)
    else:
        ledger = shuffled(facts, as_of_us, rules, seed)
        dice = random.Random(seed)
        facts = dice.sample([*facts, *dice.sample(facts, len(facts) // 5)], len(facts) + len(facts) // 5)
    return [*ledger.values(), *performance(facts, ledger.values(), as_of_us, rules)]


def _facts(path: str) -> tuple[list[AnyFact], list[BadLine]]:
    facts: list[AnyFact] = []
    bad: list[BadLine] = []
    with sys.stdin.buffer if path == "-" else Path(path).open("rb") as lines:
        for item in read_facts(lines):
            if isinstance(item, BadLine):
                bad.append(item)
            else:
                facts.append(item)
    return facts, bad
