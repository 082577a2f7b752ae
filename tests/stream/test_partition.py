"""A partition's door: frames in order, each once; a gap ends the process."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from stream import partition as module
from stream.partition import FRAMES_WAITING, Frame, Partition
from stream.settings import Topics

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = Topics("facts", "broadcast", "ledger", "dead-letter")


class Ended(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Partition:
    def end(reason: str, error: BaseException | None = None) -> None:
        raise Ended(reason)

    monkeypatch.setattr(module, "end_at_once", end)
    return Partition(3, 10, TOPICS, sink=None, guard=None)  # type: ignore[arg-type]  # nothing is sent here


def frame(offset: int) -> Frame:
    return Frame(offset, NOW, b"")


def test_frames_before_the_position_and_again_are_passed_over(door: Partition) -> None:
    async def scenario() -> list[int]:
        for offset in (8, 9, 10, 11, 10, 11, 12):
            await door.accept(frame(offset))
        return [each.offset for each in await door._take()]

    assert asyncio.run(scenario()) == [10, 11, 12]


def test_a_gap_ends_the_process(door: Partition) -> None:
    async def scenario() -> None:
        await door.accept(frame(10))
        await door.accept(frame(12))

    with pytest.raises(Ended, match=r"facts\[3\]: offset 12 came where 11 is next"):
        asyncio.run(scenario())


def test_who_waits_at_the_door_is_let_go_when_the_partition_is_given_away(door: Partition) -> None:
    async def scenario() -> int:
        for offset in range(10, 10 + FRAMES_WAITING):
            await door.accept(frame(offset))
        waiting = asyncio.create_task(door.accept(frame(10 + FRAMES_WAITING)))
        await asyncio.sleep(0)
        assert not waiting.done()
        await door.close()
        await asyncio.wait_for(waiting, 1)
        return door.position

    assert asyncio.run(scenario()) == 10
