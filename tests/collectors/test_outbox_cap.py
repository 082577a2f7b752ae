"""The outbox's cap: what goes first, what is said of it, and that nothing goes without being counted, whatever happens."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from collectors.outbox import Cap, Outbox, OutboxError, OutboxFull
from metering.facts import Alarm, AnyFact, GatewayStatus, GivenUp, PollFailed, Readings
from metering.gasday import GasDays, to_datetime
from metering.wire import encode_fact

DAYS = GasDays()
FIRST = date(2026, 3, 1)
NOW = datetime(2026, 3, 20, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


def day_of_readings(day: date = FIRST, point: str = "A", readings: int = 25) -> Readings:
    start = to_datetime(DAYS.start_us(day.toordinal()))
    step = 86_400 // (readings - 1)
    index = tuple(range(1000, 1000 + 7 * readings, 7))
    return Readings(meter_point=point, meter=f"m-{point}", gas_day=day, first_at=start, interval_s=step, index=index)


def size(*facts: AnyFact) -> int:
    return sum(len(encode_fact(fact)) for fact in facts)


def failure(day: date = FIRST) -> PollFailed:
    return PollFailed(meter_point="B", meter="m-B", gas_day=day, reason="no answer", attempts=3)


def facts(outbox: Outbox) -> list[AnyFact]:
    return [entry.fact for entry in outbox.pending(100_000)]


def readings(outbox: Outbox) -> dict[tuple[str, date], int]:
    """How many readings of each meter point's Day wait."""
    found: Counter[tuple[str, date]] = Counter()
    for fact in facts(outbox):
        if isinstance(fact, Readings):
            found[fact.meter_point, fact.gas_day] += len(fact.index)
    return dict(found)


def given_up(outbox: Outbox) -> list[tuple[str, str, date, int]]:
    waiting = [fact for fact in facts(outbox) if isinstance(fact, GivenUp)]
    return [(fact.meter_point, fact.meter, fact.gas_day, fact.readings) for fact in waiting]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


def capped(path: Path, max_bytes: int | None = None, max_hours: float | None = None) -> Outbox:
    return Outbox(path, "gw", Cap(max_bytes=max_bytes, max_hours=max_hours), DAYS)


@pytest.fixture
def roomy(path: Path) -> Iterator[Outbox]:
    with closing(capped(path, max_bytes=100_000, max_hours=100)) as outbox:
        yield outbox


def test_reports_go_first_then_interval_readings_of_the_oldest_day_and_boundary_readings_last(path: Path) -> None:
    second = FIRST + timedelta(days=1)
    put = [day_of_readings(second), failure(), day_of_readings(FIRST)]
    with closing(Outbox(path, "gw", days=DAYS)) as outbox:
        outbox.put(put, NOW, done=[("m-A", FIRST), ("m-A", second)])
        whole = outbox.backlog().bytes
    report = size(failure())

    def opened_with(less: int) -> Outbox:
        outbox = capped(path, max_bytes=whole - less)
        outbox.put([], NOW)
        return outbox

    with closing(opened_with(less=1)) as outbox:
        assert not any(isinstance(fact, PollFailed) for fact in facts(outbox))
        assert readings(outbox) == {("A", FIRST): 25, ("A", second): 25}
        assert given_up(outbox) == []
        assert outbox.given_up().reports == 1
    with closing(opened_with(less=report + 1)) as outbox:
        assert readings(outbox) == {("A", FIRST): 2, ("A", second): 25}
        assert given_up(outbox) == [("A", "m-A", FIRST, 23)]
        thin = next(fact for fact in facts(outbox) if isinstance(fact, Readings) and fact.gas_day == FIRST)
        start, end = DAYS.start_us(FIRST.toordinal()), DAYS.end_us(FIRST.toordinal())
        assert list(thin.instants()) == [to_datetime(start), to_datetime(end)]
        assert thin.index == (1000, 1000 + 7 * 24)
        assert thin.sequence == 1  # its own still: nothing else has it
        thin_bytes = size(thin)
    with closing(opened_with(less=whole - thin_bytes)) as outbox:
        assert readings(outbox) == {("A", second): 2}
        assert sorted(given_up(outbox)) == [("A", "m-A", FIRST, 25), ("A", "m-A", second, 23)]
    with closing(opened_with(less=whole - thin_bytes + 1)) as outbox:
        assert readings(outbox) == {}
        assert sorted(given_up(outbox)) == [("A", "m-A", FIRST, 25), ("A", "m-A", second, 25)]
        assert outbox.given_up().readings == 50


