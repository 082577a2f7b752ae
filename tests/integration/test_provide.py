"""`dailyread provide` as a process on a real broker: files, Users' topics, `provided` facts, whatever is killed."""

from __future__ import annotations

import csv
import io
import random
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from kafka import KafkaProducer, TopicPartition

from dailyread import kafka as clients
from dailyread.facts_topic import read_messages, received_facts
from metering.facts import AnyFact, CalorificValue, MeterFitted, Provided, Readings, Registered, Tick
from metering.gasday import GasDays, to_datetime
from metering.ledger import AnyRecord, Day
from metering.messages import encode_change
from metering.wire import partition_of
from tests.integration.conftest import Start
from tests.integration.services import GivenKafka, KafkaBroker, Proc, free_port
from tests.integration.stream.job import PARTITIONS, Job
from tests.integration.stream.toy_cluster import wait_for
from tests.patience import patient
from tests.storage.ledger_contract import ACTUAL

TODAY = datetime.now(UTC).date()
PAST = TODAY - timedelta(days=3)  # its 11:00 has passed at whatever hour the tests run
DAYS = GasDays()


class Told(NamedTuple):
    """A message of a User's topic."""

    user: str
    key: str
    version: int
    content: bytes


class Provision:
    """Topics of one test, a folder, and the command on them."""

    def __init__(self, bootstrap: str, folder: Path, unique: str, start: Start, time_: str = "broker") -> None:
        self.job = Job(bootstrap, folder, unique, time_)
        self.job.make_topics()
        self.folder, self._start, self._unique = folder, start, unique
        self._offset = 0
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, delivery_timeout_ms=86_400_000)
        self.prefix = f"u{unique}-"
        with self.job.config.open("a") as config:
            config.write(
                f'[provide]\nfolder = "users"\ntopic_prefix = "{self.prefix}"\ngather_s = {0.3 if time_ == "broker" else 600}\n'
            )

    @property
    def users(self) -> Path:
        return self.folder / "users"

    def command(self, *words: str, log: str = "provide") -> Proc:
        return self._start("provide", *words, "--config", self.job.config, log=self.folder / f"{log}.log")

    def once(self, log: str = "once") -> Proc:
        """Run the command until all is published."""
        process = self.command("--once", log=log)
        assert process.wait(60) == 0, process.output()
        return process

    def say(self, *records: AnyRecord) -> None:
        """Append records to the ledger, each resting on a later frame."""
        for record in records:
            self._offset += 1
            number = partition_of(record.meter_point, PARTITIONS)
            key, value = encode_change(record, number, self._offset)
            self._producer.send(self.job.topics.ledger, value, key=key, partition=number)
        self._producer.flush()

    def submit(self, *facts: AnyFact) -> None:
        text = b"\n".join(msgspec.json.encode(msgspec.structs.replace(fact, received_at=None)) for fact in facts)
        (self.folder / "facts.jsonl").write_bytes(text)
        done = self._start("submit", "--config", self.job.config, self.folder / "facts.jsonl")
        assert done.wait(30) == 0, done.output()

    def files(self) -> dict[str, bytes]:
        """What is in the folder, by path."""
        return {
            str(path.relative_to(self.users)): path.read_bytes() for path in sorted(self.users.rglob("*")) if path.is_file()
        }

    def told(self, user: str) -> list[Told]:
        """All messages of a User's topic; `user` as its name stands in the topic's."""
        consumer = clients.consumer(self.job.kafka)
        place = TopicPartition(self.prefix + user, 0)
        consumer.assign([place])
        end, found = consumer.end_offsets([place])[place], []
        consumer.seek_to_beginning(place)
        while consumer.position(place) < end:
            for message in consumer.poll(timeout_ms=500).get(place, []):
                said = {name: value.decode() for name, value in message.headers}
                found.append(Told(said["user"], message.key.decode(), int(said["version"]), message.value))
        consumer.close()
        return found

    def provided(self) -> list[Provided]:
        """The `provided` facts of the topic, each as received, copies too."""
        kafka = self.job.kafka
        found = (fact for message in read_messages(kafka, lambda _: None) for fact in received_facts(message, kafka))
        return [fact for fact in found if isinstance(fact, Provided)]

    def close(self) -> None:
        self._producer.close()


@pytest.fixture
def provision(kafka: KafkaBroker | GivenKafka, tmp_path: Path, unique: str, start: Start) -> Iterator[Provision]:
    made = Provision(kafka.bootstrap, tmp_path, unique, start)
    yield made
    made.close()


