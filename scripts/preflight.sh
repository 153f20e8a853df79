#!/bin/sh
# Prints a Python >= 3.11 that can make virtual environments; names what is missing and its fix.
# PYTHON=/path/to/python chooses one.
set -eu

fail() {
    printf 'missing: %s\nfix:     %s\n' "$1" "$2" >&2
    exit 1
}

case "$(uname -s)" in
    Darwin) get_python='brew install python@3.13'; get_venv='brew install python@3.13'; get_compiler='xcode-select --install' ;;
    *)
        get_python='Debian 12+, Ubuntu 24.04+: sudo apt install python3 python3-venv (or PYTHON=/path/to/python3.11)'
        get_venv='Debian, Ubuntu: sudo apt install python3-venv'
        get_compiler='Debian, Ubuntu: sudo apt install build-essential; Fedora: sudo dnf install gcc-c++ make' ;;
esac

python=''
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail "Python 3.11 or newer (looked for ${PYTHON:-python3, python3.13, python3.12, python3.11})" "$get_python"
"$python" -c 'import venv, ensurepip' >/dev/null 2>&1 || fail "the venv module of $python" "$get_venv"
for kind in "${CC:-cc}:C" "${CXX:-c++}:C++"; do
    compiler=${kind%:*}
    command -v "${compiler%% *}" >/dev/null 2>&1 || fail "a ${kind##*:} compiler ($compiler), which llama.cpp is compiled with" "$get_compiler"
done
echo "$python"
