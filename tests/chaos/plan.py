"""What goes wrong in a round, and when: all of it from the round's seed."""

from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

WINDOW_S = 7.0  # faults begin within it
FEWEST, MOST = 4, 8
DAYS = (9, 12)  # Gas Days of a round, from and to
SLEPT_TOO_LONG_S = 7.0  # longer than the session time-out of the workers

GATEWAY, STORE, BROKER, INFLUXDB = "gateway", "store", "broker", "influxdb"
WORKERS = ("worker-1", "worker-2", "worker-3")
LATE = WORKERS[-1]  # there from the start in every other round only
PROCESSES = (GATEWAY, STORE, BROKER, INFLUXDB, *WORKERS)
STORE_TO_INFLUXDB = "store-influxdb"
LINKS = (GATEWAY, STORE, *WORKERS, STORE_TO_INFLUXDB)  # to the broker, but for the last
DISKS = (GATEWAY, STORE, *WORKERS)


class Fault(NamedTuple):
    """Something that happens to `target` from `at_s` on for `for_s`, in seconds of real time from the first Gas Day on."""

    at_s: float
    kind: str
    target: str
    for_s: float

    def __str__(self) -> str:
        return f"{self.at_s:.2f} s: {self.kind} {self.target} for {self.for_s:.2f} s"


class Plan(NamedTuple):
    """A round. `workers` are there at the start; `seed` also is that of what passes through the meters."""

    seed: int
    days: int
    workers: tuple[str, ...]
    faults: tuple[Fault, ...]

    @property
    def counts(self) -> Counter[str]:
        """How many faults there are of each kind."""
        return Counter(f"{fault.kind} {_family(fault.target)}" for fault in self.faults)


class Kind(NamedTuple):
    """A kind of fault: whom it may befall, how long it may last, how often it is drawn beside the others.

    `long_s`: how long one in four lasts.
    """

    targets: tuple[str, ...]
    for_s: tuple[float, float]
    weight: int
    long_s: tuple[float, float] | None = None
    of: str = "process"


KINDS = {
    "kill": Kind(PROCESSES, (0.0, 2.0), 10),  # -9
    "lose the disk of": Kind(WORKERS, (0.0, 2.0), 2),  # -9, and what it had on disk is gone
    "stop": Kind((GATEWAY, STORE, *WORKERS), (0.5, 5.0), 3),  # SIGTERM: a worker is taken out
    "add": Kind((LATE,), (1.0, 9.0), 3),  # another worker comes, and goes again
    "pause": Kind(PROCESSES, (0.2, 3.0), 6, (SLEPT_TOO_LONG_S, SLEPT_TOO_LONG_S + 2)),  # SIGSTOP, SIGCONT
    "fill the disk of": Kind(DISKS, (0.5, 4.0), 4, of="disk"),
    "cut": Kind(LINKS, (0.2, 3.0), 4, (SLEPT_TOO_LONG_S, SLEPT_TOO_LONG_S + 2), of="link"),  # connections end, none is made
    "silence": Kind(LINKS, (0.2, 3.0), 3, (SLEPT_TOO_LONG_S, SLEPT_TOO_LONG_S + 2), of="link"),  # nothing passes, nothing ends
    "lose the answers of": Kind(LINKS, (0.2, 2.0), 3, of="link"),  # questions pass; then connections end
    "delay": Kind(LINKS, (1.0, 5.0), 2, of="link"),  # a tenth of a second or two, each way
}


def plan(seed: int) -> Plan:
    """The round of a seed."""
    dice = random.Random(seed)
    days = dice.randint(*DAYS)
    workers = dice.choice((WORKERS[:2], WORKERS[:2], WORKERS))
    faults: list[Fault] = []
    busy: dict[tuple[str, str], list[tuple[float, float]]] = {}
    wanted = dice.randint(FEWEST, MOST)
    while len(faults) < wanted:
        fault = _drawn(dice)
        span = fault.at_s, fault.at_s + fault.for_s
        spans = busy.setdefault((KINDS[fault.kind].of, fault.target), [])
        if (fault.kind == "add") == (fault.target in workers) and fault.target == LATE:
            continue  # it is there, or it is not yet
        if all(end < span[0] or span[1] < start for start, end in spans):
            spans.append(span)
            faults.append(fault)
    return Plan(seed, days, workers, tuple(sorted(faults)))


def _drawn(dice: random.Random) -> Fault:
    (name,) = dice.choices(list(KINDS), [kind.weight for kind in KINDS.values()])
    kind = KINDS[name]
    target = dice.choice(kind.targets)
    for_s = kind.long_s if kind.long_s is not None and dice.random() < 0.25 else kind.for_s
    return Fault(round(dice.uniform(0, WINDOW_S), 2), name, target, round(dice.uniform(*for_s), 2))


def _family(target: str) -> str:
    return "worker" if target in WORKERS else target
