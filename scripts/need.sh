#!/bin/sh
# need.sh COMMAND=PACKAGE...: make sure that the commands are there. As root on Debian or Ubuntu the packages of those
# that are missing are installed; otherwise it says what to install, and fails.
set -eu

packages=""
for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || packages="$packages ${pair#*=}"
done
[ -n "$packages" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing$packages"
    export DEBIAN_FRONTEND=noninteractive
    # Two runs at once wait for each other instead of failing on apt's lock.
    apt-get -q update
    # shellcheck disable=SC2086  # a list of packages
    exec apt-get -q -y -o DPkg::Lock::Timeout=600 install --no-install-recommends $packages
fi
echo "Missing here, please install (Debian's names):$packages. For example: sudo apt-get install$packages" >&2
exit 1