@pytest.fixture
def simulated(kafka: KafkaBroker | GivenKafka, tmp_path: Path, unique: str, start: Start) -> Iterator[Provision]:
    made = Provision(kafka.bootstrap, tmp_path, unique, start, "simulated")
    yield made
    made.close()


def day(point: str = "A", gas_day: date = PAST, **changes: Any) -> Day:
    fields = {"meter_point": point, "gas_day": gas_day, "users": ("U",)} | changes
    return msgspec.structs.replace(ACTUAL, **fields)


def rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))[1:]


def what(facts: Iterable[Provided]) -> set[tuple[str, str, date, int]]:
    return {(fact.meter_point, fact.user, fact.gas_day, fact.version) for fact in facts}


def test_each_user_gets_file_message_and_facts(provision: Provision) -> None:
    provision.say(day("A", users=("U", "Gas & Co")), day("B"), day("C", valid=False, volume_m3=None))
    provision.once()
    name = f"daily-{PAST}-v001.csv"
    assert list(provision.files()) == [f"Gas_20_26_20Co/{name}", f"U/{name}"]
    content = provision.files()[f"U/{name}"]
    assert [(row[0], row[5], row[7], row[9]) for row in rows(content)] == [
        ("A", "11.628", "true", "1"), ("B", "11.628", "true", "1"), ("C", "", "false", "1"),
    ]  # fmt: skip
    assert provision.told("U") == [Told("U", f"{PAST}/0", 1, content)]
    assert provision.told("Gas_20_26_20Co")[0].user == "Gas & Co"
    assert what(provision.provided()) == {("A", "U", PAST, 1), ("B", "U", PAST, 1), ("A", "Gas & Co", PAST, 1)}


def test_a_change_is_the_next_version_and_a_restart_alone_is_none(provision: Provision) -> None:
    provision.say(day("A"), day("B"))
    provision.once()
    provision.once("again")
    assert len(provision.told("U")) == 1
    provision.say(day("B", end_index=1117), day("A"))
    provision.once("changed")
    assert [(row[0], row[4], row[9]) for row in rows(provision.told("U")[1].content)] == [
        ("A", "1116", "1"),
        ("B", "1117", "2"),
    ]
    assert list(provision.files()) == [f"U/daily-{PAST}-v001.csv", f"U/daily-{PAST}-v002.csv"]
    assert len(provision.provided()) == 3


@pytest.mark.clause("4.6.1(b)")
def test_hourly_readings_come_from_the_facts_4_6_1(provision: Provision) -> None:
    at = to_datetime(DAYS.start_us(PAST.toordinal()))
    piece = Readings(meter_point="A", meter="M", gas_day=PAST, first_at=at, interval_s=3600, index=(5, 6, None, 8, 9, 10))
    provision.submit(piece)
    provision.say(day("A", valid=False))
    provision.once()
    files = provision.files()
    assert list(files) == [
        f"U/daily-{PAST}-v001.csv", f"U/hourly-{PAST}-part1-v001.csv", f"U/hourly-{PAST}-part2-v001.csv",
    ]  # fmt: skip
    assert [row[4] for row in rows(files[f"U/hourly-{PAST}-part1-v001.csv"])] == ["5", "6", "8", "9"]
    assert [row[4] for row in rows(files[f"U/hourly-{PAST}-part2-v001.csv"])] == ["10"]
    assert {told.key for told in provision.told("U")} == {f"{PAST}/0", f"{PAST}/1", f"{PAST}/2"}
    assert provision.provided() == []


def test_killed_again_and_again_it_neither_skips_nor_changes_a_version(provision: Provision, unique: str) -> None:
    dice, worked = random.Random(unique), 0
    for n in range(10):
        process = provision.command(log=f"killed-{n}")
        process.wait_for_log("Users' files go to", timeout_s=60)
        until_s = time.monotonic() + 0.5 + 1.5 * dice.random()
        late_s = time.monotonic() + 20 * (n % 2)  # every other one is killed after it has begun to publish
        while time.monotonic() < until_s or (time.monotonic() < late_s and ".csv" not in process.output()):
            users = dice.choice([("U",), ("U", "V"), ("V",)])
            index = dice.randint(0, 10**6)
            gas_day = PAST - timedelta(days=dice.randint(0, 2))
            provision.say(day(dice.choice("ABCDE"), gas_day, users=users, end_index=index, valid=dice.random() < 0.8))
            time.sleep(0.01)
        process.kill()
        worked += ".csv" in process.output()
    assert worked >= 5  # it was killed in the middle of its work
    provision.once()
    assert_whole(provision, ["U", "V"])


