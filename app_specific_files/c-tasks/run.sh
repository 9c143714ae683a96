#!/bin/sh
# Builds the programs of this app once per node and version of their source, then becomes the one that was asked for.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
version=$(cat "$here"/*.c "$here"/*.h "$here"/Makefile | cksum | tr ' ' '-')
built=${TMPDIR:-/tmp}/c-tasks-$(id -u)-$version
if [ ! -e "$built/done" ]; then
    fresh=$(mktemp -d)
    make -s -C "$here" BUILD="$fresh" >&2
    touch "$fresh/done"
    mv -T "$fresh" "$built" 2>/dev/null || rm -rf "$fresh" # another run was faster
fi
if [ "$(stat -c %u "$built")" != "$(id -u)" ]; then
    echo "$built is not ours" >&2
    exit 1
fi
program=$1
shift
exec "$built/$program" "$@"
