#!/usr/bin/env bash
# Builds the test module of src/kafka in a scratch directory, starts a server
# and a broker of its own, and runs kafka_test.py, which prints what failed and
# "N passed, N failed".  Arguments go to kafka_test.py (a part of a test's name:
# only those; "speed": the figures).
#
#	PG_CONFIG		pg_config of the server to test with
#	KT_PG_PORT		port in the socket's name (free one)
#	KT_KAFKA_PORT	port of the broker (free one)
#	KT_SASL_PORT	port of its listener that wants a login (free one)
. "$(dirname "$0")/../../rig/env.sh"

here=$(cd "$(dirname "$0")" && pwd)
export PG_CONFIG=${PG_CONFIG:-pg_config}
bin=$($PG_CONFIG --bindir)
export KT_PG_PORT=${KT_PG_PORT:-$(free_port)}
export KT_KAFKA_PORT=${KT_KAFKA_PORT:-$(free_port)}
export KT_SASL_PORT=${KT_SASL_PORT:-$(free_port)}
KT_SCRATCH=$(mktemp -d)
export KT_SCRATCH
chmod 755 "$KT_SCRATCH"
server_dir "$KT_SCRATCH/pg"

cleanup() {
	as_server "$bin/pg_ctl" -D "$KT_SCRATCH/pg/data" -m immediate -w stop >/dev/null 2>&1
	"$KS_TOP/test/kafka/broker.sh" destroy "$KT_SCRATCH/broker" "$KT_KAFKA_PORT" >/dev/null 2>&1
	[ -n "${KT_KEEP:-}" ] || rm -rf "$KT_SCRATCH"
}
trap cleanup EXIT

mkdir "$KT_SCRATCH/build" "$KT_SCRATCH/lib"
(cd "$KT_SCRATCH/build" &&
	make -s -f "$here/Makefile" KS_ROOT="$KS_TOP" PG_CONFIG="$PG_CONFIG" with_llvm=no all) || exit 1
cp "$KT_SCRATCH/build/ks_kafka_test.so" "$KT_SCRATCH/lib/"

as_server "$bin/initdb" -D "$KT_SCRATCH/pg/data" -U postgres -A trust -N \
	--encoding=UTF8 --locale=C.UTF-8 >/dev/null || exit 1
as_server sh -c 'cat >>"$1"' sh "$KT_SCRATCH/pg/data/postgresql.conf" <<CONF
fsync = off
listen_addresses = ''
unix_socket_directories = '$KT_SCRATCH/pg'
port = $KT_PG_PORT
dynamic_library_path = '$KT_SCRATCH/lib:\$libdir'
autovacuum = off
jit = off
CONF
as_server "$bin/pg_ctl" -D "$KT_SCRATCH/pg/data" -l "$KT_SCRATCH/pg/log" -w start >/dev/null || exit 1
export KS_BROKER_CONFIG="transaction.abort.timed.out.transaction.cleanup.interval.ms=500"
"$KS_TOP/test/kafka/broker.sh" start "$KT_SCRATCH/broker" "$KT_KAFKA_PORT" || exit 1
as_server "$bin/psql" -X -q -v ON_ERROR_STOP=1 -h "$KT_SCRATCH/pg" -p "$KT_PG_PORT" -U postgres \
	-d postgres -f "$here/kafka_test.sql" || exit 1
# The packaged psycopg2 belongs to the packaged Python.
python=python3
"$python" -c 'import psycopg2' 2>/dev/null || python=/usr/bin/python3
"$python" "$here/kafka_test.py" "$@"
