"""`dailyread replay` of a year beside a DuckDB query that does only the validation of boundaries and the substitution of Days.

    python -m benchmarks.replay [--points 1000] [--days 365] [--rounds 1] [--seed 1] [--stages] [--keep FOLDER]

Both read the same JSON Lines file, each in a process of its own: hourly readings in one batch a Day with silences, late and
wrong readings, copies and roll-overs; calorific values, some of them corrected. The query knows start and end of Day, holds a
reading against its neighbours, and finds volume, quantity and actual, deemed or assumed, without history, reconciliation,
records of what was rejected, or any as-of. What both find actual must be the same volume and quantity on every Day: exit code
1 where it is not, or where too few Days can be compared. `--stages` then runs the replay once more in this process, and says
where its time goes.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.replay_facts import write_facts
from benchmarks.replay_stages import stages

QUERY = Path(__file__).with_name("replay.sql")
COMPARABLE_MIN = 0.9  # Days a batch: fewer, and the comparison says nothing


class Used(NamedTuple):
    """What a process took: seconds by the clock, seconds of processor time, and the most memory that it had, in MiB."""

    wall_s: float
    cpu_s: float
    resident_mib: float


class Day(msgspec.Struct, tag_field="record", tag="day"):
    """What is compared of a `day` record."""

    meter_point: str
    gas_day: str
    status: str
    volume_m3: Decimal | None
    quantity_kwh: Decimal | None


def query(facts: Path, answer: Path) -> None:
    """Run the query on the file of facts, and leave its Days as CSV."""
    import duckdb

    text = QUERY.read_text().replace("FACTS_FILE", str(facts)).replace("ANSWER_FILE", str(answer))
    duckdb.connect().execute(text)


def measured(command: Sequence[str], output: Path) -> Used:
    """Run a command to its end, its standard output into a file. This process is small: a child's memory begins with it."""
    began = time.perf_counter()
    with output.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", *command], stdout=file)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
    return Used(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def best(rounds: list[Used]) -> Used:
    """The least of each: whatever else a machine does only ever slows a round down."""
    return Used(*(min(column) for column in zip(*rounds, strict=True)))


def days_of(ledger: Path) -> dict[tuple[str, str], Day]:
    """The ledger's Days."""
    with ledger.open("rb") as lines:
        days = [msgspec.json.decode(line, type=Day) for line in lines if line.startswith(b'{"record":"day"')]
    return {(day.meter_point, day.gas_day): day for day in days}


def agrees(ledger: Path, answer: Path, batches: int) -> bool:
    """Whether replay and query agree; print what was compared."""
    days, statuses, differ, compared = days_of(ledger), Counter[tuple[str, str]](), [], 0
    with answer.open(newline="") as rows:
        for meter_point, gas_day, status, volume_m3, quantity_kwh in csv.reader(rows):
            day = days.pop((meter_point, gas_day), None)
            statuses["none" if day is None else day.status, status] += 1
            if day is not None and day.status == status == "actual":
                compared += 1
                if (day.volume_m3, day.quantity_kwh) != (_decimal(volume_m3), _decimal(quantity_kwh)):
                    differ.append(
                        f"{meter_point} {gas_day}: {day.volume_m3} {day.quantity_kwh}, query {volume_m3} {quantity_kwh}"
                    )
    if days:
        print(f"Days of replay alone: {len(days)}")
    print("Days by status, replay / query: " + ", ".join(f"{a} / {b} {n}" for (a, b), n in sorted(statuses.items())))
    print(f"actual in both: {compared}; of these differ in volume or quantity: {len(differ)}")
    print(*differ[:10], sep="\n", end="\n" if differ else "")
    enough = compared >= COMPARABLE_MIN * batches > 0
    if not enough:
        print(f"fewer than {COMPARABLE_MIN:.0%} of the batches make Days that are actual in both")
    return enough and not differ and not days


def _decimal(text: str) -> Decimal | None:
    return Decimal(text) if text else None


def compare(folder: Path, points: int, days: int, rounds: int, seed: int, with_stages: bool) -> int:
    """Measure, print, compare; the exit code."""
    facts, ledger, answer = folder / "facts.jsonl", folder / "ledger.jsonl", folder / "answer.csv"
    batches = write_facts(facts, points, days, seed)
    print(f"{points} meter points, {days} Days: {batches} batches, {facts.stat().st_size / 2**20:.0f} MiB")
    taken: dict[str, list[Used]] = {"replay": [], "query": []}
    for _ in range(rounds):
        taken["replay"].append(measured(["dailyread", "replay", str(facts)], ledger))
        taken["query"].append(measured(["benchmarks.replay", "--query", str(facts), str(answer)], folder / "nothing"))
    replay, asked = best(taken["replay"]), best(taken["query"])
    for name, used in (("dailyread replay", replay), ("DuckDB query", asked)):
        each_us = used.cpu_s / batches * 1e6
        print(
            f"{name:18} {used.wall_s:7.1f} s, {used.cpu_s:7.1f} s of processor time"
            f" ({each_us:6.1f} us a batch), {used.resident_mib:6.0f} MiB resident"
        )
    ratios = [mine / theirs for mine, theirs in zip(replay, asked, strict=True)]
    print("replay / query: {:.1f} by the clock, {:.1f} by processor time, {:.1f} by memory".format(*ratios))
    fine = agrees(ledger, answer, batches)
    if with_stages:
        stages(facts, batches)
    return 0 if fine else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stages", action="store_true", help="also say where the time of replay goes")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the files there")
    parser.add_argument("--query", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.query:
        query(*args.query)
        return 0
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
        return compare(args.keep, args.points, args.days, args.rounds, args.seed, args.stages)
    with tempfile.TemporaryDirectory() as folder:
        return compare(Path(folder), args.points, args.days, args.rounds, args.seed, args.stages)


if __name__ == "__main__":
    sys.exit(main())
