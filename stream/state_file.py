"""The states of one partition on this machine, in LMDB.

A state is read and replaced about as often as a Day comes, in no order, and there may be a million of them. LMDB costs the
same whatever their number. It writes into mapped memory, which outlives a kill -9 of this process, but a power cut may leave
anything on the disk. So `opened` names the machine's start during which the file was opened, until it is closed in order; found
with that of another start, the file is thrown away, and the changelog, which has all of it, is read from the beginning.
"""

from __future__ import annotations

import fcntl
import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import lmdb
import lz4.block

log = logging.getLogger(__name__)

STATE_FILES = "states-*.lmdb"

_DATA, _OPENED = "data.mdb", "opened"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_POSITION_KEY = bytes(300)  # before all states, and no state's: no name is so long
_LEAST_BYTES = 1024 * 1024
_CHECK_BYTES = 4
_AT_A_TIME = 32  # states put in one transaction
_DAMAGED = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError)


class StateFileInUse(OSError):
    """Another process has the file open."""


class DamagedState(OSError):
    """A state, or what it is found by, is not as it was written."""


def state_file_path(directory: Path, partition: int) -> Path:
    """The folder of a partition's states: `states-00003.lmdb` for partition 3."""
    return directory / f"states-{partition:05}.lmdb"


class StateFile:
    """A folder with the states. Raises StateFileInUse, and DamagedState when that is seen; the file is then set aside, and who
    opens it next begins with none. OSError where the disk is full.

    Not for several threads at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(parents=True, exist_ok=True)
        self._opened = os.open(path / _OPENED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take()
            self._env = self._open()
        except BaseException:
            os.close(self._opened)
            raise
        self._reader: lmdb.Transaction | None = None

    def get(self, key: bytes) -> bytes | None:
        """A state; None where there is none."""
        try:
            if self._reader is None:
                self._reader = self._env.begin()
            packed = self._reader.get(key)
        except _DAMAGED as error:
            raise self._damaged(str(error)) from error
        return None if packed is None else self._unpacked(key, bytes(packed))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All states by their keys, while nothing is written."""
        try:
            with self._env.begin() as reader:
                for key, packed in reader.cursor():
                    if key != _POSITION_KEY:
                        yield key, self._unpacked(key, packed)
        except _DAMAGED as error:
            raise self._damaged(str(error)) from error

    @property
    def position(self) -> int | None:
        """The offset in the changelog up to which it has the states; None before the first."""
        position = self.get(_POSITION_KEY)
        return None if position is None else int(position)

    def write(self, states: Sequence[tuple[bytes, bytes]], position: int | None) -> None:
        """Put these states, of different keys, in place of what is there; and where in the changelog they stand, if anywhere.

        A few at a time: LMDB keeps what was there before the last two times. Where the process ends meanwhile, some states are
        newer than the position says, and are read again; none is older.
        """
        packed = sorted((key, _packed(state)) for key, state in states)
        self._end_reading()
        for first in range(0, len(packed), _AT_A_TIME):
            self._put(packed[first : first + _AT_A_TIME])
        if position is not None:
            self._put([(_POSITION_KEY, _packed(str(position).encode()))])

    def close(self) -> None:
        """Bring all to the disk, and close. Not to be used after that."""
        self._end_reading()
        self._env.sync(True)
        self._env.close()
        os.ftruncate(self._opened, 0)
        os.fsync(self._opened)
        os.close(self._opened)

    def _take(self) -> None:
        """Make it ours, and throw away what a power cut may have spoilt."""
        try:
            fcntl.flock(self._opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateFileInUse(f"{self._path}: in use by another process") from error
        boot_id, before = _boot_id(), os.pread(self._opened, 100, 0)
        if before and before != boot_id:
            log.warning("%s: the machine stopped while it was open; its states are read from the changelog", self._path)
            (self._path / _DATA).unlink(missing_ok=True)
        if before != boot_id:  # in this order: where the disk is full it stays as it was
            os.pwrite(self._opened, boot_id, 0)
            os.ftruncate(self._opened, len(boot_id))
            os.fsync(self._opened)
        folder = os.open(self._path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _open(self) -> lmdb.Environment:
        try:
            return self._mapped()
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
            log.warning("%s: no state file (%s); set aside, and the states are read from the changelog", self._path, error)
            self._set_aside()
            return self._mapped()

    def _mapped(self) -> lmdb.Environment:
        data = self._path / _DATA
        self._size_bytes = max(_LEAST_BYTES, data.stat().st_size if data.exists() else 0)
        env = lmdb.open(
            str(self._path), map_size=self._size_bytes, writemap=True, map_async=True, sync=False, metasync=False,
            readahead=False, max_dbs=0, mode=0o600, lib_version=0,
        )  # fmt: skip
        try:
            self._allocate(0, self._size_bytes)
        except OSError:
            env.close()
            raise
        return env

    def _grow(self) -> None:
        more = max(_LEAST_BYTES, self._size_bytes // 16 // _LEAST_BYTES * _LEAST_BYTES)
        self._allocate(self._size_bytes, more)
        self._size_bytes += more
        self._env.set_mapsize(self._size_bytes)

    def _allocate(self, start: int, size: int) -> None:
        """Have room on the disk for what is mapped: where it is full, that must be an error here and no signal later."""
        data = os.open(self._path / _DATA, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.posix_fallocate(data, start, size)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), str(self._path)) from error
        finally:
            os.close(data)

    def _put(self, packed: Sequence[tuple[bytes, bytes]]) -> None:
        """Put these in place of what is there, all or none, in the order of their keys."""
        while True:
            try:
                with self._env.begin(write=True) as writer:
                    cursor = writer.cursor()
                    last = cursor.key() if cursor.last() else b""
                    for key, value in packed:
                        writer.put(key, value, append=key > last)  # what is said to come last fills its page
                return
            except lmdb.MapFullError:
                self._grow()
            except _DAMAGED as error:
                raise self._damaged(str(error)) from error

    def _end_reading(self) -> None:
        """Nothing is read while it is written: what a reader sees is kept, and the file would grow."""
        if self._reader is not None:
            self._reader.abort()
            self._reader = None

    def _unpacked(self, key: bytes, packed: bytes) -> bytes:
        compressed = packed[_CHECK_BYTES:]
        if zlib.crc32(compressed) == int.from_bytes(packed[:_CHECK_BYTES]):
            state: bytes = lz4.block.decompress(compressed)
            return state
        raise self._damaged(f"the state of {key!r}")

    def _damaged(self, what: str) -> DamagedState:
        self._set_aside()
        return DamagedState(f"{self._path}: damaged ({what}); all states are read from the changelog at the next start")

    def _set_aside(self) -> None:
        with suppress(FileNotFoundError):
            os.replace(self._path / _DATA, self._path / "damaged.mdb")


def is_in_use(path: Path) -> bool:
    """Whether a process has the state file of that folder open."""
    try:
        opened = os.open(path / _OPENED, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(opened)
    return False


def _packed(state: bytes) -> bytes:
    compressed: bytes = lz4.block.compress(state)
    return zlib.crc32(compressed).to_bytes(_CHECK_BYTES) + compressed


def _boot_id() -> bytes:
    """What tells this start of the machine from others; something new where the system does not say."""
    try:
        return _BOOT_ID.read_bytes().strip()
    except OSError:
        return os.urandom(16).hex().encode()
