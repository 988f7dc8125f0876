#!/bin/sh
# Puts sealane's system files in place, and prepares lanes. Safe to run again: it changes only what differs, says what it
# does, and never touches keys or a lane.toml that is there.
#
#   sudo systemd/install.sh                                 the system files
#   sudo systemd/install.sh gate-7 192.0.2.10 198.51.100.0/28   and lane gate-7, which may talk to these hosts only
#
# The software itself is expected in /opt/sealane (see docs/field-guide.md). DESTDIR installs beneath another root.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=${DESTDIR:-}

say() { printf '%s\n' "$*"; }

put() { # put SOURCE TARGET: copy if it differs
    if cmp -s "$1" "$root$2"; then
        say "same      $2"
    else
        install -D -m 0644 "$1" "$root$2"
        say "written   $2"
    fi
}

folder() { # folder PATH MODE
    if [ -d "$root$1" ]; then
        say "same      $1/"
    else
        install -d -m "$2" "$root$1"
        say "made      $1/"
    fi
}

if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
    say "run it as root: sudo $0 $*" >&2
    exit 1
fi

put "$here/sealane@.service" /etc/systemd/system/sealane@.service
put "$here/sealane.sysusers.conf" /etc/sysusers.d/sealane.conf
put "$here/sealane.tmpfiles.conf" /etc/tmpfiles.d/sealane.conf
put "$here/99-sealane.rules" /etc/udev/rules.d/99-sealane.rules
if [ -z "$root" ]; then
    systemd-sysusers /etc/sysusers.d/sealane.conf
    systemd-tmpfiles --create /etc/tmpfiles.d/sealane.conf
    if command -v udevadm > /dev/null; then
        udevadm control --reload
        udevadm trigger --subsystem-match=tty --subsystem-match=dma_heap
    fi
    systemctl daemon-reload
fi

if [ $# -gt 0 ]; then
    lane=$1
    shift
    case $lane in *[!a-z0-9-]* | -* | '') say "a lane id is made of a-z, 0-9 and -: $lane" >&2; exit 1 ;; esac
    folder "/etc/sealane/$lane" 0755
    folder "/etc/sealane/$lane/private" 0700
    if [ -e "$root/etc/sealane/$lane/lane.toml" ]; then
        say "kept      /etc/sealane/$lane/lane.toml"
    else
        sed -e "s|gate-7|$lane|g" -e "s|^directory = .*|directory = \"/var/lib/sealane/$lane\"|" \
            -e "s|\"/etc/sealane/keys/lane.key\"|\"\$CREDENTIALS_DIRECTORY/private_lane.key\"|" \
            -e "s|\"/etc/sealane/keys/$lane.key\"|\"\$CREDENTIALS_DIRECTORY/private_$lane.key\"|" \
            -e "s|/etc/sealane/keys/|/etc/sealane/$lane/|g" \
            "$here/../docs/lane.toml" > "$root/etc/sealane/$lane/lane.toml"
        say "written   /etc/sealane/$lane/lane.toml: go through it"
    fi
    if [ $# -gt 0 ]; then
        hosts=$(mktemp)
        trap 'rm -f "$hosts"' EXIT
        { say "# Broker, camera, serial server, name and time servers of lane $lane; nothing else is reached."
          say "[Service]"
          for host in "$@"; do say "IPAddressAllow=$host"; done; } > "$hosts"
        put "$hosts" "/etc/systemd/system/sealane@$lane.service.d/hosts.conf"
        [ -n "$root" ] || systemctl daemon-reload
    fi
    say
    say "Next, for lane $lane:"
    say "  private keys      /etc/sealane/$lane/private/   (sealane keys; they stay root's)"
    say "  public keys, CA   /etc/sealane/$lane/"
    say "  its hosts         sudo $0 $lane ADDRESS...   (broker, camera, serial server, name server)"
    say "  start it          sudo systemctl enable --now sealane@$lane"
fi

if [ -z "$root" ] && [ -n "$(awk 'NR > 1' /proc/swaps)" ]; then
    say
    say "This box swaps ($(awk 'NR > 1 { print $1 }' /proc/swaps | tr '\n' ' ')). The lane keeps itself out of it, but a box"
    say "beside a lane needs none: sudo swapoff -a, then take it out of /etc/fstab (Raspberry Pi OS: rpi-swap or dphys-swapfile)."
fi
