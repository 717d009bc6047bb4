#!/usr/bin/env bash
# Plays the story of both foreign clients against a running server:
#
#     tests/clients/run.sh http://127.0.0.1:8080 [http://127.0.0.1:8081]
#
# The second address is the contact's node, if it is another one. What the clients need is installed, pinned, into
# $CIMA_CLIENTS_CACHE (default ~/.cache/cima-clients), never into the repository.
set -euo pipefail

usage='usage: run.sh URL [CONTACT_URL], such as run.sh http://127.0.0.1:8080'
if [[ ${1-} == --url ]]; then shift; fi
url=${1:?$usage}
contact_url=${2:-$url}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${CIMA_CLIENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cima-clients}
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# The folder of what is pinned in the given files; another pin is another folder.
folder_for() {
  local name=$1
  shift
  echo "$cache/$name-$(cat "$@" | sha256sum | cut -c1-12)"
}

python_with_packages() {
  local pins=$here/python/requirements.txt venv
  venv=$(folder_for python "$pins")
  if [[ ! -e $venv/ready ]]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement "$pins"
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
python=$(python_with_packages) || { echo 'clients: the Python packages could not be installed' >&2; exit 1; }
node=$(node_with_packages) || { echo 'clients: the Node packages could not be installed' >&2; exit 1; }
steps=$(mktemp)
trap 'rm -f "$steps"' EXIT

"$python" "$here/python/story.py" --url "$url" --contact-url "$contact_url" | tee -a "$steps"
node "$node/story.mjs" --url "$url" --contact-url "$contact_url" | tee -a "$steps"
echo "clients: $(grep -c '^ok ' "$steps") steps passed"
