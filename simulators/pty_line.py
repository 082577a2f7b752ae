"""A serial line that is a pseudo-terminal, for simulated meters: what a collector opens, and who answers on it."""

from __future__ import annotations

import asyncio
import os
import tty
from abc import ABC, abstractmethod
from pathlib import Path


class PtyLine(ABC):
    """A pseudo-terminal of its own; `path` is what a collector opens. `link`: a path to make a symbolic link to it at."""

    def __init__(self, link: Path | None) -> None:
        self._link = link
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        if link is not None:
            link.unlink(missing_ok=True)
            link.symlink_to(self.path)
            self.path = str(link)

    def start(self) -> None:
        """Serve in the running event loop."""
        asyncio.get_running_loop().add_reader(self._master, self._hear)

    def close(self) -> None:
        """Hang up: whoever reads the line sees its end."""
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)
        if self._link is not None:
            self._link.unlink(missing_ok=True)

    @abstractmethod
    def _hear(self) -> None:
        """Something has come in at `_master`."""
