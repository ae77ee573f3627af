#!/usr/bin/env bash
# valgrind.sh [FILE.sql ...]: runs a server of ours under valgrind's memcheck,
# workers included, with regression files (default: all of sql/) as the load and,
# where KAFKA_BOOTSTRAP names a broker, a topic with a KTable, a join, an
# aggregate and bad records.  Fails on any finding with a frame of ours in it;
# Postgres's own (Debian's server is not built for valgrind) are not counted.
#
# By hand, not in CI: about ten times slower than the tests without it.
. "$(dirname "$0")/env.sh"

command -v valgrind >/dev/null || die "valgrind is not installed"
work=$(mktemp -d "${TMPDIR:-/tmp}/ks-valgrind.XXXXXX") || die "cannot make a working directory"
server_dir "$work" && chmod 755 "$work"
export KS_PGROOT=${KS_PGROOT:-$work/pg}
[ -d "$KS_PGROOT" ] || "$(dirname "$0")/pgroot.sh" "$KS_PGROOT" || exit 1
log "building without assertions of glibc's fortified calls, for better stacks"
"$(dirname "$0")/build.sh" "$work/build" PG_CFLAGS+=-O1 >"$work/build.log" 2>&1 || { tail -20 "$work/build.log"; die "the build failed"; }
ks_use_pg
port=$(free_port)
data=$work/data
files=("$@")
[ ${#files[@]} -gt 0 ] || files=("$KS_TOP"/sql/[a-z]*.sql)

stop_server() {
	as_server pg_ctl -D "$data" -m fast -w -t 120 -s stop </dev/null 2>/dev/null
	[ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap stop_server EXIT

cd /
as_server initdb -D "$data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$work/initdb.out" 2>&1 || die "initdb failed"
as_server sh -c 'cat >>"$1"' sh "$data/postgresql.conf" <<-END
	listen_addresses = ''
	port = $port
	unix_socket_directories = '$work'
	shared_preload_libraries = 'kstream'
	fsync = off
	wal_sender_timeout = 0
END
log "starting the server under valgrind"
as_server valgrind --quiet --trace-children=yes --leak-check=no --num-callers=30 --error-limit=no \
	--log-file="$work/vg.%p.log" "$KS_BIN/postgres" -D "$data" >"$work/server.log" 2>&1 </dev/null &
export PGHOST=$work PGPORT=$port PGUSER=postgres PGDATABASE=postgres
wait_for 120 psql -X -qc 'SELECT 1' >/dev/null 2>&1 || { tail -5 "$work/server.log"; die "the server did not start"; }
psql -X -qc 'CREATE EXTENSION kstream' || die "CREATE EXTENSION failed"

for file in "${files[@]}"; do
	case $file in *--*) continue ;; esac
	log "running $(basename "$file")"
	psql -X -a -q <"$file" >"$work/$(basename "$file").out" 2>&1
done

if [ -n "${KAFKA_BOOTSTRAP:-}" ]; then
	log "running a topic through workers"
	psql -X -q >"$work/kafka.out" 2>&1 <<-END
		CREATE SERVER kafka FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '$KAFKA_BOOTSTRAP');
		SELECT kstream.create_stream('vg_events', 'k text, v int, x numeric, a text[], j jsonb, ts timestamptz', server => 'kafka', partitions => 3, key => 'k', "timestamp" => 'ts');
		SELECT kstream.create_table('vg_dim', 'k text PRIMARY KEY, name text', server => 'kafka', partitions => 2);
		SELECT kstream.create_table_as('vg_agg', 'SELECT k, count(*), sum(x), avg(v), array_agg(v ORDER BY v) FROM vg_events GROUP BY k HAVING count(*) > 0');
		SELECT kstream.create_table_as('vg_join', 'SELECT e.k, d.name, 100 / v AS r, j, u FROM vg_events e LEFT JOIN vg_dim d USING (k) LEFT JOIN LATERAL unnest(e.a) u ON true');
	END
	for i in $(seq 1 300); do
		echo "k$((i % 7))|{\"k\":\"k$((i % 7))\",\"v\":$((i % 5)),\"x\":$i.25,\"a\":[\"p\",\"q\\u00e9\"],\"j\":{\"n\":[1,2,{\"m\":null}]},\"ts\":\"2026-01-01T00:00:00Z\"}"
	done | kcat -P -b "$KAFKA_BOOTSTRAP" -t vg_events -K '|'
	for value in '{"v":"x"}' '{' '' 'null' '[1]' '{"x":1e999999}' '{"ts":"no"}' '{"a":"x"}'; do
		echo "kx|$value" | kcat -P -b "$KAFKA_BOOTSTRAP" -t vg_events -K '|'
	done
	for i in 1 2 3; do echo "k$i|{\"name\":\"n$i\"}"; done | kcat -P -b "$KAFKA_BOOTSTRAP" -t vg_dim -K '|'
	psql -X -c "SELECT kstream.wait(NULL, '5 min')" -c "SELECT * FROM kstream.stat_query" \
		-c "SELECT count(*) FROM vg_events" -c "SELECT kstream.replay_dead_letters('vg_join')" 2>&1
fi
stop_server_now() { as_server pg_ctl -D "$data" -m fast -w -t 120 -s stop </dev/null; }
stop_server_now

# A finding is a block between blank "==pid== " lines.
cat "$work"/vg.*.log | awk '
	/^==[0-9]+== *$/ { if (block ~ /kstream\.so|src\/(base|catalog|kafka|format|stream|plan|store|exec|worker|sql)\//) { print block; n++ } block = ""; next }
	{ block = block $0 "\n" }
	END { if (block ~ /kstream\.so/) { print block; n++ } exit n > 0 }' >"$work/findings"
found=$?
grep -h -E 'PANIC|terminated by signal' "$work/server.log" && found=1
if [ $found -ne 0 ]; then
	head -100 "$work/findings"
	echo "0 passed, 1 failed"
	exit 1
fi
log "no finding of ours in $(ls "$work"/vg.*.log | wc -l) processes"
echo "1 passed, 0 failed"
