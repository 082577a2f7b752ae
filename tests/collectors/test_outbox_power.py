"""The outbox and power cuts: at every write, with any of the unsynced writes lost, what `put` returned from is there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

import collectors.outbox
from collectors.outbox import Cap, Outbox
from metering.facts import Alarm, AnyFact, Readings
from metering.wire import canonical
from tests.collectors.power import Call, Disk, recorded
from tests.collectors.small_disk import small_disk

NOW = datetime(2026, 3, 1, 5, tzinfo=UTC)
CAP = Cap(max_bytes=60_300)
DAYS = [date(2026, 1, 1) + timedelta(days=n) for n in range(40)]
RESERVE_BYTES = 4096  # instead of 2 MiB, of which a thousand copies take long
KILLED_AFTER = 36  # steps; then the program is started again


class Step(NamedTuple):
    """What is done in one call: facts and a Day put, or so many of the oldest acknowledged, or Days owed again."""

    put: tuple[AnyFact, ...] = ()
    done: tuple[tuple[str, date], ...] = ()
    acknowledge: int = 0
    ask_again: bool = False

    def do(self, outbox: Outbox, n: int) -> None:
        if self.put:
            outbox.put(self.put, NOW + timedelta(minutes=n), self.done)
        elif self.ask_again:
            outbox.ask_again(self.done)
        else:
            outbox.acknowledge(entry.id for entry in outbox.pending(self.acknowledge))


def _steps() -> Iterator[Step]:
    """Readings; alarms that never go, so large that readings must, and that the log is checkpointed; acknowledgements."""
    for n, day in enumerate(DAYS):
        at = datetime(day.year, day.month, day.day, 5, tzinfo=UTC)
        readings = [
            Readings(meter_point=point, meter=f"m-{point}", gas_day=day, first_at=at, interval_s=3600, index=tuple(range(25)))
            for point in "AB"
        ]
        yield Step((*readings,), ((f"m-{point}", day) for point in "AB"))
        if n % 3 == 2:
            yield Step(acknowledge=12)
            yield Step((Alarm(meter_point="A", meter="m-A", at=at, kind="other", detail="x" * 60_000),))
    yield Step(done=(("m-B", DAYS[0]),), ask_again=True)


STEPS = list(_steps())

PROGRAM = """
import os, sys
from pathlib import Path
import collectors.outbox
from tests.collectors.test_outbox_power import CAP, RESERVE_BYTES, STEPS, Outbox

collectors.outbox.RESERVE_BYTES = RESERVE_BYTES
path, begin, end, ending = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
outbox = Outbox(path, "gw", CAP)
for n in range(begin, end):
    STEPS[n].do(outbox, n)
    os.write(1, b"done")
if ending == "close":
    outbox.close()
os._exit(0)
"""


def state(outbox: Outbox) -> tuple[Any, ...]:
    """All that an outbox says of itself."""
    stored = [
        (one.id, one.committed_at, canonical(one.fact), getattr(one.fact, "sequence", None)) for one in outbox.pending(999)
    ]
    done = [sorted(outbox.done_days(meter)) for meter in ("m-A", "m-B")]
    return stored, done, outbox.given_up(), outbox.backlog()


def states(folder: Path) -> list[tuple[Any, ...]]:
    """What is there after so many steps."""
    outbox = Outbox(folder / "outbox.db", "gw", CAP)
    found = [state(outbox)]
    for n, step in enumerate(STEPS):
        step.do(outbox, n)
        found.append(state(outbox))
    outbox.close()
    return found


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(collectors.outbox, "RESERVE_BYTES", RESERVE_BYTES)
    with small_disk(tmp_path / "disk", size_mib=64) as mounted:
        yield mounted


def cuts(disk: Disk, calls: Iterator[Call], folder: Path, random: Random) -> Iterator[int]:
    """Before each call that changes or syncs something: what is left in `folder`, and how often "done" was said by then."""
    said = 0
    for call in calls:
        said += call.data == b"done"
        if not disk.concerns(call):
            continue
        for survives in (0.0, 0.5, 1.0) if "sync" in call.name else (random.random(),):
            shutil.rmtree(folder, ignore_errors=True)
            disk.left(folder, random, survives)
            yield said
        disk.take(call)


def test_a_power_cut_at_any_write_loses_nothing_that_was_put_and_leaves_nothing_half(disk: Path, tmp_path: Path) -> None:
    expected, random, counted = states(disk / "model"), Random(7), 0
    root = disk / "real"
    root.mkdir()
    for begin, end, ending in ((0, KILLED_AFTER, "kill"), (KILLED_AFTER, len(STEPS), "close")):
        seen = Disk(root)
        calls = recorded(
            PROGRAM, str(root / "var" / "state" / "outbox.db"), str(begin), str(end), ending, log=tmp_path / "calls"
        )
        for said in cuts(seen, calls, disk / "cut", random):
            counted += 1
            with closing(Outbox(disk / "cut" / "var" / "state" / "outbox.db", "gw")) as outbox:
                found = state(outbox)
                assert outbox.set_aside is None, f"cut {counted}"
                assert found in expected[begin + said : begin + said + 2], f"cut {counted}: after {begin + said} steps"
                _goes_on(outbox, expected.index(found))
    assert counted > 500
    assert expected[-1][2].readings  # the cap was reached


def _goes_on(outbox: Outbox, steps: int) -> None:
    """The sequence of what comes next is without a gap."""
    before = sum(fact.meter_point == "A" for step in STEPS[:steps] for fact in step.put if isinstance(fact, Readings))
    outbox.put([Readings(meter_point="A", meter="m-A", gas_day=DAYS[-1], at=(NOW,), index=(1,))], NOW)
    assert [one.fact.sequence for one in outbox.pending(999) if isinstance(one.fact, Readings)][-1] == before


ONE_PUT = """
import os, sys
from pathlib import Path
from tests.collectors.test_outbox_power import NOW, STEPS, Outbox

outbox = Outbox(Path(sys.argv[1]), "gw")
os.write(1, b"done")
outbox.put(STEPS[0].put, NOW, STEPS[0].done)
os.write(1, b"done")
os._exit(0)
"""


def test_a_power_cut_while_a_corrupt_file_is_set_aside_leaves_it_or_the_new_one_and_reports_it(
    disk: Path, tmp_path: Path
) -> None:
    root, random, counted = disk / "real", Random(7), 0
    with closing(Outbox(root / "outbox.db", "gw")) as outbox:
        outbox.put(STEPS[0].put, NOW)
    corrupt = b"x" * 4096 + (root / "outbox.db").read_bytes()[4096:]
    (root / "outbox.db").write_bytes(corrupt)
    seen = Disk(root)
    for said in cuts(seen, recorded(ONE_PUT, str(root / "outbox.db"), log=tmp_path / "calls"), disk / "cut", random):
        counted += 1
        with closing(Outbox(disk / "cut" / "outbox.db", "gw")) as outbox:
            assert [path.read_bytes() for path in (disk / "cut").glob("outbox.db.corrupt-*")] == [corrupt]
            assert outbox.files_set_aside() == 1
            assert said < 2 or [one.fact.sequence for one in outbox.pending(9) if isinstance(one.fact, Readings)] == [0, 0]
            assert outbox.backlog().facts in (0, len(STEPS[0].put))
            assert len(outbox.done_days("m-A")) == (outbox.backlog().facts > 0)
    assert counted > 50
