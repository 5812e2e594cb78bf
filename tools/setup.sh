#!/bin/sh
# Makes the virtual environment and installs minidiff into it:  sh tools/setup.sh VENV EXTRA   (EXTRA is lab or dev)
# PIP_OPTIONS in the environment is handed to pip, word by word.
# The Makefile calls this only when pyproject.toml or constraints.txt is newer than the stamp that the last line writes,
# so an install that stops half-way leaves no stamp and is taken up again by the next call.
set -eu

venv=$1
extra=$2

# A name on the PATH is not enough: version managers leave names behind that do not run, and some systems ship a
# Python without venv. So each candidate has to prove itself.
usable='import sys, venv, ensurepip; sys.exit(not sys.version_info >= (3, 11))'
find_python() {
    for name in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
        if "$name" -c "$usable" >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    echo "minidiff needs Python 3.11 or newer with its venv module, and found none (tried: ${PYTHON:-python3.14 ... python3.11, python3, python})." >&2
    echo "Install it (Debian/Ubuntu: apt-get install python3 python3-venv; macOS: brew install python@3.12)," >&2
    echo "or name one yourself: make ${MAKECMDGOALS:-lab} PYTHON=/path/to/python3.12" >&2
    exit 1
}

if ! "$venv/bin/python" -c "$usable" >/dev/null 2>&1 || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "Making $venv with $python ($("$python" --version 2>&1))"
    "$python" -m venv --clear "$venv"
fi

rm -f "$venv/.installed-lab" "$venv/.installed-$extra"
echo "Installing minidiff[$extra] with the versions of constraints.txt (the first time: a few GB and some minutes)"
# shellcheck disable=SC2086 # options are words
"$venv/bin/python" -m pip install --quiet ${PIP_OPTIONS:-} --constraint constraints.txt --editable ".[$extra]"
if [ "$extra" != lab ]; then
    touch "$venv/.installed-lab" # every extra contains what the notebooks need
fi
touch "$venv/.installed-$extra"
