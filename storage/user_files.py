"""Files for Users: a folder for each, a file for each version; a file is there whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from metering.provision import FileName, file_name, safe_name


def write_file(folder: Path, file: FileName, version: int, content: bytes) -> Path:
    """Writes a version of a file below `folder`, or writes it again, and returns its path; OSError where that fails.

    When it returns, the file survives a power cut. What an earlier try left unfinished is replaced.
    """
    own = folder / safe_name(file.user)
    if not own.is_dir():
        own.mkdir(parents=True, exist_ok=True)
        _sync(folder)
    path = own / file_name(file, version)
    unfinished = own / f".{path.name}.part"
    with unfinished.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    unfinished.replace(path)
    _sync(own)
    return path


def _sync(folder: Path) -> None:
    """Makes the names in a folder last."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
