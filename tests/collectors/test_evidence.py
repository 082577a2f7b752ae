"""What is kept of the octets of polls: all of it while there is room, the newest afterwards, and never an exception."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from collectors.evidence import EvidenceStore, find
from collectors.trace import Frame
from tests.collectors.small_disk import small_disk

AT = datetime(2026, 10, 2, 4, 3, 1, 250_000, tzinfo=UTC)
DAY = date(2026, 10, 1)
POLL = (Frame(AT, True, b"\x00\x01\xff"), Frame(AT + timedelta(seconds=1), False, bytes(range(256))))
ROOM = 1_000_000_000


def noise(number: int) -> tuple[Frame, ...]:
    """A poll of some 1,000 octets that cannot be compressed."""
    return (Frame(AT + timedelta(days=number), False, os.urandom(1000)),)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evidence.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[EvidenceStore]:
    with closing(EvidenceStore(path, ROOM)) as opened:
        yield opened


def test_a_polls_octets_come_back_with_their_times_while_the_store_is_in_use(store: EvidenceStore, path: Path) -> None:
    later = (Frame(AT + timedelta(hours=1), True, b"again"),)
    store.keep("m-1", DAY, POLL)
    store.keep("m-2", DAY, noise(0))
    store.keep("m-1", DAY, later)
    assert find(path, "m-1", DAY) == [POLL, later]
    assert find(path, "m-1", DAY + timedelta(days=1)) == []
    assert store.counters.kept == 3


def test_it_is_there_after_a_new_start(path: Path) -> None:
    for _ in range(2):
        with closing(EvidenceStore(path, ROOM)) as store:
            store.keep("m-1", DAY, POLL)
            held = store.counters.bytes
    assert len(find(path, "m-1", DAY)) == 2
    assert held == sum(length + 64 for length in _lengths(path))


def _lengths(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as db:
        return [length for (length,) in db.execute("SELECT length(packed) FROM polls")]


def test_the_oldest_go_first_and_the_file_stops_growing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with closing(EvidenceStore(path, 50_000)) as store:
        sizes = []
        for number in range(400):
            store.keep("m-1", DAY + timedelta(days=number), noise(number))
            assert store.counters.bytes <= 50_000
            sizes.append(path.stat().st_size)
        kept = [number for number in range(400) if find(path, "m-1", DAY + timedelta(days=number))]
        assert kept == list(range(400 - len(kept), 400))
        assert 40 < len(kept) < 50
        assert store.counters.gone == 400 - len(kept)
    assert max(sizes) < 150_000
    assert len([message for message in caplog.messages if "the oldest goes" in message]) == 1


def test_a_poll_greater_than_all_the_room_is_not_kept_and_takes_nobodys_place(path: Path) -> None:
    with closing(EvidenceStore(path, 900)) as store:
        for frames in (POLL, noise(1)):
            store.keep("m-1", DAY, frames)
        assert find(path, "m-1", DAY) == [POLL]
        assert store.counters.not_kept == 1


def test_without_room_nothing_is_kept_and_no_file_made(path: Path) -> None:
    with closing(EvidenceStore(path, 0)) as store:
        store.keep("m-1", DAY, POLL)
    assert not path.exists()


def test_several_threads_keep_at_a_time(store: EvidenceStore, path: Path) -> None:
    def keep(meter: str) -> None:
        for number in range(50):
            store.keep(meter, DAY + timedelta(days=number), POLL)

    threads = [threading.Thread(target=keep, args=(f"m-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.counters.kept == 400
    assert all(find(path, f"m-{n}", DAY + timedelta(days=49)) == [POLL] for n in range(8))


@pytest.mark.parametrize("opened_before", [False, True])
def test_a_damaged_file_is_set_aside_and_keeping_goes_on(
    path: Path, caplog: pytest.LogCaptureFixture, opened_before: bool
) -> None:
    with closing(EvidenceStore(path, ROOM)) as store:
        if opened_before:
            store.keep("m-1", DAY, POLL)
            with closing(sqlite3.connect(path)) as db:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.write_bytes(b"this is no file of SQLite's" * 1000)
        for _ in range(2):
            store.keep("m-1", DAY, POLL)
    assert find(path, "m-1", DAY)
    assert len([message for message in caplog.messages if "set aside as evidence.sqlite.corrupt" in message]) == 1


def test_a_disk_that_is_nearly_full_is_left_to_the_outbox(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", 20) as disk, closing(EvidenceStore(disk / "evidence.sqlite", ROOM)) as store:
        (disk / "other").write_bytes(bytes(8 * 1024 * 1024))
        for _ in range(3):
            store.keep("m-1", DAY, POLL)
        assert store.counters.not_kept == 3
        (disk / "other").unlink()
        store.keep("m-1", DAY, POLL)
        assert find(disk / "evidence.sqlite", "m-1", DAY) == [POLL]
    assert len([message for message in caplog.messages if "the disk is nearly full" in message]) == 1


def test_a_folder_that_is_away_stops_nobody(tmp_path: Path) -> None:
    with closing(EvidenceStore(tmp_path / "away" / "evidence.sqlite", ROOM)) as store:
        store.keep("m-1", DAY, POLL)
        assert (store.counters.kept, store.counters.not_kept) == (0, 1)


def test_where_no_evidence_is_there_is_an_error_and_no_file_made(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        find(path, "m-1", DAY)
    assert not path.exists()
