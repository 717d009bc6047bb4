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
need make make
need node nodejs
need npm npm
python3 -c 'import ensurepip' 2>/dev/null || { apt-get update -qq; apt-get install -y -qq python3-venv >/dev/null; }

# The rest runs beside a private PostgreSQL and a private Redis, which this installs where they are missing.
[ -n "${CIMA_TEST_DATABASE_URL:-}" ] || exec tests/backends.sh tests/run.sh

make lint
tests/k8s/run.sh
cargo build --quiet --workspace --bins

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

# The same clients over five processes with a role each.
tests/cluster/run.sh

tests/push/run.sh

# Everything on the embedded store, with the stores' contract on both; then the whole node on PostgreSQL and Redis,
# but for what is about files.
code=0
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --workspace --no-fail-fast 2>&1 | tee "$folder/embedded" || code=1
    CIMA_TEST_BACKEND=postgres cargo nextest run --no-fail-fast --test it -E 'not test(/_in_files$/)' 2>&1 | tee "$folder/scaled" || code=1
else
    cargo test --workspace --no-fail-fast 2>&1 | tee "$folder/embedded" || code=1
    CIMA_TEST_BACKEND=postgres cargo test --no-fail-fast --test it -- --skip _in_files 2>&1 | tee "$folder/scaled" || code=1
fi
# Faults, played on real processes: a tenth of the counts, or all of it.
if [ -n "${CIMA_PROVE:-}" ]; then
    cargo build --quiet --release --workspace --bin cima --bin cima-rig
    target/release/cima-rig --full --write README.md 2>&1 | tee "$folder/faults" || code=1
else
    target/debug/cima-rig 2>&1 | tee "$folder/faults" || code=1
fi
ran() { grep -E "^( +Summary|test result:)" "$1" | sed 's/^ */  /'; }
echo "on the embedded store (the stores' contract on both):"; ran "$folder/embedded"
echo "on PostgreSQL and Redis:"; ran "$folder/scaled"
echo "faults:"; tail -1 "$folder/faults" | sed 's/^/  /'
exit $code
