"""The processes of a round, their disks, and what is done to them. What has ended is started again, as systemd would."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tests.collectors.small_disk import small_disk

LOOK_EVERY_S = 0.2
RESTART_S = 0.5
STOPS_WITHIN_S = 10.0


class Running(Protocol):
    """What is used of `Proc` and of `Service`."""

    @property
    def running(self) -> bool: ...
    def send(self, number: signal.Signals) -> None: ...
    def wait(self, timeout_s: float) -> int: ...
    def end(self) -> None: ...


class Kept:
    """A process that is kept running by `start`, but while it is held down. `process`: one that runs already."""

    def __init__(self, name: str, start: Callable[[], Running], held: bool = False, process: Running | None = None) -> None:
        self.name = name
        self.again = 0  # how often it was started again
        self.exits: Counter[int] = Counter()  # of those that ended by themselves, by exit code
        self.process = process
        self._start = start
        self._held = held
        self._ended_s: float | None = None
        self._lock = threading.Lock()

    def look(self) -> None:
        """Start it where it ought to run and does not, a little after it ended."""
        if not self._lock.acquire(blocking=False):
            return  # something is being done to it
        try:
            if self._held or (self.process is not None and self.process.running):
                return
            if self.process is not None and self._ended_s is None:
                self.exits[self.process.wait(0)] += 1
                self._ended_s = time.monotonic()
            if self._ended_s is None or time.monotonic() - self._ended_s >= RESTART_S:
                self._begin()
        finally:
            self._lock.release()

    def kill(self) -> None:
        """Kill it with -9, and hold it down."""
        with self._lock:
            self._held = True
            if self.process is not None:
                self.process.end()

    def stop(self) -> None:
        """Ask it to end (SIGTERM), and hold it down; AssertionError where it takes too long."""
        with self._lock:
            self._held = True
            if self.process is not None:
                self.process.send(signal.SIGTERM)
                self.process.wait(STOPS_WITHIN_S)

    def release(self) -> None:
        """Let it run again."""
        with self._lock:
            self._held = False
            if self.process is None or not self.process.running:
                self._begin()

    def retire(self) -> None:
        """Start it no more; it ends by itself when it is to."""
        with self._lock:
            self._held = True

    def pause(self) -> None:
        """Stop it where it is."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        with self._lock:
            if self.process is not None:
                self.process.send(number)

    def _begin(self) -> None:
        self.again += self.process is not None
        self._ended_s = None
        self.process = self._start()


@contextmanager
def kept_running(processes: Sequence[Kept]) -> Iterator[None]:
    """While the block runs, what has ended is started again; at its end all of it is ended."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY_S):
            for process in processes:
                process.look()

    thread = threading.Thread(target=look, name="keeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for process in processes:
            process.kill()


class Disk:
    """A small file system for what a process keeps, which can be full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Leave no room."""
        for piece_bytes in (64 * 1024, 4 * 1024):
            with self._filler.open("ab", buffering=0) as filler:
                try:
                    while filler.write(bytes(piece_bytes)) == piece_bytes:
                        pass
                except OSError:
                    pass

    def free(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)

    def lose(self) -> None:
        """Remove all that is on it."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextmanager
def disk(folder: Path, size_mib: int) -> Iterator[Disk]:
    """A disk of that size at a new folder; after a failure what was on it stays in the folder."""
    kept = folder.with_name(folder.name + ".kept")
    with small_disk(folder, size_mib) as mounted:
        try:
            yield Disk(mounted)
        except BaseException:
            (mounted / "filler").unlink(missing_ok=True)
            shutil.copytree(mounted, kept, symlinks=True)
            raise
