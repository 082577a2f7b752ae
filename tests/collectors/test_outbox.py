"""The outbox: what `put` returned from is there, whatever happens next."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.outbox import FACT_BYTES_MAX, Outbox, OutboxError, OutboxFull
from metering.facts import AnyFact, CalorificValue, PollFailed, Readings
from metering.wire import canonical
from tests.collectors.small_disk import small_disk
from tests.metering.any_fact import FACTS

NOW = datetime(2026, 3, 1, 5, 0, 7, tzinfo=UTC)
DAY = date(2026, 2, 28)


def readings(point: str, n: int = 0) -> Readings:
    return Readings(
        meter_point=point, meter=f"m-{point}", gas_day=DAY, first_at=NOW, interval_s=3600, index=(n, n + 1, n + 2)
    )  # fmt: skip


def failure(reason: str) -> PollFailed:
    return PollFailed(meter_point="A", meter="m-A", gas_day=DAY, reason=reason, attempts=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    opened = Outbox(path, "gw")
    yield opened
    opened.close()


def test_facts_come_out_in_order_with_the_instant_they_were_put(outbox: Outbox) -> None:
    value = CalorificValue(ldz="NW", gas_day=DAY, mj_per_m3=Decimal("39.5"))
    outbox.put([readings("B"), value], NOW)
    outbox.put([failure("timeout")], NOW + timedelta(seconds=1))
    stored = outbox.pending(10)
    assert [type(entry.fact) for entry in stored] == [Readings, CalorificValue, PollFailed]
    assert [entry.committed_at for entry in stored] == [NOW, NOW, NOW + timedelta(seconds=1)]
    assert stored[1].fact == value
    assert outbox.pending(1) == stored[:1]
    assert outbox.pending(10, after=stored[0].id) == stored[1:]


@settings(max_examples=40, deadline=None)
@given(st.lists(FACTS, min_size=1, max_size=6))
def test_any_fact_comes_out_as_it_was_put_over_a_restart(facts: list[AnyFact]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "outbox.db"
        with closing(Outbox(path, "gw")) as outbox:
            outbox.put(facts, NOW)
        with closing(Outbox(path, "gw")) as outbox:
            assert [canonical(entry.fact) for entry in outbox.pending(10)] == [canonical(fact) for fact in facts]


def test_sequence_is_contiguous_per_meter_point_over_restarts_and_acknowledgements(path: Path) -> None:
    seen: list[Readings] = []
    for _ in range(3):
        outbox = Outbox(path, "gw")
        outbox.put([readings("A"), readings("B"), readings("A", 5)], NOW)
        stored = outbox.pending(100)
        seen += [entry.fact for entry in stored if isinstance(entry.fact, Readings)]
        outbox.acknowledge(entry.id for entry in stored)
        outbox.close()
    assert [fact.sequence for fact in seen if fact.meter_point == "A"] == [0, 1, 2, 3, 4, 5]
    assert [fact.sequence for fact in seen if fact.meter_point == "B"] == [0, 1, 2]
    assert {(fact.gateway, fact.outbox) for fact in seen} == {("gw", seen[0].outbox)}


def test_an_id_is_never_given_twice(outbox: Outbox) -> None:
    outbox.put([failure("one")], NOW)
    first = outbox.pending(1)[0].id
    outbox.acknowledge([first])
    outbox.put([failure("two")], NOW)
    outbox.acknowledge([first])  # late, and again
    assert [entry.fact for entry in outbox.pending(9)] == [failure("two")]


def test_the_backlog_says_how_much_waits_and_since_when(outbox: Outbox) -> None:
    assert (outbox.backlog().facts, outbox.backlog().bytes, outbox.backlog().oldest_at) == (0, 0, None)
    outbox.put([failure("one")], NOW)
    outbox.put([failure("two")], NOW + timedelta(hours=1))
    backlog = outbox.backlog()
    assert backlog.facts == 2
    assert backlog.bytes > 0
    assert backlog.oldest_at == NOW
    outbox.acknowledge([outbox.pending(1)[0].id])
    assert outbox.backlog().oldest_at == NOW + timedelta(hours=1)


def test_done_days_stand_with_their_facts_or_not_at_all(outbox: Outbox) -> None:
    outbox.put([readings("A")], NOW, done=[("m-A", DAY), ("m-A", DAY)])
    with pytest.raises(ValueError, match=f"at most {FACT_BYTES_MAX}"):
        outbox.put([readings("A"), failure("x" * FACT_BYTES_MAX)], NOW, done=[("m-A", DAY + timedelta(days=1))])
    assert outbox.done_days("m-A") == {DAY}
    assert outbox.done_days("m-A", since=DAY + timedelta(days=1)) == set()
    assert outbox.done_days("m-B") == set()
    assert [entry.fact.sequence for entry in outbox.pending(9) if isinstance(entry.fact, Readings)] == [0]


def test_listeners_hear_of_every_put(outbox: Outbox) -> None:
    heard = threading.Event()
    outbox.on_put(heard.set)
    outbox.put([failure("one")], NOW)
    assert heard.is_set()


def test_threads_may_put_at_the_same_time(outbox: Outbox) -> None:
    def put_some() -> None:
        for n in range(20):
            outbox.put([readings("A", n)], NOW)

    threads = [threading.Thread(target=put_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sequences = [entry.fact.sequence for entry in outbox.pending(100) if isinstance(entry.fact, Readings)]
    assert sequences == list(range(80))


def test_a_second_process_is_refused(outbox: Outbox, path: Path) -> None:
    with pytest.raises(OutboxError, match="another process"):
        Outbox(path, "gw")


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutboxError, match=r"Not a directory|File exists"):
        Outbox(tmp_path / "file" / "outbox.db", "gw")


def test_a_file_of_another_format_is_refused_and_left_alone(path: Path) -> None:
    Outbox(path, "gw").close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(OutboxError, match="format 99"):
        Outbox(path, "gw")
    assert path.exists()


@pytest.mark.parametrize("damage", ["header", "middle"])
def test_a_corrupt_file_is_set_aside_and_a_new_one_made(path: Path, damage: str) -> None:
    outbox = Outbox(path, "gw")
    for n in range(50):
        outbox.put([failure(f"{n}" * 200)], NOW)
    first_id = outbox.id
    outbox.close()
    content = bytearray(path.read_bytes())
    at = 0 if damage == "header" else len(content) // 2 // 4096 * 4096
    content[at : at + 3000] = os.urandom(3000)
    path.write_bytes(content)

    outbox = Outbox(path, "gw")
    assert outbox.set_aside is not None
    assert outbox.set_aside.read_bytes() == bytes(content)
    assert outbox.id != first_id
    outbox.put([failure("after")], NOW)
    assert [entry.fact for entry in outbox.pending(9)] == [failure("after")]
    outbox.close()


def put_until_full(outbox: Outbox, put: list[AnyFact]) -> None:
    for n in range(10_000):
        fact = failure(f"{n} " + "x" * 3000)
        outbox.put([fact], NOW)
        put.append(fact)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", size_mib=4) as mounted:
        yield mounted


def test_a_fact_that_this_version_cannot_read_stays_and_the_others_pass_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(Outbox(path, "gw")) as outbox:
        outbox.put([failure(str(number)) for number in range(6)], NOW, [("m-A", DAY)])
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE facts SET packed = x'c1' WHERE id IN (2, 3, 4)")
        db.commit()
    with closing(Outbox(path, "gw")) as outbox:
        assert [entry.id for entry in outbox.pending(2)] == [1, 5]
        assert [entry.id for entry in outbox.pending(10, after=1)] == [5, 6]
        outbox.acknowledge([1, 5, 6])
        assert outbox.pending(10) == []
        assert (outbox.backlog().facts, outbox.done_days("m-A"), outbox.files_set_aside()) == (3, {DAY}, 0)
    assert len([line for line in caplog.messages if "cannot be read by this version" in line]) == 1


def test_on_a_full_disk_what_is_stored_stays_readable_and_can_leave(disk: Path) -> None:
    outbox = Outbox(disk / "outbox.db", "gw")
    put: list[AnyFact] = []
    with pytest.raises(OutboxFull, match="disk is full"):
        put_until_full(outbox, put)
    assert len(put) > 50
    outbox.close()

    outbox = Outbox(disk / "outbox.db", "gw")  # restarted, the disk as full as before
    assert outbox.set_aside is None
    stored = outbox.pending(10_000)
    assert [entry.fact for entry in stored] == put
    for entry in stored:
        outbox.acknowledge([entry.id])
    assert outbox.backlog().facts == 0
    outbox.put([failure("there is room again")], NOW)
    outbox.close()


WRITER = """
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from collectors.outbox import Outbox
from metering.facts import Readings

