"""The ledger beside the truth of simulated meters, Day by Day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

from dailyread.report.summary import Summary
from metering.ledger import Day

Verdict = Literal["equal", "shared", "estimated", "differs", "missing"]
MEANINGS: dict[Verdict, str] = {
    "equal": "the truth, to the litre",
    "shared": "apportioned: the run's Days together are the truth, to the litre",
    "estimated": "an estimate, and nothing better is known yet",
    "differs": "read, restored or a whole run, and yet not the truth",
    "missing": "the ledger has no such Day",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A Day in the ledger and in truth; `ledger_m3` is the determined volume, or else the closed-out one."""

    meter_point: str
    gas_day: date
    status: str
    truth_m3: Decimal
    ledger_m3: Decimal | None
    verdict: Verdict

    @property
    def agrees(self) -> bool:
        """Whether the ledger says nothing that the truth contradicts."""
        return self.verdict not in ("differs", "missing")

    @property
    def difference_m3(self) -> Decimal | None:
        """Ledger less truth; None where the ledger has no volume."""
        return None if self.ledger_m3 is None else self.ledger_m3 - self.truth_m3


def compare(summary: Summary, truth_litres: Mapping[tuple[str, date], int]) -> list[Comparison]:
    """Every Day of the truth beside the ledger's, by meter point and Day.

    What was read or restored must be the truth to the litre. Of apportioned Days the sum of an unbroken run must be.
    Assumed, deemed and provisional volumes are estimates, and may differ; but an assumed one must be the week before's.
    """
    rows = [_row(key, litres, summary.days) for key, litres in sorted(truth_litres.items())]
    return [row for run in _runs(rows, summary.days) for row in _judged(run)]


def difference_m3(rows: Iterable[Comparison]) -> Decimal | None:
    """Ledger less truth over the Days of which the ledger has a volume; None where it has none of them."""
    known = [row.difference_m3 for row in rows if row.difference_m3 is not None]
    return sum(known, Decimal("0.000")) if known else None


def outcome(rows: Sequence[Comparison]) -> str:
    """The comparison in one sentence; Days that are only estimated are not said to agree."""
    wrong = sum(not row.agrees for row in rows)
    if wrong:
        return f"The ledger disagrees with the truth on {wrong:,} of {len(rows):,} Days."
    estimated = sum(row.verdict == "estimated" for row in rows)
    rest = (
        f"; {estimated:,} {'is' if estimated == 1 else 'are'} estimated, and nothing better is known yet" if estimated else ""
    )
    return f"The ledger agrees with the truth: {len(rows) - estimated:,} of {len(rows):,} Days to the litre{rest}."


def _row(key: tuple[str, date], litres: int, days: Mapping[tuple[str, date], Day]) -> Comparison:
    truth_m3, day = Decimal(litres).scaleb(-3), days.get(key)
    if day is None:
        return Comparison(*key, "missing", truth_m3, None, "missing")
    known = day.determined_m3 if day.determined_status else day.volume_m3
    status = day.determined_status or day.status
    if known == truth_m3:
        return Comparison(*key, status, truth_m3, known, "equal")
    estimate = known is None or (status in ("assumed", "deemed", "provisional") and _is_founded(day, days))
    return Comparison(*key, status, truth_m3, known, "estimated" if estimate else "differs")


def _is_founded(day: Day, days: Mapping[tuple[str, date], Day]) -> bool:
    """Whether an assumed volume is the closed-out one of the same Day a week before (4.4.2), as far as the ledger tells."""
    before = days.get((day.meter_point, day.gas_day - timedelta(days=7)))
    return day.status != "assumed" or before is None or day.volume_m3 == before.volume_m3


def _runs(rows: Iterable[Comparison], days: Mapping[tuple[str, date], Day]) -> Iterator[list[Comparison]]:
    """Unbroken runs of apportioned Days of one meter point, split where a reading stands; every other row alone."""
    run: list[Comparison] = []
    for row in rows:
        if run and not _follows(run[-1], row, days):
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _follows(before: Comparison, row: Comparison, days: Mapping[tuple[str, date], Day]) -> bool:
    return (
        before.status == row.status == "apportioned"
        and before.meter_point == row.meter_point
        and row.gas_day - before.gas_day == timedelta(days=1)
        and days[row.meter_point, row.gas_day].start_index is None
    )


def _judged(run: list[Comparison]) -> list[Comparison]:
    if run[0].status != "apportioned":
        return run
    whole = sum((row.difference_m3 or Decimal(0)) for row in run) == 0
    verdict: Verdict = "shared" if whole else "differs"
    return [row if row.verdict == "equal" and whole else replace(row, verdict=verdict) for row in run]