def assert_whole(provision: Provision, users: Sequence[str]) -> None:
    """Versions without a gap, each with one content in the folder and in the topic; facts of all Valid rows, and no others."""
    files, expected = provision.files(), {}
    facts = set()
    versions: dict[tuple[str, str], set[int]] = {}
    for user in users:
        for told in provision.told(user):
            gas_day = told.key.split("/")[0]
            path = f"{user}/daily-{gas_day}-v{told.version:03}.csv"
            assert expected.setdefault(path, told.content) == told.content
            versions.setdefault((user, told.key), set()).add(told.version)
            facts |= {(row[0], user, date.fromisoformat(row[1]), int(row[9])) for row in rows(told.content) if row[7] == "true"}
    assert files == expected
    assert versions
    assert all(found == set(range(1, len(found) + 1)) for found in versions.values())
    assert what(provision.provided()) == facts
    assert len(facts) > 20


def test_a_lost_book_is_made_again_and_versions_go_on(provision: Provision) -> None:
    provision.say(day("A"), day("B"))
    provision.once()
    provision.say(day("A", end_index=1117))
    provision.once("second")
    facts = provision.provided()
    for file in (provision.folder / "state").glob("provision.sqlite*"):
        file.unlink()
    provision.say(day("B", end_index=1118))
    process = provision.once("anew")
    assert "took over 1 files" in process.output()
    told = {each.version: each.content for each in provision.told("U")}
    assert sorted(told) == [1, 2, 3]
    assert [(row[4], row[9]) for row in rows(told[3])] == [("1117", "2"), ("1118", "3")]
    assert all(provision.files()[f"U/daily-{PAST}-v{version:03}.csv"] == content for version, content in told.items())
    assert what(facts) < what(provision.provided()) == what(facts) | {("B", "U", PAST, 3)}


def test_what_cannot_be_used_is_passed_over(provision: Provision) -> None:
    provision._producer.send(provision.job.topics.ledger, b"poison", partition=0)
    provision._producer.send(provision.job.topics.facts, b"poison", partition=0)
    provision.say(day())
    assert "not a ledger message" in provision.once().output()
    assert len(provision.told("U")) == 1


def test_while_kafka_is_away_it_waits_and_then_goes_on(
    own_kafka: KafkaBroker, tmp_path: Path, unique: str, start: Start
) -> None:
    provision = Provision(own_kafka.bootstrap, tmp_path, unique, start)
    process = provision.command()
    provision.say(day("A"))
    process.wait_for_log("daily-.*-v001.csv", timeout_s=30)
    own_kafka.kill()
    process.wait_for_log("Kafka at .* is away", timeout_s=30)
    own_kafka.start()
    provision.say(day("A", end_index=1117))
    process.wait_for_log("daily-.*-v002.csv", timeout_s=60)
    wait_for(lambda: len(what(provision.provided())) == 2, "both are said", 30)
    assert process.terminate(5.0) == 0
    assert process.output().count("is away") == 1
    provision.close()


def test_a_folder_that_is_full_or_refused_ends_it_and_nothing_is_lost(provision: Provision) -> None:
    provision.users.write_text("no folder")
    provision.say(day())
    process = provision.command("--once")
    assert process.wait(30) == 1
    assert "users" in process.output().splitlines()[-1]
    assert provision.provided() == []
    provision.users.unlink()
    provision.once()
    assert len(provision.files()) == 1
    assert len(provision.provided()) == 1


def test_metrics_say_what_it_has_done(provision: Provision) -> None:
    port = free_port()
    provision.say(day())
    process = provision.command("--metrics", f"127.0.0.1:{port}")
    process.wait_for_log("v001.csv", timeout_s=30)
    wait_for(lambda: "\ndailyread_provide_facts_total 1\n" in _page(port), "the page says it", 10)
    assert "\ndailyread_provide_versions_total 1\n" in _page(port)
    assert "\ndailyread_provide_kafka_away 0\n" in _page(port)
    assert process.terminate() == 0


def _page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


# From facts to files, by the rules, in virtual time.

