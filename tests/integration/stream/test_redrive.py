"""Dead letters are put back after a mend: they count from then on, once, and the ledger is what `replay` finds in an export."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from dailyread import kafka as clients
from dailyread.jsonlines import BadLine, read_facts
from metering.facts import AnyFact, CalorificValue, MeterFitted, Readings, Registered
from metering.gasday import GasDays, to_datetime
from metering.ledger import Day
from metering.messages import DeadLetter, decode_dead_letter
from metering.replay import latest_us, replay
from metering.rules import Rules
from metering.wire import Origin, encode_fact, encode_frame, frame_of, partition_of
from stream.letters import LETTERS_AN_HOUR
from tests.integration.conftest import Start
from tests.integration.services import GivenKafka, KafkaBroker
from tests.integration.stream.job import PARTITIONS, Job
from tests.integration.stream.narrow_version import UNREADABLE
from tests.integration.stream.toy_cluster import wait_for

DAYS = GasDays()
TODAY = datetime.now(UTC).date()  # its readings may be of the future, but those of the Days before are not
NARROW = (sys.executable, "-m", "tests.integration.stream.narrow_version")


class Redriven:
    """A worker in the broker's time, and what stands in its topics."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.facts = job.topics.facts

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "dailyread", *arguments, "--config", str(self.job.config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def append(self, value: bytes, partition: int, topic: str | None = None) -> None:
        producer = clients.producer(self.job.kafka)
        producer.send(topic or self.facts, value, partition=partition).get(timeout=30)
        producer.close()

    def send(self, *facts: AnyFact) -> None:
        for fact in facts:
            self.append(encode_frame([fact], "gateway"), home(fact.meter_point))  # type: ignore[union-attr]

    def letters(self) -> list[DeadLetter]:
        return [*map(decode_dead_letter, self.job.read(self.job.topics.dead_letter))]

    def exported(self) -> list[AnyFact]:
        facts: list[AnyFact] = []
        for found in read_facts(self.run("export").encode().splitlines()):
            assert not isinstance(found, BadLine)
            facts.append(found)
        return facts

    def agrees(self) -> bool:
        """Whether the ledger is what the specification finds in the export."""
        facts = self.exported()
        as_of_us = latest_us(facts)
        return as_of_us is not None and self.job.ledger() == replay(facts, as_of_us, Rules())

    def wait_agrees(self) -> None:
        wait_for(self.agrees, "the ledger is that of the export", 60)


@pytest.fixture
def redriven(kafka: KafkaBroker | GivenKafka, tmp_path: Path, unique: str) -> Redriven:
    job = Job(kafka.bootstrap, tmp_path, unique, "broker")
    job.make_topics()
    return Redriven(job)


def home(point: str) -> int:
    return partition_of(point, PARTITIONS)


def set_up(point: str, meter: str) -> tuple[Registered, MeterFitted]:
    since = TODAY - timedelta(days=5)
    return (
        Registered(
            meter_point=point, gas_day=since, users=("u",), ldz="SC", annual_quantity_kwh=Decimal(800_000), equipment="E"
        ),
        MeterFitted(
            meter_point=point, meter=meter, at=to_datetime(DAYS.start_us(since.toordinal())), index=0, digits=8,
            m3_per_tick=Decimal("0.1"), conversion_factor=Decimal("1.02264"), q_max_m3_per_h=Decimal(160),
        ),
    )  # fmt: skip


def day(point: str, meter: str, back: int) -> Readings:
    """The readings of a Day so many Days ago, whole."""
    gas_day = TODAY - timedelta(days=back)
    start = to_datetime(DAYS.start_us(gas_day.toordinal()))
    return Readings(
        meter_point=point, meter=meter, gas_day=gas_day, first_at=start, interval_s=86_400,
        index=(1000 - 100 * back, 1100 - 100 * back),
    )  # fmt: skip


def received(facts: Sequence[AnyFact], one: Readings) -> list[datetime]:
    found = [each for each in facts if isinstance(each, Readings)]
    return [each.received_at for each in found if each.received_at and (each.meter, each.gas_day) == (one.meter, one.gas_day)]


def test_what_was_in_the_wrong_place_or_a_broken_frame_counts_from_when_it_is_put_back(
    redriven: Redriven, start: Start
) -> None:
    point, meter = "P-1", "m"
    wrong, late, many = day(point, meter, 4), day(point, meter, 3), day(point, meter, 2)
    start("stream", "--config", redriven.job.config)
    redriven.send(*set_up(point, meter))
    redriven.append(encode_frame([wrong, day(point, meter, 1)], "gateway"), (home(point) + 1) % PARTITIONS)
    redriven.append(encode_frame([late], "gateway", datetime(2026, 1, 1, tzinfo=UTC)), home(point))
    redriven.append(b"no frame", home(point))
    redriven.append(frame_of([b"\x81\xa4fact\xa3odd", encode_fact(many)], "gateway"), home(point))
    redriven.append(encode_frame([CalorificValue(ldz="SC", gas_day=late.gas_day, mj_per_m3=Decimal("39.5"))], "gateway"), 0)
    wait_for(lambda: len(redriven.letters()) == 6, "six dead letters")
    redriven.wait_agrees()
    told_at = datetime.now(UTC)

    listed = redriven.run("redrive", "--dry-run")
    assert "4 facts can be put back; 2 cannot be used yet" in listed
    assert f"{redriven.facts}[{home(point)}]: gateway gateway says when it was received" in listed
    assert "1 facts can be put back" in redriven.run("redrive", "--dry-run", "--reason", "says when it was received")
    assert "0 facts can be put back" in redriven.run("redrive", "--dry-run", "--since", "2100-01-01T00:00:00Z")
    assert len(redriven.letters()) == 6
    redriven.wait_agrees()

    assert "4 facts put back" in redriven.run("redrive", "--yes")
    wait_for(lambda: all(received(redriven.exported(), each) for each in (wrong, late)), "they are in the export")
    assert min(received(redriven.exported(), late)) > told_at
    redriven.wait_agrees()
    read = {record.gas_day: record.end_index for record in redriven.job.ledger().values() if isinstance(record, Day)}
    assert {each.gas_day: each.index[-1] for each in (wrong, late, many, day(point, meter, 1))}.items() <= read.items()

    before = redriven.job.ledger()
    assert "0 facts can be put back; 2 cannot be used yet" in redriven.run("redrive", "--yes")
    assert "4 facts put back" in redriven.run("redrive", "--yes", "--again")
    redriven.wait_agrees()
    assert redriven.job.ledger() == before


def test_what_a_newer_program_can_read_counts_from_when_it_is_put_back_also_on_a_new_disk(
    redriven: Redriven, start: Start, tmp_path: Path
) -> None:
    """The frames in which it stood can be read by now, but were not when they came."""
    point = "P-1"
    facts = [day(point, UNREADABLE, back) for back in (4, 3)]
    old = start("stream", "--config", redriven.job.config, command=NARROW, log=tmp_path / "narrow.log")
    redriven.send(*set_up(point, UNREADABLE), *facts)
    wait_for(lambda: len(redriven.letters()) == 2, "two dead letters")
    told_at = datetime.now(UTC)
    assert old.terminate(10) == 0

    new = start("stream", "--config", redriven.job.config, log=tmp_path / "new.log")
    assert "2 facts put back" in redriven.run("redrive", "--yes")
    assert min(at for each in facts for at in received(redriven.exported(), each)) > told_at
    redriven.wait_agrees()
    assert new.terminate(10) == 0

    shutil.rmtree(tmp_path / "state")
    start("stream", "--config", redriven.job.config, log=tmp_path / "empty.log")
    redriven.send(set_up(point, UNREADABLE)[0], day(point, UNREADABLE, 2))  # takes the slow path, through the fact store
    redriven.wait_agrees()
    assert 900 in {record.end_index for record in redriven.job.ledger().values() if isinstance(record, Day)}


def test_past_the_cap_each_can_be_put_back_all_the_same(redriven: Redriven, start: Start) -> None:
    point, count = "P-1", LETTERS_AN_HOUR + 300
    start("stream", "--config", redriven.job.config)
    redriven.send(*set_up(point, "m"))
    good = [encode_fact(day(point, "m", back)) for back in (4, 3, 2, 1)]
    wrong = (home(point) + 1) % PARTITIONS
    junk = [b"\xc0"] * (count // 2)
    redriven.append(frame_of([*junk, good[0], *junk, *good[1:]], "gateway"), wrong)
    wait_for(lambda: redriven.job.health().get("state") == "poisoned", "it says that there are too many")
    partition = json.loads(json.dumps(redriven.job.health()["partitions"]))[str(wrong)]
    assert partition["dead_past_cap"] == count + 4 - LETTERS_AN_HOUR
    assert len(redriven.letters()) == LETTERS_AN_HOUR + 1
    assert redriven.letters()[-1].places == ((0, LETTERS_AN_HOUR, count + 3),)
    assert f"4 facts can be put back; {count} cannot be used yet" in redriven.run("redrive", "--dry-run")
    assert "4 facts put back" in redriven.run("redrive", "--yes")
    redriven.wait_agrees()
    assert len([each for each in redriven.exported() if isinstance(each, Readings)]) == 4


def test_where_a_fact_stood_before_only_who_puts_it_back_may_say(redriven: Redriven, start: Start) -> None:
    """Else a gateway could make a fact younger than it is."""
    point, one = "P-1", day("P-1", "m", 3)
    start("stream", "--config", redriven.job.config)
    redriven.send(*set_up(point, "m"), one)
    redriven.append(frame_of([encode_fact(one)], "gateway", None, [Origin(redriven.facts, home(point), 2)]), home(point))
    redriven.wait_agrees()
    assert len(received(redriven.exported(), one)) == 2
