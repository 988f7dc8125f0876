#!/bin/sh
# Puts sealane's system files in place, and prepares lanes or a collector. Safe to run again: it changes only what differs,
# says what it does, and never touches keys, a lane.toml or a collector.env that is there.
#
#   sudo systemd/install.sh                                 a lane box's system files
#   sudo systemd/install.sh gate-7 192.0.2.10 198.51.100.0/28   and lane gate-7, which may talk to these hosts only: they
#                                                           take the place of those named before
#   sudo systemd/install.sh --collector 192.0.2.10          a collector, which may talk to this host only
#
# The software itself is expected in /opt/sealane (see docs/field-guide.md). DESTDIR installs beneath another root.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=${DESTDIR:-}

say() { printf '%s\n' "$*"; }

refuse() {
    say "$1" >&2
    exit 1
}

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

documents() { # documents NAME...: for whoever stands beside the box, where the unit says they are
    for name in "$@"; do put "$here/../docs/$name" "/opt/sealane/docs/$name"; done
}

hosts() { # hosts UNIT ADDRESS...: the drop-in that names whom a service may talk to
    unit=$1
    shift
    [ $# -gt 0 ] || return 0
    list=$(mktemp)
    trap 'rm -f "$list"' EXIT
    { say "# Whom $unit may talk to; nothing else is reached."
      say "[Service]"
      for host in "$@"; do say "IPAddressAllow=$host"; done; } > "$list"
    put "$list" "/etc/systemd/system/$unit.service.d/hosts.conf"
}

what=${1:-}
case $what in
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
    --collector) ;;
    *[!a-z0-9-]* | -*) refuse "a lane id is made of a-z, 0-9 and -: $what" ;;
    ?????????????????????????????????*) refuse "a lane id has 32 characters at most: $what" ;;
esac
[ $# -eq 0 ] || shift
for host in "$@"; do
    python3 -c 'import ipaddress, sys; ipaddress.ip_network(sys.argv[1], strict=False)' "$host" 2> /dev/null ||
        refuse "an address is needed, or a network such as 198.51.100.0/28: $host"
done
[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || refuse "run it as root: sudo $0 $what $*"

if [ "$what" = --collector ]; then
    put "$here/sealane-collector.service" /etc/systemd/system/sealane-collector.service
    documents owner-guide.md errors.md
    folder /etc/sealane-collector 0755
    folder /etc/sealane-collector/private 0700
    if [ -e "$root/etc/sealane-collector/collector.env" ]; then
        say "kept      /etc/sealane-collector/collector.env"
    else
        put "$here/collector.env" /etc/sealane-collector/collector.env
    fi
    hosts sealane-collector "$@"
    [ -n "$root" ] || systemctl daemon-reload
    say
    say "Next, for the collector:"
    say "  options           /etc/sealane-collector/collector.env"
    say "  private keys      /etc/sealane-collector/private/   collector and collector.central.key (they stay root's)"
    say "  certificates      /etc/sealane-collector/           ca.pem, collector.central.pem and root.json"
    say "  its hosts         sudo $0 --collector ADDRESS...   (broker, database, name server)"
    say "  start it          sudo systemctl enable --now sealane-collector"
    exit
fi

put "$here/sealane@.service" /etc/systemd/system/sealane@.service
put "$here/sealane.sysusers.conf" /etc/sysusers.d/sealane.conf
put "$here/sealane.tmpfiles.conf" /etc/tmpfiles.d/sealane.conf
put "$here/99-sealane.rules" /etc/udev/rules.d/99-sealane.rules
documents field-guide.md errors.md
if [ -z "$root" ]; then
    systemd-sysusers /etc/sysusers.d/sealane.conf
    systemd-tmpfiles --create /etc/tmpfiles.d/sealane.conf
    if command -v udevadm > /dev/null; then
        udevadm control --reload
        udevadm trigger --subsystem-match=tty --subsystem-match=dma_heap
    fi
    systemctl daemon-reload
fi

if [ -n "$what" ]; then
    lane=$what
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
    hosts "sealane@$lane" "$@"
    [ -n "$root" ] || systemctl daemon-reload
    say
    say "Next, for lane $lane:"
    say "  settings          /etc/sealane/$lane/lane.toml"
    say "  its hosts         sudo $0 $lane ADDRESS...   (broker, camera, serial server, name server)"
    say "  enrol it          sudo /opt/sealane/bin/sealane enrol --config /etc/sealane/$lane/lane.toml"
    say "                    (private keys go to /etc/sealane/$lane/private/ and stay root's)"
    say "  start it          sudo systemctl enable --now sealane@$lane"
fi

if [ -z "$root" ] && [ -n "$(awk 'NR > 1' /proc/swaps)" ]; then
    say
    say "This box swaps ($(awk 'NR > 1 { print $1 }' /proc/swaps | tr '\n' ' ')). The lane keeps itself out of it, but a box"
    say "beside a lane needs none: sudo swapoff -a, then take it out of /etc/fstab (Raspberry Pi OS: rpi-swap or dphys-swapfile)."
fi
