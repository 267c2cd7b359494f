#!/bin/sh
# Installs the camera server that the RTSP tests talk to, where this user may; else says that they will be skipped.
# The product itself needs no system package.
set -eu
packages="python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"

say() { printf '== %s\n' "$*"; }

skip() {
    say "!!! $1" >&2
    say "!!! tests against the GStreamer RTSP server will be SKIPPED; they need:" $packages >&2
    exit 0
}

missing=""
if command -v dpkg-query >/dev/null; then
    for package in $packages; do
        status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
        [ "$status" = "install ok installed" ] || missing="$missing $package"
    done
    [ -n "$missing" ] || exit 0
elif /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null; then
    exit 0
fi

command -v apt-get >/dev/null || skip "apt-get is not here"
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || skip "neither root nor sudo without a password"
    as_root="sudo -n"
fi
say "installing system packages for the RTSP tests:$missing"
export DEBIAN_FRONTEND=noninteractive
install() { $as_root apt-get install -qq -y --no-install-recommends $missing >/dev/null; }
install 2>/dev/null || { $as_root apt-get update -qq && install; } || skip "apt-get could not install:$missing"
