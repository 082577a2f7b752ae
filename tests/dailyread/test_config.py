"""Configurations: the examples are right, every mistake says what would be, and no secret is ever shown."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from collectors.outbox_cap import Cap
from dailyread.cli import main
from dailyread.config import KINDS, GatewayConfig, LoggerConfig, StreamConfig, load_config
from dailyread.settings import ConfigError, Secret, settings, variable

EXAMPLES = Path(__file__).parents[2] / "dailyread" / "examples"
SECRET = "hunter2-is-a-secret"
MINIMAL = '[kafka]\nbootstrap_servers = ["127.0.0.1:9092"]\n'
METER = """
[[meters]]
meter_point = "A"
meter = "m"
protocol = "modbus"
address = "tcp://127.0.0.1:502"
device = 1
map = "hourly_log"
"""
GATEWAY = 'gateway = "g"\nstate_dir = "state"\n' + MINIMAL + METER
INFLUX = '[influx]\nurl = "https://influx:8086"\norg = "o"\nbucket = "b"\n'


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("DAILYREAD_"):
            monkeypatch.delenv(name)


def stream(tmp_path: Path, text: str) -> StreamConfig:
    (tmp_path / "stream.toml").write_text(text)
    return load_config(StreamConfig, tmp_path / "stream.toml")


def gateway(tmp_path: Path, text: str) -> GatewayConfig:
    (tmp_path / "gateway.toml").write_text(text)
    return load_config(GatewayConfig, tmp_path / "gateway.toml")


def mistakes(kind: Any, tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        (stream if kind is StreamConfig else gateway)(tmp_path, text)
    return [line.removeprefix(str(tmp_path) + "/") for line in caught.value.mistakes]


@pytest.mark.parametrize("name", ["gateway", "stream"])
def test_the_examples_pass_check(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(EXAMPLES / f"{name}.toml")]) == 0
    assert "fine" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "kind"), [("gateway", GatewayConfig), ("stream", StreamConfig)])
def test_the_examples_name_every_setting(name: str, kind: Any) -> None:
    text = (EXAMPLES / f"{name}.toml").read_text()
    for path, _ in settings(kind):
        if path[-1] in ("password", "token", "key_password", "key_password_file", "meters", "loggers"):
            continue
        assert f"{path[-1]} =" in text, path


def test_what_the_examples_leave_out_by_comment_is_right_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (EXAMPLES / "stream.toml").read_text()
    text = text.replace("# [influx]", "[influx]").replace('# url = "http://127', 'url = "http://127')
    text = text.replace("# org =", "org =").replace("# bucket =", "bucket =")
    monkeypatch.setenv("DAILYREAD_INFLUX__TOKEN", SECRET)
    config = stream(tmp_path, text)
    assert config.influx is not None
    assert config.influx.token == Secret(SECRET)


LOGGER = '[[mqtt.loggers]]\nlogger = "L1"\nmeter_point = "B"\nmeter = "M-B"\n'
MQTT_MISTAKES = [
    ('broker = "b"', LOGGER, 'mqtt.broker: found "b"; allowed: text, as host:port'),
    ('broker = "b:0"', LOGGER, 'mqtt.broker: found "b:0"; allowed: a port from 1 to 65535'),
    ('broker = "b:1"', "", "mqtt.loggers: none; allowed: one `[[mqtt.loggers]]` table or more"),
    ('broker = "b:1"', LOGGER.replace("L1", "a/b"), 'mqtt.loggers[1].logger: found "a/b"; allowed: text'),
    ('broker = "b:1"', LOGGER + LOGGER, 'meters: two meters of the meter point "B"; allowed: one each'),
    ('broker = "b:1"\nsecurity = "plaintext"\nuser = "u"\npassword_file = "p"', LOGGER, "mqtt.password: given without TLS"),
    ('broker = "b:1"\npassword_file = "p"', LOGGER, "mqtt.user: missing beside `password`"),
    ('broker = "localhost:1"\nca_file = "p"', LOGGER, "mqtt.ca_file: given, but connections are not TLS"),
]


@pytest.mark.parametrize(("broker", "loggers", "mistake"), MQTT_MISTAKES)
def test_a_mistake_about_loggers_says_what_is_allowed(tmp_path: Path, broker: str, loggers: str, mistake: str) -> None:
    (tmp_path / "p").write_text("p")
    text = f'gateway = "g"\nstate_dir = "s"\n[kafka]\nbootstrap_servers = ["localhost:1"]\n[mqtt]\n{broker}\n{loggers}'
    assert any(mistake in found for found in mistakes(GatewayConfig, tmp_path, text))


BARE = 'gateway = "g"\nstate_dir = "s"\n[kafka]\nbootstrap_servers = ["localhost:1"]\n'
LISTEN = '[dlms_push]\nlisten = "0.0.0.0:4059"\n'
PUSHES = '[[dlms_push.meters]]\nmeter_point = "C"\nmeter = "M-C"\nsender = "DRY1"\nmap = "hourly_push"\n'
POLLED = (
    '[[meters]]\nmeter_point = "C"\nmeter = "M-C"\nprotocol = "dlms"\naddress = "tcp://h:1"\nmap = "hourly_push"\ndevice = 1\n'
)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (LISTEN, "dlms_push.meters: none; allowed: one `[[dlms_push.meters]]` table or more"),
        (LISTEN.replace("4059", "0") + PUSHES, 'dlms_push.listen: found "0.0.0.0:0"; allowed: a port from 1 to 65535'),
        (LISTEN + PUSHES.replace("hourly_push", "hourly_profile"), 'map: found "hourly_profile", without a table `push`'),
        (LISTEN + PUSHES.replace("hourly_push", "hourly"), 'map: found "hourly", which is no DLMS map'),
        (LISTEN + PUSHES + PUSHES, 'dlms_push.meters: two meters with the sender "DRY1"; allowed: one each'),
        (LISTEN + PUSHES + POLLED.replace('"C"', '"D"'), 'two meters with the serial number "M-C"; allowed: one each'),
    ],
)
def test_a_mistake_about_meters_that_push_says_what_is_allowed(tmp_path: Path, text: str, mistake: str) -> None:
    assert any(mistake in found for found in mistakes(GatewayConfig, tmp_path, BARE + text))


def test_a_meter_may_push_and_be_polled(tmp_path: Path) -> None:
    for text in (LISTEN + PUSHES, LISTEN + PUSHES + POLLED):
        config = gateway(tmp_path, BARE + text)
        assert config.dlms_push is not None
        assert [meter.sender for meter in config.dlms_push.meters] == ["DRY1"]


def test_a_gateway_may_have_loggers_alone(tmp_path: Path) -> None:
    text = f'gateway = "g"\nstate_dir = "s"\n[kafka]\nbootstrap_servers = ["localhost:1"]\n[mqtt]\nbroker = "b:1"\n{LOGGER}'
    config = gateway(tmp_path, text)
    assert config.meters == ()
    assert config.mqtt is not None
    assert config.mqtt.tls


@pytest.mark.clause("4.1.3")
def test_all_mistakes_are_said_at_once_with_what_is_allowed(tmp_path: Path) -> None:
    text = (
        'gatewy = "x"\nstate_dir = 5\n[kafka]\nbootstrap_servers = ["kafka", "a:1"]\npartition = 8\ntime = "brokr"\n'
        '[[meters]]\nmeter_point = "A"\nmeter = "m"\nprotocol = "modbs"\nadress = "x"\ninterval_s = 60\n'
    )
    assert mistakes(GatewayConfig, tmp_path, text) == [
        "gateway.toml: gatewy: unknown key; did you mean `gateway`?",
        "gateway.toml: gateway: missing; allowed: text, not empty, at most 64 long",
        "gateway.toml: state_dir: found 5; allowed: a path",
        "gateway.toml: kafka.partition: unknown key; did you mean `partitions`?",
        'gateway.toml: kafka.bootstrap_servers[1]: found "kafka"; allowed: text, as host:port',
        'gateway.toml: kafka.time: found "brokr"; allowed: "broker", "simulated"',
        "gateway.toml: meters[1].adress: unknown key; did you mean `address`?",
        'gateway.toml: meters[1].protocol: found "modbs"; allowed: "modbus", "iec62056_21", "dlms"',
        "gateway.toml: meters[1].address: missing; allowed: text, not empty",
        "gateway.toml: meters[1].interval_s: found 60; allowed: a whole number, 360 or more, at most 86400,"
        " M4.1.3: 6 minutes or more",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MINIMAL.replace("9092", "99999"), "allowed: a port from 1 to 65535"),
        (MINIMAL + "partitions = true", "kafka.partitions: found true; allowed: a whole number"),
        (MINIMAL + 'partitions = "8"', 'kafka.partitions: found "8"; allowed: a whole number'),
        (MINIMAL + "partitions = 0", "kafka.partitions: found 0; allowed: a whole number, 1 or more"),
        (MINIMAL + 'ca_file = "none.pem"', "allowed: with `security = \"tls\"` only"),
        (MINIMAL + 'security = "tls"\nca_file = "none.pem"', "No such file or directory; allowed: a PEM file of certificates"),
        (MINIMAL + '[kafka.topics]\nfacts = "x"\nledger = "x"', '"x" is the name of two topics'),
        (MINIMAL + '[kafka.topics]\nfacts = "a b"', "of A-Z a-z 0-9 . _ -"),
        (MINIMAL + "[kafka.sasl]\nuser = \"u\"", "kafka.sasl.password: missing; allowed: DAILYREAD_KAFKA__SASL__PASSWORD"),
        ("kafka = 5", "kafka: found 5; allowed: a table, `[kafka]`"),
        ("", "kafka.bootstrap_servers: missing; allowed: a list of text, as host:port"),
        ('web = "9464"\n' + MINIMAL, 'web: found "9464"; allowed: text, as host:port'),
        (MINIMAL + '[provide]\ntopic_prefix = "led"', 'with which the topic "ledger" begins; allowed: another'),
        (MINIMAL + '[provide]\ntopic_prefix = "a/"', "of A-Z a-z 0-9 . _ -"),
        (MINIMAL + "[provide]\nback_days = 6", "provide.back_days: found 6; allowed: a whole number, 7 or more"),
        ('rules = "none.toml"\n' + MINIMAL, "which is no file"),
        (MINIMAL + INFLUX, "influx.token: missing; allowed: DAILYREAD_INFLUX__TOKEN in the environment, or `token_file`"),
        (MINIMAL + INFLUX.replace("https", "http"), "allowed: https://, or `security = \"plaintext\"` said outright"),
        (MINIMAL + INFLUX.replace("https", "ftp"), "allowed: https://host:port, or http:// to loopback"),
        ("[kafka\n", "not TOML"),
        ('x = "\xff"', "not UTF-8"),
    ],
)  # fmt: skip
def test_a_mistake_says_what_is_allowed(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "stream.toml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError) as caught:
        load_config(StreamConfig, path)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("device = 1", 'device = "x"', "allowed: the Modbus unit, a whole number from 0 to 255"),
        ("device = 1", "device = 256", "allowed: the Modbus unit, a whole number from 0 to 255"),
        ('map = "hourly_log"', "", "map: missing"),
        ("tcp://127.0.0.1:502", "127.0.0.1:502", "allowed with modbus: tcp://host:port"),
        ("device = 1", "device = 1\nbaud = 9601", "300, 600"),
        ('gateway = "g"', 'gateway = "broadcast"', "call themselves; allowed: another"),
        (METER, METER + METER, 'two meters of the meter point "A"'),
        (METER, METER + METER.replace("device = 1", "device = 2\ntimeout_s = 3"), "different `timeout_s` at"),
        (METER, "", "meters: none; allowed: one `[[meters]]` table or more, `[mqtt]` with loggers, or `[dlms_push]`"),
        (METER, "[meters]\na = 1", "allowed: tables, each `[[meters]]`"),
    ],
)
def test_a_meters_mistake_says_what_is_allowed(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert any(expected in line for line in mistakes(GatewayConfig, tmp_path, GATEWAY.replace(old, new)))


SECRET_MISTAKES = [
    (MINIMAL + f'[kafka.sasl]\nuser = "u"\npassword = "{SECRET}"', {}),
    (MINIMAL + f'[kafka.sasl]\nuser = "u"\npasswort = "{SECRET}"', {}),
    (MINIMAL + f'[kafka.sasl]\nuser = "u"\npassword_file = "{SECRET}"', {}),
    (MINIMAL + f'key_password = "{SECRET}"', {}),
    (MINIMAL + INFLUX + f'token = "{SECRET}"', {}),
    (MINIMAL + INFLUX + 'token_file = "none"', {"DAILYREAD_INFLUX__TOKEN": SECRET}),
    (MINIMAL + INFLUX.replace("influx:", f"u:{SECRET}@influx:"), {"DAILYREAD_INFLUX__TOKEN": "t"}),
    ('[kafka]\nbootstrap_servers = ["u:' + SECRET + '@h:1"]', {}),
]


@pytest.mark.parametrize(("text", "variables"), SECRET_MISTAKES)
def test_a_mistake_with_a_secret_does_not_show_it(
    tmp_path: Path, text: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "stream.toml").write_text(text)
    assert main(["check", str(tmp_path / "stream.toml")]) == 2
    shown = capsys.readouterr()
    assert "allowed" in shown.err or "did you mean" in shown.err
    assert SECRET not in shown.err + shown.out


def test_secrets_come_from_the_environment_or_a_file_and_are_not_in_the_repr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(SECRET + "\n")
    monkeypatch.setenv("DAILYREAD_KAFKA__SASL__PASSWORD", SECRET)
    config = stream(tmp_path, MINIMAL + '[kafka.sasl]\nuser = "u"\n' + INFLUX + 'token_file = "token"')
    assert config.influx is not None
    assert config.kafka.sasl is not None
    assert config.influx.token == config.kafka.sasl.password == Secret(SECRET)
    assert config.influx.token.reveal() == SECRET
    assert SECRET not in repr(config) + str(config) + f"{config.influx.token}"


def test_tls_unless_all_addresses_are_loopback_or_plaintext_is_said(tmp_path: Path) -> None:
    def tls(servers: str, security: str = "") -> bool:
        return stream(tmp_path, f"[kafka]\nbootstrap_servers = [{servers}]\n{security}").kafka.tls

    assert not tls('"127.0.0.1:1", "localhost:2", "[::1]:3"')
    assert tls('"127.0.0.1:1", "kafka:2"')
    assert tls('"kafka:2"')
    assert not tls('"kafka:2"', 'security = "plaintext"')
    assert tls('"127.0.0.1:1"', 'security = "tls"')


def test_a_password_is_not_sent_in_the_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAILYREAD_KAFKA__SASL__PASSWORD", SECRET)
    text = '[kafka]\nbootstrap_servers = ["kafka:1"]\nsecurity = "plaintext"\n[kafka.sasl]\nuser = "u"\nmechanism = "PLAIN"'
    assert "shows the password to the network" in mistakes(StreamConfig, tmp_path, text)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_can_come_from_the_environment(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "rules").touch()
    files = f"-keyout {tmp_path}/key -out {tmp_path}/certificate"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x {files}"
    subprocess.run(command.split(), check=True, capture_output=True)
    values = {
        "kafka.ca_file": str(tmp_path / "certificate"), "kafka.certificate_file": str(tmp_path / "certificate"),
        "kafka.key_file": str(tmp_path / "key"), "influx.ca_file": str(tmp_path / "certificate"),
        "kafka.key_password_file": str(tmp_path / "secret"), "rules": str(tmp_path / "rules"),
        "kafka.bootstrap_servers": "a:1,b:2", "kafka.security": "tls", "kafka.partitions": "3", "kafka.time": "simulated",
        "kafka.sasl.user": "u", "kafka.sasl.password": "p", "kafka.sasl.mechanism": "PLAIN", "gateway": "g",
        "state_dir": "/s", "clock": "unix:/c", "group": "gr", "instance": "i", "web": "127.0.0.1:1", "tick_s": "1.5",
        "session_timeout_s": "30", "polling.timeout_s": "1",
        "polling.retry_first_s": "2", "polling.retry_max_s": "3", "polling.backfill_days": "4",
        "polling.within_day_s": "5", "meter_clocks.set": "true", "meter_clocks.step_max_s": "6", "meter_clocks.alarm_s": "7",
        "outbox.max_bytes": "2000000", "outbox.max_hours": "48", "evidence.max_bytes": "3000000",
        "mqtt.broker": "localhost:1883", "mqtt.security": "tls", "mqtt.ca_file": str(tmp_path / "certificate"),
        "mqtt.certificate_file": str(tmp_path / "certificate"), "mqtt.key_file": str(tmp_path / "key"),
        "mqtt.user": "u", "mqtt.password": "p",
        "mqtt.topic_prefix": "t", "mqtt.confirm_s": "5", "mqtt.loggers": '[{"logger":"L","meter_point":"B","meter":"n"}]',
        "dlms_push.listen": "127.0.0.1:4059",
        "dlms_push.meters": '[{"meter_point":"C","meter":"o","sender":"D","map":"hourly_push"}]',
        "influx.url": "https://i",
        "influx.org": "o", "influx.bucket": "b", "influx.token": "t", "influx.security": "tls",
        "provide.folder": "/f", "provide.topic_prefix": "p-", "provide.gather_s": "5", "provide.margin_s": "0",
        "provide.back_days": "7", "provide.hourly_users": "U,V",
        "meters": '[{"meter_point":"A","meter":"m","protocol":"iec62056_21","address":"serial:/dev/x","map":"hourly_profile"}]',
    }  # fmt: skip
    for path, _ in settings(kind):
        name = ".".join(path)
        if name.endswith(("password_file", "token_file")):
            continue
        if name.startswith("kafka.topics."):
            values[name] = path[-1]
        if not name.endswith("key_password"):
            monkeypatch.setenv(variable(path), values[name])
    config = load_config(kind, None)
    assert config.kafka.bootstrap_servers == ("a:1", "b:2")
    assert config.kafka.partitions == 3
    assert config.kafka.topics.dead_letter == "dead_letter"
    assert config.rules == tmp_path / "rules"
    if isinstance(config, GatewayConfig):
        assert config.polling.backfill_days == 4
        assert config.mqtt is not None
        assert config.mqtt.loggers == (LoggerConfig(logger="L", meter_point="B", meter="n"),)
        assert config.outbox.cap() == Cap(max_bytes=2_000_000, max_hours=48)
        assert config.meters[0].address == "serial:/dev/x"
    else:
        assert config.influx.token == Secret("t")
        assert config.tick_s == 1.5
        assert config.provide.hourly_users == ("U", "V")


def test_the_environment_comes_before_the_file_and_its_mistakes_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAILYREAD_KAFKA__PARTITIONS", "5")
    assert stream(tmp_path, MINIMAL + "partitions = 7").kafka.partitions == 5
    monkeypatch.setenv("DAILYREAD_KAFKA__PARTITIONS", "x")
    monkeypatch.setenv("DAILYREAD_KAFKA__BOOTSTRAP_SERVER", "a:1")
    monkeypatch.setenv("DAILYREAD_POLLING__TIMEOUT_S", "1")  # a gateway's setting, of no concern here
    assert mistakes(StreamConfig, tmp_path, MINIMAL) == [
        'environment: DAILYREAD_KAFKA__PARTITIONS: found "x"; allowed: a whole number, 1 or more, at most 10000',
        "environment: DAILYREAD_KAFKA__BOOTSTRAP_SERVER: unknown variable; did you mean DAILYREAD_KAFKA__BOOTSTRAP_SERVERS?",
    ]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    assert gateway(tmp_path, GATEWAY).state_dir == tmp_path / "state"


def test_check_knows_which_configuration_a_file_is_meant_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_text(GATEWAY.replace("gateway =", "gatewy ="))
    assert main(["check", str(tmp_path / "a.toml")]) == 2
    assert "gatewy: unknown key; did you mean `gateway`?" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "none.toml")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_reading_a_configuration_loads_no_client_library() -> None:
    heavy = "{'kafka', 'faust', 'paho', 'aiokafka', 'rocksdict', 'influxdb_client', 'pymodbus', 'serial', 'matplotlib'}"
    program = f"import sys, dailyread.config, dailyread.commands.check; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_the_topics_data_has_every_role() -> None:
    data = tomllib.loads((EXAMPLES.parent / "topics.toml").read_text())
    assert list(data) == ["facts", "broadcast", "ledger", "dead_letter", "user"]
