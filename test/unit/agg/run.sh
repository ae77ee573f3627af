#!/bin/sh
# Builds the aggregate test module in a scratch directory, runs agg_test.sql on
# a server of its own, and prints what failed and "N passed, N failed".
#
#	PG_CONFIG	pg_config of the server to test with
#	PGUSER_OS	account the server runs under if called by root (postgres)
#	AGG_PORT	port in the socket's name (21300)
#	AGG_ROUNDS	rounds of 400 rows of the memory test (2500: a million)
#	AGG_SPEED	set: also print microseconds per row, ours and PostgreSQL's
#	AGG_MAKE	further arguments for make, as "CFLAGS=-O2 -fPIC"
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
PG_CONFIG=${PG_CONFIG:-pg_config}
port=${AGG_PORT:-21300}
bin=$($PG_CONFIG --bindir)
scratch=$(mktemp -d)
as_user=
if [ "$(id -u)" = 0 ]; then
	as_user="runuser -u ${PGUSER_OS:-postgres} --"
	chown "${PGUSER_OS:-postgres}" "$scratch"
fi
chmod 755 "$scratch"
cleanup()
{
	$as_user "$bin/pg_ctl" -D "$scratch/data" -m immediate -w stop >/dev/null 2>&1 || true
	rm -rf "$scratch"
}
trap cleanup EXIT

mkdir "$scratch/build"
(cd "$scratch/build" &&
	make -s -f "$here/Makefile" KS_ROOT="$root" PG_CONFIG="$PG_CONFIG" with_llvm=no \
		"${AGG_MAKE:-all}" all)
mkdir -p "$scratch/lib"
cp "$scratch/build/ks_agg_test.so" "$scratch/lib/"

$as_user "$bin/initdb" -D "$scratch/data" -U postgres -A trust -N \
	--encoding=UTF8 --locale=C.UTF-8 >/dev/null
cat >> "$scratch/data/postgresql.conf" <<CONF
fsync = off
listen_addresses = ''
unix_socket_directories = '$scratch'
port = $port
dynamic_library_path = '$scratch/lib:\$libdir'
autovacuum = off
jit = off
CONF
$as_user "$bin/pg_ctl" -D "$scratch/data" -l "$scratch/data/log" -w start >/dev/null

psql="$bin/psql -X -h $scratch -p $port -U postgres -d postgres"
if ! $psql -q -v rounds="${AGG_ROUNDS:-2500}" -f "$here/agg_test.sql"; then
	tail -20 "$scratch/data/log"
	exit 1
fi
if [ -n "${AGG_SPEED:-}" ]; then
	$psql -q -f "$here/agg_speed.sql"
fi
$psql -Atc "SELECT 'FAILED ' || test || coalesce(': ' || detail, '') FROM outcome WHERE NOT passed"
$psql -Atc "SELECT count(*) FILTER (WHERE passed) || ' passed, ' || count(*) FILTER (WHERE NOT passed) || ' failed' FROM outcome"
[ "$($psql -Atc 'SELECT bool_and(passed) FROM outcome')" = t ]
