"""Where the time of `dailyread replay` goes: which of its parts is at work, looked up every few milliseconds."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from dailyread.cli import main

EVERY_S = 0.005
PARTS = {  # by function; the innermost that is running counts
    "read_facts": "decode and check the lines",
    "FactsByPoint.add": "sort facts by meter point",
    "once": "leave out copies",
    "pack_readings": "pack readings",
    "apply": "the rules",
    "advance": "the rules",
    "changes_of": "make records",
    "performance": "performance",
    "in_order": "encode and sort records",
}


class Sampler:
    """Adds up processor time by part. What a call into C took is added when it returns, to the part that called it."""

    def __init__(self) -> None:
        self.spent_s: Counter[str] = Counter()
        self.seen_s = time.process_time()

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        now_s = time.process_time()
        while frame is not None and not (part := PARTS.get(frame.f_code.co_qualname.removeprefix("Point."))):
            frame = frame.f_back
        self.spent_s["the rest" if frame is None else part] += now_s - self.seen_s
        self.seen_s = now_s


def stages(facts: Path, batches: int) -> None:
    """Replay the facts in this process, and print what each part took."""
    sampler = Sampler()
    signal.signal(signal.SIGPROF, sampler)
    signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        main(["replay", str(facts)])
    signal.setitimer(signal.ITIMER_PROF, 0)
    for part, spent_s in sampler.spent_s.most_common():
        print(f"{part:28} {spent_s:7.1f} s {spent_s / sampler.spent_s.total():6.1%} {spent_s / batches * 1e6:7.1f} us a batch")


if __name__ == "__main__":
    stages(Path(sys.argv[1]), int(sys.argv[2]))