def test_what_is_neither_reading_nor_report_stays_and_then_nothing_more_is_taken_in(path: Path) -> None:
    alarm = Alarm(meter_point="A", meter="m-A", at=NOW, kind="tamper", detail="x" * 500)
    with closing(capped(path, max_bytes=size(alarm) + 100)) as outbox:
        outbox.put([alarm], NOW)
        with pytest.raises(OutboxFull, match=r"cap of .* bytes is reached, and nothing that waits may be given up"):
            outbox.put([alarm, failure()], NOW)
        assert facts(outbox) == [alarm]
        assert outbox.given_up().reports == 0


def test_missing_readings_are_not_counted_as_given_up(path: Path) -> None:
    whole = day_of_readings()
    gaps = Readings(
        meter_point="A", meter="m-A", gas_day=FIRST, first_at=whole.first_at, interval_s=3600,
        index=(1, None, 3, *(None,) * 21, 9), unconverted=(*range(25),),
    )  # fmt: skip
    with closing(capped(path, max_bytes=0)) as outbox:
        outbox.put([gaps], NOW)
        assert given_up(outbox) == [("A", "m-A", FIRST, 3)]


def test_interval_readings_and_reports_go_for_their_age_and_boundary_readings_stay(path: Path) -> None:
    with closing(capped(path, max_hours=48)) as outbox:
        outbox.put([day_of_readings(), failure()], NOW)
        outbox.put([day_of_readings(point="C")], NOW + 40 * HOUR)
        outbox.put([], NOW + 47 * HOUR)
        assert readings(outbox) == {("A", FIRST): 25, ("C", FIRST): 25}
        outbox.put([], NOW + 49 * HOUR)
        assert readings(outbox) == {("A", FIRST): 2, ("C", FIRST): 25}
        assert given_up(outbox) == [("A", "m-A", FIRST, 23)]
        assert outbox.given_up().reports == 1


def test_of_a_day_there_is_one_fact_with_the_count_so_far_and_it_is_not_lost_when_the_first_was_on_its_way(path: Path) -> None:
    with closing(capped(path, max_bytes=0)) as outbox:
        outbox.put([day_of_readings()], NOW)
        on_its_way = [entry.id for entry in outbox.pending(10)]
        outbox.put([day_of_readings()], NOW + HOUR)
        assert given_up(outbox) == [("A", "m-A", FIRST, 50)]
        outbox.acknowledge(on_its_way)
        assert given_up(outbox) == [("A", "m-A", FIRST, 50)]


def test_a_fact_that_is_thinned_while_on_its_way_leaves_with_the_acknowledgement_of_the_whole_one(path: Path) -> None:
    with closing(capped(path, max_hours=1)) as outbox:
        outbox.put([day_of_readings()], NOW)
        sent = outbox.pending(10)
        outbox.put([], NOW + 2 * HOUR)
        assert readings(outbox) == {("A", FIRST): 2}
        outbox.acknowledge([sent[0].id])
        assert readings(outbox) == {}


def test_the_meter_is_asked_again_once_there_is_room_and_a_restart_forgets_nothing(path: Path) -> None:
    one, two = day_of_readings(readings=241), day_of_readings(FIRST + timedelta(days=1), readings=241)
    with closing(capped(path, max_bytes=size(one) + 100)) as outbox:
        outbox.put([one], NOW, done=[("m-A", FIRST)])
        outbox.put([two], NOW, done=[("m-A", two.gas_day)])
        assert outbox.days_to_ask(NOW) == []  # no room
        assert outbox.done_days("m-A") == {FIRST, two.gas_day}  # so it is not asked in vain
    with closing(capped(path, max_bytes=size(one) + 100)) as outbox:
        outbox.acknowledge(entry.id for entry in outbox.pending(100))
        outbox.put([failure()], NOW)
        assert outbox.days_to_ask(NOW + 2 * HOUR) == []  # room, but nothing leaves
        again = outbox.days_to_ask(NOW)
        assert again == [("m-A", FIRST)]
        outbox.ask_again(again)
        assert outbox.done_days("m-A") == {two.gas_day}
        assert outbox.days_to_ask(NOW) == []
    with closing(capped(path, max_bytes=size(one) + 100)) as outbox:
        assert outbox.done_days("m-A") == {two.gas_day}
        assert outbox.given_up().days_to_ask == 0


