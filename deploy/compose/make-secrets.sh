#!/bin/sh
# Make the passwords that compose.yaml reads, once; what is there already stays.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
for name in influx-password influx-token grafana-password; do
    [ -s "secrets/$name" ] || head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n' >"secrets/$name"
    # The folder is ours alone; the file is mounted into containers, whose users have other numbers.
    chmod 0444 "secrets/$name"
done
echo "In $(pwd)/secrets: influx-password (user admin), influx-token, grafana-password (user admin)"
