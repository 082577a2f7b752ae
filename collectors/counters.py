"""What happened in a gateway since its start, for its status and its metrics."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class GatewayCounters:
    """`away`: meter points whose last poll brought nothing; `clocks_off`: those whose meter's clock is beyond the limit;
    `reported`: for each status those whose newest Day is marked with it."""

    polls: int = 0
    failed: int = 0
    readings: int = 0
    alarms: int = 0
    clock_steps: int = 0
    away: set[str] = field(default_factory=set)
    clocks_off: set[str] = field(default_factory=set)
    reported: dict[str, set[str]] = field(default_factory=dict)
    clock_synchronised: bool = True
    disk_refuses: bool = False
