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
cache=${CIMA_TOOLS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cima-tools}
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# The folder of what is pinned in the given files; another pin is another folder.
folder_for() {
  local name=$1
  shift
  echo "$cache/documents-$name-$(cat "$@" | sha256sum | cut -c1-12)"
}

python_with_packages() {
  local pins=$here/python/requirements.txt venv
  venv=$(folder_for python "$pins")
  if [[ ! -e $venv/ready ]]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement "$pins" >&2
    touch "$venv/ready"
  fi
  echo "$venv/bin/python"
}

node_with_packages() {
  local folder
  folder=$(folder_for node "$here"/node/package{,-lock}.json)
  if [[ ! -e $folder/ready ]]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$here"/node/package{,-lock}.json "$folder"
    (cd "$folder" && npm ci --silent --no-audit --no-fund >&2)
    touch "$folder/ready"
  fi
  # Node looks for packages beside the importing file.
  cp "$here"/node/*.mjs "$folder"
  echo "$folder"
}

mkdir -p "$cache"
python=$(python_with_packages) || { echo 'documents: the Python packages could not be installed' >&2; exit 1; }
node=$(node_with_packages) || { echo 'documents: the Node packages could not be installed' >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

node "$node/asyncapi.mjs" "$url" | tee -a "$scratch/steps"
TMPDIR=$scratch "$python" "$here/python/documents.py" "$url" | tee -a "$scratch/steps"
echo "documents: $(grep -c '^ok ' "$scratch/steps") checks passed"
