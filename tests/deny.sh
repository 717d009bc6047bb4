#!/usr/bin/env bash
# Holds the packages underneath to deny.toml: their licences, what is banned, where they come from, and known advisories.
# cargo-deny is installed if it is missing, pinned, where the tools of other languages are.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tools.sh

version=0.20.2
deny=$cache/cargo-deny-$version/bin/cargo-deny
if [ ! -x "$deny" ]; then
    echo "installing cargo-deny $version"
    # Unoptimised: it runs for a second, and building it costs half as much.
    cargo install cargo-deny --version "=$version" --locked --debug --quiet --root "$cache/cargo-deny-$version"
fi
"$deny" --log-level error check licenses bans sources
# The database of advisories is a git repository at GitHub, which a machine without the internet cannot have.
if "$deny" --log-level off fetch db 2>/dev/null; then
    "$deny" --log-level error check advisories
else
    echo "advisories were not looked at: their database cannot be reached"
fi
