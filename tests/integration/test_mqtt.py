"""Loggers that push by a real MQTT broker into a real outbox: whatever is killed, nothing is lost and nothing counts twice."""

from __future__ import annotations

import random
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from collectors.mqtt import Broker, MqttCollector
from collectors.outbox import Cap, Outbox
from metering.facts import Alarm, AnyFact, GivenUp, IntervalSet, PollFailed, Readings
from metering.gasday import GasDays, to_datetime
from metering.wire import encode_fact
from simulators.meter import SimulatedMeter
from simulators.mqtt_logger import Access, MqttLogger
from simulators.sites import Convertor, Site
from tests.integration.conftest import Start
from tests.integration.mosquitto import Mosquitto
from tests.patience import patient

FIRST = date(2026, 10, 23)  # summer time ends on the 25th
DAYS = GasDays()
START = to_datetime(DAYS.start_us(FIRST.toordinal()))
HOUR = timedelta(hours=1)


class Meter(NamedTuple):
    logger: str
    meter_point: str
    meter: str


METERS = [Meter("L1", "MP1", "M-1"), Meter("L1", "MP2", "M-2"), Meter("L2", "MP3", "M-3")]


def truth(number: int) -> SimulatedMeter:
    return Site(
        name=f"site-{number}", protocol="modbus_tcp", meter_point=f"MP{number}", meter=f"M-{number}", equipment=f"E-{number}",
        users=("Alder",), ldz="NW", registered=FIRST, annual_quantity_kwh=Decimal(20_000_000), profile="process", seed=number,
        fitted_at=START, digits=8, m3_per_tick=Decimal("0.1"), start_index=1000, q_max_m3_per_h=Decimal(900),
        convertor=Convertor(unconverted_digits=8, unconverted_m3_per_tick=Decimal("0.1")),
    ).build(DAYS)  # fmt: skip


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "mosquitto") as running:
        yield running


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox(tmp_path / "outbox.sqlite", "gateway-1", days=DAYS)) as opened:
        yield opened


def address(broker: Mosquitto, **more: object) -> Broker:
    return Broker(host="127.0.0.1", port=broker.port, client_id="gateway-1", **more)  # type: ignore[arg-type]


@contextmanager
def collecting(broker: Mosquitto, outbox: Outbox, **more: object) -> Iterator[MqttCollector]:
    collector = MqttCollector(address(broker), "gateway-1", METERS, outbox, now, days=DAYS, **more)  # type: ignore[arg-type]
    collector.start()
    try:
        eventually(lambda: collector.counters.subscribed)
        yield collector
    finally:
        collector.stop()


@contextmanager
def pushing(broker: Mosquitto, name: str = "L1", **more: object) -> Iterator[MqttLogger]:
    meters = {meter.meter: truth(int(meter.meter[2:])) for meter in METERS if meter.logger == name}
    logger = MqttLogger(name, meters, Access("127.0.0.1", broker.port), **more)  # type: ignore[arg-type]
    logger.start()
    try:
        yield logger
    finally:
        logger.stop()


