"""The configurations: one TOML file for a site gateway, one for the stream job and what reads and writes beside it.

Nothing here imports a client library, so that a gateway loads no stream job and `dailyread check` is quick.
`examples/gateway.toml` and `examples/stream.toml` are the commented forms.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from collectors.outbox_cap import Cap
from dailyread.config_checks import ca_mistake, clock_mistake, host_and_port, is_loopback, rules_mistake, tls_mistakes
from dailyread.meters import MeterConfig, PushingMeterConfig, Seconds, together
from dailyread.settings import ConfigError, Secret, Table, environment, load, read_toml, settings
from metering.limits import Name

RESERVED_GATEWAYS = ("broadcast", "submit", "provide")
Security = Literal["tls", "plaintext"]
TopicPrefix = Annotated[
    str, Meta(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9._-]+$", description="of A-Z a-z 0-9 . _ -")
]
TopicName = Annotated[str, Meta(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$", description="of A-Z a-z 0-9 . _ -")]
Address = Annotated[str, Meta(pattern=r"^(\[[0-9A-Fa-f:]+\]|[^:\s@]+):[0-9]{1,5}$", description="as host:port")]


class TopicNames(Table, frozen=True, kw_only=True):
    """The names of the four topics."""

    facts: TopicName = "facts"
    broadcast: TopicName = "broadcast"
    ledger: TopicName = "ledger"
    dead_letter: TopicName = "dead-letter"

    def mistakes(self) -> Iterator[tuple[str, str]]:
        names = msgspec.structs.astuple(self)
        for field, name in zip(self.__struct_fields__, names, strict=True):
            if names.count(name) > 1:
                yield field, f'"{name}" is the name of two topics; allowed: four different names'


class SaslConfig(Table, frozen=True, kw_only=True):
    """Who we are to Kafka, where it asks for a password."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    user: Annotated[str, Meta(min_length=1)]
    password: Secret | None = None

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.password is None:
            yield "password", "missing; allowed: DAILYREAD_KAFKA__SASL__PASSWORD in the environment, or `password_file`"


class KafkaConfig(Table, frozen=True, kw_only=True):
    """How to reach Kafka, and what its topics are.

    TLS unless every address is loopback or `security = "plaintext"` is said outright. `time = "broker"`: a fact is
    received when the broker appends it; `"simulated"`: at the virtual instant that the message's timestamp says.
    """

    bootstrap_servers: Annotated[tuple[Address, ...], Meta(min_length=1)]
    security: Security | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password: Secret | None = None
    sasl: SaslConfig | None = None
    topics: TopicNames = TopicNames()
    partitions: Annotated[int, Meta(ge=1, le=10_000)] = 8
    time: Literal["broker", "simulated"] = "broker"

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted and the broker is verified."""
        if self.security is not None:
            return self.security == "tls"
        return not self._all_loopback()

    def mistakes(self) -> Iterator[tuple[str, str]]:
        for address in self.bootstrap_servers:
            if not 0 < host_and_port(address)[1] < 65536:
                yield "bootstrap_servers", f'found "{address}"; allowed: a port from 1 to 65535'
        yield from tls_mistakes(self)
        if self.sasl is not None and self.sasl.mechanism == "PLAIN" and not self.tls and not self._all_loopback():
            yield (
                "sasl.mechanism",
                'found "PLAIN" without TLS, which shows the password to the network; allowed: TLS, or SCRAM',
            )

    def _all_loopback(self) -> bool:
        return all(is_loopback(host_and_port(address)[0]) for address in self.bootstrap_servers)


class InfluxConfig(Table, frozen=True, kw_only=True):
    """Where the ledger is written. http:// to loopback only, unless `security = "plaintext"` is said outright."""

    url: Annotated[str, Meta(min_length=1)]
    org: Annotated[str, Meta(min_length=1)]
    bucket: Annotated[str, Meta(min_length=1)]
    token: Secret | None = None
    security: Security | None = None
    ca_file: Path | None = None

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.token is None:
            yield "token", "missing; allowed: DAILYREAD_INFLUX__TOKEN in the environment, or `token_file`"
        yield from ca_mistake(self.ca_file)
        yield from self._url_mistakes()

    def _url_mistakes(self) -> Iterator[tuple[str, str]]:
        url = urlsplit(self.url)
        if "@" in url.netloc:
            yield "url", "holds a user or password (not shown here); allowed: the token in the environment or a file"
        elif url.scheme not in ("http", "https") or not url.hostname:
            yield "url", f'found "{self.url}"; allowed: https://host:port, or http:// to loopback'
        elif url.scheme == "http" and self.security != "plaintext" and not is_loopback(url.hostname):
            yield "url", f'found "{self.url}"; allowed: https://, or `security = "plaintext"` said outright'
        elif url.scheme == "http" and self.security == "tls":
            yield "url", f'found "{self.url}" with `security = "tls"`; allowed: https://'


