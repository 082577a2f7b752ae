"""Watches a running job from outside: each second what `/metrics` of worker and writer say, and what the processes take."""

from __future__ import annotations

import os
import re
import statistics
import threading
import time
import urllib.request
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

EVERY_S = 1.0
AGAIN_S = 60.0
_TICKS_A_S = os.sysconf("SC_CLK_TCK")


class Use(NamedTuple):
    """What a process takes: MiB of memory of its own and of files it has mapped, and seconds of processor time so far."""

    own_mib: float
    files_mib: float
    cpu_s: float


class Sample(NamedTuple):
    """One look. `frames` are followed, `behind` those before which a tick is not worked off; `records` are with the broker,
    `written` with InfluxDB."""

    at_s: float
    frames: float
    behind: float
    records: float
    written: float
    uses: dict[str, Use]


class Watch:
    """Looks every second from `begin` on; `webs` and `store` are the addresses of the workers' and the writer's metrics."""

    def __init__(self, webs: Sequence[str], store: str, pids: Mapping[str, int], partitions: int) -> None:
        self.samples: list[Sample] = []
        self.ticks = 0
        self.fed_s = self.drained_s = 0.0
        self._webs, self._store, self._pids, self._partitions = webs, store, pids, partitions
        self._began_s = 0.0
        self._days = 0  # sent so far
        self._frames_sent: list[float] = []  # when each frame was, a tick's copies among them
        self._first: Sample | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def wait_open(self, knock: Callable[[], object], limit_s: float) -> float:
        """Wait until the workers have shared the partitions, and, after a frame for each that `knock` sends, done that; the
        seconds that it took. It knocks again where they have shared them anew meanwhile."""
        began_s, had, knocked_s = time.monotonic(), -1.0, 0.0
        while time.monotonic() < began_s + limit_s:
            time.sleep(0.5)
            try:
                owned = [sum(metrics(web)["dailyread_stream_owned_partitions"].values()) for web in self._webs]
                frames = self._sample().frames
            except OSError:
                continue
            shared = min(owned) > 0 and sum(owned) == self._partitions
            if (had < 0 or frames < had or time.monotonic() > knocked_s + AGAIN_S) and shared:
                had, knocked_s = frames, time.monotonic()
                knock()
            if had >= 0 and frames >= had + self._partitions:
                return time.monotonic() - began_s
        raise TimeoutError("the workers do not open their partitions")

    def begin(self, at_s: float) -> None:
        """The first frame is about to be sent."""
        self._began_s, self._first = at_s, self._sample()
        self._thread.start()

    def sent(self, days: int) -> None:
        """One frame more, and so many meter-Days in all."""
        self._frames_sent.append(time.monotonic() - self._began_s)
        self._days = days

    def ticked(self) -> None:
        """One tick more: a frame for each partition."""
        self.ticks += 1
        self._frames_sent += [time.monotonic() - self._began_s] * self._partitions

    def fed(self) -> None:
        """All has been sent."""
        self.fed_s = time.monotonic() - self._began_s

    def drain(self, limit_s: float) -> None:
        """Wait until all is with InfluxDB."""
        want = len(self._frames_sent)
        while time.monotonic() < self._began_s + self.fed_s + limit_s:
            last = self.samples[-1]
            if self._done(last) >= want and last.behind == 0 and last.written >= last.records:
                self.drained_s = last.at_s
                return
            time.sleep(0.5)
        raise TimeoutError(f"not all is done: {self.samples[-1]}")

    def close(self) -> None:
        """Look no more."""
        self._ended.set()

    def delays_s(self) -> list[float]:
        """At each look, how long ago the next frame to be followed was sent."""
        found = []
        for each in self.samples:
            number = int(self._done(each))
            if number < len(self._frames_sent):
                found.append(max(0.0, each.at_s - self._frames_sent[number]))
        return found

    def days(self) -> int:
        """How many meter-Days were sent."""
        return self._days

    def rate_least(self, span_s: float = 60.0) -> float:
        """Frames followed a second, in the worst span of so many seconds while they were sent, in meter-Days."""
        looked = [each for each in self.samples if each.at_s <= self.fed_s]
        instants, worst = [each.at_s for each in looked], float("inf")
        a_frame = self.days() / len(self._frames_sent)
        for number, each in enumerate(looked):
            end = bisect_left(instants, each.at_s + span_s)
            if end < len(looked):
                worst = min(worst, (looked[end].frames - looked[number].frames) / (looked[end].at_s - each.at_s))
        return worst * a_frame

    def _done(self, sample: Sample) -> float:
        return sample.frames - (self._first.frames if self._first else 0)

    def _look(self) -> None:
        while not self._ended.wait(EVERY_S):
            try:
                self.samples.append(self._sample())
            except OSError:
                continue  # it has much to do, or has ended

    def _sample(self) -> Sample:
        workers, store = [metrics(web) for web in self._webs], metrics(self._store)
        frames, lag, records = (
            sum(sum(each[f"dailyread_stream_{name}"].values()) for each in workers)
            for name in ("frames_total", "lag_frames", "records_total")
        )
        written = sum(sum(store[f"dailyread_store_{name}"].values()) for name in ("written_total", "late_total"))
        uses = {who: _use(pid) for who, pid in self._pids.items()}
        return Sample(time.monotonic() - self._began_s, frames, lag, records, written, uses)


