#!/usr/bin/env bash
# Plays the story of both foreign clients against a running server, and the first clients of README.md as they stand
# there:
#
#     tests/clients/run.sh http://127.0.0.1:8080 [http://127.0.0.1:8081]
#
# The second address is the contact's node, if it is another one. What the clients need is installed, pinned, into
# $CIMA_TOOLS_CACHE (default ~/.cache/cima-tools), never into the repository.
set -euo pipefail

usage='usage: run.sh URL [CONTACT_URL], such as run.sh http://127.0.0.1:8080'
url=${1:?$usage}
contact_url=${2:-$url}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../tools.sh"
python=$(python_of "$here") || { echo 'clients: the Python packages could not be installed' >&2; exit 1; }
node=$(node_of "$here") || { echo 'clients: the Node packages could not be installed' >&2; exit 1; }
steps=$(mktemp)
trap 'rm -f "$steps"' EXIT

"$python" "$here/python/story.py" --url "$url" --contact-url "$contact_url" | tee -a "$steps"
node "$node/story.mjs" --url "$url" --contact-url "$contact_url" | tee -a "$steps"
"$python" "$here/python/readme.py" "$here/../../README.md" "$url" "$node" | tee -a "$steps"
echo "clients: $(grep -c '^ok ' "$steps") steps passed"
