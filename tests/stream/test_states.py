"""The states of a partition, while some are being written and others already follow; how far their file is known to follow the
changelog."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from stream.sink import KeyValue
from stream.state_file import StateFile
from stream.states import States


class Changelog:
    """Stands for the broker: acknowledges when it is let, and may not tell the offset."""

    def __init__(self) -> None:
        self.sent: list[Sequence[KeyValue]] = []
        self.acknowledges = asyncio.Event()
        self.end = 0
        self.tells = True

    async def send(self, _topic: str, _partition: int, records: Sequence[KeyValue]) -> int | None:
        self.sent.append(records)
        await self.acknowledges.wait()
        self.end += len(records)
        return self.end - 1 if self.tells else None


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
        assert file.position == 1
        assert dict(states) == {"1": b"first of 1", "2": b"second of 2", "3": b"first of 3"}

    asyncio.run(scenario())
    file.close()


def test_the_position_moves_over_what_is_ours_and_over_nothing_else(tmp_path: Path) -> None:
    file = StateFile(tmp_path)

    async def scenario() -> None:
        changelog = Changelog()
        changelog.acknowledges.set()
        states = States(lambda: file, "changelog", 0, changelog)  # type: ignore[arg-type]

        async def write(*names: str) -> int | None:
            states.stage(dict.fromkeys(names, b"state"))
            states.cut()
            await states.write()
            return file.position

        assert await write("1", "2") == 1
        assert await write("3") == 2
        changelog.tells = False  # sent twice, as the first answer was lost
        assert await write("4", "5") == 2
        changelog.tells = True
        assert await write("6") == 5, "all up to there is ours"
        changelog.end += 3  # another worker had the partition meanwhile
        assert await write("7") == 5
        assert await write("8") == 5, "what the other sent is read when the partition is opened next"
        assert len(dict(file.items())) == 8
        file.write([], changelog.end - 1)  # as recovery does then
        states = States(lambda: file, "changelog", 0, changelog)  # type: ignore[arg-type]
        assert await write("9") == changelog.end - 1

    asyncio.run(scenario())
    file.close()
