"""`dailyread` processes that are forked from one which has loaded the program already.

They are processes like any other, with an id, signals and an exit code of their own. Loading is half of what a round costs,
for it starts some fifteen of them.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.integration.services import Proc

_LOOK_EVERY_S = 0.02
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [f"dailyread.commands.{name}" for name in ("stream", "store", "collect", "simulate", "submit", "export", "replay")]
)
_lock = threading.Lock()  # of two threads that ask for an exit code at once only one would get it


class ForkedProc(Proc):
    """A `Proc` of a `dailyread` command."""

    def launch(self, command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        """Start it; the words of the command follow `python -m dailyread`."""
        self.log.touch()
        self._popen = _Forked(command[3:], os.devnull, self.log, self.log, dict(env or {}))  # type: ignore[assignment]


def run_forked(words: Sequence[str], stdin: bytes, env: Mapping[str, str]) -> tuple[int, bytes, str]:
    """A command that ends by itself: its exit code, what it wrote, what it said."""
    with tempfile.TemporaryDirectory() as folder:
        given, written, said = (Path(folder) / name for name in ("given", "written", "said"))
        given.write_bytes(stdin)
        code = _Forked(words, given, written, said, env).wait()
        return code, written.read_bytes(), said.read_text(errors="replace")


class _Forked:
    """What `Process` uses of `subprocess.Popen`."""

    def __init__(self, words: Sequence[str], stdin: Path | str, stdout: Path, stderr: Path, env: Mapping[str, str]) -> None:
        self._process = _context.Process(target=_run, args=(list(words), stdin, stdout, stderr, dict(env)), daemon=True)
        with _lock:
            self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        with _lock:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        until_s = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until_s is not None and time.monotonic() > until_s:
                raise subprocess.TimeoutExpired("dailyread", timeout or 0.0)
            time.sleep(_LOOK_EVERY_S)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(words: list[str], stdin: Path | str, stdout: Path, stderr: Path, env: dict[str, str]) -> None:
    """In the new process."""
    for path, mode, number in ((stdin, os.O_RDONLY, 0), (stdout, os.O_WRONLY, 1), (stderr, os.O_WRONLY, 2)):
        opened = os.open(path, mode | (os.O_CREAT | os.O_APPEND if mode == os.O_WRONLY else 0), 0o644)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115
    os.environ.update(env)
    random.seed()  # or all would wait by the same chance
    main: Any = importlib.import_module("dailyread.cli").main
    sys.argv = ["dailyread", *words]
    sys.exit(main(words))
