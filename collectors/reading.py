"""What a poll of a meter comes back with, whatever its protocol: a Day's readings from the meter's own log, or an error."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from metering.facts import ReferenceIndex, Status

REASON_CHARACTERS_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DayReadings:
    """Readings of one meter from `at[0]` to `at[-1]`, the boundaries that were asked for; a reading that is missing is None.

    The instants are the meter's, converted to UTC. `index` and `unconverted` are ticks of their registers, one entry an
    instant; `interval_m3` has one entry fewer, m³. `reference_index`: the meter's own index at both boundaries.
    `clock_offset_s`: the equipment's clock less the gateway's; None where the equipment has none, or the gateway's is unsure.
    """

    at: tuple[datetime, ...]
    index: tuple[int | None, ...]
    unconverted: tuple[int | None, ...] | None = None
    reference_index: ReferenceIndex | None = None
    interval_m3: tuple[Decimal | None, ...] | None = None
    status: tuple[Status, ...] = ()
    clock_offset_s: float | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing is missing: there is no need to ask again."""
        return bool(self.index) and None not in self.index

    @property
    def has_boundaries(self) -> bool:
        """Whether the first and the last reading are there, which the Day's volume rests on."""
        return bool(self.index) and self.index[0] is not None and self.index[-1] is not None


def as_reason(cause: str) -> str:
    """A cause as a fact and the log give it: one line, as long as a person reads, for some of it may be what a meter said."""
    shown = "".join(each if each.isprintable() else "?" for each in cause[:REASON_CHARACTERS_MAX])
    return shown if len(cause) <= REASON_CHARACTERS_MAX else shown + "..."


class PollError(Exception):
    """A poll that brought no readings: the site, and the cause in words. Never a reading, never a zero."""

    def __init__(self, site: str, cause: str) -> None:
        super().__init__(f"{site}: {cause}")
        self.site = site
        self.cause = cause
