#!/bin/sh
# Sets up what the Makefile needs: a Python environment, and Debian packages where it may install them.
#   setup.sh VENV                         make the environment
#   setup.sh --host-packages GROUP...     make sure the packages of these groups are there
set -eu

EMULATION="qemu-system-arm qemu-utils e2fsprogs fakeroot kmod openssh-client debian-archive-keyring"
TESTS="openssh-server chromium"
COMPILER="gcc libc6-dev"  # for the counting plugin of docs/estimates.md, which does without: wanted, not needed

say() { printf '%s\n' "$*" >&2; }

# Prints the packages of the arguments that dpkg doesn't know as installed.
missing_packages() {
    for package in "$@"; do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed' || printf '%s ' "$package"
    done
}

# Says whether there is a compiler with the headers of the C library.
compiles() { printf '#include <stdio.h>\n' | cc -E -x c - >/dev/null 2>&1; }

# Says whether packages can be installed: as root, or through a sudo that asks nothing, which `become` then names.
may_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" = 0 ]; then become=""; else become="sudo"; sudo -n true 2>/dev/null; fi
}

# Installs packages, else says the one line that would.
install_packages() {
    [ $# -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        say "This host has no apt. Install what these Debian packages hold, then try again: $*"
        exit 1
    fi
    if ! may_install; then
        say "Missing packages. Install them, then try again: sudo apt-get install --no-install-recommends $*"
        exit 1
    fi
    say "installing $*"
    log=$(mktemp)
    if ! { $become apt-get -qq update &&
           $become env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "$@"; } >"$log" 2>&1
    then
        tail -n 20 "$log" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
}

host_packages() {
    wanted="" compiler=""
    for group in "$@"; do
        case $group in
            emulation) wanted="$wanted $EMULATION" compiler="$COMPILER" ;;
            tests) wanted="$wanted $TESTS" ;;
            *) say "setup.sh: unknown group $group"; exit 2 ;;
        esac
    done
    if ! command -v dpkg-query >/dev/null 2>&1; then
        say "This host is neither Debian nor Ubuntu: the emulated board can't be built here. --device local works."
        exit 1
    fi
    if compiles || ! may_install; then optional=""; else optional=$compiler; fi
    # shellcheck disable=SC2086
    missing=$(missing_packages $wanted)
    # shellcheck disable=SC2086
    if [ -n "$missing" ]; then
        install_packages $missing $(missing_packages $optional)
    elif [ -n "$optional" ]; then
        (install_packages $optional) 2>/dev/null || :
    fi
    if [ -n "$compiler" ] && ! compiles; then
        say "No C compiler: estimated milliseconds will be coarser. For finer ones: apt-get install $compiler"
    fi
}

environment() {
    venv=$1
    python=${PYTHON:-python3}
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        say "Python 3.11 or newer is needed (found: $("$python" --version 2>&1 || echo none)). Set PYTHON=/path/to/it."
        exit 1
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages python3-venv
    fi
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    say "setting up $venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
    touch "$venv/.ready"
}

if [ "${1:-}" = --host-packages ]; then
    shift
    host_packages "$@"
else
    environment "${1:-.venv}"
fi
