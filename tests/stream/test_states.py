"""The states of a partition, while some are being written and others already follow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from stream.sink import KeyValue
from stream.state_file import StateFile
from stream.states import States


class Changelog:
    """Stands for the broker: acknowledges when it is let."""

    def __init__(self) -> None:
        self.sent: list[Sequence[KeyValue]] = []
        self.acknowledges = asyncio.Event()

    async def send(self, _topic: str, _partition: int, records: Sequence[KeyValue]) -> int:
        self.sent.append(records)
        await self.acknowledges.wait()
        return 41


def test_what_is_staged_while_others_are_written_is_not_written_with_them(tmp_path: Path) -> None:
    file = StateFile(tmp_path)

    async def scenario() -> None:
        changelog = Changelog()
        states = States(lambda: file, "changelog", 0, changelog)  # type: ignore[arg-type]
        states.stage({"1": b"first of 1", "2": b"first of 2"})
        states.cut()
        writing = asyncio.create_task(states.write())
        await asyncio.sleep(0)
        states.stage({"2": b"second of 2", "3": b"first of 3"})
        assert dict(states) == {"1": b"first of 1", "2": b"second of 2", "3": b"first of 3"}
        assert file.get(b"1") is None, "on disk before the changelog has it"
        changelog.acknowledges.set()
        assert await writing == 2
        assert changelog.sent == [[(b"1", b"first of 1"), (b"2", b"first of 2")]]
        assert dict(file.items()) == {b"1": b"first of 1", b"2": b"first of 2"}
        assert file.position == 41
        assert dict(states) == {"1": b"first of 1", "2": b"second of 2", "3": b"first of 3"}

    asyncio.run(scenario())
    file.close()
