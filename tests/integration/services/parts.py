"""Get the real parts once, through the ordinary package clients, into a cache that all clones share.

Kafka's jars come by Maven, influxd is built by Go. What is in the cache is used as it is. Two processes may ask at the
same time: one installs, the other waits. A part that can't be had raises `PartMissing`, which says what to install.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

INFLUXD_VERSION = "v1.8.3"
POM = Path(__file__).with_name("pom.xml")


class PartMissing(Exception):
    """A part of the integration tests can't be had here; the message says what to install."""


def cache_dir() -> Path:
    """The folder for what is downloaded or built: $XDG_CACHE_HOME/dailyread, by default ~/.cache/dailyread."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dailyread"


def java() -> str:
    """The path of `java`."""
    return _tool("java", "openjdk-17-jre-headless", "Kafka runs on Java 17 or newer")


def kafka_jars() -> Path:
    """The folder with the broker's jars; named after the pom, so that a new version is fetched anew."""
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    return _installed(f"kafka-{digest}", _copy_jars)


def influxd() -> Path:
    """The path of the `influxd` binary."""
    return _installed(f"influxd-{INFLUXD_VERSION}", _build_influxd) / "influxd"


def _copy_jars(folder: Path) -> None:
    maven = _tool("mvn", "maven", "Kafka's jars come from Maven Central")
    shutil.copy(POM, folder / "pom.xml")
    command = [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    _run(command, "Maven could not fetch Kafka's jars", cwd=folder)


def _build_influxd(folder: Path) -> None:
    go = _tool("go", "golang-go", "InfluxDB is built from its Go module")
    package = f"github.com/influxdata/influxdb/cmd/influxd@{INFLUXD_VERSION}"
    _run([go, "install", package], "Go could not build InfluxDB", cwd=folder, env={"GOBIN": str(folder), "CGO_ENABLED": "0"})


def _tool(name: str, package: str, why: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise PartMissing(
            f"{name} is not installed. {why}: install it with `apt-get install {package}`, or run `make services`."
        )
    return path


def _run(command: list[str], failure: str, cwd: Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=os.environ | (env or {}), capture_output=True, text=True, check=False)
    if done.returncode:
        tail = (done.stdout + done.stderr)[-2000:]
        raise PartMissing(f"{failure} (`{' '.join(command)}` ended with {done.returncode}):\n{tail}")


def _installed(name: str, install: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache; made under a lock and renamed into place, so that it is whole or absent."""
    folder = cache_dir() / name
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as building:
                made = Path(building) / "made"
                made.mkdir()
                install(made)
                made.rename(folder)
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