def show(watch: Watch, folder: Path) -> None:
    """Print what was seen."""
    delays = sorted(watch.delays_s())
    last = watch.samples[-1]
    print(f"sent {watch.days():,} meter-Days in {watch.fed_s:.0f} s, {watch.days() / watch.fed_s:,.0f} a second;"
          f" {watch.ticks} ticks; all in InfluxDB {watch.drained_s - watch.fed_s:.0f} s after the last")  # fmt: skip
    print(f"followed in the slowest minute: {watch.rate_least(min(60.0, watch.fed_s / 2)):,.0f} meter-Days a second;"
          f" waiting for that: median {statistics.median(delays):.1f} s, 99% {delays[int(len(delays) * 0.99)]:.1f} s,"
          f" longest {delays[-1]:.1f} s")  # fmt: skip
    lag, lag_s = max((each.records - each.written, each.at_s) for each in watch.samples)
    print(f"{last.records:,.0f} records, {last.records / watch.days():.2f} a meter-Day; InfluxDB at most"
          f" {lag:,.0f} behind, after {lag_s:.0f} s")  # fmt: skip
    print(f"{'':10}{'cpu s':>8}{'of a core':>10}  MiB of its own (and of files) after each fifth of the time")
    for who in last.uses:
        fifths = [watch.samples[round((len(watch.samples) - 1) * n / 5)] for n in range(6)]
        memory = "  ".join(f"{each.uses[who].own_mib:,.0f} ({each.uses[who].files_mib:,.0f})" for each in fifths)
        cpu_s = last.uses[who].cpu_s - watch.samples[0].uses[who].cpu_s
        print(f"{who:10}{cpu_s:8.0f}{cpu_s / last.at_s:10.2f}  {memory}")
    sizes = {each.name: _size_mib(each) for each in (folder / "kafka", folder / "influxdb", folder / "job")}
    stores = sum(map(_size_mib, (folder / "job").glob("facts-*")))
    print(f"MiB on disk: {', '.join(f'{name} {size:,.0f}' for name, size in sizes.items())}, of which facts {stores:,.0f}")


def metrics(web: str) -> dict[str, dict[str, float]]:
    """What a page of metrics says, by name and labels."""
    with urllib.request.urlopen(f"http://{web}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, dict[str, float]] = {name: {} for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)}
    for name, labels, value in re.findall(r"^([a-z0-9_]+)(\{.*?\})? ([0-9.e+-]+)$", text, re.MULTILINE):
        found.setdefault(name, {})[labels] = float(value)
    return found


def _use(pid: int) -> Use:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    kib = [int(status[name].split()[0]) for name in ("RssAnon", "RssFile")]
    return Use(kib[0] / 1024, kib[1] / 1024, (int(stat[11]) + int(stat[12])) / _TICKS_A_S)


def _size_mib(folder: Path) -> float:
    return sum(each.stat().st_blocks * 512 for each in folder.rglob("*") if each.is_file() and not each.is_symlink()) / 2**20
