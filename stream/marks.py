"""The first bytes of a state: the frame it rests on, and the rules it was made under.

A worker goes on from a state only where its own rules are the same, or differ on later Gas Days alone. Otherwise the ledger
would be one that no rules give. States of other rules are made anew from the facts, once somebody has asked for it
(`dailyread rebuild state`). A state carries when that was, so that a worker which still has the rules of before does not
change it back: it refuses.

A program's version counts for less. States of an earlier one, under the same rules, are made anew from the facts without
being asked for; states of a later one are left to it, so that an old worker beside a new one destroys nothing.

The rules themselves are kept among the states, under a name that no meter point can have. So the ledger of before can be
found again, and what is different now can be said.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from metering.gasday import GasDays
from metering.point import Point
from metering.rules import Rules
from metering.rules_digest import DIGEST_BYTES, differ_from, digest
from metering.state import STATE_VERSION, Outlook, decode_outlook, decode_state, encode_state, outlook, version_of

OFFSET_BYTES = 8
_HEAD = struct.Struct(f">QqQ{DIGEST_BYTES}s")
# Meter points have names of at most 64 characters. In the order of names it comes before them, so that theirs can be appended.
_RULES_NAME = " The rules under which states of this partition were made, by their digest: "


class OtherRules(Exception):
    """States were made under other rules than these, and nobody has asked to make them anew."""


class LaterStates(Exception):
    """States were made by a later version of this program, which alone may go on from them."""


class NotOurs(ValueError):
    """The state cannot be gone on from under these rules, by this program; the message says why."""


class Unreadable(NotOurs):
    """Another version of the program made it, and what ledger that gave is not known."""


class Earlier(Unreadable):
    """An earlier version of the program made it, under the rules of now."""


class Later(Unreadable):
    """A later version of the program made it."""


class Head(NamedTuple):
    """What a state begins with. `now_us`: how late it was at the point. `rebuilt_us`: when it was last asked for to make
    states anew; 0 where it never was."""

    offset: int
    now_us: int
    rebuilt_us: int
    digest: bytes


def offset_of(state: bytes) -> int:
    """The `facts` offset that a state rests on; ValueError where the bytes are no state."""
    if len(state) < OFFSET_BYTES:
        raise ValueError(f"a state of {len(state)} bytes, which is too short to begin with an offset")
    return int.from_bytes(state[:OFFSET_BYTES], "big")


def split(state: bytes) -> tuple[Head, bytes]:
    """The head of a state and the engine's bytes; ValueError where the bytes are too short to be a state."""
    if len(state) < _HEAD.size:
        raise ValueError(f"a state of {len(state)} bytes, which is too short to begin with an offset and a digest")
    return Head(*_HEAD.unpack_from(state)), state[_HEAD.size :]


def is_point(name: str) -> bool:
    """Whether the name among the states is a meter point's."""
    return not name.startswith(_RULES_NAME)


class Marks:
    """Marks states as made under these rules, and knows which of them were. `rebuilt_us` is when somebody asked for states
    of other rules to be made anew under these; 0: nobody did."""

    def __init__(self, rules: Rules, days: GasDays, rebuilt_us: int = 0) -> None:
        self.digest = digest(rules)
        self._rules, self._days = rules, days
        self._rebuilt_us = rebuilt_us
        self._name = _RULES_NAME + self.digest.hex()

    def state(self, offset: int, point: Point) -> bytes:
        """The state of a pruned point that rests on the frame at that offset."""
        return encode_state(point, _HEAD.pack(offset, point.now_us, self._rebuilt_us, self.digest))

    def rules(self) -> dict[str, bytes]:
        """The rules, as they are kept among the states, before the first state that carries their digest."""
        return {self._name: _HEAD.pack(0, 0, 0, self.digest) + msgspec.json.encode(self._rules)}

    def rules_of(self, head: Head, states: Mapping[str, bytes]) -> Rules | None:
        """The rules under which a state was made; None where nothing tells them, or this program cannot read them."""
        kept = states.get(_RULES_NAME + head.digest.hex())
        try:
            return None if kept is None else msgspec.json.decode(split(kept)[1], type=Rules)
        except (msgspec.MsgspecError, ValueError):
            return None

    def point(self, state: bytes, states: Mapping[str, bytes]) -> Point:
        """The point of a state, to go on from; NotOurs where it was made under other rules, or cannot be read."""
        head, body = split(state)
        try:
            point = decode_state(body, self._rules, self._days)
        except ValueError as error:
            raise self._unreadable(head, body, error) from error
        if head.digest != self.digest and not self._same_so_far(self.rules_of(head, states), point):
            raise NotOurs(f"made under other rules, {head.digest.hex()}")
        return point

    def outlook(self, state: bytes, states: Mapping[str, bytes]) -> Outlook:
        """What is to come at the point of a state that can be gone on from; NotOurs as `point` raises it."""
        head, body = split(state)
        if head.digest != self.digest:
            return outlook(self.point(state, states))
        try:
            return decode_outlook(body, self._rules, self._days)
        except ValueError as error:
            raise self._unreadable(head, body, error) from error

    def follow(self, head: Head) -> None:
        """Go on from a state with this head: what is written next was asked for no earlier than it was."""
        self._rebuilt_us = max(self._rebuilt_us, head.rebuilt_us)

    def check_replaced(self, others: Iterable[tuple[Head, NotOurs]]) -> None:
        """Raises OtherRules, or LaterStates, unless it was asked for, since these states were made, to make them anew under
        these rules. Those of an earlier version need not be asked for."""
        whys = [why for head, why in others if head.rebuilt_us >= self._rebuilt_us and not isinstance(why, Earlier)]
        if later := [str(why) for why in whys if isinstance(why, Later)]:
            raise LaterStates(f"the states of {len(later)} meter points were {'; '.join(sorted(set(later)))}")
        if kept := [str(why) for why in whys]:
            raise OtherRules(
                f"these rules ({self.digest.hex()}) cannot go on from the states of {len(kept)} meter points:"
                f" {'; '.join(sorted(set(kept)))}. Give back the rules of before, or stop all workers, run `dailyread rebuild"
                " state` where each of them runs, and start them again"
            )

    def _unreadable(self, head: Head, body: bytes, error: ValueError) -> Unreadable:
        version = version_of(body)
        if version is None or version == STATE_VERSION:
            return Unreadable(f"made by another version of this program ({error})")
        if version > STATE_VERSION:
            return Later(f"made by a later version of this program ({error})")
        if head.digest == self.digest:
            return Earlier(f"made by an earlier version of this program ({error})")
        return Unreadable(f"made by an earlier version of this program ({error}) under other rules, {head.digest.hex()}")

    def _same_so_far(self, were: Rules | None, point: Point) -> bool:
        """Whether the rules of before and these say the same of every Day that the state knows, and of the one after."""
        if were is None:
            return False
        since = differ_from(were, self._rules)
        return since is None or max(point.last_day or 0, *point.books, 0) + 1 < since.toordinal()
