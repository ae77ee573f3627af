#!/bin/sh
# Builds the decoder's test module in a scratch directory, runs decode_test.py
# on a server of its own, and prints what failed and "N passed, N failed".
#
#	PG_CONFIG	pg_config of the server to test with
#	PGUSER_OS	account the server runs under if called by root (postgres)
#	DECODE_PORT	port in the socket's name (21100)
#	DECODE_MAKE	further arguments for make, as "CFLAGS=-O2 -fPIC"
#	DECODE_TEST	program to run instead of decode_test.py (with the DSN as argument)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
PG_CONFIG=${PG_CONFIG:-pg_config}
port=${DECODE_PORT:-21100}
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
		"${DECODE_MAKE:-all}" all)
mkdir -p "$scratch/lib"
cp "$scratch/build/ks_decode_test.so" "$scratch/lib/"

$as_user "$bin/initdb" -D "$scratch/data" -U postgres -A trust -N \
	--encoding=UTF8 --locale=C >/dev/null
cat >> "$scratch/data/postgresql.conf" <<CONF
fsync = off
listen_addresses = ''
unix_socket_directories = '$scratch'
port = $port
dynamic_library_path = '$scratch/lib:\$libdir'
autovacuum = off
timezone = 'Europe/Berlin'
CONF
$as_user "$bin/pg_ctl" -D "$scratch/data" -l "$scratch/data/log" -w start >/dev/null

psql="$bin/psql -X -q -v ON_ERROR_STOP=1 -h $scratch -p $port -U postgres"
$psql -d postgres -c "CREATE DATABASE latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"
$psql -d postgres -f "$here/decode_test.sql"
$psql -d latin1 -f "$here/decode_test.sql"
status=0
python=python3
"$python" -c "import psycopg2" 2>/dev/null || python=/usr/bin/python3
${DECODE_TEST:-"$python" "$here/decode_test.py"} "host=$scratch port=$port user=postgres" || status=$?
[ "$status" = 0 ] || tail -20 "$scratch/data/log"
exit "$status"
