#!/bin/sh
# Brings the two things `make test` uses that pip cannot install:  sh tools/install_system.sh
#   chromium               a browser for tests/browser (Debian/Ubuntu package)
#   dataset-fashion-mnist  the real Fashion-MNIST, laid out as torchvision lays out its own download
# On a machine without apt, or without the right to use it, this says what it left out and succeeds: the tests that need
# the missing part then skip, and say so. Where CI is set they fail instead. Safe to run again; then it does nothing.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
raw="${MINIDIFF_DATA:-$root/data}/FashionMNIST/raw"
files="train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte"

have_browser() {
    for name in chromium chromium-browser google-chrome; do
        if command -v "$name" >/dev/null 2>&1; then return 0; fi
    done
    return 1
}

have_fashion() {
    for file in $files; do
        [ -s "$raw/$file" ] || return 1
    done
}

have_package() { dpkg -s "$1" >/dev/null 2>&1; }

apt_install() { # one package; succeeds quietly, or says why not and fails
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "skipped $1: this machine has no apt-get"
        return 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        echo "skipped $1: needs root (sudo sh tools/install_system.sh)"
        return 1
    fi
    apt="apt-get -q -y -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3"
    if ! apt-cache show "$1" >/dev/null 2>&1; then $apt update >/dev/null 2>&1 || true; fi
    if ! DEBIAN_FRONTEND=noninteractive $apt install --no-install-recommends "$1" >/dev/null 2>&1; then
        # Package lists grow stale, and then point at files that the mirror no longer has.
        $apt update >/dev/null 2>&1 || true
        if ! log=$(DEBIAN_FRONTEND=noninteractive $apt install --no-install-recommends "$1" 2>&1); then
            echo "skipped $1: apt-get could not install it: $(echo "$log" | tail -n 1)"
            return 1
        fi
    fi
    echo "installed $1"
}

unpack_fashion() {
    mkdir -p "$raw"
    for file in $files; do
        source=$(dpkg -L dataset-fashion-mnist | grep "/$file.gz\$")
        gunzip -c "$source" >"$raw/$file.part" # renamed when whole: an interrupted run leaves no half file behind
        mv "$raw/$file.part" "$raw/$file"
    done
}

if have_browser; then
    echo "chromium: present"
else
    apt_install chromium || true
fi

if have_fashion; then
    echo "Fashion-MNIST: present in $raw"
elif { command -v dpkg >/dev/null 2>&1 && have_package dataset-fashion-mnist; } || apt_install dataset-fashion-mnist; then
    unpack_fashion
    echo "Fashion-MNIST: unpacked into $raw"
fi
