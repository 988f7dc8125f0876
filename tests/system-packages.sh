#!/bin/sh
# Installs the Debian packages that the tests use as real peers, or those that are named. Without root it only says what
# is missing.
set -eu
wanted="${*:-mosquitto mosquitto-clients softhsm2 mbpoll ffmpeg systemd postgresql strace
  python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly}"
missing=""
for package in $wanted; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
  echo "These packages are missing:$missing" >&2
  echo "Install them with: sudo apt-get install --no-install-recommends$missing" >&2
  exit 1
fi
echo "Installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