def test_giving_up_is_logged_once_and_so_is_its_end(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    with closing(capped(path, max_bytes=10)) as outbox:
        for n in range(5):
            outbox.put([day_of_readings(FIRST + timedelta(days=n))], NOW)
        outbox.acknowledge(entry.id for entry in outbox.pending(100))
        for _ in range(3):
            outbox.days_to_ask(NOW)
    first, last = caplog.messages
    assert "at its cap (10 bytes); given up for a start: 25 readings" in first
    assert "has room again" in last


def test_what_waits_is_known_without_counting_it(roomy: Outbox) -> None:
    status = GatewayStatus(gateway="gw", backlog=0, clock_synchronised=True, version="1")
    roomy.put([day_of_readings(), failure(), status], NOW)
    roomy.put([], NOW + 200 * HOUR)
    stored = roomy.pending(10)
    assert [type(entry.fact) for entry in stored] == [Readings, GivenUp]
    assert roomy.backlog().facts == 2
    assert roomy.backlog().bytes == sum(entry.size for entry in stored)
    roomy.acknowledge(entry.id for entry in stored)
    assert (roomy.backlog().facts, roomy.backlog().bytes) == (0, 0)


FORMAT_1 = """
CREATE TABLE about (outbox TEXT NOT NULL);
CREATE TABLE facts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, meter_point TEXT, committed_us INTEGER NOT NULL, packed BLOB NOT NULL
);
CREATE TABLE sequences (meter_point TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE done (meter TEXT, gas_day INTEGER, PRIMARY KEY (meter, gas_day)) WITHOUT ROWID;
INSERT INTO about VALUES ('0123456789abcdef');
INSERT INTO sequences VALUES ('A', 6);
PRAGMA user_version = 1;
"""


def test_a_file_of_the_format_before_is_taken_over_with_what_waits_in_it(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(FORMAT_1)
        for number, fact in enumerate([day_of_readings(), failure()], start=8):
            db.execute("INSERT INTO facts VALUES (?, 'A', 5000, ?)", (number, encode_fact(fact)))
        db.commit()
    with closing(capped(path, max_bytes=20)) as outbox:
        assert outbox.id == "0123456789abcdef"
        assert facts(outbox) == [day_of_readings(), failure()]
        assert outbox.backlog().bytes == size(day_of_readings(), failure())
        outbox.put([], NOW)
        assert given_up(outbox) == [("A", "m-A", FIRST, 25)]
        assert outbox.given_up().reports == 1


def test_a_file_that_turns_out_to_be_corrupt_while_in_use_is_set_aside_and_collecting_goes_on(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(Outbox(path, "gw", days=DAYS)) as outbox:
        outbox.put([day_of_readings(FIRST + timedelta(days=n % 9), readings=241) for n in range(9000)], NOW)
        before, last_id = outbox.id, outbox.pending(1, after=8990)[0].id
        content = path.read_bytes()
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(os.urandom(len(content) - 8192))
        with pytest.raises(OutboxError, match=r"was corrupt .* and is set aside; a new one is made"):
            outbox.pending(100_000)
        assert outbox.id != before
        assert outbox.files_set_aside() == 1
        outbox.put([failure()], NOW)
        (entry,) = outbox.pending(10)
        assert entry.fact == failure()
        assert entry.id > last_id  # a late acknowledgement of what was in the old file takes nothing out of this one
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


WRITER = """
import sys
from datetime import timedelta
from pathlib import Path
from collectors.outbox import Cap, Outbox
from tests.collectors.test_outbox_cap import DAYS, FIRST, NOW, day_of_readings, failure

outbox = Outbox(Path(sys.argv[1]), "gw", Cap(max_bytes=1500), DAYS)
n = int(sys.argv[2])
while True:
    day = FIRST + timedelta(days=n)
    outbox.put([day_of_readings(day), day_of_readings(day, "B"), failure(day)], NOW, done=[("m-A", day), ("m-B", day)])
    print(n, flush=True)
    n += 1
"""


DAYS_TO_THE_CAP = 15


def run_until_killed(path: Path, start: int, lifetime_s: float) -> int:
    """The last Day that the writer said it had put."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(start)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    begun = [process.stdout.readline() for _ in range(DAYS_TO_THE_CAP)]
    time.sleep(lifetime_s)
    process.send_signal(signal.SIGKILL)
    said = ("".join(begun) + process.stdout.read()).split()
    process.wait()
    return int(said[-1])


def test_whenever_it_is_killed_each_reading_waits_or_is_counted_as_given_up(path: Path) -> None:
    chance = random.Random(11)
    put = 0
    for _ in range(6):
        last = run_until_killed(path, put, chance.uniform(0.0, 0.2))
        with closing(Outbox(path, "gw", days=DAYS)) as outbox:
            done = outbox.done_days("m-A")
            put = len(done)  # one more than was said may be stored, never one less
            assert done == {FIRST + timedelta(days=n) for n in range(put)} == outbox.done_days("m-B")
            assert put > last
            held, lost = readings(outbox), {(point, day): count for point, _, day, count in given_up(outbox)}
            for point in ("A", "B"):
                for day in done:
                    assert held.get((point, day), 0) + lost.get((point, day), 0) == 25
            assert outbox.given_up().readings == sum(lost.values()) > 0
            reports = sum(isinstance(fact, PollFailed) for fact in facts(outbox))
            assert outbox.given_up().reports + reports == put
            kept = size(*(fact for fact in facts(outbox) if not isinstance(fact, GivenUp)))
            assert kept <= 1500
