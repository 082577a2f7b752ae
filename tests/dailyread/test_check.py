"""`dailyread check` finds what a start would refuse: the same mistakes in the same words, and the examples have none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from collectors.clock import SystemClock
from collectors.gateway import Gateway
from collectors.outbox import Outbox
from dailyread.cli import main
from dailyread.commands.collect import route
from dailyread.commands.stream import worker_settings
from dailyread.config import GatewayConfig, StreamConfig, load_config
from dailyread.kafka import client_options
from metering.rules import Rules

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "dailyread" / "examples"
GATEWAY = """gateway = "g"
state_dir = "state"
[kafka]
bootstrap_servers = ["127.0.0.1:9092"]
[[meters]]
meter_point = "A"
meter = "m"
protocol = "modbus"
address = "tcp://127.0.0.1:502"
device = 1
map = "hourly_log"
[[meters]]
meter_point = "B"
meter = "n"
protocol = "iec62056_21"
address = "serial:/dev/ttyUSB0"
map = "own.toml"
"""
FIRST = GATEWAY[GATEWAY.index("[[meters]]") : GATEWAY.rindex("[[meters]]")]
PROFILE = 'title = "own"\nm3_per_tick = "0.1"\n'
REGISTERS = (ROOT / "collectors" / "modbus_maps" / "hourly_log.toml").read_text()
STREAM = '[kafka]\nbootstrap_servers = ["127.0.0.1:9092"]\n'
SECRET = "hunter2(is)a(secret)"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that configurations below name, and another one as the present one."""
    for name in os.environ:
        if name.startswith("DAILYREAD_"):
            monkeypatch.delenv(name)
    (tmp_path / "own.toml").write_text(PROFILE)
    (tmp_path / "registers.toml").write_text(REGISTERS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


# (what stands in the configuration, what is put in its place, what is said of it)
GATEWAY_MISTAKES = [
    ('"hourly_log"', '"hourly_lag"', 'meters[1].map: found "hourly_lag", which is no register map;'
     " allowed: flow_computer, hourly_log, paged_convertor, pulse_recorder, or the path of a .toml file"),
    ('"hourly_log"', '"hourly_profile"', 'meters[1].map: found "hourly_profile", which is no register map;'),
    ('"hourly_log"', '"none.toml"', 'none.toml", which cannot be read: No such file or directory'),
    ('"hourly_log"', '"own.toml"', 'own.toml", which is no register map: Object'),
    ('"own.toml"', '"hourly_log"', 'meters[2].map: found "hourly_log", which is no profile map;'
     " allowed: hourly_profile, lis200_intervals, or the path of a .toml file"),
    ('map = "own.toml"\n', "", "meters[2].map: missing; allowed: the name of a profile map, or the path of a .toml file"),
    ('map = "hourly_log"\n', "", "meters[1].map: missing; allowed: the name of a register map, or the path of a .toml file"),
    ("device = 1", "device = 256", "meters[1].device: found 256; allowed: the Modbus unit, a whole number from 0 to 255"),
    ("device = 1", 'device = "1"', 'meters[1].device: found "1"; allowed: the Modbus unit, a whole number'),
    ("tcp://127.0.0.1:502", "serial:", 'meters[1].address: found "serial:"; allowed with modbus: tcp://'),
    ("tcp://127.0.0.1:502", "tcp://127.0.0.1:70000", 'meters[1].address: found "tcp://127.0.0.1:70000"; allowed with modbus: tcp://'),
    ("tcp://127.0.0.1:502", "tcp://127.0.0.1", 'meters[1].address: found "tcp://127.0.0.1"; allowed'),
    ("serial:/dev/ttyUSB0", "tcp://10.0.0.1", 'meters[2].address: found "tcp://10.0.0.1"; allowed with iec62056_21:'),
    ('map = "own.toml"', 'map = "own.toml"\ndevice = "12/4!"', 'meters[2].device: found "12/4!"; allowed: an IEC 62056-21'),
    ('map = "own.toml"', 'map = "own.toml"\nparity = "odd"', 'meters[2].parity: found "odd"; allowed: "none", "even"'),
    ("device = 1", "device = 1\nbaud = 9600", "meters[1].baud: given, but there is no serial line"),
    ("device = 1", "device = 1\ninterval_s = 500", 'meters[1].interval_s: found 500; allowed with the map "hourly_log"'),
    ('"B"', '"A"', 'meters[1] and meters[2]: two meters of the meter point "A"; allowed: one each'),
    ('"n"', '"m"', 'meters[1] and meters[2]: two meters with the serial number "m"; allowed: one each'),
    ('[[meters]]\nmeter_point = "B"', FIRST.replace('"A"', '"C"').replace('"m"', '"o"') + '[[meters]]\nmeter_point = "B"',
     'meters[1] and meters[2]: two meters at "tcp://127.0.0.1:502" with the device "1" and the map "hourly_log"; allowed'),
    ("serial:/dev/ttyUSB0", "tcp://127.0.0.1:502", 'meters[1] and meters[2]: different `protocol` at "tcp://127.0.0.1:502";'),
    ('gateway = "g"', 'gateway = "g"\nrules = "own.toml"', "rules: found"),
    ('gateway = "g"', 'gateway = "g"\nclock = "tcp://10.0.0.1:1"', 'clock: found "tcp://10.0.0.1:1"; allowed: "system"'),
    ("[kafka]", '[kafka]\nsecurity = "tls"\nca_file = "own.toml"', "kafka.ca_file: found"),
    ("[kafka]", '[kafka]\nsecurity = "tls"\ncertificate_file = "own.toml"\nkey_file = "own.toml"', "kafka.certificate_file:"),
]  # fmt: skip
# (a file that it names, what stands there, what of it is changed, to what, what is said of it)
FILE_MISTAKES = [
    ("own.toml", PROFILE, 'm3_per_tick = "0.1"', 'm3_per_tick = "0"', "m3_per_tick: 0 is not a number above 0"),
    ("own.toml", PROFILE, PROFILE, PROFILE + 'zone = "Europe/Londn"', "zone: found 'Europe/Londn'; allowed: a time zone"),
    ("own.toml", PROFILE, PROFILE, PROFILE + "baud_max = 115200", "baud_max"),
    ("own.toml", PROFILE, PROFILE, PROFILE + 'password_file = "none"', 'none", which cannot be read: No such file'),
    ("own.toml", PROFILE, PROFILE, PROFILE + 'password_file = "secret"', "allowed: a file of printable ASCII characters but ("),
    ("own.toml", PROFILE, PROFILE, "\xff", "own.toml"),
    ("registers.toml", REGISTERS, "capacity = 1440", "capacity = 14400", "archive: its records end after register 65535"),
    ("registers.toml", REGISTERS, "index = { address = 2", "index = { address = 1", "index and another part of a record share"),
    ("registers.toml", REGISTERS, "index = { address = 2", "index = { address = 8", "share register 8"),
    ("registers.toml", REGISTERS, "record_registers = 9", "record_registers = 8", "is beyond the record's 8 registers"),
    ("registers.toml", REGISTERS, "4 = \"bypass_open\" }\n\n", "4 = \"bypass_open\", 16 = \"tamper\" }\n\n",
     "bits: found '16'; allowed: the number of a bit, 0 to 15"),
    ("registers.toml", REGISTERS, 'word_order = "big"', 'word_order = "middle"', "word_order"),
]  # fmt: skip


def refused(path: Path, command: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """What check and the command both say, with exit 2."""
    assert main(["check", str(path)]) == 2
    checked = capfd.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main([*command, "--config", str(path)])
    assert caught.value.code == 2
    assert capfd.readouterr().err == checked
    assert SECRET not in checked
    assert all(line.startswith(f"{path}: ") for line in checked.splitlines())
    return checked


@pytest.mark.parametrize(("old", "new", "said"), GATEWAY_MISTAKES)
def test_check_finds_what_collect_refuses(
    folder: Path, capfd: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    path = folder / "gateway.toml"
    assert GATEWAY.count(old) == 1
    path.write_text(GATEWAY.replace(old, new))
    assert said in refused(path, ["collect", "--once"], capfd)


@pytest.mark.parametrize(("name", "text", "old", "new", "said"), FILE_MISTAKES)
def test_check_reads_the_maps(
    folder: Path, capfd: pytest.CaptureFixture[str], name: str, text: str, old: str, new: str, said: str
) -> None:
    (folder / "secret").write_text(SECRET)
    assert text.count(old) == 1
    (folder / name).write_text(text.replace(old, new), encoding="latin-1")
    path = folder / "gateway.toml"
    path.write_text(GATEWAY.replace('"hourly_log"', '"registers.toml"'))
    assert said in refused(path, ["collect", "--once"], capfd)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('rules = "own.toml"\n' + STREAM, "rules: found"),
        ('rules = "zone.toml"\n' + STREAM, "rules: found"),
        ('web = "127.0.0.1:70000"\n' + STREAM, 'web: found "127.0.0.1:70000"; allowed: a port from 1 to 65535'),
        (STREAM + 'security = "tls"\nca_file = "own.toml"', "kafka.ca_file: found"),
    ],
)
def test_check_finds_what_stream_refuses(folder: Path, capfd: pytest.CaptureFixture[str], text: str, said: str) -> None:
    (folder / "zone.toml").write_text('zone = "Europe/Londn"')
    path = folder / "stream.toml"
    path.write_text(text)
    assert said in refused(path, ["stream"], capfd)


def test_what_check_lets_pass_collect_takes(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The configuration that the mistakes above are made in, with a map of one's own beside it."""
    path = folder / "gateway.toml"
    path.write_text(GATEWAY.replace('"hourly_log"', '"registers.toml"'))
    assert main(["check", str(path)]) == 0
    assert str(path) in capfd.readouterr().out
    set_up(load_config(GatewayConfig, path))


def set_up(config: GatewayConfig) -> None:
    """All that `collect` makes before it asks the first meter."""
    outbox = Outbox(config.state_dir / "outbox.sqlite", config.gateway)
    Gateway(config, SystemClock(), outbox, days=Rules().calendar())
    outbox.close()
    assert client_options(config.kafka)["bootstrap_servers"]
    assert route(config.kafka, config.gateway)


def test_the_example_of_a_gateway_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAILYREAD_STATE_DIR", str(folder / "state"))
    set_up(load_config(GatewayConfig, EXAMPLES / "gateway.toml"))


def test_the_example_of_a_stream_job_is_taken() -> None:
    assert worker_settings(load_config(StreamConfig, EXAMPLES / "stream.toml"), "").topics.facts == "facts"


def test_the_example_polls(folder: Path) -> None:
    """As it stands, but for Kafka and the folder: no meter is there, which each says once, and it ends when it is told to."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        kafka = f"127.0.0.1:{closed.getsockname()[1]}"
        variables = {"STATE_DIR": str(folder), "POLLING__TIMEOUT_S": "0.2", "KAFKA__BOOTSTRAP_SERVERS": kafka}
        collect = subprocess.Popen(
            [sys.executable, "-m", "dailyread", "collect", "--once", "--config", str(EXAMPLES / "gateway.toml")],
            env=os.environ | {f"DAILYREAD_{name}": value for name, value in variables.items()},
            stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        assert collect.stderr is not None
        said: list[str] = []
        while sum("does not answer" in line for line in said) < 2:
            said.append(collect.stderr.readline())
            assert said[-1], said
        collect.send_signal(signal.SIGTERM)
        assert collect.wait(5) == 0, said
    assert not any("Traceback" in line for line in said)


def test_a_key_that_wants_a_password_is_refused_without_asking_on_the_terminal(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = f"-keyout {folder}/client.key -out {folder}/client.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -passout pass:right -days 2 -subj /CN=client {files}"
    subprocess.run(command.split(), check=True, capture_output=True)
    path = folder / "gateway.toml"
    tls = 'security = "tls"\ncertificate_file = "client.pem"\nkey_file = "client.key"'
    path.write_text(GATEWAY.replace("[kafka]", f"[kafka]\n{tls}"))
    assert main(["check", str(path)]) == 2
    assert "kafka.certificate_file: found" in capfd.readouterr().err
    monkeypatch.setenv("DAILYREAD_KAFKA__KEY_PASSWORD", "wrong")
    assert main(["check", str(path)]) == 2
    assert "and the key's password" in capfd.readouterr().err
    monkeypatch.setenv("DAILYREAD_KAFKA__KEY_PASSWORD", "right")
    assert main(["check", str(path)]) == 0