at = datetime(2026, 3, 1, 5, tzinfo=UTC)
outbox = Outbox(Path(sys.argv[1]), "gw")
n = int(sys.argv[2])
while True:
    facts = [Readings(meter_point=point, meter="m", gas_day=at.date(), first_at=at, interval_s=360, index=(n, n + 1))
             for point in ("A", "B")]
    outbox.put(facts, at, done=[("m", date.fromordinal(700000 + n))])
    print(n, flush=True)
    n += 1
    if n % 7 == 0:
        outbox.acknowledge(entry.id for entry in outbox.pending(3))
        print("-3", flush=True)
"""


def run_until_killed(path: Path, start: int, lifetime_s: float) -> list[int]:
    """What the writer said before the kill."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(start)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(lifetime_s)
    process.send_signal(signal.SIGKILL)
    said = (first + process.stdout.read()).split()
    process.wait()
    return [int(word) for word in said]


def test_a_kill_at_any_moment_loses_nothing_that_was_said_to_be_put(path: Path) -> None:
    seed = random.Random(7)
    last, taken = -1, 0
    for _ in range(8):
        said = run_until_killed(path, last + 1, seed.uniform(0.0, 0.15))
        last = max(last, *said)
        taken += 3 * said.count(-3)
        outbox = Outbox(path, "gw")
        assert outbox.set_aside is None
        done = outbox.done_days("m")
        stored = [entry.fact for entry in outbox.pending(1_000_000) if isinstance(entry.fact, Readings)]
        last = len(done) - 1  # one more than was said may be stored, never one less
        outbox.close()
        assert {date.fromordinal(700000 + n) for n in range(last + 1)} == done
        assert last >= max(said)
        missing = 2 * (last + 1) - len(stored)
        assert taken <= missing <= taken + 3  # an acknowledgement may have been in flight
        taken = missing
        for _, facts in groupby(sorted(stored, key=lambda fact: fact.meter_point), lambda fact: fact.meter_point):
            sequences = [fact.sequence for fact in facts]
            assert sequences == list(range(last + 1))[-len(sequences) :]
            assert len(sequences) >= last + 1 - missing
