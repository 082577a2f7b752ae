"""What is held of one Gas Day. Nothing here decides.

Volumes are in litres, quantities in watt-hours, instants in microseconds, Gas Days ordinals.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

import msgspec

from metering.facts import Readings
from metering.gasday import to_datetime
from metering.ledger import Key, Rejected, Tolerance
from metering.standing import Standing
from metering.wire import canonical, decode_fact, identity

OPEN, ACTUAL, DEEMED, ASSUMED, WITHDRAWN = range(5)  # WITHDRAWN: closed out as actual, on a reading withdrawn since
NOT_DETERMINED, RESTORED, APPORTIONED, REVISED = range(4)
Belief = tuple[bool, int | None, bool, int, int | None, int | None]


class Book(msgspec.Struct, array_like=True):
    """One Gas Day: its batch, the standing readings of its start and of meters' changes, how it was closed out, what was
    determined later. It is what the state keeps of the Day.

    `pieces` are the batch's facts as they came: when each was received, and its packed bytes; `withdrawn` are digests of those
    that were taken back. `ran`, `failed` and `tolerances` are what was found when it was judged, and outlive the pieces.
    `places` has the standing readings of fittings and removals but those at the Day's start, by the meter, when it was fitted,
    and their own instant. `bypass_l` is the estimate that is part of the Day's volume; `closed_l` is without it. `read_l` is
    the volume by the readings of a Day that was closed out with another in its place (4.8.8). `shown` are the keys of the
    Day's records that were given out, but for the `day` record. `values` are its calorific values, and when each was received,
    for the state.
    """

    pieces: list[tuple[int, bytes]] = []
    start: Standing | None = None
    closed: int = OPEN
    closed_l: int | None = None
    valid: bool = False
    valid_at_us: int | None = None
    by_11: bool = False
    ran: int = 0
    failed: int = 0
    flagged: int = 0
    determined: int = NOT_DETERMINED
    determined_l: int | None = None
    since_us: int | None = None
    deemed_wh: int | None = None
    bypass_l: int = 0
    read_l: int | None = None
    rejected: list[Rejected] = []
    tolerances: tuple[Tolerance, ...] = ()
    shown: tuple[Key, ...] = ()
    places: dict[tuple[str, int, int], Standing] = {}
    withdrawn: tuple[bytes, ...] = ()
    values: tuple[tuple[int, Decimal], ...] = ()

    def belief(self) -> Belief:
        """What is believed of the Day: remembered once an instant, so that `since` and `valid_at` are right."""
        return (self.valid, self.valid_at_us, self.by_11, self.determined, self.determined_l, self.since_us)

    def readings(self) -> list[Readings]:
        """The pieces as facts, in the order in which they came."""
        return [_decoded(received_us, packed) for received_us, packed in self.pieces]

    def in_order(self) -> list[Readings]:
        """The pieces as facts, by receipt, then by canonical bytes."""
        if len(self.pieces) == 1:
            return self.readings()
        return [_decoded(*piece) for piece in sorted(self.pieces, key=lambda piece: (piece[0], _canonical(piece[1])))]

    def knows(self, fact: Readings, received_us: int) -> bool:
        """Whether the very same readings were received before, no later than this copy; withdrawn ones too."""
        if self.withdrawn and identity(fact) in self.withdrawn:
            return True
        told = canonical(fact)
        return any(earlier_us <= received_us and _canonical(packed) == told for earlier_us, packed in self.pieces)

    @property
    def failed_day(self) -> bool:
        """A Failed Daily Read Day: closed out, and not as actual (4.4.2)."""
        return self.closed >= DEEMED


# A Day may come in hundreds of pieces, one after the other, and each new one is judged with all before it.


@lru_cache(maxsize=2048)
def _decoded(received_us: int, packed: bytes) -> Readings:
    fact = decode_fact(packed, to_datetime(received_us))
    assert isinstance(fact, Readings)
    return fact


@lru_cache(maxsize=2048)
def _canonical(packed: bytes) -> bytes:
    return canonical(decode_fact(packed))
