"""When to ask a meter, and for which Gas Day. Pure: `now` is an argument, all instants are integers (`*_us`).

What a meter owes is every ended Day of the last `backfill_days` of which a reading is missing that its log may still come to
hold. The newest Day goes first: soon after it ended (spread by meter), then with growing pauses, and once more
shortly before 11:00, until when it counts (M5.2.1); after that at a slow pace. A Day that runs is asked for every
`within_day_s`, once the one before has been (M4.6.1(b)). What is left from an outage follows, the
newest first, a Day at a time, without getting in the way of the morning. So a dead meter costs a bounded number of polls a
Day, and polling comes back by itself after any time.
"""

from __future__ import annotations

import enum
import itertools
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from metering.gasday import SECOND_US, GasDays


class Policy(NamedTuple):
    """The pauses of polling, in seconds. After 11:00 a failed poll is followed by a pause of `slow_s`. `within_day_s`: 0 where
    a Day is asked for after its end only."""

    first_delay_s: int = 120
    spread_s: int = 300
    retry_first_s: float = 60
    retry_max_s: float = 1800
    slow_s: float = 7200
    last_call_s: int = 600
    backfill_pause_s: int = 60
    backfill_days: int = 40
    within_day_s: float = 0


class Ask(NamedTuple):
    """Ask for Gas Day `day` (ordinal) at `at_us`, or as soon after as can be."""

    at_us: int
    day: int


class Outcome(enum.Enum):
    """What a poll did for the Day that it asked for."""

    COMPLETE = "complete"  # every reading is there
    PARTIAL = "partial"  # the meter answered, but readings are missing (so far)
    GONE = "gone"  # the meter's log begins later: neither this Day nor an older one can be had
    SILENT = "silent"  # no usable answer


class Deferred(NamedTuple):
    """A Day that was asked for and is still owed: how often, and when last."""

    times: int
    last_us: int


class MeterState(msgspec.Struct, frozen=True, kw_only=True):
    """What one meter owes and how the last polls went. `settled` holds the Days that are not owed; `within_us`: when a Day
    was last asked for before its end."""

    settled: frozenset[int] = frozenset()
    deferred: dict[int, Deferred] = {}
    last_us: int | None = None
    within_us: int = 0
    morning: int = 0  # the newest ended Day when last asked
    silent: int = 0  # polls without an answer, since the last answer or the morning's first


def spread_us(meter_point: str, policy: Policy) -> int:
    """How long after a Day's end this meter is asked first: always the same for a meter, all whole seconds."""
    offset = zlib.crc32(meter_point.encode()) % policy.spread_s if policy.spread_s else 0
    return (policy.first_delay_s + offset) * SECOND_US


def owed(state: MeterState, newest: int, policy: Policy) -> Iterator[int]:
    """The Days that the meter owes, the newest first; none older than `backfill_days` before the newest ended one."""
    for day in range(newest, newest - policy.backfill_days - 1, -1):
        if day not in state.settled:
            yield day


def next_ask(state: MeterState, now_us: int, days: GasDays, policy: Policy, offset_us: int) -> Ask:
    """The next poll of this meter; `at_us` may be past. `offset_us` is the meter's `spread_us`."""
    newest = days.day_of(now_us) - 1
    coming = next(day for day in itertools.count(newest + 1) if day not in state.settled)  # a clock may have gone back
    asks = [Ask(days.end_us(coming) + offset_us, coming), *_within(state, now_us, newest, days, policy, offset_us)]
    first_us = days.end_us(newest) + offset_us
    older_silent = False
    for day in owed(state, newest, policy):
        if day == newest:
            asks.append(Ask(_newest_at_us(state, newest, first_us, days, policy, offset_us), day))
            older_silent = bool(state.silent)
        elif not older_silent:
            asks.append(Ask(_older_at_us(state, day, newest, first_us, policy), day))
    return min(asks, key=lambda ask: (ask.at_us, ask.day > newest, ask.day in state.deferred, -ask.day))


def _within(state: MeterState, now_us: int, newest: int, days: GasDays, policy: Policy, offset_us: int) -> Iterator[Ask]:
    """The Day that runs, every `within_day_s` from its start on; not before the last Day was asked for, nor while the meter
    is silent."""
    if not policy.within_day_s or state.silent or not (newest in state.settled or newest in state.deferred):
        return
    first_us, step_us = days.start_us(newest + 1) + offset_us, _us(policy.within_day_s)
    turn = max(0, now_us - first_us) // step_us
    if turn == 0 or state.within_us >= first_us + turn * step_us:
        turn += 1
    if (at_us := first_us + turn * step_us) < days.end_us(newest + 1):
        yield Ask(at_us, newest + 1)


def _older_at_us(state: MeterState, day: int, newest: int, first_us: int, policy: Policy) -> int:
    if state.last_us is None or (state.silent and state.morning != newest):
        return first_us
    at_us = state.last_us + _us(policy.slow_s if state.silent else policy.backfill_pause_s)
    if day in state.deferred:
        return max(at_us, state.deferred[day].last_us + _us(policy.slow_s))
    return at_us


def _newest_at_us(state: MeterState, newest: int, first_us: int, days: GasDays, policy: Policy, offset_us: int) -> int:
    """`retry_first_s` after the first miss, twice as long after each, up to `retry_max_s`; a last call before 11:00."""
    if state.silent and state.morning == newest and state.last_us is not None and state.last_us >= first_us:
        last_us, misses = state.last_us, state.silent
    elif newest in state.deferred:
        misses, last_us = state.deferred[newest]
    else:
        return first_us
    eleven_us = days.eleven_us(newest)
    last_call_us = eleven_us - policy.last_call_s * SECOND_US - offset_us
    at_us = last_us + _us(min(policy.retry_first_s * 2.0 ** min(misses - 1, 30), policy.retry_max_s))
    if at_us <= eleven_us:
        return at_us
    return last_call_us if last_us < last_call_us else last_us + _us(policy.slow_s)


def after(state: MeterState, day: int, outcome: Outcome, now_us: int, days: GasDays, policy: Policy) -> MeterState:
    """The state after a poll for `day` that ended at `now_us` like this.

    A Day that is still partial at its Exit Close-Out is settled as it is.
    """
    newest = days.day_of(now_us) - 1
    silent = state.silent if state.morning == newest else 0
    asked = msgspec.structs.replace(state, last_us=now_us, morning=newest, silent=0)
    times = state.deferred[day].times if day in state.deferred else 0
    deferred = {**state.deferred, day: Deferred(times + 1, now_us)}
    if outcome is Outcome.SILENT:
        # Where only one old Day is never answered, the others have their turn.
        kept = state.deferred if day == newest else deferred
        return msgspec.structs.replace(asked, silent=silent + 1, deferred=kept)
    if outcome is Outcome.PARTIAL and now_us < days.exit_close_out_us(day):
        return msgspec.structs.replace(asked, deferred=deferred)
    oldest = newest - policy.backfill_days
    more = range(oldest if outcome is Outcome.GONE else day, day + 1)
    settled = frozenset(old for old in state.settled if old >= oldest).union(more)
    deferred = {other: seen for other, seen in state.deferred.items() if other >= oldest and other not in settled}
    return msgspec.structs.replace(asked, settled=settled, deferred=deferred)


def asked_within(state: MeterState, now_us: int) -> MeterState:
    """The state after a poll for a Day that has not ended, whatever it brought."""
    return msgspec.structs.replace(state, within_us=now_us)


def _us(seconds: float) -> int:
    return round(seconds * SECOND_US)
