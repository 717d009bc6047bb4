#!/usr/bin/env bash
# Makes a set of what this version stores, for all later ones to be tested against:
#
#     tests/stored/make.sh 0002
#
# A story that leaves a row in every table is played (tests/it/stored/story.rs) on the embedded store, which is then killed,
# once more there, then stopped, and on PostgreSQL. A set that is there already is never made again: it is what an older
# version stored.
set -euo pipefail
cd "$(dirname "$0")/../.."
name=${1:?which set, such as 0002}
set=tests/stored/$name
[ ! -e "$set" ] || { echo "$set is there already"; exit 1; }
[ -n "${CIMA_TEST_DATABASE_URL:-}" ] || exec tests/backends.sh "$0" "$@"

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
${CARGO:-cargo} test --no-run --test it

# Plays the story; the node's folder is then $out/NAME/data, beside what it answered.
play() { # name, test, backend
    mkdir "$out/$1"
    code=0
    CIMA_STORED_OUT="$out/$1" CIMA_TEST_BACKEND=$3 cargo test --quiet --test it -- --ignored --exact "stored::make::$2" \
        >"$out/$1.log" 2>&1 || code=$?
    [ -e "$out/$1/notes.json" ] || { cat "$out/$1.log"; echo "the story of $1 was not played to its end"; exit 1; }
    mv "$out/$1"/data?* "$out/$1/data"
}
# Owners and times say nothing.
pack() { # name, what
    mkdir -p "$set"
    tar -C "$out/$1" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -c "${@:2}" | gzip -9n >"$set/$1.tar.gz"
}

play killed left_by_a_kill files
[ "$code" != 0 ] || { cat "$out/killed.log"; echo "it was not killed"; exit 1; }
[ -n "$(find "$out/killed/data/journal" -type f -size +0)" ] || { echo "its journal is empty"; exit 1; }
pack killed notes.json data

play stopped left_by_a_stop files
[ "$code" = 0 ] || { cat "$out/stopped.log"; exit 1; }
pack stopped notes.json data

play database left_by_a_kill postgres
# What psql alone understands, and settings that older servers do not know, are left out.
"$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)/pg_dump" --inserts --no-owner --no-privileges \
    "$(cat "$out/database/data/database")" | grep -v -e '^\\' -e '^SET transaction_timeout' >"$out/database/database.sql"
cp "$out/database/data/signing-key.pem" "$out/database"
pack database notes.json database.sql signing-key.pem
ls -l "$set"
