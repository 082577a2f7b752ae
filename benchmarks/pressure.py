"""Memory of one worker of the stream job while a backlog is worked off: a month from the beginning, a hot partition, a flood.

    python -m tests.integration.services with python -m benchmarks.pressure [--points 2000] [--days 30] [--spoilt 300]

A worker runs on empty topics first; what it takes then is what the others are compared with. Each backlog stands in the topic
before a worker of its own starts with an empty disk: `month`, every point's Days; `hot`, the same where all points are in one
partition; `flood`, frames of 900 KB of which nothing can be used, in one partition. Points with their states are held in
memory (up to 2,000 a partition), so what grows with the backlog is seen from `twice`: twice as many Days of the same points.

Printed for each: what stood in the topic, the most that was resident (VmHWM), what is more than idle, the greatest lag that
the worker's metrics told, and dead letters, of which so many past the cap. Exit 1 where twice the month takes over 25% more
than the month, or the flood over 64 MiB more than idle.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.stream import MANY, PARTITIONS, REPOSITORY, messages, publish
from benchmarks.stream_rules import Message
from dailyread.config import KafkaConfig
from metering.wire import partition_of
from tests.integration.services import free_port

MIB = 1024 * 1024
SPOILT_BYTES = 900_000
LOOK_EVERY_S = 0.5


class Seen(NamedTuple):
    """What a worker took and told. `resident`: at most, in bytes."""

    resident: int
    lag: float
    dead: float
    past_cap: float
    seconds: float


def hot(points: int, days: int) -> list[Message]:
    """So many points' Days on partition 0 alone: those of it among four times as many."""
    return [each for each in messages(points * PARTITIONS, days, MANY) if each.partition == 0]


def flood(count: int) -> list[Message]:
    """Frames of which nothing can be used, on the partition where the points of nobody else are missed."""
    return [Message(b"spoilt", bytes(SPOILT_BYTES), partition_of("nobody", PARTITIONS), 1_770_000_000_000, 0)] * count


def work_off(config: KafkaConfig, count: int) -> Seen:
    """A worker from an empty disk until all is done."""
    with tempfile.TemporaryDirectory(prefix="dailyread-pressure-") as folder:
        web = f"127.0.0.1:{free_port()}"
        path = Path(folder) / "stream.toml"
        names = "".join(f'{role} = "{name}"\n' for role, name in _names(config).items())
        path.write_text(
            f'state_dir = "state"\nweb = "{web}"\ngroup = "{config.topics.facts}"\n[kafka]\npartitions = {PARTITIONS}\n'
            f'time = "simulated"\nbootstrap_servers = ["{config.bootstrap_servers[0]}"]\n[kafka.topics]\n{names}'
        )
        command = [sys.executable, "-m", "dailyread", "stream", "--config", str(path)]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        with (Path(folder) / "log").open("wb") as log:
            worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            try:
                return _watch(worker, web, count)
            finally:
                worker.terminate()
                worker.wait()


def _watch(worker: subprocess.Popen[bytes], web: str, count: int) -> Seen:
    began_s, lag = time.monotonic(), 0.0
    while True:
        time.sleep(LOOK_EVERY_S)
        if worker.poll() is not None:
            raise RuntimeError(f"the worker ended with {worker.returncode}")
        found = _metrics(web)
        lag = max(lag, _total(found, "lag_frames"))
        done = _total(found, "position") >= count and _total(found, "owned_partitions") == PARTITIONS
        if done and _total(found, "lag_frames") == 0 and time.monotonic() - began_s > 10:
            status = Path(f"/proc/{worker.pid}/status").read_text()
            resident = int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) * 1024
            dead, past_cap = _total(found, "dead_letters_total"), _total(found, "dead_letters_past_cap_total")
            return Seen(resident, lag, dead, past_cap, time.monotonic() - began_s)


def _metrics(web: str) -> dict[str, float]:
    try:
        with urllib.request.urlopen(f"http://{web}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def _total(found: Mapping[str, float], name: str) -> float:
    return sum(value for key, value in found.items() if key.partition("{")[0] == f"dailyread_stream_{name}")


def _names(config: KafkaConfig) -> dict[str, str]:
    return {role: getattr(config.topics, role) for role in config.topics.__struct_fields__}


def main() -> int:
    """Run all; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--spoilt", type=int, default=300, help="frames of the flood")
    args = parser.parse_args()
    bootstrap = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    backlogs: dict[str, Sequence[Message]] = {
        "idle": [],
        "month": [*messages(args.points, args.days, MANY)],
        "twice": [*messages(args.points, 2 * args.days, MANY)],
        "hot": hot(args.points, args.days),
        "flood": flood(args.spoilt),
    }
    seen: dict[str, Seen] = {}
    print(f"{'':8}{'frames':>8}{'MB':>7}{'resident':>11}{'over idle':>11}{'lag':>8}{'dead':>7}{'past cap':>10}{'s':>7}")
    for name, sent in backlogs.items():
        one = seen[name] = work_off(publish(bootstrap, name, sent), len(sent))
        size = sum(len(each.value) for each in sent) / 1e6
        over = (one.resident - seen["idle"].resident) / MIB
        print(
            f"{name:8}{len(sent):8}{size:7.1f}{one.resident / MIB:7.0f} MiB{over:7.0f} MiB{one.lag:8.0f}{one.dead:7.0f}"
            f"{one.past_cap:10.0f}{one.seconds:7.1f}", flush=True
        )  # fmt: skip
    is_flat = seen["twice"].resident < 1.25 * seen["month"].resident
    return 0 if is_flat and seen["flood"].resident - seen["idle"].resident < 64 * MIB else 1


if __name__ == "__main__":
    sys.exit(main())