def eventually(reached: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + patient(within_s)
    while not reached():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def facts(outbox: Outbox) -> list[AnyFact]:
    return [entry.fact for entry in outbox.pending(100_000)]


def held(outbox: Outbox) -> dict[tuple[str, date], dict[datetime, int]]:
    """The readings of each meter point's Day, copies once; two that differ would fail."""
    found: dict[tuple[str, date], dict[datetime, int]] = {}
    for fact in facts(outbox):
        if isinstance(fact, Readings):
            day = found.setdefault((fact.meter_point, fact.gas_day), {})
            for at, index in zip(fact.instants(), fact.index, strict=True):
                assert day.setdefault(at, index) == index
    return found


def true_readings(number: int, day: date, first: datetime, last: datetime, step: timedelta = HOUR) -> dict[datetime, int]:
    start, end = (to_datetime(of(day.toordinal())) for of in (DAYS.start_us, DAYS.end_us))
    meter = truth(number)
    at = [first + n * step for n in range((last - first) // step + 1)]
    return {instant: meter.true_index_at(instant) for instant in at if start <= instant <= end}


@pytest.mark.parametrize("packed", [False, True], ids=["JSON", "compact"])
def test_what_loggers_push_becomes_the_days_readings_of_each_of_their_meters(
    broker: Mosquitto, outbox: Outbox, packed: bool
) -> None:
    last = START + 49 * HOUR  # the Day of the 24th has 25 hours
    with collecting(broker, outbox) as collector, pushing(broker, "L1", packed=packed) as one, pushing(broker, "L2") as two:
        for logger in (one, two):
            logger.push(START, last)
        eventually(lambda: collector.counters.readings == 3 * 50)
        eventually(lambda: len(held(outbox)) == 12)
    for number in (1, 2, 3):
        for offset in range(4):  # the first reading is the end of the Day before, the last the start of the 25th
            day = FIRST + timedelta(days=offset - 1)
            assert held(outbox)[f"MP{number}", day] == true_readings(number, day, START, last)


def test_what_comes_while_the_gateway_is_away_waits_at_the_broker(broker: Mosquitto, outbox: Outbox) -> None:
    with collecting(broker, outbox):
        pass
    with pushing(broker, "L2") as logger:
        logger.push(START, START + 24 * HOUR)
        assert logger.wait_acknowledged(10)
    assert facts(outbox) == []
    with collecting(broker, outbox):
        eventually(lambda: ("MP3", FIRST) in held(outbox))


def test_a_broker_that_is_killed_and_comes_back_loses_nothing_and_is_subscribed_to_again(
    broker: Mosquitto, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    hours = 120
    with collecting(broker, outbox) as collector, pushing(broker, "L1") as logger:
        for hour in range(hours):
            logger.push(START + hour * HOUR, START + (hour + 1) * HOUR)
            if hour in (20, 70):
                assert logger.wait_acknowledged(20)
                time.sleep(0.2)  # it has them on disk
                broker.kill()
            if hour in (30, 80):
                broker.start()
            time.sleep(0.01)
        assert logger.wait_acknowledged(30)
        expected = {
            (f"MP{number}", day): true_readings(number, day, START, START + hours * HOUR)
            for number in (1, 2)
            for day in (FIRST + timedelta(days=offset - 1) for offset in range(6))
        }
        eventually(lambda: all(held(outbox).get(day, {}).keys() >= found.keys() for day, found in expected.items()))
        assert held(outbox) == expected
        assert collector.counters.away is False
    assert len([message for message in caplog.messages if "is away" in message]) == 2


# Two threads of it speak, so each says its line in one write: `print` makes two of it, and the lines could mix.
COLLECTOR = """
import os, sys, time
from datetime import datetime
from pathlib import Path
from collectors.outbox import Outbox
from collectors.mqtt import MqttCollector
from tests.integration.test_mqtt import DAYS, METERS, Broker, now

def say(word):
    os.write(1, word + b"\\n")

class Slow(Outbox):
    def put(self, facts, now, done=()):
        if sys.argv[3] == "before":
            say(b"received")
            time.sleep(60)
        super().put(facts, now, done)
        say(b"stored")
        if sys.argv[3] == "after":
            time.sleep(60)

outbox = Slow(Path(sys.argv[1]), "gateway-1", days=DAYS)
broker = Broker(host="127.0.0.1", port=int(sys.argv[2]), client_id="gateway-1")
MqttCollector(broker, "gateway-1", METERS, outbox, now, days=DAYS).start()
say(b"started")
time.sleep(60)
"""


def collector_process(path: Path, broker: Mosquitto, stop_at: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", COLLECTOR, str(path), str(broker.port), stop_at]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def make_known(path: Path, broker: Mosquitto) -> None:
    """The broker has heard of the gateway: from now on it keeps what comes."""
    with closing(Outbox(path, "gateway-1", days=DAYS)) as outbox, collecting(broker, outbox):
        pass


def kill_when_it_says(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            break
    else:
        pytest.fail(f"the collector never said {word!r}")
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize(("stop_at", "word", "copies"), [("before", "received", 0), ("after", "stored", 1)])
def test_a_collector_killed_between_receipt_and_disk_or_before_the_acknowledgement_gets_it_again(
    broker: Mosquitto, tmp_path: Path, stop_at: str, word: str, copies: int
) -> None:
    path = tmp_path / "outbox.sqlite"
    make_known(path, broker)
    with pushing(broker, "L2") as logger:
        process = collector_process(path, broker, stop_at)
        logger.push(START + HOUR, START + 5 * HOUR)
        kill_when_it_says(process, word)
        with closing(Outbox(path, "gateway-1", days=DAYS)) as outbox:
            assert len(facts(outbox)) == copies
            with collecting(broker, outbox):
                eventually(lambda: len(facts(outbox)) == copies + 1)
            assert held(outbox) == {("MP3", FIRST): true_readings(3, FIRST, START + HOUR, START + 5 * HOUR)}


def test_a_collector_killed_at_any_moment_loses_nothing(broker: Mosquitto, tmp_path: Path) -> None:
    path, chance, hours = tmp_path / "outbox.sqlite", random.Random(3), 0
    make_known(path, broker)
    with pushing(broker, "L2") as logger:
        for _ in range(5):
            process = collector_process(path, broker)
            assert process.stdout is not None
            process.stdout.readline()
            until = time.monotonic() + chance.uniform(0.1, 1.0)
            while time.monotonic() < until:
                logger.push(START + hours * HOUR, START + (hours + 1) * HOUR)
                hours += 1
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert logger.wait_acknowledged(20)
        with closing(Outbox(path, "gateway-1", days=DAYS)) as outbox, collecting(broker, outbox):
            last = START + hours * HOUR
            expected = {at for n in range(hours + 1) for at in [START + n * HOUR]}
            eventually(lambda: {at for day in held(outbox).values() for at in day} == expected, 30)
            for (_, day), found in held(outbox).items():
                assert found == true_readings(3, day, START, last)


def test_while_the_outbox_takes_nothing_the_broker_keeps_what_comes(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alarm = Alarm(meter_point="X", meter="X", at=START, kind="other", detail="x" * 90)
    with closing(Outbox(tmp_path / "full", "gateway-1", Cap(max_bytes=len(encode_fact(alarm))), DAYS)) as full:
        full.put([alarm], START)
        with collecting(broker, full) as collector, pushing(broker, "L2") as logger:
            logger.publish("alarm", b'{"meter": "M-3", "at": "2026-10-23T06:00:00Z", "kind": "tamper"}')
            assert logger.wait_acknowledged(10)
            eventually(lambda: collector.counters.disk_refuses)
            assert facts(full) == [alarm]
            full.acknowledge([full.pending(1)[0].id])
            eventually(lambda: len(facts(full)) == 1 and not collector.counters.disk_refuses)
        told = facts(full)
    assert told == [Alarm(meter_point="MP3", meter="M-3", at=START + 2 * HOUR, kind="tamper")]
    assert len([message for message in caplog.messages if "nothing more is taken" in message]) == 1


# Small on the way, large as a fact: counts that begin beyond all that fit.
LARGE = msgspec.msgpack.encode(["M-3", int((START + HOUR).timestamp()), 1, [2**63] + [1] * 9999, [2**63] + [1] * 9999])
BAD = [
    ("readings", b"\xff\x00", "malformed"),
    ("readings", b'{"meter": "M-3", "index": [1]}', "give either `at` or `first_at`"),
    ("readings", b'{"meter": "M-9", "first_at": "2026-10-23T05:00:00Z", "index": [1]}', 'no meter "M-9"'),
    ("readings", b'{"meter": "M-3", "first_at": "2026-10-23T05:00:00", "index": [1]}', "offset from UTC"),
    ("readings/compact", b'{"meter": "M-3"}', "Expected"),
    ("alarm", b"[]", "Expected `object`"),
    ("alarm", b'{"meter": "M-3", "at": "2026-10-23T06:00:00Z", "kind": "%s"}' % (b"x" * 100_000), "length <= 64"),
    ("readings/compact", LARGE, "allowed: at most"),
    ("readings", b'{"meter": "M-3", "index": [1], "%s": 1}' % (b"x" * 100_000), "unknown field"),
]


def test_what_is_no_payload_is_told_and_does_not_hold_up_what_is(broker: Mosquitto, outbox: Outbox) -> None:
    with collecting(broker, outbox) as collector, pushing(broker, "L2") as logger:
        for kind, payload, _ in BAD:
            logger.publish(kind, payload)
        logger.push(START + HOUR, START + 5 * HOUR)
        eventually(lambda: ("MP3", FIRST) in held(outbox))
        assert collector.counters.rejected == len(BAD)
    told = [fact for fact in facts(outbox) if isinstance(fact, PollFailed)]
    for fact, (_, _, reason) in zip(told, BAD, strict=True):
        assert reason in fact.reason
        assert (fact.meter_point, fact.meter) == ("MP3", "M-3")
        assert len(fact.reason) < 2500


def test_a_logger_nobody_knows_is_said_once_and_its_messages_are_taken_away(
    broker: Mosquitto, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    with collecting(broker, outbox) as collector:
        logger = MqttLogger("stranger", {"M-1": truth(1)}, Access("127.0.0.1", broker.port))
        logger.start()
        for _ in range(3):
            logger.push(START, START + HOUR)
        eventually(lambda: collector.counters.rejected >= 3)
        logger.stop()
    assert facts(outbox) == []
    assert len([message for message in caplog.messages if 'no logger "stranger"' in message]) == 1


def intervals_set(outbox: Outbox) -> list[tuple[str, int, bool]]:
    return [(fact.meter_point, fact.interval_s, fact.confirmed) for fact in facts(outbox) if isinstance(fact, IntervalSet)]


def test_an_interval_is_set_by_a_message_and_the_loggers_confirmation_is_a_fact(broker: Mosquitto, outbox: Outbox) -> None:
    """M4.1.3, with a logger that sleeps while the command is given."""
    with collecting(broker, outbox) as collector:
        with pushing(broker, "L2") as operator:
            operator._client.publish("dailyread/gateways/gateway-1/set-interval", b'{"logger": "L1", "interval_s": 360}', 1)
            eventually(lambda: "L1" in collector._commands._asked)
        with pushing(broker, "L1") as logger:
            eventually(lambda: len(intervals_set(outbox)) == 2)
            assert logger.interval_s == 360
            logger.push(START + HOUR, START + 2 * HOUR)
            eventually(lambda: ("MP2", FIRST) in held(outbox))
        with pushing(broker, "L1") as logger:  # the broker no longer has the command
            time.sleep(0.5)
            assert logger.commands == []
    assert intervals_set(outbox) == [("MP1", 360, True), ("MP2", 360, True)]
    step = timedelta(minutes=6)
    assert held(outbox)["MP1", FIRST] == true_readings(1, FIRST, START + HOUR, START + 2 * HOUR, step)


def test_an_interval_that_no_logger_confirms_is_a_fact_too(broker: Mosquitto, outbox: Outbox) -> None:
    with collecting(broker, outbox, confirm_s=0.5) as collector, pushing(broker, "L2", obeys=False) as logger:
        collector.set_interval("L2", 900)
        eventually(lambda: intervals_set(outbox) == [("MP3", 900, False)])
        assert [command.interval_s for command in logger.commands] == [900]
        with pytest.raises(KeyError):
            collector.set_interval("L7", 900)


@pytest.mark.parametrize("request_", [b'{"logger": "L7", "interval_s": 360}', b'{"logger": "L1", "interval_s": 60}', b"x"])
def test_a_request_for_an_interval_that_cannot_be_is_rejected(broker: Mosquitto, outbox: Outbox, request_: bytes) -> None:
    with collecting(broker, outbox) as collector, pushing(broker, "L2") as operator:
        operator._client.publish("dailyread/gateways/gateway-1/set-interval", request_, 1)
        eventually(lambda: collector.counters.rejected == 1)
    assert facts(outbox) == []


def test_a_request_that_the_broker_keeps_is_not_done_once_more_at_each_connection(broker: Mosquitto, outbox: Outbox) -> None:
    with pushing(broker, "L2") as logger:
        request = b'{"logger": "L2", "interval_s": 360}'
        eventually(logger._client.is_connected)
        logger._client.publish("dailyread/gateways/gateway-1/set-interval", request, 1, retain=True).wait_for_publish(10)
        with collecting(broker, outbox) as collector:
            eventually(lambda: collector.counters.rejected == 1)
        assert logger.commands == []
    assert facts(outbox) == []


def test_a_logger_that_is_gone_is_known_by_its_last_will(broker: Mosquitto, outbox: Outbox) -> None:
    with collecting(broker, outbox) as collector:
        script = (
            "import sys, time\n"
            "from simulators.mqtt_logger import Access, MqttLogger\n"
            "logger = MqttLogger('L2', {}, Access('127.0.0.1', int(sys.argv[1])))\n"
            "logger.start(); logger.publish('alarm', b'x'); print(logger.wait_acknowledged(10), flush=True); time.sleep(60)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", script, str(broker.port)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert collector.counters.offline == set()
        process.kill()
        process.wait()
        eventually(lambda: collector.counters.offline == {"L2"})
        with pushing(broker, "L2"):
            eventually(lambda: collector.counters.offline == set())


def test_days_that_the_outbox_gave_up_are_pushed_again_when_there_is_room(broker: Mosquitto, tmp_path: Path) -> None:
    with ExitStack() as stack:
        outbox = stack.enter_context(closing(Outbox(tmp_path / "small", "gateway-1", Cap(max_bytes=700), DAYS)))
        collector = stack.enter_context(collecting(broker, outbox, look_s=0.3))
        with pushing(broker, "L2", interval_s=360) as logger:
            for offset in range(2):
                first = START + timedelta(days=offset) + timedelta(minutes=6)
                logger.push(first, first + timedelta(hours=23))
            eventually(lambda: collector.counters.readings == 2 * 231)
            (lost,) = [fact for fact in facts(outbox) if isinstance(fact, GivenUp)]
            assert (lost.meter, lost.gas_day) == ("M-3", FIRST)
            assert [command for command in logger.commands if command.resend_from] == []
            outbox.acknowledge(entry.id for entry in outbox.pending(100))
            eventually(lambda: len(held(outbox).get(("MP3", FIRST), {})) == 241)
            eventually(lambda: outbox.given_up().days_to_ask == 0)
            assert len([command for command in logger.commands if command.resend_from]) == 1


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker with TLS that asks for a password."""
    folder = tmp_path / "guarded"
    folder.mkdir()
    with ExitStack() as stack:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
             "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
            check=True, capture_output=True,
        )  # fmt: skip
        subprocess.run(
            ["mosquitto_passwd", "-c", "-b", str(folder / "passwords"), "gw", "secret"], check=True, capture_output=True
        )
        lines = f"cafile {folder}/cert.pem\ncertfile {folder}/cert.pem\nkeyfile {folder}/key.pem"
        extra = f"{lines}\nallow_anonymous false\npassword_file {folder}/passwords"
        yield stack.enter_context(Mosquitto(folder, extra))


def test_with_tls_and_a_password_and_not_with_a_wrong_one(
    guarded: Mosquitto, outbox: Outbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.create_default_context(cafile=tmp_path / "guarded" / "cert.pem")
    wrong = MqttCollector(
        address(guarded, tls=context, user="gw", password=lambda: "wrong"), "g", METERS, outbox, now, days=DAYS
    )
    wrong.start()
    eventually(lambda: wrong.counters.away)
    wrong.stop()
    assert "refused: Not authorized" in caplog.text
    unverified = MqttCollector(
        address(guarded, tls=ssl.create_default_context(), user="gw", password=lambda: "secret"),
        "g",
        METERS,
        outbox,
        now,
        days=DAYS,
    )
    unverified.start()
    eventually(lambda: unverified.counters.away)
    unverified.stop()
    right = MqttCollector(
        address(guarded, tls=context, user="gw", password=lambda: "secret"), "g", METERS, outbox, now, days=DAYS
    )
    right.start()
    logger = MqttLogger("L2", {"M-3": truth(3)}, Access("127.0.0.1", guarded.port, context, "gw", "secret"))
    logger.start()
    logger.push(START + HOUR, START + 5 * HOUR)
    eventually(lambda: ("MP3", FIRST) in held(outbox))
    logger.stop()
    right.stop()
    assert "secret" not in caplog.text


def test_the_gateways_command_takes_what_loggers_push_and_is_killed_and_started_again(
    broker: Mosquitto, tmp_path: Path, start: Start
) -> None:
    """Kafka is away all the while: everything waits in the outbox."""
    loggers = "".join(
        f'[[mqtt.loggers]]\nlogger = "{each.logger}"\nmeter_point = "{each.meter_point}"\nmeter = "{each.meter}"\n'
        for each in METERS
    )
    (tmp_path / "gateway.toml").write_text(
        f'gateway = "gateway-1"\nstate_dir = "{tmp_path}/state"\n[kafka]\nbootstrap_servers = ["127.0.0.1:9"]\n'
        f'[mqtt]\nbroker = "127.0.0.1:{broker.port}"\n{loggers}'
    )
    with pushing(broker, "L2") as logger:
        for part in range(3):
            process = start("collect", "--config", tmp_path / "gateway.toml", log=tmp_path / f"collect-{part}.log")
            if part == 0:
                time.sleep(4)  # until the broker has first heard of it, it keeps nothing for it
            for hour in range(8):
                logger.push(START + (8 * part + hour) * HOUR, START + (8 * part + hour + 1) * HOUR)
                time.sleep(0.2)
            if part < 2:
                process.kill()
        assert logger.wait_acknowledged(10)
        time.sleep(3)
        process.end()
    with closing(Outbox(tmp_path / "state" / "outbox.sqlite", "gateway-1", days=DAYS)) as outbox:
        assert held(outbox)["MP3", FIRST] == true_readings(3, FIRST, START, START + 24 * HOUR)
