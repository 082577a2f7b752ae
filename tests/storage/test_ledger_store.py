"""The ledger stores that need no server: in memory, and SQLite."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings

from metering.messages import LedgerMessage
from storage.ledger_sqlite import SqliteLedgerStore
from storage.ledger_store import KEY_LENGTHS, LedgerStore, MemoryLedgerStore
from tests.storage.ledger_contract import (
    ACTUAL,
    EVERY_KIND,
    MESSAGES,
    REJECTED,
    LedgerStoreContract,
    changed,
    folded,
    put,
    void,
)  # fmt: skip


class TestMemory(LedgerStoreContract):
    @pytest.fixture
    def store(self) -> LedgerStore:
        return MemoryLedgerStore()


class TestSqlite(LedgerStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[LedgerStore]:
        store = SqliteLedgerStore(tmp_path / "ledger.sqlite")
        yield store
        store.close()


def test_the_lengths_of_keys_are_those_of_the_records() -> None:
    keys = [record.key() for record in EVERY_KIND]
    assert {key[0]: len(key) for key in keys} == KEY_LENGTHS


@settings(max_examples=150, deadline=None)
@given(MESSAGES)
def test_sqlite_is_the_fold_of_the_messages_in_any_pieces(messages: list[LedgerMessage]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for size in (1, 5):
            store = SqliteLedgerStore(Path(directory) / f"{size}.sqlite")
            for n in range(0, len(messages), size):
                store.write(messages[n : n + size])
            assert list(store.records()) == folded(messages)
            store.close()


def test_records_and_voids_are_there_after_opening_again(tmp_path: Path) -> None:
    store = SqliteLedgerStore(tmp_path / "ledger.sqlite")
    store.write([put(ACTUAL, 5), void(REJECTED, 5)])
    store.close()
    again = SqliteLedgerStore(tmp_path / "ledger.sqlite")
    again.write([put(changed(ACTUAL, status="assumed"), 4), put(REJECTED, 4)])
    assert list(again.records()) == [ACTUAL]
    again.close()


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from tests.storage.ledger_contract import ACTUAL, JAN, changed, put
from storage.ledger_sqlite import SqliteLedgerStore
store = SqliteLedgerStore(Path(sys.argv[1]))
offset = 0
while True:
    store.write([put(changed(ACTUAL, gas_day=day, start_index=offset), offset) for day in JAN])
    print(offset, flush=True)
    offset += 1
"""


def test_kill_9_loses_no_call_and_leaves_none_half_done(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(30)][-1]
        os.kill(writer.pid, signal.SIGKILL)
    store = SqliteLedgerStore(path)
    starts = {getattr(record, "start_index", None) for record in store.records()}
    assert len(starts) == 1
    assert max(starts) >= acknowledged
    store.close()
