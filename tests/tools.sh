# Sourced by the scripts that use packages of other languages: what they need is installed, pinned, into
# $CIMA_TOOLS_CACHE (default ~/.cache/cima-tools), never into the repository.

cache=${CIMA_TOOLS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cima-tools}
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
mkdir -p "$cache"

# The folder of what is pinned in the given files; another pin is another folder.
folder_for() { # name, files
  local name=$1
  shift
  echo "$cache/$name-$(cat "$@" | sha256sum | cut -c1-12)"
}

# The Python that has the packages of FOLDER/python/requirements.txt.
python_of() { # folder
  local pins=$1/python/requirements.txt venv
  venv=$(folder_for python "$pins")
  if [[ ! -e $venv/ready ]]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement "$pins" >&2
    touch "$venv/ready"
  fi
  echo "$venv/bin/python"
}

# A folder with the packages of FOLDER/node/package.json and the scripts beside it: Node looks for packages beside the
# importing file.
node_of() { # folder
  local folder
  folder=$(folder_for node "$1"/node/package{,-lock}.json)
  if [[ ! -e $folder/ready ]]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$1"/node/package{,-lock}.json "$folder"
    (cd "$folder" && npm ci --silent --no-audit --no-fund >&2)
    touch "$folder/ready"
  fi
  cp "$1"/node/*.mjs "$folder"
  echo "$folder"
}