class PollingConfig(Table, frozen=True, kw_only=True):
    """When meters are asked. A poll that fails is tried again after `retry_first_s`, then twice as long each time.

    A Day that runs is asked for every `within_day_s` (M4.6.1(b)), 0: never; over serial lines only where a meter has
    `within_day = true`.
    """

    timeout_s: Seconds = 10.0
    retry_first_s: Seconds = 60.0
    retry_max_s: Seconds = 1800.0
    backfill_days: Annotated[int, Meta(ge=0, le=400)] = 40
    within_day_s: Annotated[float, Meta(ge=0, le=86_400)] = 14_400.0

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.retry_max_s < self.retry_first_s:
            yield "retry_max_s", f"found {self.retry_max_s}; allowed: `retry_first_s` ({self.retry_first_s}) or more"


class MeterClocksConfig(Table, frozen=True, kw_only=True):
    """What is done about meters' clocks: an alarm where one is more than `alarm_s` off; and, with `set`, a step of at most
    `step_max_s` towards the right time, one in each interval, never near a boundary."""

    set: bool = False
    step_max_s: Annotated[float, Meta(ge=1, le=60)] = 20.0
    alarm_s: Annotated[float, Meta(ge=5, le=3600)] = 60.0


class LoggerConfig(Table, frozen=True, kw_only=True):
    """One meter behind a logger that pushes; a logger with several meters has a table for each."""

    logger: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^/+#]+$", description="without / + #")]
    meter_point: Name
    meter: Name


