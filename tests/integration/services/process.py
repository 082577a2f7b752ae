"""Run a program under test: start, end it in each of the ways that it may end, wait for what it logs.

`Service` is for a server that keeps its port and its data folder when it comes back; `Proc` is for a process of ours.
Children stay in the caller's process group, so that whatever ends the tests ends them too.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.patience import patient

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    """A free TCP port on loopback, below the range of outgoing connections.

    A client that keeps trying to reach a stopped server could otherwise be given the server's own port as its source,
    and so take it, or connect to itself.
    """
    for _ in range(100):
        port = random.randint(15_000, 31_999)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port found between 15000 and 31999")


def log_tail(path: Path, lines: int = 30) -> str:
    """The last lines of a log, for a failure's message."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no log)"


class Process:
    """One operating-system process with its output in a file; it can be started again after it has ended."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int:
        """The process id; RuntimeError where it was never started."""
        return self._process().pid

    def launch(self, command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        """Start the program; its standard output and error are appended to the log."""
        if self.running:
            raise RuntimeError(f"{self.name} is running already")
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                command, cwd=cwd, env=os.environ | dict(env or {}), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        atexit.register(self.end)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens where the process has ended."""
        self._process().send_signal(number)

    def pause(self) -> None:
        """Stop it where it is (SIGSTOP): connections stay open and nothing answers."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self.send(signal.SIGCONT)

    def wait(self, timeout_s: float) -> int:
        """Wait for the end; the exit code (minus the number of a signal that ended it). AssertionError when it takes longer."""
        try:
            return self._process().wait(patient(timeout_s))
        except subprocess.TimeoutExpired:
            message = f"{self.name} still runs after {patient(timeout_s)} s; its log ends:\n{log_tail(self.log)}"
            raise AssertionError(message) from None

    def end(self) -> None:
        """Kill it (SIGKILL) where it still runs, and reap it."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
        atexit.unregister(self.end)

    def _process(self) -> subprocess.Popen[bytes]:
        if self._popen is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._popen


class Service(Process, ABC):
    """A server under test; `start` after `stop` or `kill` brings it back on the same port with the same data."""

    stop_timeout_s = 30.0
    ready_timeout_s = 60.0

    def __init__(self, name: str, data_dir: Path) -> None:
        self.data_dir = Path(data_dir)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        super().__init__(name, self.data_dir / f"{name}.log")

    @abstractmethod
    def command(self) -> list[str]:
        """What to run; may make what is needed for it first."""

    @abstractmethod
    def check(self) -> None:
        """Have it do a little of its work: not an open port, but an answer. Raises any error where it doesn't answer."""

    @property
    @abstractmethod
    def env(self) -> dict[str, str]:
        """The environment variables that point a program to it."""

    def start(self) -> Self:
        """Start, or start again; returns when it is ready. RuntimeError with the log's end where it isn't in time."""
        self.launch(self.command(), cwd=self.data_dir)
        deadline = time.monotonic() + patient(self.ready_timeout_s)
        while error := self._trouble():
            if not self.running or time.monotonic() > deadline:
                state = "is not ready" if self.running else "ended"
                self.end()
                raise RuntimeError(f"{self.name} {state} ({error!r}); its log ends:\n{log_tail(self.log)}")
            time.sleep(0.1)
        return self

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self.send(signal.SIGTERM)
        self.wait(self.stop_timeout_s)

    def kill(self) -> None:
        """SIGKILL, as a power cut would (but what the system holds in its page cache stays)."""
        self.end()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def _trouble(self) -> Exception | None:
        try:
            self.check()
        except Exception as error:
            return error
        return None


class Proc(Process):
    """A `dailyread` process; `Proc("collect", "gateway.toml", log=tmp_path / "collect.log", env=kafka.env)` starts one.

    `command` replaces `python -m dailyread` for other programs. As a context manager it is killed at the end.
    """

    def __init__(
        self,
        *arguments: str | Path,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        command: Sequence[str] = (sys.executable, "-m", "dailyread"),
    ) -> None:
        words = [str(argument) for argument in arguments]
        super().__init__(" ".join(words[:1]) or command[0], log)
        self._start = log.stat().st_size if log.exists() else 0
        # -m looks for the package from the current folder; a test may want another one.
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        unbuffered = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        self.launch([*command, *words], cwd=cwd, env=unbuffered | dict(env or {}))

    def mark(self) -> int:
        """The log's present end, for `wait_for_log(since=...)`."""
        return self.log.stat().st_size

    def output(self, since: int | None = None) -> str:
        """What this process has logged, all of it or what came after a mark."""
        return self.log.read_bytes()[self._start if since is None else since :].decode(errors="replace")

    def wait_for_log(self, pattern: str, timeout_s: float = 30.0, since: int | None = None) -> re.Match[str]:
        """Wait until the log matches; AssertionError with the log's end where it ends first or takes too long."""
        deadline = time.monotonic() + patient(timeout_s)
        while True:
            ended = not self.running
            if match := re.search(pattern, self.output(since), re.MULTILINE):
                return match
            if ended or time.monotonic() > deadline:
                why = f"ended with {self._process().returncode}" if ended else f"ran for {patient(timeout_s)} s"
                raise AssertionError(f"{self.name} {why} and never logged {pattern!r}:\n{log_tail(self.log)}")
            time.sleep(0.05)

    def terminate(self, timeout_s: float = 5.0) -> int:
        """SIGTERM; its exit code. AssertionError where it takes longer than a process of ours may."""
        self.send(signal.SIGTERM)
        return self.wait(timeout_s)

    def interrupt(self, timeout_s: float = 5.0) -> int:
        """SIGINT, as by Ctrl-C; its exit code."""
        self.send(signal.SIGINT)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()
