#!/bin/sh
# Creates .venv and installs maskstream into it: `deploy/setup.sh runtime` or `deploy/setup.sh dev`.
# PYTHON names the interpreter to build on; where to find packages is left to pip's own configuration.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
mode=${1:-runtime}

say() { printf '== %s\n' "$*"; }

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if is_recent "$name"; then
            command -v "$name"
            return
        fi
    done
    say "Python >= 3.11 is needed; none of these is: ${PYTHON:-python3, python3.11 and later}. Set PYTHON=/path/to/it." >&2
    exit 1
}

# Prints the version of a torch that is new enough to be kept; fails where there is none.
kept_torch() {
    "$1" - <<'PYTHON'
import re
import sys
from importlib.metadata import PackageNotFoundError, version

try:
    found = version("torch")
except PackageNotFoundError:
    sys.exit(1)
if tuple(map(int, re.findall(r"\d+", found)[:2])) < (2, 6):
    sys.exit(1)
sys.stdout.write(found)
PYTHON
}

make_venv() {
    base=$(find_python)
    site=""
    if torch=$(kept_torch "$base"); then
        say "$base already has torch $torch: .venv will share its packages"
        site=--system-site-packages
    fi
    say "creating .venv with $("$base" --version)"
    if ! "$base" -m venv --clear $site .venv; then
        say "$base cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
}

if ! "$python" -m pip --version >/dev/null 2>&1 || ! is_recent "$python"; then
    make_venv
fi

# The chosen torch is pinned in the same resolver run as all else, so that nothing replaces it.
cp deploy/constraints.txt .venv/constraints.txt
if torch=$(kept_torch "$python"); then
    say "keeping torch $torch"
    { grep -v '^torch' deploy/constraints.txt; echo "torch==$torch"; } >.venv/constraints.txt
fi

case "$mode" in
    runtime) what=. ;;
    dev) what='.[dev]' ;;
    *)
        say "usage: deploy/setup.sh runtime|dev" >&2
        exit 2
        ;;
esac
quiet=-qq
if [ -t 1 ]; then quiet=; fi
say "installing maskstream and what it needs ($mode); minutes on a new machine, seconds later"
# Bytecode is made on first import: compiling every module of every package would cost more than it saves.
"$python" -m pip install $quiet --disable-pip-version-check --no-compile -c .venv/constraints.txt -e "$what"
say "installed, with torch $(kept_torch "$python")"
