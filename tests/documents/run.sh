#!/usr/bin/env bash
# Holds a running server to the documents it serves:
#
#     tests/documents/run.sh http://127.0.0.1:8080
#
# `/openapi.json` by openapi-spec-validator, `/asyncapi.json` by @asyncapi/parser, every answer by schemathesis;
# CIMA_PROVE=1 sends many times as much. What this needs is installed, pinned, into $CIMA_TOOLS_CACHE (default
# ~/.cache/cima-tools), never into the repository. The server should be one with a cheap password hash:
#
#     cima serve --listen 127.0.0.1:0 --data-dir "$(mktemp -d)" --password-memory-kib 64
set -euo pipefail

url=${1:?usage: run.sh URL, such as run.sh http://127.0.0.1:8080}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../tools.sh"
python=$(python_of "$here") || { echo 'documents: the Python packages could not be installed' >&2; exit 1; }
node=$(node_of "$here") || { echo 'documents: the Node packages could not be installed' >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

node "$node/asyncapi.mjs" "$url" | tee -a "$scratch/steps"
TMPDIR=$scratch "$python" "$here/python/documents.py" "$url" | tee -a "$scratch/steps"
echo "documents: $(grep -c '^ok ' "$scratch/steps") checks passed"
