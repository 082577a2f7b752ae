"""`python -m tests.integration.services up`: Kafka and InfluxDB to try things on; `install` only gets the parts."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
from pathlib import Path

from tests.integration.services import InfluxServer, KafkaBroker, PartMissing
from tests.integration.services.parts import influxd, java, kafka_jars

USAGE = "usage: python -m tests.integration.services install | up [DATA_DIR]"


def main(arguments: list[str]) -> int:
    match arguments:
        case ["install"]:
            return _install()
        case ["up"]:
            with tempfile.TemporaryDirectory(prefix="dailyread-services-") as folder:
                return _up(Path(folder))
        case ["up", folder]:
            return _up(Path(folder).resolve())
    print(USAGE, file=sys.stderr)
    return 2


def _install() -> int:
    for what, part in (("Java", java), ("Kafka", kafka_jars), ("InfluxDB", influxd)):
        print(f"{what}: {part()}")
    return 0


def _up(folder: Path) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with KafkaBroker(folder / "kafka") as kafka, InfluxServer(folder / "influxdb") as influx:
        for name, value in (kafka.env | influx.env).items():
            print(f"export {name}={shlex.quote(value)}")
        print(f"# Running, with data and logs in {folder}; Ctrl-C ends them.", flush=True)
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
