"""A partition's door: frames in order, each once; a gap ends the process."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from stream import partition as module
from stream.partition import BYTES_WAITING, FRAME_BYTES_TOGETHER, FRAMES_WAITING, Frame, Partition
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
            door.accept([frame(offset)])
        door.accept(map(frame, (11, 12, 13)))
        return [each.offset for each in await door._take()]

    assert asyncio.run(scenario()) == [10, 11, 12, 13]


def test_a_gap_ends_the_process(door: Partition) -> None:
    async def scenario() -> None:
        door.accept([frame(10), frame(12)])

    with pytest.raises(Ended, match=r"facts\[3\]: offset 12 came where 11 is next"):
        asyncio.run(scenario())


def test_a_partition_that_has_enough_wants_no_more_until_some_are_taken(door: Partition) -> None:
    async def scenario() -> list[bool]:
        wants = [door.wants]
        door.accept(map(frame, range(10, 10 + FRAMES_WAITING)))
        wants.append(door.wants)
        await door._take()
        return [*wants, door.wants]

    assert asyncio.run(scenario()) == [True, False, True]


def test_a_few_big_frames_are_enough_too(door: Partition) -> None:
    async def scenario() -> list[bool]:
        big = FRAME_BYTES_TOGETHER
        door.accept(Frame(10 + n, NOW, bytes(big)) for n in range(BYTES_WAITING // big - 1))
        wants = [door.wants]
        door.accept([Frame(10 + BYTES_WAITING // big - 1, NOW, bytes(big))])
        wants.append(door.wants)
        await door._take()
        return [*wants, door.wants]

    assert asyncio.run(scenario()) == [True, False, True]


def test_frames_are_taken_in_portions_of_bytes(door: Partition) -> None:
    async def scenario() -> list[int]:
        half = FRAME_BYTES_TOGETHER // 2
        door.accept(Frame(offset, NOW, bytes(half)) for offset in range(10, 15))
        return [len(await door._take()) for _ in range(3)]

    assert asyncio.run(scenario()) == [2, 2, 1]


def test_a_partition_that_is_given_away_takes_nothing(door: Partition) -> None:
    async def scenario() -> tuple[bool, int]:
        door.accept([frame(10)])
        await door.close()
        door.accept([frame(11), frame(13)])
        return door.wants, door.position

    assert asyncio.run(scenario()) == (False, 10)
