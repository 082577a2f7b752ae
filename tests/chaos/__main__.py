"""`python -m tests.chaos`: rounds of faults, a row of the table for each. Exit code 1 where one failed."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.plan import plan
from tests.chaos.round import Result, run_round
from tests.chaos.services import services
from tests.chaos.table import TABLE, write_row
from tests.integration.services import PartMissing


def main(arguments: list[str]) -> int:
    """Run the rounds that were asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how many (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="of the first; each next round has the next one (default: 1)")
    parser.add_argument("--table", type=Path, default=TABLE, help="where the rows go (default: %(default)s)")
    args = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that disks are unmounted and servers end
    folder = Path(tempfile.mkdtemp(prefix="dailyread-chaos-"))
    failed = 0
    with services(folder) as running:
        for seed in range(args.seed, args.seed + args.rounds):
            own = folder / f"round-{seed}"
            own.mkdir()
            result = run_round(running, plan(seed), own)
            write_row(args.table, result)
            say(result, own)
            failed += bool(result.failure)
            if not result.failure:
                shutil.rmtree(own)
    if not failed:
        shutil.rmtree(folder)
    print(f"{args.rounds - failed} of {args.rounds} rounds held")
    return 1 if failed else 0


def say(result: Result, folder: Path) -> None:
    """A line for a round; after a failure what it was, and how to repeat it."""
    seed, faults = result.plan.seed, len(result.plan.faults)
    if not result.failure:
        print(
            f"seed {seed}: {faults} faults, {result.starts} starts, {result.facts} facts ({result.copies} batches twice),"
            f" {result.records} records, {result.seconds:.1f} s",
            flush=True,
        )
        return
    print(f"seed {seed}: FAILED after {result.seconds:.1f} s\n{(folder / 'plan.txt').read_text()}{result.failure}")
    print(f"its logs are in {folder}; to repeat it: make chaos SEED={seed} ROUNDS=1", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (PartMissing, RuntimeError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
