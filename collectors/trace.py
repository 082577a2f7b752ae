"""The raw octets of one poll, as they went over the line: for evidence, and for who looks on while a meter is set up.

A line has one trace, as it has one lock: what polls it clears the trace first, and reads it before it lets go of the lock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

OCTETS_MAX = 2 * 1024 * 1024  # of one poll; what comes after is counted, not kept


class Frame(NamedTuple):
    """What was sent, or what came in, at one time; `at` is the gateway's clock."""

    at: datetime
    sent: bool
    octets: bytes


def _now() -> datetime:
    return datetime.now(UTC)


class Trace:
    """What went over a line since `clear`. `tell` is called with each frame as it goes."""

    def __init__(self, now: Callable[[], datetime] = _now) -> None:
        self.frames: list[Frame] = []
        self.left_out = 0  # octets beyond OCTETS_MAX
        self.tell: Callable[[Frame], None] | None = None
        self._now = now
        self._kept = 0

    def clear(self) -> None:
        """Begin another poll."""
        self.frames = []
        self.left_out = self._kept = 0

    def sent(self, octets: bytes) -> None:
        """These octets go out."""
        self._add(True, octets)

    def heard(self, octets: bytes) -> None:
        """These octets have come in, whatever they are worth."""
        self._add(False, octets)

    def _add(self, sent: bool, octets: bytes) -> None:
        if not octets:
            return
        frame = Frame(self._now(), sent, octets)
        if self._kept + len(octets) <= OCTETS_MAX:
            self.frames.append(frame)
            self._kept += len(octets)
        else:
            self.left_out += len(octets)
        if self.tell is not None:
            self.tell(frame)
