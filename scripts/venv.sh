#!/bin/sh
# venv.sh DIRECTORY: make a virtual environment with a Python 3.11 or newer ($PYTHON, by default python3).
set -eu

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$python is not Python 3.11 or newer: say which one is, for example make PYTHON=python3.12 ..." >&2
    exit 1
fi
# Debian's python3 comes without what makes environments.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    "$(dirname "$0")/need.sh" "no-ensurepip=python3-venv"
fi
[ -x "$1/bin/python" ] || "$python" -m venv "$1"
