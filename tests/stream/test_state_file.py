"""The states on disk: never older than their position says, whatever ends the process or fills the disk; and nothing damaged is
used."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from stream import state_file
from stream.state_file import DamagedState, StateFile, StateFileInUse, is_in_use, state_file_path
from tests.collectors.small_disk import small_disk

NAMES = [b"a", b"b", b"c", b"d", b"e"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "states"


def test_what_was_written_is_there_and_what_was_closed_too(path: Path) -> None:
    file = StateFile(path)
    assert (file.get(b"1"), file.position, [*file.items()]) == (None, None, [])
    file.write([(b"2", b"large" * 1000), (b"1", b"small")], 41)
    file.write([(b"1", b"smaller")], None)
    for _ in range(2):
        assert [*file.items()] == [(b"1", b"smaller"), (b"2", b"large" * 1000)]
        assert (file.get(b"1"), file.get(b"2"), file.get(b"3"), file.position) == (b"smaller", b"large" * 1000, None, 41)
        file.close()
        file = StateFile(path)
    file.close()


def test_it_grows_with_what_is_in_it_and_not_with_how_often_that_is_replaced(path: Path) -> None:
    file, names = StateFile(path), [str(n).encode() for n in range(3000)]
    for number in range(30):
        for first in range(0, 3000, 100):
            file.write([(name, os.urandom(1500)) for name in names[first : first + 100]], number)
            file.get(b"7")
        if number == 5:
            before = (path / "data.mdb").stat().st_size
    after = (path / "data.mdb").stat()
    assert 3000 * 1500 < before < 3000 * 4500
    assert after.st_size <= before * 1.2
    assert after.st_blocks * 512 >= after.st_size, "what is mapped has room on the disk"
    file.close()


def test_a_partition_has_a_folder_of_its_own() -> None:
    assert state_file_path(Path("state"), 3) == Path("state/states-00003.lmdb")


WRITE_FOR_EVER = """
import os, sys
from pathlib import Path
from stream.state_file import StateFile

file, number = StateFile(Path(sys.argv[1])), 0
while True:
    number += 1
    file.write([(name.encode(), number.to_bytes(4) + os.urandom(20_000)) for name in "abcde"], number)
    print(number, flush=True)
"""


def killed(path: Path, lines: int) -> int:
    """A process writes until it is killed; what it said last."""
    with subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(lines)]
        assert is_in_use(path)
        with pytest.raises(StateFileInUse, match=r"states: in use by another process"):
            StateFile(path)
        os.kill(writer.pid, signal.SIGKILL)
        return int([*said, *writer.stdout.read().splitlines(keepends=True)][-1])  # it went on meanwhile


def test_after_kill_9_all_is_there_that_was_written(path: Path) -> None:
    for lines in (1, 2, 3, 5, 50, 200):
        written = killed(path, lines)
        assert not is_in_use(path)
        file = StateFile(path)
        assert file.position in (written, written + 1)
        numbers = {name: int.from_bytes(state[:4]) for name, state in file.items()}
        assert numbers in (dict.fromkeys(NAMES, file.position), dict.fromkeys(NAMES, file.position + 1))
        file.close()


def test_after_the_machine_stopped_there_is_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    killed(path, 3)
    StateFile(path).close()  # in order: it outlives the machine's next stop
    (tmp_path / "boot_id").write_text("of the next start\n")
    monkeypatch.setattr(state_file, "_BOOT_ID", tmp_path / "boot_id")
    file = StateFile(path)
    assert len([*file.items()]) == 5
    file.close()
    killed(path, 3)  # which knows of this start of the machine only, as after a stop
    file = StateFile(path)
    assert ([*file.items()], file.position) == ([], None)
    assert "states: the machine stopped while it was open; its states are read from the changelog" in caplog.text
    file.write([(b"1", b"one")], 7)
    file.close()
    file = StateFile(path)
    assert ([*file.items()], file.position) == ([(b"1", b"one")], 7)
    file.close()


def test_a_damaged_state_is_an_error_and_the_next_start_begins_with_none(path: Path) -> None:
    file, states = StateFile(path), [(str(n).encode(), os.urandom(1000)) for n in range(100)]
    file.write(states, 5)
    file.close()
    data = path / "data.mdb"
    spoilt = data.read_bytes().replace(states[42][1][300:310], b"0123456789")
    data.write_bytes(spoilt)
    file = StateFile(path)
    assert file.get(b"41") == states[41][1]
    with pytest.raises(DamagedState, match=r"states: damaged \(the state of b'42'\)"):
        file.get(b"42")
    file.close()
    assert (path / "damaged.mdb").read_bytes()[:100] == spoilt[:100], "it is kept"
    file = StateFile(path)
    assert ([*file.items()], file.position) == ([], None)
    file.close()


def test_a_damaged_page_too(path: Path) -> None:
    file, states = StateFile(path), [(str(n).encode(), os.urandom(1000)) for n in range(1000)]
    file.write(states, 5)
    file.close()
    data = path / "data.mdb"
    pages = data.read_bytes()
    spoilt = b"".join(
        pages[at : at + 4096] if at < 8192 else b"\0" * 16 + pages[at + 16 : at + 4096] for at in range(0, len(pages), 4096)
    )
    data.write_bytes(spoilt)  # all but the first two
    file = StateFile(path)
    with pytest.raises(DamagedState, match=r"damaged .*; all states are read from the changelog"):
        file.get(b"42")
    file.close()
    file = StateFile(path)
    assert ([*file.items()], file.position) == ([], None)
    file.close()


@pytest.mark.parametrize("content", [b"\0" * 8192, b"nothing of the kind" * 1000, b"short"])
def test_what_is_no_state_file_is_set_aside(path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir()
    (path / "data.mdb").write_bytes(content)
    file = StateFile(path)
    assert [*file.items()] == []
    assert "states: no state file" in caplog.text
    assert (path / "damaged.mdb").read_bytes()[: len(content)] == content
    file.close()


def write_for_ever(file: StateFile) -> None:
    for number in count(2):
        file.write([(f"{number} {n}".encode(), os.urandom(1000)) for n in range(100)], number)


def test_a_full_disk_is_an_error_that_costs_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        file, names = StateFile(disk / "states"), [str(n).encode() for n in range(1000)]
        file.write([(name, name) for name in names], 1)
        with pytest.raises(OSError, match="No space left on device") as full:
            write_for_ever(file)
        number = (file.position or 0) + 1
        assert full.value.errno == errno.ENOSPC
        assert full.value.filename == str(disk / "states")
        assert file.get(b"7") == b"7"
        file.write([(b"7", b"replaced")], number)
        file.close()
        file = StateFile(disk / "states")
        assert (file.position, file.get(b"7")) == (number, b"replaced")
        assert 0 <= len([*file.items()]) - (1000 + (number - 2) * 100) < 100, "of the last write perhaps some"
        file.close()
