#!/bin/sh
# Makes a Debian userland for guests without a disk: python3, gdb, luajit, openssl, gcc. Nothing
# needs privileges; no package's scripts run.
#
# usage: tools/userland.sh DIR
#
# Gives DIR/userland.tar. One that is there already, and not older than this script, is left alone.
set -eu

[ $# -eq 1 ] || {
    echo "usage: tools/userland.sh DIR" >&2
    exit 2
}
[ "$1/userland.tar" -nt "$0" ] && exit 0
packages=base-files,bash,coreutils,dash,gzip,libc-bin,python3,gdb-minimal,luajit,openssl,gcc,libc6-dev
mkdir -p "$1"
mmdebstrap --quiet --format=tar --variant=extract --include=$packages \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$1/userland.part"
mv "$1/userland.part" "$1/userland.tar"
