"""The program as a later version would be that keeps its states in another form, for the test of a rolling upgrade.

python -m tests.integration.stream.next_version stream --config stream.toml
"""

from __future__ import annotations

import sys

from metering import state

state.STATE_VERSION += 1  # before anybody has taken the name from there

if __name__ == "__main__":
    from dailyread.cli import main

    sys.exit(main())
