#!/bin/sh
# From an empty folder to a passing course: the rehearsal that shows a missing install step.
#   sh tools/fresh_clone.sh            clone, make lab (until the start page is served), make test; prints the seconds
#   sh tools/fresh_clone.sh --quick    the same with make fast in place of make test
# Run it by hand or nightly. It is no part of `make test`, which it calls. What is not committed is not cloned.
set -eu

target=test
[ "${1:-}" = --quick ] && target=fast
here=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
cleanup() { rm -rf "$folder"; }
trap cleanup EXIT
trap 'exit 130' INT TERM

clock() { date +%s; }
begin=$(clock)
git clone --quiet "$here" "$folder/minidiff"
cd "$folder/minidiff"
echo "clone: $(($(clock) - begin)) s ($(git rev-parse --short HEAD))"

python3 tools/knock.py make lab
printf "again, "
python3 tools/knock.py make lab

begin=$(clock)
make "$target"
echo "make $target: $(($(clock) - begin)) s"
begin=$(clock)
make setup
echo "make setup again, nothing changed: $(($(clock) - begin)) s"
