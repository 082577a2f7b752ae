"""Meter-Days a second of one worker of the stream job, beside Quix Streams and Bytewax with the same rules on the same topic.

    python -m tests.integration.services with python -m benchmarks.stream [--rounds 3] [--points 2000] [--days 15]
        [--compiled]

Needs `pip install -e '.[dev,rivals]'`. Each contender reads the topic from its beginning in a process of its own
(`stream_contenders.py`), in turns, `--rounds` times: facts in, rules, states kept and recoverable, records out, the offset
committed behind them. The messages are of both shapes: `one` meter point's Day, as a gateway with one meter sends them, and
frames of `many` (64). First with `toy` rules, which show what the frameworks cost and that the rivals are set up as they
should be; there a plain Faust agent and a bare confluent-kafka loop run, too. Then with the `whole` rules.

Printed for each: meter-Days a second and microseconds a meter-Day by the clock; processor time a meter-Day, of all threads;
both without what the rules alone take for the same messages, measured in this run too. Medians of the rounds. With
`--compiled` the rules, for all, and the stream job are compiled first (see setup.py).
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import msgspec

from benchmarks.engine import FIRST, batch, reference_facts, start
from benchmarks.stream_contenders import CONTENDERS, Job, Said
from benchmarks.stream_rules import KINDS, Message, Own, own_us
from dailyread import kafka as clients
from dailyread.commands.stream import CHANGELOG
from dailyread.config import KafkaConfig, TopicNames
from metering.facts import AnyFact
from metering.gasday import to_us
from metering.wire import encode_frame, partition_of
from tests.compiled import REPOSITORY, is_compiled, run_compiled

PARTITIONS = 4
MANY = 64
WORKERS = {"toy": ("ours", "quix", "bytewax", "faust", "bare"), "whole": ("ours", "quix", "bytewax")}


def messages(points: int, days: int, a_message: int) -> Iterator[Message]:
    """Registrations and meters, then Day after Day the readings of every point, in frames of so many points' batches."""
    names: defaultdict[int, list[str]] = defaultdict(list)
    for n in range(points):
        names[partition_of(f"{7_400_000_000 + n}", PARTITIONS)].append(f"{7_400_000_000 + n}")
    at_ms = to_us(start(FIRST) - timedelta(days=9)) // 1000
    for partition, own in names.items():
        yield from _frames(own, partition, at_ms, a_message, reference_facts())
    dice, index = random.Random(1), dict.fromkeys((name for own in names.values() for name in own), 0)
    for day in range(FIRST, FIRST + days):
        at_ms = to_us(start(day + 1) + timedelta(minutes=10)) // 1000
        used = dice.randint(2000, 9000)
        for partition, own in names.items():
            facts: list[AnyFact] = [batch(day, index[own[0]], used)]
            yield from _frames(own, partition, at_ms, a_message, facts, days=1)
        index = {name: before + used for name, before in index.items()}


def _frames(
    own: Sequence[str], partition: int, at_ms: int, a_message: int, facts: Sequence[AnyFact], days: int = 0
) -> Iterator[Message]:
    for first in range(0, len(own), a_message):
        some = own[first : first + a_message]
        said = [msgspec.structs.replace(fact, meter_point=name, received_at=None) for name in some for fact in facts]  # type: ignore[call-arg]
        key = some[0] if a_message == 1 else f"gateway-{partition}-{first}"
        yield Message(key.encode(), encode_frame(said, "gw-01"), partition, at_ms, days * len(some))


def publish(bootstrap: str, shape: str, sent: Sequence[Message]) -> KafkaConfig:
    """New topics with these messages on the facts topic."""
    unique = f"{shape}-{uuid.uuid4().hex[:8]}"
    names = TopicNames(**{role: f"{role}-{unique}" for role in TopicNames.__struct_fields__})
    config = KafkaConfig(bootstrap_servers=(bootstrap,), partitions=PARTITIONS, topics=names, time="simulated")
    with clients.admin(config) as admin:
        clients.create_topics(admin, clients.wanted_topics(config))
    producer = clients.producer(config)
    for each in sent:
        producer.send(names.facts, each.value, key=each.key, partition=each.partition, timestamp_ms=each.timestamp_ms)
    producer.flush()
    producer.close()
    return config


