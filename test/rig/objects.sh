#!/usr/bin/env bash
# objects.sh: what CREATE EXTENSION makes: every object has a comment, nothing
# is left after DROP EXTENSION, and it can be created again.
. "$(dirname "$0")/env.sh"
ks_use_pg

db=kstream_objects

# Runs SQL, bare output.
sql() {
	as_server psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$db" -c "$1" 2>&1
}

as_server createdb "$db" || die "cannot create a database"
if result=$(sql 'CREATE EXTENSION kstream'); then
	ok "CREATE EXTENSION kstream"
else
	not_ok "CREATE EXTENSION kstream" "$result"
	as_server dropdb --force "$db"
	tally
	exit
fi

result=$(sql "
	SELECT pg_describe_object(classid, objid, 0)
	  FROM pg_depend JOIN pg_extension e ON e.oid = refobjid
	 WHERE refclassid = 'pg_extension'::regclass AND extname = 'kstream' AND deptype = 'e'
	   -- row types and types of arrays come with a relation or type; since 17 they are members as well
	   AND NOT (classid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid
	                                                          WHERE t.oid = objid AND (c.relkind <> 'c' OR typelem <> 0)))
	   AND obj_description(objid, classid::regclass::name) IS NULL
	 ORDER BY 1")
if [ -z "$result" ]; then
	ok "every object has a comment"
else
	not_ok "objects without a comment" "$result"
fi

# Functions of the schema that users may not need to see have comments as well; none may be open to SQL injection by search_path.
result=$(sql "
	SELECT p.oid::regprocedure FROM pg_proc p
	 WHERE pronamespace = 'kstream'::regnamespace AND prosecdef
	   AND NOT EXISTS (SELECT FROM unnest(proconfig) c WHERE c LIKE 'search_path=%')")
if [ -z "$result" ]; then
	ok "SECURITY DEFINER functions pin their search_path"
else
	not_ok "SECURITY DEFINER functions without a search_path" "$result"
fi

if result=$(sql 'DROP EXTENSION kstream'); then
	ok "DROP EXTENSION kstream"
else
	not_ok "DROP EXTENSION kstream" "$result"
fi
result=$(sql "
	SELECT pg_describe_object('pg_class'::regclass, oid, 0) FROM pg_class WHERE oid >= 16384
	UNION ALL SELECT pg_describe_object('pg_proc'::regclass, oid, 0) FROM pg_proc WHERE oid >= 16384
	UNION ALL SELECT pg_describe_object('pg_type'::regclass, oid, 0) FROM pg_type WHERE oid >= 16384
	UNION ALL SELECT nspname FROM pg_namespace WHERE nspname LIKE 'kstream%'
	UNION ALL SELECT evtname FROM pg_event_trigger")
if [ -z "$result" ]; then
	ok "nothing is left behind"
else
	not_ok "left behind" "$result"
fi
if result=$(sql 'CREATE EXTENSION kstream'); then
	ok "created again"
else
	not_ok "created again" "$result"
fi
# The extension is there again; a sink of a table of the user's goes with it, the table does not.
result=$(sql "
	CREATE TABLE own (id int PRIMARY KEY);
	CREATE SERVER nowhere FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '127.0.0.1:1');
	SELECT kstream.create_sink('own', 'own', 'own', server => 'nowhere');
	INSERT INTO own VALUES (1);
	SET client_min_messages = warning;
	DROP EXTENSION kstream CASCADE;
	INSERT INTO own VALUES (2);
	SELECT count(*) FROM own")
if [ "$(tail -1 <<<"$result")" = 2 ]; then
	ok "DROP EXTENSION CASCADE keeps the users' tables"
else
	not_ok "DROP EXTENSION CASCADE keeps the users' tables" "$result"
fi
as_server dropdb --force "$db" || not_ok "DROP DATABASE with the extension in it"
tally
