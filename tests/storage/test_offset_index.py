"""The writer's local index: greatest offsets, positions, one process at a time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storage.offset_index import OffsetIndex, forget
from storage.sqlite import StoreError

KEY, OTHER = ("day", "1", "2026-01-01"), ("day", "1", "2026-01-02")


def test_it_keeps_the_greatest_offset_of_each_key(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    index = OffsetIndex(path)
    index.note({KEY: 5, OTHER: 1})
    index.note({KEY: 4})
    index.note({OTHER: 2})
    index.set_positions({0: 7, 2: 1})
    index.set_positions({0: 8})
    index.close()
    again = OffsetIndex(path)
    assert again.standing([KEY, OTHER, ("day", "2", "2026-01-01")]) == {KEY: 5, OTHER: 2}
    assert again.positions() == {0: 8, 2: 1}
    again.close()


HOLD = """
import sys
from pathlib import Path
from storage.offset_index import OffsetIndex
index = OffsetIndex(Path(sys.argv[1]))
index.note({("day", "1", "2026-01-01"): 5})
print("held", flush=True)
sys.stdin.read()
"""


def test_it_is_for_one_process_until_that_ends_however(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=r"index\.sqlite: in use by another process"):
            OffsetIndex(path)
        with pytest.raises(StoreError, match="in use"):
            forget(path)
        os.kill(holder.pid, signal.SIGKILL)
    index = OffsetIndex(path)
    assert index.standing([KEY]) == {KEY: 5}
    index.close()


def test_forgetting_removes_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    assert not forget(path)
    index = OffsetIndex(path)
    index.note({KEY: 5})
    index.set_positions({0: 3})
    index.close()
    assert forget(path)
    assert list(tmp_path.iterdir()) == []
