"""The states of a partition, while some are being written and others already follow."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rocksdict import Options, Rdict

from stream.sink import KeyValue
from stream.states import POSITION_KEY, States, open_states


class Changelog:
    """Stands for the broker: acknowledges when it is let."""

    def __init__(self, acknowledges: bool = False) -> None:
        self.sent: list[Sequence[KeyValue]] = []
        self.acknowledges = asyncio.Event()
        if acknowledges:
            self.acknowledges.set()

    async def send(self, _topic: str, _partition: int, records: Sequence[KeyValue]) -> int:
        self.sent.append(records)
        await self.acknowledges.wait()
        return 41


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Any]:
    database = Rdict(str(tmp_path), Options(raw_mode=True))
    yield database
    database.close()


def test_what_is_staged_while_others_are_written_is_not_written_with_them(database: Any) -> None:
    async def scenario() -> None:
        changelog = Changelog()
        states = States(lambda: database, "changelog", 0, changelog)  # type: ignore[arg-type]
        states.stage({"1": b"first of 1", "2": b"first of 2"})
        states.cut()
        writing = asyncio.create_task(states.write())
        await asyncio.sleep(0)
        states.stage({"2": b"second of 2", "3": b"first of 3"})
        assert dict(states) == {"1": b"first of 1", "2": b"second of 2", "3": b"first of 3"}
        assert database.get(b"1") is None, "in RocksDB before the changelog has it"
        changelog.acknowledges.set()
        assert await writing == 2
        assert changelog.sent == [[(b"1", b"first of 1"), (b"2", b"first of 2")]]
        assert {key: database.get(key) for key in (b"1", b"2", b"3", POSITION_KEY)} == {
            b"1": b"first of 1", b"2": b"first of 2", b"3": None, POSITION_KEY: b"41",
        }  # fmt: skip
        assert dict(states) == {"1": b"first of 1", "2": b"second of 2", "3": b"first of 3"}

    asyncio.run(scenario())


WRITE_FOR_EVER = """
import asyncio, os, sys
from pathlib import Path
from stream.states import States, open_states

class Changelog:
    sent = -1
    async def send(self, *_):
        self.sent += 1
        return self.sent

async def main():
    database = open_states(Path(sys.argv[1]))
    states = States(lambda: database, "changelog", 0, Changelog())
    number = 0
    while True:
        states.stage({name: number.to_bytes(4) + os.urandom(100_000) for name in "abcde"})
        states.cut()
        await states.write()
        print(number, flush=True)
        number += 1

asyncio.run(main())
"""


def test_after_kill_9_what_is_on_disk_is_what_stood_at_one_place_of_the_changelog(tmp_path: Path) -> None:
    path = tmp_path / "states"
    with subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(200)]  # 100 MB: some of it is on disk
        os.kill(writer.pid, signal.SIGKILL)
        written = int([*said, *writer.stdout.read().splitlines(keepends=True)][-1])  # it went on meanwhile
    database = open_states(path)
    position = int(database.get(POSITION_KEY))
    assert 0 < position <= written + 1
    assert {int.from_bytes(database.get(name)[:4]) for name in (b"a", b"b", b"c", b"d", b"e")} == {position}
    database.close()


def test_what_was_closed_is_all_there(tmp_path: Path) -> None:
    database = open_states(tmp_path / "states")
    states = States(lambda: database, "changelog", 0, Changelog(acknowledges=True))  # type: ignore[arg-type]
    states.stage({"1": b"small", "2": b"large" * 1000})
    states.cut()
    assert asyncio.run(states.write()) == 2
    database.close()
    database = open_states(tmp_path / "states")
    assert [database.get(key) for key in (b"1", b"2", POSITION_KEY)] == [b"small", b"large" * 1000, b"41"]
    database.close()
