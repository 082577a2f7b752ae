"""Why the system refuses a line or a file, in the words of its manual, without numbers and Python's own additions."""

from __future__ import annotations

import os
import termios


def in_words(error: OSError) -> str:
    """`Connection refused`, `No such file or directory`; what the error says itself where it has no number of the system's."""
    if error.errno is not None and error.errno > 0:  # a name that is not known has a number of its own, below 0
        return os.strerror(error.errno)
    if isinstance(error.__context__, termios.error):  # which pyserial quotes, number and all
        return f"the line cannot be set up: {error.__context__.args[-1]}"
    return error.strerror or str(error) or type(error).__name__
