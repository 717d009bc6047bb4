#!/usr/bin/env bash
# Runs a command with a private PostgreSQL (with PostGIS) and a private Redis, and stops both after it:
#
#     tests/backends.sh cargo nextest run --test store_contract
#
# Both listen on free ports of 127.0.0.1 and keep everything in a temporary folder. The command finds them in
# CIMA_TEST_DATABASE_URL and CIMA_TEST_REDIS_URL, and the server's log in CIMA_TEST_POSTGRES_LOG; where the first two are
# set already, it just runs. What is missing on a Debian
# machine is installed, and no service of the system is started or touched.
set -euo pipefail

if [ -n "${CIMA_TEST_DATABASE_URL:-}" ] && [ -n "${CIMA_TEST_REDIS_URL:-}" ]; then exec "$@"; fi

installed() { ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && ls /usr/share/postgresql/*/extension/postgis.control >/dev/null 2>&1 && command -v redis-server >/dev/null && ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1; }
if ! installed; then
    echo "installing PostgreSQL, PostGIS, Redis and faketime"
    apt-get update -qq
    # Packages start their services when they are installed; these are not wanted.
    policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; ours=yes; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql postgis redis-server faketime >/dev/null
    version=$(ls /usr/lib/postgresql | sort -n | tail -1)
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "postgresql-$version-postgis-3" >/dev/null
    [ -z "${ours:-}" ] || rm -f "$policy"
fi
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)

folder=$(mktemp -d /tmp/cima-backends.XXXXXX)
# PostgreSQL refuses to run as root.
as=()
if [ "$(id -u)" = 0 ]; then
    chown postgres "$folder"
    chmod 755 "$folder"
    as=(setpriv --reuid=postgres --regid=postgres --init-groups)
fi
redis=
stop() {
    [ -z "$redis" ] || kill "$redis" 2>/dev/null || true
    "${as[@]}" "$bin/pg_ctl" -D "$folder/pg" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap stop EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port)
cd "$folder"
"${as[@]}" "$bin/initdb" -D "$folder/pg" -U cima --auth=trust --encoding=UTF8 --locale=C.UTF-8 >"$folder/initdb.log" 2>&1 || { cat "$folder/initdb.log"; exit 1; }
# What the tests ask of it is not durability: that is the server's own.
"${as[@]}" "$bin/pg_ctl" -D "$folder/pg" -w -l "$folder/pg.log" -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$folder -c fsync=off -c max_connections=400 -c shared_buffers=256MB" start >/dev/null || { cat "$folder/pg.log"; exit 1; }
redis_port=$(free_port)
redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --dir "$folder" >"$folder/redis.log" 2>&1 &
redis=$!
cd "$OLDPWD"
export CIMA_TEST_POSTGRES_LOG="$folder/pg.log"
export CIMA_TEST_DATABASE_URL="postgres://cima@127.0.0.1:$port/postgres" CIMA_TEST_REDIS_URL="redis://127.0.0.1:$redis_port"
"$@"