SITE = [
    Registered(
        meter_point="A", gas_day=date(2026, 1, 7), users=("U", "V"), ldz="EA", annual_quantity_kwh=Decimal(365_000),
        equipment="E", received_at=datetime(2026, 1, 5, tzinfo=UTC),
    ),
    MeterFitted(
        meter_point="A", meter="M", at=datetime(2026, 1, 7, 5, tzinfo=UTC), index=1000, digits=8, m3_per_tick=Decimal("0.1"),
        q_max_m3_per_h=Decimal(100), received_at=datetime(2026, 1, 5, tzinfo=UTC),
    ),
    CalorificValue(
        ldz="EA", gas_day=date(2026, 1, 8), mj_per_m3=Decimal("39.5"), received_at=datetime(2026, 1, 9, 6, tzinfo=UTC)
    ),
]  # fmt: skip


def batch(received: datetime, *index: int) -> Readings:
    return Readings(
        meter_point="A", meter="M", gas_day=date(2026, 1, 8), index=index, received_at=received,
        at=(datetime(2026, 1, 8, 5, tzinfo=UTC), datetime(2026, 1, 9, 5, tzinfo=UTC)),
    )  # fmt: skip


def tick(*instant: int) -> Tick:
    at = datetime(2026, 1, *instant, tzinfo=UTC)
    return Tick(now=at, received_at=at)


def ticks_until(job: Job, published: Callable[[], bool], minutes: Sequence[int]) -> None:
    """Ticks at these minutes past 10:00 until all is published: what comes with one may not have read the ledger so far."""
    for minute in minutes:
        time.sleep(1.0)
        job.publish([tick(9, 10, minute)])
        until_s = time.monotonic() + patient(5)
        while time.monotonic() < until_s:
            if published():
                return
            time.sleep(0.1)
    raise AssertionError(f"not published with the tick at 10:{minutes[-1]}")


def test_from_facts_to_files_by_11(simulated: Provision, start: Start) -> None:
    """Nothing by 10:45 of the 9th: the Day goes out as it is; readings at 10:50 go out before 11:00, and count by then."""
    job = simulated.job
    worker = start("stream", "--config", job.config, env={"DAILYREAD_STATE_DIR": str(simulated.folder / "worker")})
    provide = simulated.command()
    job.publish([*SITE, tick(8, 6), tick(9, 6)])
    wait_for(job.done, "the worker is done", 60)
    time.sleep(1.0)
    assert [name for name in _names(simulated) if "01-08" in name] == []
    first = ["U/daily-2026-01-08-v001.csv", "V/daily-2026-01-08-v001.csv"]
    ticks_until(job, lambda: _names(simulated, "2026-01-08") == first, [45, 46, 47, 48, 49])
    provide.kill()
    provide = simulated.command(log="again")
    job.publish([batch(datetime(2026, 1, 9, 10, 50, tzinfo=UTC), 1100, 1210)])
    wait_for(lambda: ("day", "A", "2026-01-08") in job.ledger() and _valid(job), "the worker is done", 60)
    ticks_until(job, lambda: "V/daily-2026-01-08-v002.csv" in simulated.files(), [56, 57, 58, 59])
    (row,) = rows(simulated.files()["U/daily-2026-01-08-v002.csv"])
    assert row == ["A", "2026-01-08", "actual", "1100", "1210", "11.000", "120.694", "true", "", "2"]
    wait_for(lambda: len(what(simulated.provided())) >= 2, "said", 30)
    said = [fact for fact in simulated.provided() if fact.gas_day == date(2026, 1, 8)]
    assert what(said) == {("A", "U", date(2026, 1, 8), 2), ("A", "V", date(2026, 1, 8), 2)}
    eleven = datetime(2026, 1, 9, 11, tzinfo=UTC)
    assert all(fact.received_at is not None and fact.received_at < eleven for fact in said)
    assert (provide.terminate(), worker.terminate()) == (0, 0)


def _names(provision: Provision, gas_day: str = "") -> list[str]:
    return [name for name in provision.files() if gas_day in name] if provision.users.exists() else []


def _valid(job: Job) -> bool:
    record = job.ledger()["day", "A", "2026-01-08"]
    return isinstance(record, Day) and record.valid


def test_it_is_refused_without_its_topics(kafka: KafkaBroker | GivenKafka, tmp_path: Path, unique: str, start: Start) -> None:
    job = Job(kafka.bootstrap, tmp_path, unique)
    process = start("provide", "--config", job.config)
    assert process.wait(30) == 1
    assert f"topic {job.topics.ledger}: missing" in process.output()
