"""The configurations: one TOML file for a site gateway, one for the stream job and what reads and writes beside it.

Nothing here imports a client library, so that a gateway loads no stream job and `dailyread check` is quick.
`examples/gateway.toml` and `examples/stream.toml` are the commented forms.
"""

from __future__ import annotations

import argparse
import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from dailyread.settings import ConfigError, Secret, Table, environment, load, read_toml, settings
from metering.facts import Name

RESERVED_GATEWAYS = ("broadcast", "submit")
Security = Literal["tls", "plaintext"]
TopicName = Annotated[str, Meta(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$", description="of A-Z a-z 0-9 . _ -")]
Address = Annotated[str, Meta(pattern=r"^(\[[0-9A-Fa-f:]+\]|[^:\s@]+):[0-9]{1,5}$", description="as host:port")]
Seconds = Annotated[float, Meta(gt=0)]


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
        for field in ("ca_file", "certificate_file", "key_file"):
            if (path := getattr(self, field)) is None:
                continue
            if not self.tls:
                yield field, 'given, but connections are not TLS; allowed: with `security = "tls"` only'
            elif not path.is_file():
                yield field, f'found "{path}", which is no file; allowed: a PEM file'
        if (self.certificate_file is None) != (self.key_file is None):
            yield "certificate_file", "and `key_file` belong together; allowed: both or neither"
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
        if self.ca_file is not None and not self.ca_file.is_file():
            yield "ca_file", f'found "{self.ca_file}", which is no file; allowed: a PEM file'
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


class OutboxConfig(Table, frozen=True, kw_only=True):
    """How much may wait on the gateway's disk while Kafka is away."""

    max_bytes: Annotated[int, Meta(ge=1_000_000)] = 1_000_000_000
    max_hours: Annotated[int, Meta(ge=24)] = 24 * 90


class PollingConfig(Table, frozen=True, kw_only=True):
    """When meters are asked. A poll that fails is tried again after `retry_first_s`, then twice as long each time."""

    timeout_s: Seconds = 10.0
    retry_first_s: Seconds = 60.0
    retry_max_s: Seconds = 1800.0
    backfill_days: Annotated[int, Meta(ge=0, le=400)] = 40

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.retry_max_s < self.retry_first_s:
            yield "retry_max_s", f"found {self.retry_max_s}; allowed: `retry_first_s` ({self.retry_first_s}) or more"


class MeterConfig(Table, frozen=True, kw_only=True):
    """One meter: where it is and how it speaks.

    `address` is `tcp://host:port` or `serial:/dev/ttyUSB0`; what shares an address is asked one after the other.
    `device` is the Modbus unit (0 to 255) or the IEC 62056-21 device address (empty: any). `map` names a register map.
    """

    meter_point: Name
    meter: Name
    protocol: Literal["modbus", "iec62056_21"]
    address: Annotated[str, Meta(min_length=1)]
    device: str | int = ""
    map: str | None = None
    interval_s: Annotated[int, Meta(ge=360, le=86_400, description="M4.1.3: 6 minutes or more")] = 3600
    timeout_s: Seconds | None = None
    baud: Literal[300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200] | None = None
    parity: Literal["none", "even", "odd", "software_even"] | None = None

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if not is_line(self.address):
            yield "address", f'found "{self.address}"; allowed: tcp://host:port, serial:/dev/NAME'
        if self.protocol == "modbus" and not (isinstance(self.device, int) and 0 <= self.device <= 255):
            yield "device", f"found {self.device!r}; allowed: the Modbus unit, a whole number from 0 to 255"
        if self.protocol == "modbus" and not self.map:
            yield "map", "missing; allowed: the name of a register map"
        if self.protocol == "iec62056_21" and (len(str(self.device)) > 32 or not str(self.device).isascii()):
            yield "device", "allowed: an IEC 62056-21 device address, up to 32 ASCII characters"


class GatewayConfig(Table, frozen=True, kw_only=True):
    """A site gateway: its meters, where it keeps what they say, and the Kafka that it sends it to.

    `clock` is `system`, or the address of a stepped clock (`tcp://127.0.0.1:PORT`, `unix:/PATH`) for virtual time.
    """

    gateway: Name
    state_dir: Path
    kafka: KafkaConfig
    meters: Annotated[tuple[MeterConfig, ...], Meta(min_length=1)]
    outbox: OutboxConfig = OutboxConfig()
    polling: PollingConfig = PollingConfig()
    clock: str = "system"
    rules: Path | None = None

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.gateway in RESERVED_GATEWAYS:
            yield "gateway", f'found "{self.gateway}", which the stream job and the commands call themselves; allowed: another'
        if not self.meters:
            yield "meters", "none; allowed: one `[[meters]]` table or more"
        points = [meter.meter_point for meter in self.meters]
        for point in sorted({point for point in points if points.count(point) > 1}):
            yield "meters", f'two meters of the meter point "{point}"; allowed: one each'
        yield from _file_mistake("rules", self.rules)
        yield from _clock_mistake(self.clock)


class StreamConfig(Table, frozen=True, kw_only=True):
    """The stream job, and the commands beside it: `store`, `submit`, `export`, `status`, `topics`.

    `instance` names one of several workers of the same `group`, and stays its own over restarts; of one that is not heard
    of for `session_timeout_s` the others take the partitions. `web` is where `/health` and `/metrics` are served. `tick_s`
    is how often it is said how late it is. `influx` is for `store` and `status`.
    """

    kafka: KafkaConfig
    state_dir: Path = Path("/var/lib/dailyread-stream")
    influx: InfluxConfig | None = None
    group: TopicName = "dailyread"
    instance: TopicName = "1"
    web: Address = "127.0.0.1:9464"
    tick_s: Seconds = 60.0
    session_timeout_s: Annotated[float, Meta(ge=6, le=1800)] = 20.0
    clock: str = "system"
    rules: Path | None = None

    def mistakes(self) -> Iterator[tuple[str, str]]:
        yield from _file_mistake("rules", self.rules)
        yield from _clock_mistake(self.clock)


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


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of `host:port`; the brackets of an IPv6 address are taken off."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own, by its spelling."""
    bare = host.strip("[]").lower()
    if bare in ("localhost", "ip6-localhost"):
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def is_line(address: str) -> bool:
    """Whether the text is `tcp://host:port` or `serial:/dev/NAME`."""
    if address.startswith("serial:"):
        return len(address) > len("serial:")
    try:
        url = urlsplit(address)
        return url.scheme == "tcp" and bool(url.hostname) and url.port is not None and url.path == ""
    except ValueError:
        return False


def _file_mistake(field: str, path: Path | None) -> Iterator[tuple[str, str]]:
    if path is not None and not path.is_file():
        yield field, f'found "{path}", which is no file; allowed: the path of a TOML file of rules'


def _clock_mistake(clock: str) -> Iterator[tuple[str, str]]:
    good = clock == "system" or (clock.startswith("unix:") and len(clock) > 5) or _is_loopback_tcp(clock)
    if not good:
        yield "clock", f'found "{clock}"; allowed: "system", or a stepped clock at tcp://127.0.0.1:PORT or unix:/PATH'


def _is_loopback_tcp(address: str) -> bool:
    return address.startswith("tcp://") and is_line(address) and is_loopback(urlsplit(address).hostname or "")
