"""What runs on a device to install, start, prove and remove its agent: POSIX sh, and the Python that is there.

The folder is the agent's home:  software/<kit id>/ (a venv)  agent -> software/<kit id>  kit/ (while it comes)  run/  proof
How the agent is kept alive: `system` (a systemd unit; root's, or by sudo one that runs as the login), `user` (a user unit with
linger), else `supervised` (a loop). By sudo nothing but the service is root's: files, software and agent stay the login's own.
"""

from __future__ import annotations

# $1: the Python version the kit is for  $2: "sudo" where a service of the system is wished for
SURVEY = r"""LC_ALL=C; export LC_ALL
u=$(id -u); me=$(id -un); mode=supervised; login=
if [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; then
 if [ "$u" = 0 ]; then mode=system
 elif [ "$2" = sudo ] || grep -qxF "User=$me" /etc/systemd/system/fieldops-agent.service 2>/dev/null; then mode=system; login=$me
 elif XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$u} systemctl --user show-environment >/dev/null 2>&1 &&
  { [ -f "/var/lib/systemd/linger/$(id -un)" ] || loginctl enable-linger >/dev/null 2>&1; }; then mode=user; fi
fi
if [ -n "${FIELDOPS_AGENT_HOME:-}" ]; then b=$FIELDOPS_AGENT_HOME
elif [ "$mode$login" = system ]; then b=/var/lib/fieldops-agent
else b=${XDG_DATA_HOME:-$HOME/.local/share}/fieldops-agent; fi
d=$b; while [ ! -d "$d" ]; do d=${d%/*}; [ -n "$d" ] || d=/; done
echo "uid=$u"; echo "login=$login"; echo "mode=$mode"; echo "base=$b"; echo "machine=$(uname -m)"
echo "free=$(df -Pk "$d" | { read -r _; read -r _ _ _ a _; echo "$a"; })"
for p in "python$1" "/usr/bin/python$1" "/usr/local/bin/python$1" python3; do
 w=$(command -v "$p" 2>/dev/null) || continue
 v=$("$w" -c 'import sys, venv, platform; print("%d.%d" % sys.version_info[:2], *(platform.libc_ver() if platform.libc_ver()[0] else ("musl", "0")), 64 if sys.maxsize > 2**32 else 32)' 2>/dev/null) || continue
 echo "python=$w $v"
done
l=$(readlink "$b/agent" 2>/dev/null) && echo "software=${l##*/}"
[ -f "$b/software/${l##*/}/.whole" ] && echo "whole=1"
for d in "$b"/agent/lib/python*/site-packages/fieldops-*.dist-info; do [ -d "$d" ] && { v=${d##*/fieldops-}; echo "version=${v%.dist-info}"; }; done
if command -v crontab >/dev/null 2>&1; then echo cron=1; else echo cron=0; fi
echo end=1
"""

PREPARE = 'umask 077; mkdir -p "$1/kit" && rm -f "$1/proof"'

# $1 home  $2 kit id  $3 python
INSTALL = r"""set -eu; umask 077; b=$1 s=$1/software/$2
[ -f "$s/.whole" ] && { rm -rf "$b/kit"; exit 0; }
rm -rf "$s"
"$3" -m venv --without-pip "$s"
set -- "$b"/kit/pip-*.whl
"$s/bin/python" "$1/pip" --quiet --disable-pip-version-check --no-cache-dir install --no-index --require-hashes --no-deps --no-compile \
 --no-warn-script-location --find-links "$b/kit" --requirement "$b/kit/requirements.txt" 2>&1
FIELDOPS_AGENT_RUNTIME=$b/run XDG_CACHE_HOME=$b/cache "$s/bin/python" -m fieldops.agent selftest --home "$b" 2>&1
sync; : >"$s/.whole"; sync
rm -rf "$b/kit"
"""