class MqttConfig(Table, frozen=True, kw_only=True):
    """The MQTT broker to which loggers push, who we are to it, and the loggers. TLS unless the broker is loopback or
    `security = "plaintext"` is said outright. A logger has `confirm_s` to confirm an interval that it was told."""

    broker: Address
    security: Security | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password: Secret | None = None
    user: str | None = None
    password: Secret | None = None
    topic_prefix: TopicPrefix = "dailyread"
    confirm_s: Seconds = 86_400.0
    loggers: tuple[LoggerConfig, ...] = ()

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted and the broker is verified."""
        return self.security == "tls" or (self.security is None and not is_loopback(host_and_port(self.broker)[0]))

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if not 0 < host_and_port(self.broker)[1] < 65536:
            yield "broker", f'found "{self.broker}"; allowed: a port from 1 to 65535'
        yield from tls_mistakes(self)
        if self.password is not None and self.user is None:
            yield "user", "missing beside `password`; allowed: both, or neither"
        if self.password is not None and not self.tls and not is_loopback(host_and_port(self.broker)[0]):
            yield "password", "given without TLS, which shows it to the network; allowed: with TLS"
        if not self.loggers:
            yield "loggers", "none; allowed: one `[[mqtt.loggers]]` table or more"


class DlmsPushConfig(Table, frozen=True, kw_only=True):
    """Where the gateway listens for DLMS meters that push, and these meters: `collectors/dlms.md`."""

    listen: Address
    meters: tuple[PushingMeterConfig, ...] = ()

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if not 0 < host_and_port(self.listen)[1] < 65536:
            yield "listen", f'found "{self.listen}"; allowed: a port from 1 to 65535'
        if not self.meters:
            yield "meters", "none; allowed: one `[[dlms_push.meters]]` table or more"
        senders = [meter.sender for meter in self.meters]
        for sender in sorted({each for each in senders if senders.count(each) > 1}):
            yield "meters", f'two meters with the sender "{sender}"; allowed: one each'

    def not_among(self, polled: Sequence[MeterConfig]) -> list[PushingMeterConfig]:
        """Those that are not polled too."""
        both = {(meter.meter_point, meter.meter) for meter in polled}
        return [meter for meter in self.meters if (meter.meter_point, meter.meter) not in both]


class OutboxConfig(Table, frozen=True, kw_only=True):
    """How much may wait on the gateway's disk for Kafka, in bytes of facts, and how long interval readings may.

    The file on the disk is up to twice as large. `collectors/README.md` says what goes first.
    """

    max_bytes: Annotated[int, Meta(ge=1_000_000)] = 1_000_000_000
    max_hours: Annotated[float, Meta(ge=24)] = 2400.0

    def cap(self) -> Cap:
        """As the outbox takes it."""
        return Cap(max_bytes=self.max_bytes, max_hours=self.max_hours)


class EvidenceConfig(Table, frozen=True, kw_only=True):
    """How much is kept of the octets that went over meters' lines, in bytes on the gateway's disk; 0: nothing."""

    max_bytes: Annotated[int, Meta(ge=0)] = 200_000_000


class GatewayConfig(Table, frozen=True, kw_only=True):
    """A site gateway: its meters, where it keeps what they say, and the Kafka that it sends it to.

    `clock` is `system`, or the address of a stepped clock (`tcp://127.0.0.1:PORT`, `unix:/PATH`) for virtual time.
    """

    gateway: Name
    state_dir: Path
    kafka: KafkaConfig
    meters: tuple[MeterConfig, ...] = ()
    mqtt: MqttConfig | None = None
    dlms_push: DlmsPushConfig | None = None
    polling: PollingConfig = PollingConfig()
    meter_clocks: MeterClocksConfig = MeterClocksConfig()
    outbox: OutboxConfig = OutboxConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    clock: str = "system"
    rules: Path | None = None

    @property
    def evidence_file(self) -> Path:
        """Where the evidence is."""
        return self.state_dir / "evidence.sqlite"

    @property
    def orders_folder(self) -> Path:
        """Where orders to the gateway are left, for while it runs."""
        return self.state_dir / "orders"

    @property
    def outbox_file(self) -> Path:
        """Where the outbox is."""
        return self.state_dir / "outbox.sqlite"

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.gateway in RESERVED_GATEWAYS:
            yield "gateway", f'found "{self.gateway}", which the stream job and the commands call themselves; allowed: another'
        if not self.meters and self.mqtt is None and self.dlms_push is None:
            yield "meters", "none; allowed: one `[[meters]]` table or more, `[mqtt]` with loggers, or `[dlms_push]` with meters"
        pushing = self.dlms_push.not_among(self.meters) if self.dlms_push else []
        yield from together(self.meters, [*(self.mqtt.loggers if self.mqtt else ()), *pushing])
        yield from rules_mistake(self.rules)
        yield from clock_mistake(self.clock)


class ProvideConfig(Table, frozen=True, kw_only=True):
    """How Users are provided with their readings (M4.5): a folder with a folder for each, and a topic for each.

    Changes are gathered for `gather_s`; a Day's file is there `margin_s` before 11:00 at the latest. Days more than
    `back_days` back are not provided any more. `hourly_users` are those that get hourly readings (M4.6.1(b)); none named: all.
    """

    folder: Path = Path("/var/lib/dailyread-provide/users")
    topic_prefix: TopicPrefix = "readings-"
    gather_s: Seconds = 600.0
    margin_s: Annotated[float, Meta(ge=0, le=18_000)] = 900.0
    back_days: Annotated[int, Meta(ge=7, le=365)] = 40
    hourly_users: tuple[Name, ...] = ()


class StreamConfig(Table, frozen=True, kw_only=True):
    """The stream job, and the commands beside it: `store`, `provide`, `submit`, `export`, `status`, `topics`.

    `instance` names one of several workers of the same `group`, and stays its own over restarts; of one that is not heard
    of for `session_timeout_s` the others take the partitions. `web` is where `/health` and `/metrics` are served. `tick_s`
    is how often it is said how late it is. `influx` is for `store` and `status`.
    """

    kafka: KafkaConfig
    state_dir: Path = Path("/var/lib/dailyread-stream")
    influx: InfluxConfig | None = None
    provide: ProvideConfig = ProvideConfig()
    group: TopicName = "dailyread"
    instance: TopicName = "1"
    web: Address = "127.0.0.1:9464"
    tick_s: Seconds = 60.0
    session_timeout_s: Annotated[float, Meta(ge=6, le=1800)] = 20.0
    rules: Path | None = None

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if not 0 < host_and_port(self.web)[1] < 65536:
            yield "web", f'found "{self.web}"; allowed: a port from 1 to 65535'
        prefix = self.provide.topic_prefix
        for name in msgspec.structs.astuple(self.kafka.topics):
            if name.startswith(prefix):
                yield "provide.topic_prefix", f'found "{prefix}", with which the topic "{name}" begins; allowed: another'
        yield from rules_mistake(self.rules)


KINDS: tuple[type[Table], ...] = (GatewayConfig, StreamConfig)
T = TypeVar("T", bound=Table)


def load_config(kind: type[T], path: Path | None) -> T:
    """The configuration in the file and the environment; ConfigError with all its mistakes."""
    return load(kind, path, environment(), KINDS)


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """The argument `--config FILE`, the same for every command that needs one; default: DAILYREAD_CONFIG."""
    default = environment().get("DAILYREAD_CONFIG")
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=Path(default) if default else None,
        help="TOML configuration (default: the file named by DAILYREAD_CONFIG; else DAILYREAD_… variables alone)",
    )


def config_or_exit(kind: type[T], path: Path | None) -> T:
    """The configuration; a mistake in it is printed and ends the program with exit code 2."""
    try:
        return load_config(kind, path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def kind_of(path: Path) -> type[GatewayConfig] | type[StreamConfig]:
    """Which configuration a file is meant to be: that with more of its keys. ConfigError where it cannot be read."""
    keys = read_toml(path).keys()
    gateway, stream = ({leaf[0] for leaf, _ in settings(kind)} for kind in KINDS)
    return GatewayConfig if len(keys & (gateway - stream)) > len(keys & (stream - gateway)) else StreamConfig
