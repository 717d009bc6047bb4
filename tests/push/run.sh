#!/usr/bin/env bash
# Holds push to code that nobody here wrote: http-ece and py-vapid read what cima sends, standardwebhooks verifies its
# signatures; pywebpush, aioapns and firebase-admin send to the fakes of Web Push, APNs and FCM. What this needs is
# installed, pinned, into $CIMA_TOOLS_CACHE (default ~/.cache/cima-tools), never into the repository.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../tools.sh"
python=$(python_of "$here") || { echo 'push: the Python packages could not be installed' >&2; exit 1; }
cd "$here/../.."
steps=$(mktemp)
trap 'rm -f "$steps"' EXIT
CIMA_PUSH_PYTHON=$python cargo test --quiet --test it push::foreign -- --ignored --nocapture | tee "$steps"
echo "push: $(grep -c '^ok ' "$steps") steps passed"
