"""The table of rounds: of each seed the latest result."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.round import Result

TABLE = Path(__file__).with_name("rounds.csv")
_COLUMNS = ("seed", "date", "faults", "started_again", "facts", "copies", "records", "seconds", "result")


def write_row(table: Path, result: Result) -> None:
    """Put a round into the table, which is made where there is none, in the order of seeds."""
    rows = {}
    if table.exists():
        with table.open(newline="") as file:
            rows = {int(row["seed"]): row for row in csv.DictReader(file)}
    rows[result.plan.seed] = _row(result)
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for _, row in sorted(rows.items()))


def _row(result: Result) -> dict[str, str]:
    counts = result.plan.counts
    faults = "; ".join(name if count == 1 else f"{count} x {name}" for name, count in sorted(counts.items()))
    values = (
        result.plan.seed,
        datetime.now(UTC).date(),
        faults,
        result.starts,
        result.facts,
        result.copies,
        result.records,
        f"{result.seconds:.1f}",
        "failed" if result.failure else "held",
    )
    return dict(zip(_COLUMNS, map(str, values), strict=True))