_COMMON = r"""set -u; umask 077; LC_ALL=C; export LC_ALL
b=$1 mode=$2 login=$3
r=$b/run; [ "$mode$login" = system ] && r=/run/fieldops-agent
own() { if [ -n "$login" ]; then sudo -n -u "$login" -- "$@"; else "$@"; fi; }  # as the login, where sudo made this shell root's
: "${XDG_RUNTIME_DIR:=/run/user/$(id -u)}"; export XDG_RUNTIME_DIR
ctl() { if [ "$mode" = user ]; then systemctl --user "$@"; else systemctl "$@"; fi; }
unit=/etc/systemd/system/fieldops-agent.service
[ "$mode" = user ] && unit=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user/fieldops-agent.service
nap() { sleep 0.1 2>/dev/null || sleep 1; }
now() { date +%s; }
alive() { [ -n "${1:-}" ] && kill -0 "$1" 2>/dev/null; }
read_pid() { cat "$b/$1" 2>/dev/null; }
agent_pid() { if [ "$mode" = supervised ]; then read_pid agent.pid; else ctl show -p MainPID --value fieldops-agent; fi; }
answers() { own "$b/agent/bin/python" -c 'import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(3); s.connect(sys.argv[1])
s.sendall(b"GET /v1/hello HTTP/1.0\r\nHost: agent\r\n\r\n"); sys.exit(b" 200 " not in s.recv(64))' "$r/agent.sock" 2>/dev/null; }
wait_answer() { e=$(($(now) + $1)); while [ "$(now)" -lt $e ]; do answers && return 0; nap; done; return 1; }
start() { if [ "$mode" = supervised ]; then
  alive "$(read_pid supervise.pid)" || if command -v setsid >/dev/null 2>&1; then setsid sh "$b/supervise" </dev/null >/dev/null 2>&1 &
  else ( trap '' HUP; sh "$b/supervise" </dev/null >/dev/null 2>&1 & ); fi
 else ctl daemon-reload && ctl enable --quiet fieldops-agent && ctl restart fieldops-agent; fi; }
stop() { if [ "$mode" = supervised ]; then
  p=$(read_pid supervise.pid); a=$(read_pid agent.pid)
  alive "$p" && kill "$p"
  e=$(($(now) + 10)); while { alive "$p" || alive "$a"; } && [ "$(now)" -lt $e ]; do nap; done
  alive "$a" && kill -9 "$a"; rm -f "$b/supervise.pid" "$b/agent.pid"
 else ctl disable --quiet --now fieldops-agent 2>/dev/null; fi; return 0; }
point() { own "$b/software/$1/bin/python" -c 'import os, sys
new = sys.argv[1] + "/agent.new"
if os.path.lexists(new): os.unlink(new)
os.symlink("software/" + sys.argv[2], new); os.replace(new, sys.argv[1] + "/agent")' "$b" "$1"; }
"""

# $1 home  $2 mode  $3 login or empty  $4 kit id  $5 agent.toml when there is none  $6 the supervisor or the unit  $7 cron or empty
SWITCH = (
    _COMMON
    + r"""
id=$4; old=$(readlink "$b/agent" 2>/dev/null); old=${old##*/}
[ "$mode$login" = system ] || own mkdir -p "$r"
own sh -c 'umask 077; [ -f "$1" ] || { printf %s "$2" >"$1.part" && mv "$1.part" "$1"; }
grep -q "^\[service\]" "$1" || printf "\n[service]\nkind = \"%s\"\n" "$3" >>"$1"' sh "$b/agent.toml" "$5" "$mode" || exit 1
stop
if [ "$mode" = supervised ]; then printf %s "$6" >"$b/supervise"
 [ -n "$7" ] && { { crontab -l 2>/dev/null | grep -vF "$b/supervise"; echo "@reboot /bin/sh $b/supervise"; } | crontab -; }
else mkdir -p "${unit%/*}"; printf %s "$6" >"$unit"; chmod 644 "$unit"; fi
rm -f "$b/upgrade.json" "$b/upgrade.over"  # a person says what runs; nothing else is on trial any more
point "$id" || exit 1
sync; start
if wait_answer 60; then
 for d in "$b"/software/*; do case ${d##*/} in "$id"|"$old") ;; *) own rm -rf "$d";; esac; done
 exit 0
fi
tail -n 5 "$b/agent.log" 2>/dev/null >&2
if [ -n "$old" ] && [ "$old" != "$id" ] && [ -f "$b/software/$old/.whole" ]; then
 stop; point "$old"; start; wait_answer 60 && { echo "back at $old" >&2; exit 3; }
fi
exit 2
"""
)

