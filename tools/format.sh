#!/bin/sh
# usage: tools/format.sh [--check]   formats (or checks) every C file that git knows
set -eu
cd "$(dirname "$0")/.."
mode=-i
[ "${1-}" != --check ] || mode='--dry-run -Werror'
# shellcheck disable=SC2086 # two words
find src tests fuzz bench -name '*.[ch]' -print0 2>/dev/null | xargs -0 -r clang-format $mode
