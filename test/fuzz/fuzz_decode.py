#!/usr/bin/env python3
"""Changed documents through the decoder in a server: fuzz_decode.py SECONDS SEED DSN.

The server must not fall over, nothing may be raised, and PostgreSQL's own JSON
functions are the judge of which documents are well-formed and what text,
numeric and jsonb columns hold.
"""
import random
import sys
import time

import psycopg2

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE part AS (x int, y text, z int[]);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN picky AS text CHECK (VALUE !~ 'q');
CREATE TABLE fuzz (t text, n numeric, j jsonb, i bigint, s smallint, f float8, f4 float4, b bool,
	v varchar(5), c char(4), ts timestamptz, tl timestamp(3), d date, by bytea, u uuid, a int[],
	ta text[], p part, pa part[], m mood, dp positive, dq picky, iv interval, ip inet,
	n2 numeric(8,3), js json, ja jsonb[], r int4range);
CREATE TABLE single (v text);
CREATE TABLE keyed (k1 int, k2 text, v text);
"""

COLUMNS = ('t n j i s f f4 b v c ts tl d by u a ta p pa m dp dq iv ip n2 js ja r').split()

TOKENS = ['1', '-1', '0', '1.0', '1e2', '1.5', '1e400', '-0.0', '123456789012345678901234567890.5', '1e-5',
          '9223372036854775807', '9223372036854775808', '1704164645678', '99999.9995', '0.0005', '1e131072',
          'null', 'true', 'false', '""', '"x"', '"sad"', '"2024-01-02T03:04:05Z"', '"2024-02-30"',
          '"2024-01-02 03:04:05.123456789+01"', '"\\\\x00ff"', '"AAE="', '"\\u0000"', '"\\ud83d\\ude00"',
          '"\\ud83d"', '"é€"', '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"', '"10.0.0.1"', '"1 day"', '"[1,3)"',
          '"{1,2}"', '"(1,q,{1})"', '[]', '[1,2]', '[[1],[2]]', '[[1],[2,3]]', '{}', '{"x":1,"y":"q","z":[1]}',
          '[{"x":"1"},null]', '{"x":{}}', '[[[[[[[1]]]]]]]', '"infinity"', '"NaN"', '"abcdefgh"', '"ab   "',
          '[' * 40 + ']' * 40, '"\\n\\t\\"\\\\"', '"24:00:00"', '"2024-01-02T23:59:60Z"']

BYTES = [b'{', b'}', b'[', b']', b'"', b'\\', b',', b':', b'\0', b'\xff', b'\xc3', b'\xe2\x82\xac', b' ',
         b'\n', b'0', b'9', b'-', b'.', b'e', b'E', b'+', b'u', b'\\u0000', b'\\ud800', b'null', b'1e5', b'\x7f']


def make_document(rng):
    fields = []
    for _ in range(rng.randint(0, 8)):
        fields.append('"%s"%s:%s%s' % (rng.choice(COLUMNS), rng.choice(['', '', ' ']),
                                       rng.choice(['', '', '\n']), rng.choice(TOKENS)))
    return ('{' + ','.join(fields) + '}').encode()


def change(rng, document):
    data = bytearray(document)
    for _ in range(rng.choice([0, 0, 1, 1, 1, 2, 3, 8])):
        at = rng.randint(0, len(data))
        what = rng.randint(0, 4)
        if what == 0:
            data[at:at] = rng.choice(BYTES)
        elif what == 1:
            del data[at:at + rng.randint(1, 4)]
        elif what == 2 and data:
            data[at % len(data)] = rng.randint(0, 255)
        elif what == 3:
            data[at:at] = data[rng.randint(0, len(data)):][:rng.randint(0, 20)]
        else:
            del data[at:]
    return bytes(data)


JUDGE = """
CREATE FUNCTION judge(value bytea, OUT t text, OUT n text, OUT j text, OUT state text) LANGUAGE plpgsql AS $$
DECLARE doc json;
BEGIN
	BEGIN
		doc := convert_from(value, 'UTF8')::json;
		IF json_typeof(doc) <> 'object' THEN state := 'not an object'; RETURN; END IF;
	EXCEPTION WHEN OTHERS THEN state := 'malformed'; RETURN;
	END;
	-- these functions look at the escapes of the whole document, the decoder does not
	BEGIN PERFORM doc -> 'x'; EXCEPTION WHEN OTHERS THEN state := 'escapes'; RETURN; END;
	t := doc ->> 't';
	BEGIN n := (doc ->> 'n')::numeric; EXCEPTION WHEN OTHERS THEN n := SQLSTATE; END;
	BEGIN j := nullif((doc -> 'j')::jsonb, 'null'); EXCEPTION WHEN OTHERS THEN j := SQLSTATE; END;
END $$
"""


class Mismatch(Exception):
    pass


def check_json(cursor, document):
    cursor.execute("SELECT * FROM ks_test_decode('fuzz', 'json', 'none', '{}', '{}', NULL, %s)", (document,))
    rows = cursor.fetchall()
    values = {row[0]: row[1] for row in rows if row[2] is None}
    states = {row[0]: row[2] for row in rows if row[2] is not None}
    cursor.execute('SELECT t, n, j, state FROM judge(%s)', (document,))
    t, n, j, state = cursor.fetchone()
    if (None in states) != (state in ('malformed', 'not an object')):
        raise Mismatch('document: %r, judge says %r' % (states.get(None), state))
    if state is not None:
        return
    for column, expected in (('t', t), ('n', n), ('j', j)):
        got = states.get(column, values[column])
        if got != expected:
            raise Mismatch('column %s: %r, judge says %r' % (column, got, expected))


def check_others(cursor, document, rng):
    """No judge, but nothing may be raised."""
    cursor.execute("SELECT count(*) FROM ks_test_decode('fuzz', 'csv', 'none', '{}', '{}', NULL, %s)", (document,))
    cursor.execute("SELECT count(*) FROM ks_test_decode('single', %s, 'none', '{}', '{}', NULL, %s)",
                   (rng.choice(['text', 'json', 'csv']), document))
    cursor.execute("SELECT count(*) FROM ks_test_decode('keyed', 'json', 'json', '{k1,k2}', '{}', %s, %s)",
                   (document, document))
    key_format = rng.choice(['text', 'json', 'int', 'bigint'])
    cursor.execute("SELECT count(*) FROM ks_test_decode('keyed', 'json', %s, %s, '{}', %s, %s)",
                   (key_format, [rng.choice(['k1', 'k2'])], document[:rng.choice([0, 4, 8, 1000])], document))
    cursor.execute("SELECT ks_test_key_text('keyed', 'json', %s, '{}', '{}', %s, NULL)", (key_format, document))
    cursor.execute('SELECT ks_test_headers(%s, %s::bytea[])', (['a'], [document]))


def main():
    seconds, seed, dsn = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    connection = psycopg2.connect(dsn + ' dbname=postgres')
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(SCHEMA)
    cursor.execute(JUDGE)
    rng = random.Random(seed)
    end = time.time() + seconds
    count = 0
    while time.time() < end:
        document = change(rng, make_document(rng))
        try:
            check_json(cursor, document)
            check_others(cursor, document, rng)
        except (psycopg2.Error, Mismatch) as caught:
            print('document %r: %s' % (document, caught))
            sys.exit(1)
        count += 1
    print('server: %d documents, seed %d' % (count, seed))


main()
