#!/bin/sh
# Creates .venv and installs the project there with all extras, from wheels alone (no compiler). `make install` calls it.
# PYTHON names the interpreter; without it the first of python3.12, python3.11, python3 that fits is taken.
# .venv/.installed is written last and holds the seconds it took: without that file nothing counts as installed.
set -eu
cd "$(dirname "$0")/.."

started=$(date +%s)
venv=.venv
stamp=$venv/.installed
fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'

if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3.12 python3.11 python3; fi
for python in "$@"; do
    if "$python" -c "$fits" 2>/dev/null; then break; fi
done
if ! "$python" -c "" 2>/dev/null; then
    echo "No Python 3.11 or 3.12 found as $*. Install one, or name it: make PYTHON=/path/to/python3.12" >&2
    exit 1
fi

rm -f "$stamp"
if ! "$venv/bin/python" -c "$fits" 2>/dev/null; then
    "$python" tools/preflight.py before
    "$python" -m venv --clear "$venv"
fi

echo "Installing into $venv with $("$venv/bin/python" -V): about 2.7 GB to download, 5.3 GB on disk, 2 to 3 minutes on a fast line."
if ! [ -t 1 ]; then # pip draws its bars on terminals only
    (while sleep 15 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
        echo "  ... $(($(date +%s) - started)) s, $(du -sm "$venv" | cut -f1) MB in $venv"
    done) &
    beat=$!
    trap 'kill "$beat" 2>/dev/null' EXIT
    trap 'exit 130' INT TERM
fi
"$venv/bin/python" -m pip install --quiet --only-binary :all: "pip>=25.1"
"$venv/bin/python" -m pip install --only-binary :all: --editable ".[all]"
"$venv/bin/python" tools/preflight.py after

echo $(($(date +%s) - started)) >"$stamp.part"
mv "$stamp.part" "$stamp"
echo "Installed in $(cat "$stamp") s."
