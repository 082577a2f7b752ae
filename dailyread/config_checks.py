"""Checks of settings that no type can make: of addresses, certificates, rules and clocks. Each yields (field, what is wrong and
what is allowed), as `Table.mistakes` does.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from dailyread.meters import is_line
from dailyread.settings import Secret
from dailyread.tls import client_context
from metering.rules import load as load_rules


class Tls(Protocol):
    """What a table says of its connections."""

    @property
    def tls(self) -> bool: ...
    @property
    def ca_file(self) -> Path | None: ...
    @property
    def certificate_file(self) -> Path | None: ...
    @property
    def key_file(self) -> Path | None: ...
    @property
    def key_password(self) -> Secret | None: ...


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


def tls_mistakes(config: Tls) -> Iterator[tuple[str, str]]:
    """Of certificates and keys, which must be usable, and there only where connections are TLS."""
    if not config.tls:
        for field in ("ca_file", "certificate_file", "key_file"):
            if getattr(config, field) is not None:
                yield field, 'given, but connections are not TLS; allowed: with `security = "tls"` only'
        return
    yield from ca_mistake(config.ca_file)
    if (config.certificate_file is None) != (config.key_file is None):
        yield "certificate_file", "and `key_file` belong together; allowed: both or neither"
    elif config.certificate_file is not None:
        try:
            client_context(None, config.certificate_file, config.key_file, config.key_password)
        except OSError as error:
            files = f'found "{config.certificate_file}" and "{config.key_file}"'
            yield (
                "certificate_file",
                f"{files}: {_reason(error)}; allowed: a PEM certificate, its key, and the key's password",
            )


def ca_mistake(path: Path | None) -> Iterator[tuple[str, str]]:
    """Of the file of certificates by which others are verified."""
    if path is None:
        return
    try:
        client_context(path)
    except OSError as error:
        yield "ca_file", f'found "{path}": {_reason(error)}; allowed: a PEM file of certificates'


def _reason(error: OSError) -> str:
    """Why a file cannot be used, in a few words."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not usable as they are").replace("_", " ").lower()
    return error.strerror or str(error)


def rules_mistake(path: Path | None) -> Iterator[tuple[str, str]]:
    """Of the file of rules."""
    if path is None:
        return
    if not path.is_file():
        yield "rules", f'found "{path}", which is no file; allowed: the path of a TOML file of rules'
        return
    try:
        load_rules(path.read_bytes()).calendar()
    except (OSError, ValueError, KeyError) as error:
        yield "rules", f'found "{path}": {error}; allowed: a TOML file of rules'


def clock_mistake(clock: str) -> Iterator[tuple[str, str]]:
    """Of the clock: the machine's, or a stepped one on this machine."""
    good = clock == "system" or (clock.startswith("unix:") and len(clock) > 5) or _is_loopback_tcp(clock)
    if not good:
        yield "clock", f'found "{clock}"; allowed: "system", or a stepped clock at tcp://127.0.0.1:PORT or unix:/PATH'


def _is_loopback_tcp(address: str) -> bool:
    return address.startswith("tcp://") and is_line(address) and is_loopback(urlsplit(address).hostname or "")
