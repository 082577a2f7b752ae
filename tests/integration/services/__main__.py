"""Kafka and InfluxDB to try things on.

python -m tests.integration.services install            only get the parts
python -m tests.integration.services up [DATA_DIR]      run both until Ctrl-C, print what to export
python -m tests.integration.services with COMMAND...    run both while the command runs, with them in its environment
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.integration.services import InfluxServer, KafkaBroker, PartMissing
from tests.integration.services.parts import influxd, java, kafka_jars


def main(arguments: list[str]) -> int:
    match arguments:
        case ["install"]:
            return _install()
        case ["up"]:
            return _in_scratch(_until_interrupted)
        case ["up", folder]:
            return _running(Path(folder).resolve(), _until_interrupted)
        case ["with", *command] if command:
            return _in_scratch(lambda env: subprocess.call(command, env=os.environ | dict(env)))
    print(__doc__, file=sys.stderr)
    return 2


def _install() -> int:
    for what, part in (("Java", java), ("Kafka", kafka_jars), ("InfluxDB", influxd)):
        print(f"{what}: {part()}")
    return 0


def _in_scratch(work: Callable[[Mapping[str, str]], int]) -> int:
    with tempfile.TemporaryDirectory(prefix="dailyread-services-") as folder:
        return _running(Path(folder), work)


def _running(folder: Path, work: Callable[[Mapping[str, str]], int]) -> int:
    """Both servers with data and logs in the folder, while `work` does its work with their variables."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with KafkaBroker(folder / "kafka") as kafka, InfluxServer(folder / "influxdb") as influx:
        return work(kafka.env | influx.env)


def _until_interrupted(env: Mapping[str, str]) -> int:
    for name, value in env.items():
        print(f"export {name}={shlex.quote(value)}")
    print("# Running; Ctrl-C ends them.", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print("# ending", file=sys.stderr)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (PartMissing, RuntimeError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
