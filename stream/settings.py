"""What a stream worker is told at its start. The command line makes it from the configuration; nothing here reads files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

STATES = "states"  # the table's name
_COMMON = frozenset({
    "bootstrap_servers", "security_protocol", "ssl_context", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password",
})  # fmt: skip


class Topics(NamedTuple):
    """The names of the topics."""

    facts: str
    broadcast: str
    ledger: str
    dead_letter: str


@dataclass(frozen=True)
class WorkerSettings:
    """One worker of the group `group`. `instance` is its own and stays so over restarts (static membership).

    `kafka` are kafka-python's options to reach the broker: `bootstrap_servers`, `security_protocol`, and with them
    `ssl_context`, `sasl_mechanism`, `sasl_plain_username`, `sasl_plain_password`, which aiokafka calls the same; and others.
    A worker that the broker has not heard of for `session_timeout_s` loses its partitions to another. `rules` is the digest
    of the rules it works by, for people.
    """

    kafka: Mapping[str, Any] = field(repr=False)  # holds the password
    topics: Topics
    partitions: int
    group: str
    instance: str
    state_dir: Path
    time: Literal["broker", "simulated"] = "broker"
    tick_s: float = 60.0
    web: tuple[str, int] | None = None
    session_timeout_s: float = 20.0
    commit_interval_s: float = 1.0
    stalled_after_s: float = 120.0
    rules: str = ""

    @property
    def aiokafka(self) -> dict[str, Any]:
        """The options that aiokafka takes of `kafka`."""
        return {name: value for name, value in self.kafka.items() if name in _COMMON}

    @property
    def changelog(self) -> str:
        """The topic that keeps the states; its partitions are those of the facts."""
        return f"{self.group}-{STATES}-changelog"

    @property
    def relay_group(self) -> str:
        """The consumer group of the broadcast relay."""
        return f"{self.group}-relay"
