#!/usr/bin/env bash
# ctl.sh start DIR PORT BROKERPORT: builds the proxy where need be and starts it, with
#   its control socket, its events (events) and its process id in DIR.
# ctl.sh send DIR COMMAND...: one command, and its answer; fails on an error.
# ctl.sh stop DIR
# See proxy.c for the commands and README.md for how to use it.
. "$(dirname "$0")/../rig/env.sh"

[ $# -ge 2 ] || die "usage: ctl.sh start DIR PORT BROKERPORT | send DIR COMMAND... | stop DIR"
verb=$1
dir=$(realpath -m "$2")
shift 2

# One command through the control socket.
send_command() {
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(300)
s.connect(sys.argv[1])
s.sendall((" ".join(sys.argv[2:]) + "\n").encode())
answer = s.makefile().readline().strip()
print(answer)
sys.exit(not answer.startswith("ok"))' "$dir/control" "$@"
}

case $verb in
	start)
		[ $# -eq 2 ] || die "usage: ctl.sh start DIR PORT BROKERPORT"
		mkdir -p "$dir" || die "cannot make $dir"
		gcc -O1 -g -Wall -o "$dir/proxy" "$(dirname "$0")/proxy.c" || die "cannot build the proxy"
		rm -f "$dir/control"
		setsid "$dir/proxy" "$1" "$2" "$dir/control" >"$dir/events" 2>&1 </dev/null &
		echo $! >"$dir/pid"
		wait_for 5 grep -q ready "$dir/events" || { cat "$dir/events"; die "the proxy did not start"; }
		;;
	send) send_command "$@" ;;
	stop) send_command quit >/dev/null 2>&1 || kill "$(cat "$dir/pid")" ;;
	*) die "unknown command $verb" ;;
esac