# $1 home  $2 mode  $3 login or empty: ends the agent as its service would, and waits for another process to answer
RESTART = (
    _COMMON
    + r"""
before=$(agent_pid)
if [ "$mode" = supervised ]; then alive "$before" && kill "$before"; else ctl restart fieldops-agent; fi
e=$(($(now) + 60)); seen=$before; ended=-1  # three starts that ended at once say enough
while [ "$(now)" -lt $e ] && [ $ended -lt 3 ]; do
 p=$(agent_pid); case $p in ""|0|"$before") nap; continue;; esac
 answers && { echo "$before $p"; exit 0; }
 [ "$p" = "$seen" ] || { seen=$p; ended=$((ended+1)); }
 nap
done
exit 1
"""
)

# $1 home  $2 what was proved
PROVED = 'umask 077; b=$1; printf "%s\\n" "$2" >"$b/proof.part" && mv "$b/proof.part" "$b/proof" && sync'

# $1 home  $2 mode  $3 login or empty
RETIRE = (
    _COMMON
    + r"""
stop
if [ "$mode" = supervised ]; then
 command -v crontab >/dev/null 2>&1 && crontab -l 2>/dev/null | grep -qF "$b/supervise" && { crontab -l | grep -vF "$b/supervise" | crontab -; }
else rm -f "$unit"; ctl daemon-reload; fi
[ "$mode$login" = system ] && rm -rf "$r"
exit 0
"""
)

# $1 home
ERASE = r"""b=$1; rm -rf "$b"; p=${b%/*}
while [ -n "$p" ] && [ "$p" != "$HOME" ] && [ "$p" != /var/lib ] && rmdir "$p" 2>/dev/null; do p=${p%/*}; done
[ ! -e "$b" ]
"""


def supervisor(base: str) -> str:
    """Starts the agent again whenever it ends, slower each time until it has run for a minute."""
    return f"""#!/bin/sh
# Keeps the fieldops agent running; written by `fieldops device enrol`.
b={base}
p=$(cat "$b/supervise.pid" 2>/dev/null) && [ "$p" != $$ ] && kill -0 "$p" 2>/dev/null && exit 0
umask 077; echo $$ >"$b/supervise.pid"; c=
trap '[ -n "$c" ] && kill "$c" 2>/dev/null; wait; rm -f "$b/supervise.pid" "$b/agent.pid"; exit 0' TERM INT
trap '' HUP
unset FIELDOPS_AGENT_RUNTIME  # agent.toml says where
XDG_CACHE_HOME=$b/cache; export XDG_CACHE_HOME  # what the runtime writes goes with the rest
n=1
while :; do
 t=$(date +%s)
 [ -f "$b/agent.log" ] && [ "$(wc -c <"$b/agent.log")" -gt 1000000 ] && mv -f "$b/agent.log" "$b/agent.log.1"
 "$b/agent/bin/python" -m fieldops.agent serve --home "$b" </dev/null >>"$b/agent.log" 2>&1 &
 c=$!; echo $c >"$b/agent.pid"; wait $c; c=
 [ $(($(date +%s) - t)) -gt 60 ] && n=1
 sleep $n & wait $!
 [ $n -lt 60 ] && n=$((n * 2))
done
"""


def unit(base: str, mode: str, login: str = "") -> str:
    """The systemd unit: of the system (as root, or as this login), or of one user."""
    of_system, of_root = mode == "system", mode == "system" and not login
    return f"""[Unit]
Description=fieldops agent
{"After=network.target" if of_system else ""}
StartLimitIntervalSec=0

[Service]
ExecStart={base}/agent/bin/python -m fieldops.agent serve --home {base}
Restart=always
RestartSec=3
UMask=0077
Environment=XDG_CACHE_HOME={base}/cache
{f"User={login}" if login else ""}
{"RuntimeDirectory=fieldops-agent" if of_root else ""}
{"RuntimeDirectoryMode=0755" if of_root else ""}

[Install]
WantedBy={"multi-user" if of_system else "default"}.target
"""
