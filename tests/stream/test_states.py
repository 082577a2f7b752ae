"""The states of a partition, while some are being written and others already follow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rocksdict import Options, Rdict

from stream.sink import KeyValue
from stream.states import POSITION_KEY, States


class Changelog:
    """Stands for the broker: acknowledges when it is let."""

    def __init__(self) -> None:
        self.sent: list[Sequence[KeyValue]] = []
        self.acknowledges = asyncio.Event()

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
