#!/bin/sh
# update.sh PACKAGE UNIT...: put another version of dailyread in the place of the one that runs, and go back to that one
# where the new one does not run. PACKAGE is what pip installs: a wheel, a folder, dailyread[gateway]==1.2.3.
#
# Each version has a folder of its own below $DAILYREAD_VERSIONS, made anew beside those that are there; $DAILYREAD_HOME, which
# the units start, is a link to one of them. The switch is one rename, so at every instant there is a whole version behind the
# link. A unit of the new version must say that it is ready (systemd waits for that) and run for $SETTLE_S without a restart.
#
# Exit 0: the new version runs; 1: it could not be installed, or does not understand the configuration, and nothing was
# touched; 2: it did not run, and the version of before runs again; 3: neither runs, somebody must look.
set -eu

HOME_LINK=${DAILYREAD_HOME:-/opt/dailyread}
VERSIONS=${DAILYREAD_VERSIONS:-$HOME_LINK-versions}
CONFIG=${DAILYREAD_CONFIG:-/etc/dailyread/gateway.toml}
PYTHON=${PYTHON:-python3}
SETTLE_S=${SETTLE_S:-60}

if [ $# -lt 2 ]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 1
fi
package=$1
shift

if [ -e "$HOME_LINK" ] && [ ! -L "$HOME_LINK" ]; then
    echo "$HOME_LINK is a folder; allowed: a link to a version. Once: mkdir -p $VERSIONS && mv $HOME_LINK $VERSIONS/first" \
        "&& ln -s $VERSIONS/first $HOME_LINK, and install that version again" >&2
    exit 1
fi
mkdir -p "$VERSIONS"
exec 9>"$VERSIONS/.lock"
flock -n 9 || { echo "another update is under way" >&2; exit 1; }

before=$(readlink "$HOME_LINK" || true)
new=$(mktemp -d "$VERSIONS/$(date -u +%Y%m%dT%H%M%S).XXXXXX")
chmod 0755 "$new"

not_begun() {
    rm -rf "$new"
    echo "nothing was changed: $1" >&2
    exit 1
}

switch_to() {
    ln -sfn "$1" "$HOME_LINK.next"
    mv -fT "$HOME_LINK.next" "$HOME_LINK"
}

restarts() {
    systemctl show --property=NRestarts --value "$1"
}

# Ready, and still so after a while, without having been started again meanwhile.
runs() {
    for unit in "$@"; do
        systemctl restart "$unit" || return 1
    done
    for unit in "$@"; do
        started="${started:-} $unit=$(restarts "$unit")"
    done
    sleep "$SETTLE_S" 9>&- &
    wait $! # a signal ends a wait, but not a sleep
    for unit in "$@"; do
        systemctl is-active --quiet "$unit" || return 1
        case "$started " in
            *" $unit=$(restarts "$unit") "*) ;;
            *) return 1 ;;
        esac
    done
}

go_back() {
    trap '' HUP INT TERM
    echo "the new version does not run${1:+: $1}; back to $before" >&2
    [ -n "$before" ] || { echo "there is no version of before" >&2; exit 3; }
    switch_to "$before"
    shift
    started=""
    if runs "$@"; then
        rm -rf "$new"
        exit 2
    fi
    echo "the version of before does not run either" >&2
    exit 3
}

trap 'not_begun "told to stop"' HUP INT TERM
"$PYTHON" -m venv "$new" || not_begun "no virtual environment could be made in $new"
"$new/bin/python" -m pip install --quiet --disable-pip-version-check "$package" || not_begun "$package could not be installed"
"$new/bin/dailyread" check "$CONFIG" || not_begun "the new version does not take $CONFIG"

trap 'go_back "told to stop" "$@"' HUP INT TERM
switch_to "$new"
runs "$@" || go_back "" "$@"
trap - HUP INT TERM

# What ran before stays, to go back to by hand; what is older goes.
for old in "$VERSIONS"/*/; do
    old=${old%/}
    [ "$old" = "$new" ] || [ "$old" = "$before" ] || rm -rf "$old"
done
echo "$new runs"
