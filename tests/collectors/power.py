"""Power cuts: what a program did to its files, call by call, and what a disk may have left of it when the power goes.

`recorded` runs a Python program under strace and gives every call that changes a file, makes it durable, or says something
on standard output. `Disk` takes these calls one by one and promises no more than POSIX does. A file has for sure what it had
at its last sync; of what was written since, any sectors of 512 bytes may be there and any not. A folder has for sure the
names that it had at its last sync; of what was named, renamed and removed since, any beginning may be there.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

SECTOR = 512
CALLS = "openat,write,pwrite64,ftruncate,fallocate,fsync,fdatasync,rename,unlink,mkdir"
_CALL = re.compile(r"\d+ +(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"|<((?:\\x[0-9a-f]{2})*)>')


class Call(NamedTuple):
    """One call: on which file (a path), with the bytes and numbers, and another path where it has one."""

    name: str
    path: Path
    data: bytes = b""
    numbers: tuple[int, ...] = ()
    flags: str = ""
    other: Path | None = None


def recorded(program: str, *arguments: str, log: Path) -> Iterator[Call]:
    """Run the program and give what it did, in order; what it prints comes as calls `write` on the path of its output."""
    strace = ["strace", "-f", "-y", "-xx", "-s", "1000000", "--seccomp-bpf", "-o", str(log), "-e", f"trace={CALLS}"]
    done = subprocess.run([*strace, sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in log.read_text().splitlines():
        assert "unfinished" not in line, f"calls of two threads at a time cannot be told in order: {line}"
        found = _CALL.match(line)
        if found and int(found[3]) >= 0:
            yield _call(found[1], found[2])


def _call(name: str, arguments: str) -> Call:
    texts = [bytes.fromhex((text or path).replace("\\x", "")) for text, path in _TEXT.findall(arguments)]
    rest = _TEXT.sub("", arguments)
    numbers = tuple(int(word) for word in re.findall(r"(?<=, )\d+(?=,|$)", rest))
    if name == "openat":
        return Call(name, Path(texts[1].decode()), flags=rest)
    path = Path(texts[0].decode(errors="replace"))
    if name == "rename":
        return Call(name, path, other=Path(texts[1].decode()))
    return Call(name, path, texts[1] if len(texts) > 1 else b"", numbers)


@dataclass
class _File:
    """A file's bytes as of its last sync, and what was done since: a write (at, bytes), or a size (None: at least that)."""

    synced: bytes = b""
    since: list[Callable[[bytearray, Random, float], None]] = field(default_factory=list)

    def left(self, random: Random, survives: float) -> bytes:
        content = bytearray(self.synced)
        for change in self.since:
            change(content, random, survives)
        return bytes(content)

    def sync(self) -> None:
        self.synced, self.since = self.left(Random(0), 1.0), []


@dataclass
class _Folder:
    """A folder's entries as they are, as of its last sync, and each state in between."""

    entries: dict[str, _File | _Folder] = field(default_factory=dict)
    synced: dict[str, _File | _Folder] = field(default_factory=dict)
    since: list[dict[str, _File | _Folder]] = field(default_factory=list)

    def changed(self) -> None:
        self.since.append(dict(self.entries))

    def sync(self) -> None:
        self.synced, self.since = dict(self.entries), []


class Disk:
    """All that is below `root`, which is there for sure, and whatever is in it at the beginning."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._top = _read(root)

    def concerns(self, call: Call) -> bool:
        """Whether the call is about what is below `root`, and may change it."""
        return call.path.is_relative_to(self.root) and (call.name != "openat" or "O_CREAT" in call.flags)

    def take(self, call: Call) -> None:
        """One call that concerns this disk."""
        getattr(self, f"_{call.name}")(call)

    def left(self, folder: Path, random: Random, survives: float) -> None:
        """Write to `folder` what the disk has after a power cut now; of each thing not synced yet this share is there."""
        _write(self._top, folder, random, survives)

    def _openat(self, call: Call) -> None:
        folder = self._folder(call.path.parent)
        if call.path.name not in folder.entries:
            folder.entries[call.path.name] = _File()
            folder.changed()
        elif "O_TRUNC" in call.flags:
            self._file(call.path).since.append(_resized(0))

    def _write(self, call: Call) -> None:
        raise AssertionError(f"where it wrote is not known: {call.path}")

    def _pwrite64(self, call: Call) -> None:
        self._file(call.path).since.append(_written(call.data, call.numbers[-1]))

    def _ftruncate(self, call: Call) -> None:
        self._file(call.path).since.append(_resized(call.numbers[-1]))

    def _fallocate(self, call: Call) -> None:
        _, at, length = call.numbers
        self._file(call.path).since.append(_resized(at + length, only_up=True))

    def _fsync(self, call: Call) -> None:
        self._at(call.path).sync()

    _fdatasync = _fsync

    def _rename(self, call: Call) -> None:
        assert call.other is not None
        assert call.other.parent == call.path.parent
        folder = self._folder(call.path.parent)
        folder.entries[call.other.name] = folder.entries.pop(call.path.name)
        folder.changed()

    def _unlink(self, call: Call) -> None:
        folder = self._folder(call.path.parent)
        del folder.entries[call.path.name]
        folder.changed()

    def _mkdir(self, call: Call) -> None:
        folder = self._folder(call.path.parent)
        folder.entries[call.path.name] = _Folder()
        folder.changed()

    def _at(self, path: Path) -> _File | _Folder:
        found: _File | _Folder = self._top
        for name in path.relative_to(self.root).parts:
            assert isinstance(found, _Folder)
            found = found.entries[name]
        return found

    def _file(self, path: Path) -> _File:
        found = self._at(path)
        assert isinstance(found, _File)
        return found

    def _folder(self, path: Path) -> _Folder:
        found = self._at(path)
        assert isinstance(found, _Folder)
        return found


def _written(data: bytes, at: int) -> Callable[[bytearray, Random, float], None]:
    """A write; sectors of it are there or not, each by itself."""
    ends = [*range(SECTOR - at % SECTOR, len(data), SECTOR), len(data)]

    def change(content: bytearray, random: Random, survives: float) -> None:
        begin = 0
        for end in ends:
            if random.random() < survives:
                content.extend(bytes(max(0, at + end - len(content))))
                content[at + begin : at + end] = data[begin:end]
            begin = end

    return change


def _resized(size: int, only_up: bool = False) -> Callable[[bytearray, Random, float], None]:
    def change(content: bytearray, random: Random, survives: float) -> None:
        if random.random() < survives:
            content.extend(bytes(max(0, size - len(content))))
            if not only_up:
                del content[size:]

    return change


def _read(path: Path) -> _Folder:
    entries: dict[str, _File | _Folder] = {
        one.name: _read(one) if one.is_dir() else _File(one.read_bytes()) for one in path.iterdir()
    }
    return _Folder(entries, dict(entries))


def _write(found: _Folder, path: Path, random: Random, survives: float) -> None:
    path.mkdir(exist_ok=True)
    states = [found.synced, *found.since]
    entries = states[random.randint(0, len(states) - 1) if 0 < survives < 1 else round(survives) * (len(states) - 1)]
    for name, entry in entries.items():
        if isinstance(entry, _Folder):
            _write(entry, path / name, random, survives)
        else:
            (path / name).write_bytes(entry.left(random, survives))
