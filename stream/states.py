"""The states of one partition's meter points: in a file on this machine, and in the changelog topic for good.

A value begins with the `facts` offset that the state rests on, 8 bytes big-endian (`marks.py` has the rest of its head). That
makes states of one key comparable: whoever reads the changelog keeps the greatest, so that a worker which was paused, lost its
partition and wrote once more when it woke changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping

from stream.sink import Sink
from stream.state_file import StateFile


class _Items(ItemsView[str, bytes]):
    _mapping: States

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return self._mapping._each()


class States(Mapping[str, bytes]):
    """The partition's states by meter point, with those on top that are staged, or cut off for writing, and not yet written.

    `file` opens or returns the partition's file; it is not kept here, as it is closed when the partition is given away.
    """

    def __init__(self, file: Callable[[], StateFile], changelog: str, partition: int, sink: Sink) -> None:
        self._file = file
        self._changelog = changelog
        self._partition = partition
        self._sink = sink
        self._staged: dict[str, bytes] = {}
        self._writing: dict[str, bytes] = {}
        self._sent = 0  # to the changelog, since the file's position in it

    def __getitem__(self, meter_point: str) -> bytes:
        state = self.get(meter_point)
        if state is None:
            raise KeyError(meter_point)
        return state

    def get(self, meter_point: str, default: bytes | None = None) -> bytes | None:  # type: ignore[override]
        state = self._staged.get(meter_point) or self._writing.get(meter_point)
        if state is None:
            state = self._file().get(meter_point.encode())
        return default if state is None else state

    def __iter__(self) -> Iterator[str]:
        return (meter_point for meter_point, _ in self.items())

    def items(self) -> ItemsView[str, bytes]:
        """All of them, one after the other as they stand on disk: there may be a million."""
        return _Items(self)

    def _each(self) -> Iterator[tuple[str, bytes]]:
        newer = self._writing | self._staged
        yield from newer.items()
        for key, state in self._file().items():
            if (meter_point := key.decode()) not in newer:
                yield meter_point, state

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def stage(self, states: Mapping[str, bytes]) -> None:
        """Take new states as the present ones; they are kept nowhere else yet."""
        self._staged |= states

    def cut(self) -> None:
        """What is staged now is what `write` writes; what is staged from now on comes after that."""
        self._writing, self._staged = self._staged, {}

    async def write(self) -> int:
        """Keep the states that were cut off: the changelog first, awaited, then the file. Returns how many there were.

        The file's position moves only where everything before it is ours. A worker that was cut off, and has lost the partition
        for a while, may send behind what another sent meanwhile, and must read that when it has the partition again.
        """
        states = [(meter_point.encode(), state) for meter_point, state in self._writing.items()]
        if states:
            offset, file = await self._sink.send(self._changelog, self._partition, states), self._file()
            self._sent += len(states)
            known = -1 if file.position is None else file.position
            if offset is None or offset != known + self._sent:
                file.write(states, None)
            else:
                file.write(states, offset)
                self._sent = 0
            self._writing = {}
        return len(states)
