#!/usr/bin/env bash
# cluster.sh start|stop|restart|kill|destroy|status DIR PORT [NAME=VALUE ...]
#
# A throw-away PostgreSQL cluster that preloads kstream, with all its files and
# its socket in DIR, listening on 127.0.0.1:PORT as well; never as root.  start
# makes it on first use and leaves it running; started again on the same DIR it
# goes on with its data.  NAME=VALUE are settings, remembered until others are
# given.  stop is a fast shutdown, kill SIGKILL of the postmaster (waits until
# its children are gone too), destroy kills and removes DIR.
#
# Connect with: psql -h DIR -p PORT -U postgres
#
# KS_PGROOT: the private installation to use (see pgroot.sh).  KS_FSYNC=on for
# tests of crashes of the machine; KS_PRELOAD, when empty, preloads nothing.
. "$(dirname "$0")/env.sh"

[ $# -ge 3 ] || die "usage: cluster.sh start|stop|restart|kill|destroy|status DIR PORT [NAME=VALUE ...]"
verb=$1
dir=$(realpath -m "$2")
port=$3
shift 3
ks_use_pg
data=$dir/data
cd /

# The postmaster's process id, or nothing when it is not running.
postmaster_pid() {
	local pid
	pid=$(as_server head -1 "$data/postmaster.pid" 2>/dev/null) || return 0
	if alive "$pid" && [ "$(as_server readlink "/proc/$pid/cwd" 2>/dev/null)" = "$(readlink -f "$data")" ]; then
		echo "$pid"
	fi
}

# Makes the cluster.  Synchronous writes are off: tests kill processes, not machines.
make_cluster() {
	server_dir "$dir" || die "cannot make $dir"
	as_server initdb -D "$data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync \
		>"$dir/initdb.out" 2>&1 </dev/null || { cat "$dir/initdb.out"; die "initdb failed"; }
	as_server sh -c 'cat >>"$1"; : >"$2"' sh "$data/postgresql.conf" "$data/rig.conf" <<-EOF
		listen_addresses = '127.0.0.1'
		port = $port
		unix_socket_directories = '$dir'
		shared_preload_libraries = '${KS_PRELOAD-kstream}'
		fsync = ${KS_FSYNC:-off}
		max_connections = 60
		max_worker_processes = 32
		shared_buffers = 128MB
		max_wal_size = 1GB
		log_line_prefix = '%m [%p] %b %d '
		log_min_messages = info
		restart_after_crash = on
		include = 'rig.conf'
	EOF
}

# Remembers settings for this and the following starts.
write_settings() {
	local setting
	[ $# -gt 0 ] || return 0
	for setting in "$@"; do
		printf "%s = '%s'\n" "${setting%%=*}" "$(printf %s "${setting#*=}" | sed "s/'/''/g")"
	done | as_server sh -c 'cat >"$1"' sh "$data/rig.conf"
}

# Starts the server and waits until it takes connections.
start_cluster() {
	[ -e "$data/PG_VERSION" ] || as_server test -e "$data/PG_VERSION" || make_cluster
	write_settings "$@"
	[ -z "$(postmaster_pid)" ] || return 0
	if ! as_server pg_ctl -D "$data" -l "$dir/server.log" -w -t 60 -s start </dev/null >"$dir/start.out" 2>&1; then
		cat "$dir/start.out"
		as_server tail -20 "$dir/server.log"
		die "the server did not start"
	fi
}

# SIGKILL to the postmaster; its children notice and go.  A dead process that
# init has not collected yet still counts as a running postmaster for the next
# start: wait for that too, and take the lock file away where nobody collects.
kill_cluster() {
	local pid children
	pid=$(postmaster_pid)
	[ -n "$pid" ] || return 0
	children=$(pgrep -P "$pid" | tr '\n' ' ')
	kill -9 "$pid"
	wait_for 15 all_gone "$pid" $children || { kill -9 $children; wait_for 5 all_gone $children; } 2>/dev/null
	wait_for 5 test ! -e "/proc/$pid" || as_server rm -f "$data/postmaster.pid"
}

# A fast shutdown.
stop_cluster() {
	[ -n "$(postmaster_pid)" ] || return 0
	as_server pg_ctl -D "$data" -m fast -w -t "${KS_STOP_WAIT:-60}" -s stop </dev/null
}

case $verb in
	start) start_cluster "$@" ;;
	stop) stop_cluster ;;
	restart)
		stop_cluster || exit 1
		start_cluster "$@"
		;;
	kill) kill_cluster ;;
	destroy)
		kill_cluster
		rm -rf "$dir"
		;;
	status)
		if [ -n "$(postmaster_pid)" ]; then
			echo "running: process $(postmaster_pid), port $port"
		else
			echo "not running"
			exit 3
		fi
		;;
	*) die "unknown command $verb" ;;
esac