def run(config: KafkaConfig, contender: str, kind: str, sent: Sequence[Message], warm: int, profile: str | None) -> Said:
    """One contender on the topic, from the beginning to the end."""
    group, topics = f"{contender}-{uuid.uuid4().hex[:8]}", config.topics
    if contender == "ours":
        with clients.admin(config) as admin:
            clients.create_topics(admin, [clients.TopicSettings(f"{group}-states-changelog", PARTITIONS, CHANGELOG)])
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            contender=contender, kind=kind, bootstrap=config.bootstrap_servers[0], facts=topics.facts, ledger=topics.ledger,
            broadcast=topics.broadcast, dead_letter=topics.dead_letter, group=group, partitions=PARTITIONS, folder=folder,
            warm=warm, total=sum(each.days for each in sent), messages=len(sent), profile=profile is not None,
        )  # fmt: skip
        told = Path(folder) / "job.json"
        told.write_bytes(msgspec.json.encode(job))
        command = [sys.executable, "-m", "benchmarks.stream_contenders", str(told)]
        if profile is not None:
            command = ["py-spy", "record", "--gil", "-r", "500", "-f", "raw", "-o", profile, "--", *command]
        path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(REPOSITORY)])
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path})
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"wall_us"')]
    if not lines:
        raise RuntimeError(f"{contender} ended with {done.returncode} and said nothing")
    return msgspec.json.decode(lines[-1], type=Said)


def show(kind: str, shape: str, said: dict[str, list[Said]], owns: Sequence[Own]) -> None:
    """Print the medians."""
    own = Own(*(statistics.median(each) for each in zip(*owns, strict=True)))
    alone = f"{own.apply_us + own.save_us:.1f} us, {own.save_us:.1f} of them the state"
    print(f"\n{'compiled ' * is_compiled()}{kind} rules ({alone}), {shape} meter point(s) a message")
    print(f"{'':10}{'Days/s':>9}{'us a Day':>10}{'without':>9}{'cpu us':>9}{'without':>9}{'states':>8}")
    for name, each in said.items():
        wall, cpu, saves = (statistics.median(getattr(one, field) for one in each) for field in ("wall_us", "cpu_us", "saves"))
        rules = own.apply_us + saves * own.save_us
        print(f"{name:10}{1e6 / wall:9,.0f}{wall:10.1f}{wall - rules:9.1f}{cpu:9.1f}{cpu - rules:9.1f}{saves:8.2f}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--warm", type=int, default=10, help="Days before it counts")
    parser.add_argument("--days", type=int, default=15, help="Days that count")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--shapes", nargs="+", default=["one", "many"], choices=["one", "many"])
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS))
    parser.add_argument("--profile", help="file for py-spy's raw stacks of the last contender")
    args = parser.parse_args()
    if args.compiled:
        sys.exit(run_compiled("benchmarks.stream", [each for each in sys.argv[1:] if each != "--compiled"]))
    bootstrap = os.environ["KAFKA_BOOTSTRAP_SERVERS"].split(",")[0]
    for shape in args.shapes:
        sent = list(messages(args.points, args.warm + args.days, 1 if shape == "one" else MANY))
        config = publish(bootstrap, shape, sent)
        for kind in args.kinds:
            said: defaultdict[str, list[Said]] = defaultdict(list)
            owns = []
            for _ in range(args.rounds):
                owns.append(own_us(KINDS[kind](), sent, args.points * args.warm))
                for contender in args.only or WORKERS[kind]:
                    said[contender].append(run(config, contender, kind, sent, args.points * args.warm, args.profile))
            show(kind, shape, said, owns)


if __name__ == "__main__":
    main()
