"""What follows from a frame of facts: the rules applied to one partition, without Kafka and without Faust.

The Faust worker, the embedded runner and the tests drive this same object. It reads the states it is given and keeps the
facts in the fact store; sending the changes and keeping the states is the caller's part, in the order that `partition.py`
explains. A state's value is its head (`marks.py`) and the engine's bytes (`metering.state`).
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from metering.facts import (
    Alarm,
    AnyFact,
    CalorificValue,
    GivenUp,
    IntervalSet,
    PollFailed,
    Registered,
    Tick,
    meter_point_of,
)
from metering.gasday import to_us
from metering.held import BEGINNING_US, NeedsHistory
from metering.ledger import Change
from metering.messages import DeadLetter
from metering.point import Point
from metering.replay import Ledger, difference, latest_us, point_ledger, rebuilt
from metering.rules import Rules
from metering.state import outlook, prune
from metering.wire import (
    NOT_A_FACT,
    Entry,
    FrameError,
    OpenFrame,
    PackedReadings,
    UnknownVersion,
    open_frame,
    partition_of,
    read_entry,
)
from storage.fact_store import FactStore
from stream.marks import Head, Marks, NotOurs, Unreadable, is_point, offset_of, split
from stream.outlooks import Outlooks

RELAY = "broadcast"  # the gateway name of the relay: alone its frames may say when a fact was first received
REDRIVE = "redrive"  # that of who puts dead letters back: alone its frames may say where a fact stood before
# Points that are held unpacked, some 30 KiB each. Of a partition with more of them none is: each comes once or twice a Day,
# after all others, and would only have made for cold memory meanwhile.
POINTS_HELD = 2_000
# Facts, or points that a tick reaches: some tens of milliseconds. Who calls has heartbeats to send between slices.
WORK_A_SLICE = 64
OF_THE_EDGE = (Alarm, GivenUp, IntervalSet, PollFailed)


class Slice(NamedTuple):
    """What a frame, or a part of a big one, gives: changes of the ledger, states by meter point, dead letters."""

    changes: list[Change]
    states: dict[str, bytes]
    dead: list[DeadLetter]


class Facts(NamedTuple):
    """A frame that is read: its facts, and dead letters for what is none. `stood_at`: the facts are put back; they stand at
    these offsets too, where they could not be used, but perhaps can be read by now."""

    offset: int
    entries: list[Entry]
    dead: list[DeadLetter]
    stood_at: Sequence[int] = ()


class _Due(NamedTuple):
    """A tick that is not worked off: its frame, how late it says it is, and the points that are still to be looked at."""

    offset: int
    now_us: int
    points: Iterator[str]


class Processor:
    """The rules on one facts partition. Not for several threads at once.

    A tick can reach every point, and what it makes happen is not urgent. So `follow` only takes note of it, and `work_off` does
    it in slices, whenever the caller has time, also between later frames. A point that such a frame reaches is first brought
    to where the tick would have brought it, so nothing but the time of day depends on it. Until it is done, the tick's frame
    is not: `behind` is its offset.

    `partitions` is how many the topic has: a fact that does not belong on this one is a dead letter. None: all facts come
    this way, as they do without Kafka. States that were made under other rules are made anew by `remake`, before the first
    frame, where `rebuilt_us` says that this was asked for since; else OtherRules is raised. So are those of an earlier
    version of the program, unasked; those of a later one raise LaterStates. `rests_on` is the offset of the first frame on
    which no state rests. For who counts: `told`, how many facts of the edge came, by kind; `closed_out`, how many open Days
    were closed out.
    """

    def __init__(
        self, partition: int, facts: FactStore, states: Mapping[str, bytes], rules: Rules,
        topic: str = "facts", partitions: int | None = None, rebuilt_us: int = 0,
    ) -> None:  # fmt: skip
        self.partition, self.topic, self.partitions = partition, topic, partitions
        self.rules, self.days = rules, rules.calendar()
        self._facts, self._states = facts, states
        self._points: dict[str, tuple[int, Point]] = {}
        self._outlooks = Outlooks()
        self._due: deque[_Due] = deque()
        self._marks = Marks(rules, self.days, rebuilt_us)
        self._said_rules = False
        self.rests_on = 0
        self.told: Counter[str] = Counter()
        self.closed_out = 0
        self._others = self._take_up()

    @property
    def has_others(self) -> bool:
        """Whether `remake` has points to make anew."""
        return bool(self._others)

    def remake(self, offset: int) -> Iterator[Slice]:
        """Make the points anew whose states other rules made, from the facts of the frames up to that offset.

        The changes are what differs from the ledger that those rules gave; all of it where that is not known.
        """
        while self._others:
            meter_point, why = self._others.popitem()
            part = Slice([], {}, [])
            self._keep(meter_point, offset, *self._remade(meter_point, offset, why), part)
            yield part

    def process(self, offset: int, timestamp: datetime, value: bytes) -> Iterator[Slice]:
        """What follows from one frame: `read`, `keep`, `follow` and `work_off` in one."""
        frame = self.read(offset, timestamp, value)
        self.keep([frame])
        yield from self.follow(frame)
        while self.behind is not None:
            yield self.work_off()

    def keep(self, frames: Sequence[Facts]) -> None:
        """Keep the facts of frames in the fact store, before anything follows from them."""
        for frame in frames:
            for offset in frame.stood_at:
                self._facts.leave_out(offset, frame.entries)
        self._facts.append_all([(frame.offset, frame.entries) for frame in frames])

    def follow(self, frame: Facts) -> Iterator[Slice]:
        """What follows from a frame that is kept.

        A point whose state rests on this offset or a later one is left alone: it has had the frame.
        """
        offset, entries = frame.offset, frame.entries
        if frame.dead:
            yield Slice([], {}, frame.dead)
        if len(entries) == 1 and isinstance(first := entries[0].content, PackedReadings):  # as of a gateway with one meter
            yield from self._apply(offset, {first.meter_point: entries})
            return
        own: defaultdict[str, list[Entry]] = defaultdict(list)
        values: list[tuple[str, Entry]] = []
        late_us = None
        for entry in entries:
            content = entry.content
            if isinstance(content, PackedReadings):
                own[content.meter_point].append(entry)
            elif isinstance(content, CalorificValue):
                values.append((content.ldz, entry))
            elif isinstance(content, Tick):
                late_us = max(late_us or to_us(content.now), to_us(content.now))
            elif (meter_point := meter_point_of(content)) is not None:
                own[meter_point].append(entry)
                if isinstance(content, OF_THE_EDGE):
                    self.told[str(content.__struct_config__.tag)] += 1
        for ldz, entry in values:
            for meter_point in self._outlooks.registered_in(ldz):
                own[meter_point].append(entry)
        yield from self._apply(offset, own)
        if late_us is not None:
            self._note_tick(offset, late_us)

    @property
    def behind(self) -> int | None:
        """The offset of the first frame of which something is left to do; None where nothing is."""
        return self._due[0].offset if self._due else None

    def work_off(self) -> Slice:
        """A slice of what the frame `behind` makes happen. It rests on that frame."""
        offset, now_us, points = self._due[0]
        part = self._advance(offset, now_us, points)
        if len(part.states) < WORK_A_SLICE:
            self._due.popleft()
            self._reach()
        return part

    def _note_tick(self, offset: int, now_us: int) -> None:
        self._due.append(_Due(offset, now_us, iter(())))
        if len(self._due) == 1:
            self._reach()

    def _reach(self) -> None:
        """Find the points that the first tick reaches; ticks that reach none are done."""
        while self._due:
            offset, now_us, _ = self._due[0]
            if found := self._outlooks.due_by(now_us):
                self._due[0] = _Due(offset, now_us, iter(found))
                return
            self._due.popleft()

    def remember(self, offset: int, timestamp: datetime, value: bytes) -> None:
        """Keep the facts of an earlier frame, which the points have had, where the fact store lacks them."""
        self.keep([self.read(offset, timestamp, value)])

    def read(self, offset: int, timestamp: datetime, value: bytes) -> Facts:
        """The frame's facts, each with the instant of its receipt, and a dead letter for whatever is none. Raises
        UnknownVersion where it is of a later version."""
        try:
            frame = open_frame(value)
        except UnknownVersion:
            raise
        except FrameError as error:
            return Facts(offset, [], [self._letter(offset, None, str(error), value)])
        if frame.received_at is not None and frame.gateway != RELAY:
            reason = f"gateway {frame.gateway} says when it was received; that is the broker's to say"
            return Facts(offset, [], [self._letter(offset, None, reason, value)])
        received_at = timestamp if frame.received_at is None else frame.received_at
        entries: list[Entry] = []
        dead: list[DeadLetter] = []
        for number, packed in enumerate(frame.entries):
            try:
                entry = read_entry(packed, received_at)
                self._check_place(entry, frame.gateway)
            except NOT_A_FACT as error:
                dead.append(self._letter(offset, number, str(error), packed))
            else:
                entries.append(entry)
        return Facts(offset, entries, dead, self._stood_at(frame) if frame.origins else ())

    def _stood_at(self, frame: OpenFrame) -> list[int]:
        here = (self.topic, self.partition)
        return [origin.offset for origin in frame.origins if frame.gateway == REDRIVE and origin[:2] == here]

    def _check_place(self, entry: Entry, gateway: str) -> None:
        """ValueError where the fact does not belong on this partition: it would be applied on a part of the points only."""
        if self.partitions is None:
            return
        meter_point = meter_point_of(entry.content)
        if meter_point in self._outlooks and gateway != RELAY:
            return
        if (meter_point is None) != (gateway == RELAY):
            raise ValueError("a fact without a meter point belongs on the broadcast topic, and only such a one does")
        right = self.partition if meter_point is None else partition_of(meter_point, self.partitions)
        if right != self.partition:
            raise ValueError(f"meter_point: {meter_point} belongs to partition {right}, not {self.partition}")

    def _apply(self, offset: int, news: Mapping[str, Sequence[Entry]]) -> Iterator[Slice]:
        part, work = Slice([], {}, []), 0
        for meter_point in sorted(news):
            stands_at, point = self._load(meter_point)
            if stands_at >= offset:
                continue
            try:
                if stands_at < 0:
                    raise NeedsHistory
                changes = self._brought_along(meter_point, point, news[meter_point]) if self._due else []
                changes += _applied(point, news[meter_point])
                work += len(news[meter_point])
            except NeedsHistory:
                point, changes = self._rebuild(meter_point, offset)
                if self._due:
                    changes += point.advance(self._due[-1].now_us)
                work = WORK_A_SLICE
            self._keep(meter_point, offset, point, changes, part)
            if work >= WORK_A_SLICE:
                yield part
                part, work = Slice([], {}, []), 0
        if part.states:
            yield part

    def _advance(self, offset: int, now_us: int, reached: Iterable[str]) -> Slice:
        """Let what is due by an instant happen at these points: Days that begin, and Exit Close-Outs."""
        part = Slice([], {}, [])
        for meter_point in reached:
            if self._outlooks.due_us(meter_point) > now_us:
                continue  # a frame of its own has brought it that far
            stands_at, point = self._load(meter_point)
            if stands_at < offset:
                try:
                    changes = point.advance(now_us)
                except NeedsHistory:
                    point, changes = self._rebuild(meter_point, offset)
                    changes += point.advance(now_us)
                self._keep(meter_point, offset, point, changes, part)
            if len(part.states) >= WORK_A_SLICE:
                break
        return part

    def _take_up(self) -> dict[str, NotOurs]:
        """Index the points whose states can be gone on from; why the others cannot. OtherRules where these are to stay."""
        others: dict[str, tuple[Head, NotOurs]] = {}
        for meter_point, state in self._states.items():
            if not is_point(meter_point):
                continue
            head = split(state)[0]
            self.rests_on = max(self.rests_on, head.offset + 1)
            try:
                self._outlooks.note(meter_point, self._marks.outlook(state, self._states))
            except NotOurs as why:
                others[meter_point] = head, why
            else:
                self._marks.follow(head)
        self._marks.check_replaced(others.values())
        return {meter_point: why for meter_point, (_, why) in others.items()}

    def _remade(self, meter_point: str, offset: int, why: NotOurs) -> tuple[Point, list[Change]]:
        """The point under these rules, and what differs from the ledger under those that its state was made by."""
        head, after = split(self._states[meter_point])[0], self._history(meter_point, offset + 1)
        now_us = max(head.now_us, latest_us(after) or BEGINNING_US)
        old: Ledger = {}
        rules = None if isinstance(why, Unreadable) else self._marks.rules_of(head, self._states)
        if rules is not None:
            before = self._history(meter_point, head.offset + 1)
            old = point_ledger(meter_point, before, head.now_us, rules, rules.calendar())[1]
        point, new = point_ledger(meter_point, after, now_us, self.rules, self.days)
        return point, difference(old, new)

    def _rebuild(self, meter_point: str, offset: int) -> tuple[Point, list[Change]]:
        """The point made anew from the fact store, and what differs from what its state has said."""
        state = self._states.get(meter_point)
        was = None if state is None else self._marks.point(state, self._states)
        before, after = self._history(meter_point, offset), self._history(meter_point, offset + 1)
        point, changes = rebuilt(meter_point, before, None if was is None else was.now_us, after, self.rules, self.days)
        point.closed_out = 0 if was is None else len(set(was.open_days).difference(point.open_days))
        return point, changes

    def _history(self, meter_point: str, before_offset: int) -> list[AnyFact]:
        own = self._facts.of_point(meter_point, before_offset)
        ldzs = {fact.ldz for fact in own if isinstance(fact, Registered)}
        return [*own, *self._facts.calorific_values(ldzs, before_offset)]

    def _load(self, meter_point: str) -> tuple[int, Point]:
        """The point and the offset its state rests on; a new point, and -1, where there is none."""
        held = self._points.get(meter_point)
        if held is not None:
            return held
        state = self._states.get(meter_point)
        if state is None:
            return -1, Point(meter_point, self.rules, self.days)
        return offset_of(state), self._marks.point(state, self._states)

    def _keep(self, meter_point: str, offset: int, point: Point, changes: Iterable[Change], part: Slice) -> None:
        prune(point)
        self.closed_out += point.closed_out
        point.closed_out = 0
        self._outlooks.note(meter_point, outlook(point))
        if len(self._outlooks) <= POINTS_HELD:
            self._points[meter_point] = offset, point
        elif self._points:
            self._points.clear()
        part.changes.extend(changes)
        if not self._said_rules:
            part.states.update(self._marks.rules())
            self._said_rules = True
        part.states[meter_point] = self._marks.state(offset, point)

    def _brought_along(self, meter_point: str, point: Point, news: Sequence[Entry]) -> list[Change]:
        """What the ticks before these facts make happen at the point, where the facts' own receipt does not."""
        now_us = self._due[-1].now_us
        if self._outlooks.due_us(meter_point) > now_us or all(to_us(each.received_at) >= now_us for each in news):
            return []
        return point.advance(now_us)

    def _letter(self, offset: int, number: int | None, reason: str, payload: bytes) -> DeadLetter:
        return DeadLetter(
            topic=self.topic, partition=self.partition, offset=offset, number=number, reason=reason, payload=payload
        )  # fmt: skip


def _applied(point: Point, news: Sequence[Entry]) -> list[Change]:
    content = news[0].content
    if len(news) == 1 and isinstance(content, PackedReadings):
        return point.apply_readings(news[0].received_at, content, news[0].packed)
    return point.apply([entry.fact() for entry in news])
