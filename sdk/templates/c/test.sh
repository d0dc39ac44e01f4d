#!/bin/sh
# Runs the unit tests on this machine, with sanitizers. Needs a C compiler: cc, or the one that CC names.
set -eu
cd "$(dirname "$0")"
"${CC:-cc}" -DEDGERELAY_TEST -g -Wall -Wextra -fsanitize=address,undefined plugin.c plugin_test.c -o plugin_test
./plugin_test "$@"
