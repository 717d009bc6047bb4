#!/usr/bin/env bash
# Every test of cima, on a bare Debian machine with Rust. CIMA_PROVE=1 runs the long proofs whole.
set -euo pipefail
cd "$(dirname "$0")/.."

need() { # command, package that has it
    command -v "$1" >/dev/null && return
    echo "installing $2 for $1"
    [ -n "${apt_updated:-}" ] || { apt-get update -qq; apt_updated=1; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null
}
need cc build-essential
need python3 python3
need node nodejs
need npm npm
need redis-server redis-server
python3 -c 'import ensurepip' 2>/dev/null || { apt-get update -qq; apt-get install -y -qq python3-venv >/dev/null; }

cargo fmt --all --check
tests/k8s/run.sh
cargo build --quiet --bin cima

# The contract, spoken by clients and checked by validators that nobody here wrote the libraries of.
folder=$(mktemp -d)
server=
stop() { [ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"; }
trap stop EXIT
target/debug/cima serve --listen 127.0.0.1:0 --data-dir "$folder/data" --password-memory-kib 64 >"$folder/out" 2>"$folder/log" &
server=$!
for _ in $(seq 100); do
    url=$(sed -n 's/^cima listens on //p' "$folder/out")
    [ -n "$url" ] && break
    sleep 0.1
done
[ -n "$url" ] || { cat "$folder/log"; echo "the server did not start"; exit 1; }
tests/clients/run.sh "$url"
tests/documents/run.sh "$url"
kill -TERM "$server"
wait "$server" || { cat "$folder/log"; echo "the server did not stop in order"; exit 1; }
server=

tests/push/run.sh

if command -v cargo-nextest >/dev/null; then
    cargo nextest run --no-fail-fast
else
    cargo test --no-fail-fast
fi
