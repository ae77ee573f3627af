#!/usr/bin/env python3
"""Table-driven tests of the decoders and encoders of src/format; see run.sh.

A case decodes one record and compares column values (as text) and errors.
Every value that is expected was written down from the rules, not copied from
output; where PostgreSQL itself is the rule, SQL gives the expected value.
"""
import io
import sys

import psycopg2

SCHEMA = r"""
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', 'true', '1');
CREATE TYPE address AS (street text, zip int, tags text[]);
CREATE TYPE person AS (name varchar(5), home address, at timestamptz);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN needed AS text NOT NULL;
CREATE DOMAIN short AS varchar(3);
CREATE DOMAIN fraction AS numeric CHECK (1 / VALUE < 10);
CREATE DOMAIN place AS address CHECK ((VALUE).zip > 9);
CREATE DOMAIN blob AS bytea;
CREATE DOMAIN ints AS int[] CHECK (cardinality(VALUE) < 3);
CREATE FUNCTION canceled(int) RETURNS bool LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION 'canceled' USING ERRCODE = '57014'; END $$;
CREATE FUNCTION raised(int) RETURNS bool LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION 'not %', $1; END $$;
CREATE DOMAIN canceling AS int CHECK (canceled(VALUE));
CREATE SEQUENCE calls;
CREATE FUNCTION second_call(int) RETURNS bool LANGUAGE plpgsql AS
	$$ BEGIN
		IF nextval('calls') = 2 THEN RAISE EXCEPTION 'canceled' USING ERRCODE = '57014'; END IF;
		RETURN true;
	END $$;
CREATE DOMAIN canceling_later AS int CHECK (second_call(VALUE));
CREATE DOMAIN raising AS int CHECK (raised(VALUE));
CREATE TABLE many_guards (a positive, b inet, c raising, d interval);
CREATE TABLE pair (a int, b text);
CREATE TABLE strict (id int NOT NULL, v text NOT NULL);
CREATE TABLE keyed (id bigint, v text);
CREATE TABLE composite_key (a text, b int, v text);
CREATE TABLE upsert (id int NOT NULL, v text NOT NULL, _tombstone bool);
CREATE TABLE line (a int, b text, c numeric, d timestamptz, e int[], f bytea, g bool);
CREATE TABLE note (body text);
CREATE TABLE data (body bytea);
CREATE TABLE doc (body jsonb);
CREATE TABLE keydoc (id int, body jsonb);
CREATE TABLE gone (a int, b int, c int);
ALTER TABLE gone DROP COLUMN b;
"""


class Suite:
    """Runs cases in one database and counts them."""

    def __init__(self, dsn, database):
        self.connection = psycopg2.connect(dsn + ' dbname=' + database)
        self.connection.autocommit = True
        self.connection.set_client_encoding('UTF8')
        self.cursor = self.connection.cursor()
        self.database = database
        self.passed = 0
        self.failed = 0
        self.tables = {}

    def query(self, sql, *args):
        self.cursor.execute(sql, args or None)
        return self.cursor.fetchall()

    def value(self, sql, *args):
        return self.query(sql, *args)[0][0]

    def check(self, name, got, expected):
        if got == expected:
            self.passed += 1
        else:
            self.failed += 1
            print('FAILED %s: %s\n   got      %r\n   expected %r'
                  % (self.database, name, got, expected))

    def decode(self, table, value, key=None, format='json', key_format='text', keys=(),
               paths=(), wanted=None):
        """Returns ({column: text}, [(column, sqlstate, message)])."""
        if isinstance(value, str):
            value = value.encode()
        if isinstance(key, str):
            key = key.encode()
        rows = self.query('SELECT * FROM ks_test_decode(%s, %s, %s, %s, %s, %s, %s, %s)',
                          table, format, key_format, list(keys), list(paths), key, value,
                          None if wanted is None else list(wanted))
        return ({row[0]: row[1] for row in rows if row[2] is None},
                [(row[0], row[2], row[3]) for row in rows if row[2] is not None])

    def type_table(self, typename):
        """A table with one column c of the type."""
        if typename not in self.tables:
            self.tables[typename] = 't%d' % len(self.tables)
            self.cursor.execute('CREATE TABLE %s (c %s)' % (self.tables[typename], typename))
        return self.tables[typename]

    def json(self, typename, token, expected):
        """A field of a document becomes a value of the type."""
        values, errors = self.decode(self.type_table(typename), '{"c":' + token + '}')
        self.check('%s from %.60s' % (typename, token), (values, errors), ({'c': expected}, []))

    def json_sql(self, typename, token, expression):
        """The same with the value, or the error, that SQL says."""
        try:
            expected = self.value('SELECT (%s)::%s::text' % (expression, typename))
        except psycopg2.Error as caught:
            self.bad(typename, token, caught.pgcode)
            return
        self.json(typename, token, expected)

    def bad(self, typename, token, sqlstate, *parts):
        """A field of a document is bad for the type; the message has these parts."""
        values, errors = self.decode(self.type_table(typename), '{"c":' + token + '}')
        got = [(column, state) for column, state, message in errors]
        self.check('%s not from %.60s' % (typename, token), (values, got),
                   ({'c': None}, [('c', sqlstate)]))
        for part in ('column "c"',) + parts:
            self.check('message for %s not from %.60s' % (typename, token),
                       part in errors[0][2] if errors else False or errors, True)

    def malformed(self, value, sqlstate='22P02', part='', table='pair', **options):
        """The record as a whole is bad, whatever is wanted."""
        for wanted in (None, ()):
            values, errors = self.decode(table, value, wanted=wanted, **options)
            self.check('malformed %.60r' % (value,),
                       [(column, state) for column, state, message in errors],
                       [(None, sqlstate)])
            self.check('message of malformed %.60r' % (value,),
                       part in errors[0][2] if errors else errors, True)

    def error(self, name, sqlstate, sql, *args):
        """A statement raises an error."""
        try:
            self.cursor.execute(sql, args)
            got = None
        except psycopg2.Error as caught:
            got = caught.pgcode
        self.check(name, got, sqlstate)


def test_integers(s):
    for token, expected in (('0', '0'), ('-0', '0'), ('1', '1'), ('1.0', '1'), ('1e2', '100'),
                            ('1E2', '100'), ('1.5e1', '15'), ('100e-2', '1'), ('-1.00', '-1'),
                            ('0e999999999', '0'), ('0.000', '0'), ('12.30e1', '123'),
                            ('"7"', '7'), ('" 7 "', '7'), ('"\\u0037"', '7'), ('null', None)):
        s.json('int', token, expected)
    s.json('smallint', '32767', '32767')
    s.json('smallint', '-32768', '-32768')
    s.json('int', '-2147483648', '-2147483648')
    s.json('bigint', '9223372036854775807', '9223372036854775807')
    s.json('bigint', '-9223372036854775808', '-9223372036854775808')
    s.json('bigint', '9007199254740993', '9007199254740993')
    s.json('bigint', '922337203685477580700e-2', '9223372036854775807')
    s.json('bigint', '9.223372036854775807e18', '9223372036854775807')
    s.json('bigint', '"9223372036854775807"', '9223372036854775807')
    s.bad('smallint', '32768', '22003', 'smallint', '32768')
    s.bad('int', '2147483648', '22003', 'integer')
    s.bad('int', '-2147483649', '22003')
    s.bad('int', '"2147483648"', '22003')
    s.bad('bigint', '9223372036854775808', '22003')
    s.bad('bigint', '1e400', '22003')
    s.bad('bigint', '1e19', '22003')
    s.bad('bigint', '123456789012345678901234567890', '22003')
    s.bad('int', '1.5', '22P02', '"1.5"')
    s.bad('int', '1e-1', '22P02')
    s.bad('bigint', '0.' + '0' * 400 + '1', '22P02')
    s.bad('bigint', '12345678901234567890123.5', '22P02')
    s.bad('int', '"1.0"', '22P02')
    s.bad('int', '""', '22P02')
    s.bad('int', 'true', '22P02')
    s.bad('int', '[1]', '22P02')
    s.bad('int', '{"a":1}', '22P02')


def test_floats(s):
    for token in ('0.1', '1', '-0.0', '1e22', '1e23', '123456789012345678', '1.7976931348623157e308',
                  '4.9e-324', '2.2250738585072011e-308', '0.3', '179769313486231570000e288', '1e309',
                  '5e-1', '9007199254740993', '1e-22', '8.41e21'):
        s.json_sql('float8', token, "'%s'" % token)
        s.json_sql('float4', token, "'%s'" % token)
    for token in ('16777217', '0.1', '3.4028235e38', '1e-45', '16777216e10', '1.17549435e-38'):
        s.json_sql('float4', token, "'%s'" % token)
    s.json('float8', '"NaN"', 'NaN')
    s.json('float8', '"-Infinity"', '-Infinity')
    s.json('float8', '"1.5"', '1.5')
    s.bad('float8', '1e400', '22003', 'double precision')
    s.bad('float8', '1e-400', '22003')
    s.bad('float4', '1e39', '22003', 'real')
    s.bad('float8', '"x"', '22P02')
    s.bad('float8', 'false', '22P02')


def test_numerics(s):
    digits = '12345678901234567890123456789012345678.9012345678901234567890'
    for token in ('0', '1.50', '-0', '-1.5', '0.1', '123456789012345678', '1234567890123456789',
                  '-12345678.9012345678', digits, '-' + digits, '1e2', '1.5e-3', '1e1000',
                  '0.' + '0' * 100 + '1'):
        s.json_sql('numeric', token, "'%s'" % token)
    for token in ('1.005', '1.004', '-1.005', '99999999.99', '2', '0.995', '-0.004', '-0.005',
                  '12345678.904999', '1.5e1', '1.00500000000000000000001'):
        s.json_sql('numeric(10,2)', token, "'%s'" % token)
    s.json('numeric(10,2)', '1.005', '1.01')
    s.json('numeric(10,2)', '-1.005', '-1.01')
    s.json_sql('numeric(4,0)', '9999.4', "'9999.4'")
    s.json_sql('numeric(5,-2)', '12345', "'12345'")
    s.json_sql('numeric(2,4)', '0.00125', "'0.00125'")
    s.json_sql('numeric(30,20)', '1.5', "'1.5'")
    s.json_sql('numeric(18,0)', '999999999999999999', "'999999999999999999'")
    s.json('numeric', '"1.10"', '1.10')
    s.json('numeric', '"NaN"', 'NaN')
    s.json('numeric', '" 1e3 "', '1000')
    s.json('numeric(4,1)', '"12.35"', '12.4')
    s.bad('numeric(4,1)', '"1234.5"', '22003')
    s.json('float8', '"1e308"', '1e+308')
    s.bad('float8', '"1e309"', '22003')
    s.bad('numeric(10,2)', '100000000', '22003')
    s.bad('numeric(10,2)', '99999999.995', '22003')
    s.bad('numeric(4,0)', '9999.5', '22003')
    s.bad('numeric(2,4)', '0.01', '22003')
    s.bad('numeric', '1e200000', '22003')
    s.bad('numeric', '"1x"', '22P02')
    s.bad('numeric', 'true', '22P02')


def test_strings(s):
    s.json('text', '""', '')
    s.json('text', '"a\\"b\\\\c\\/d\\b\\f\\n\\r\\te"', 'a"b\\c/d\b\f\n\r\te')
    s.json('text', '"\\u00e9\\u20AC\\ud83d\\ude00"', '\u00e9\u20ac\U0001f600')
    s.json('text', '"\u00e9\u20ac\U0001f600"', '\u00e9\u20ac\U0001f600')
    s.json('text', '12.3400', '12.3400')
    s.json('text', '1E+2', '1E+2')
    s.json('text', 'true', 'true')
    s.json('text', 'false', 'false')
    s.json('text', 'null', None)
    s.json('text', '{"a": [1,  2] }', '{"a": [1,  2] }')
    s.json('text', '[ ]', '[ ]')
    s.json('text', ' [1 , {"b":"]"}] ', '[1 , {"b":"]"}]')
    s.json('text', '{"x":"\\u0000"}', '{"x":"\\u0000"}')
    s.json('varchar(3)', '"abc"', 'abc')
    s.json('varchar(3)', '"\u00e9\u20ac\u00e8"', '\u00e9\u20ac\u00e8')
    s.json('varchar(3)', '"abc   "', 'abc')
    s.json('varchar(3)', '"a  "', 'a  ')
    s.json('varchar', '"any length"', 'any length')
    s.json('varchar(3)', '123', '123')
    s.json('char(3)', '"a"', 'a  ')
    s.json('char(3)', '"\u00e9"', '\u00e9  ')
    s.json('char(3)', '"abc  "', 'abc')
    s.json('name', '"' + 'n' * 70 + '"', 'n' * 63)
    s.json('"char"', '"x"', 'x')
    s.bad('text', '"a\\u0000b"', '22P05', '\\u0000')
    s.bad('text', '"\\ud83d"', '22P02', 'surrogate')
    s.bad('text', '"\\ud83dx\\ude00"', '22P02')
    s.bad('text', '"\\ude00"', '22P02')
    s.bad('varchar(3)', '"abcd"', '22001', 'character varying(3)')
    s.bad('varchar(3)', '"\u00e9\u20ac\u00e8\u00e8"', '22001')
    s.bad('char(3)', '"abcd"', '22001', 'character(3)')
    s.bad('varchar(3)', '1234', '22001')
    s.bad('varchar(3)', '{"a":1}', '22001')


def test_bool_bytea_uuid_enum(s):
    s.json('bool', 'true', 't')
    s.json('bool', 'false', 'f')
    s.json('bool', '"t"', 't')
    s.json('bool', '"off"', 'f')
    s.json('bool', '" YES "', 't')
    s.bad('bool', '""', '22P02')
    s.bad('bool', '"o"', '22P02')
    s.json('bool', '1', 't')
    s.bad('bool', '2', '22P02')
    s.bad('bool', '"maybe"', '22P02')
    s.bad('bool', '[]', '22P02')
    s.json('bytea', '"\\\\x00ffAb"', '\\x00ffab')
    s.json('bytea', '"\\\\x"', '\\x')
    s.json('bytea', '""', '\\x')
    s.json('bytea', '"AP+r"', '\\x00ffab')
    s.json('bytea', '"AA=="', '\\x00')
    s.json('bytea', '"AAE=\\n"', '\\x0001')
    s.bad('bytea', '"\\\\x0"', '22P02')
    s.bad('bytea', '"\\\\x0g"', '22P02')
    s.bad('bytea', '"AAA"', '22P02')
    s.bad('bytea', '"AA=A"', '22P02')
    s.bad('bytea', '"*"', '22P02')
    s.bad('bytea', '5', '22P02')
    s.bad('bytea', '{}', '22P02')
    uuid = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'
    s.json('uuid', '"%s"' % uuid, uuid)
    s.json('uuid', '"%s"' % uuid.upper(), uuid)
    s.json('uuid', '"{%s}"' % uuid, uuid)
    s.json('uuid', '"%s"' % uuid.replace('-', ''), uuid)
    s.bad('uuid', '"%s"' % uuid.replace('a', 'g'), '22P02')
    s.bad('uuid', '5', '22P02')
    s.json('mood', '"happy"', 'happy')
    s.json('mood', 'true', 'true')
    s.json('mood', '1', '1')
    s.bad('mood', '"angry"', '22P02', 'mood', 'angry')
    s.bad('mood', '"%s"' % ('x' * 100), '22P02')
    s.bad('mood', '{}', '22P02')


def test_times(s):
    for text in ('2024-02-29T01:02:03Z', '2024-02-29 01:02:03+02', '2024-02-29T01:02:03.5-03:30',
                 '2024-02-29T01:02:03.123456+0530', '2024-02-29T01:02:03.123456789Z',
                 '2024-07-01T12:00:00', '2024-01-01 12:00', '2024-07-01', '2024-03-31T02:30:00',
                 '2024-10-27T02:30:00', '0001-01-01T00:00:00Z', '9999-12-31T23:59:59.999999Z',
                 '2024-01-01T24:00:00Z', '2016-12-31T23:59:60Z', 'infinity', '-infinity', 'epoch',
                 '2024-01-01T10:00:00 Europe/Paris', '20240101T101112Z', 'Jan 5 2024 3:04 PM',
                 '2024-01-01T23:59:59.9999999Z', '2024-01-01T10:00:00+15:59'):
        for typename in ('timestamptz', 'timestamp', 'timestamptz(0)', 'timestamp(3)', 'date'):
            s.json_sql(typename, '"%s"' % text, "'%s'" % text)
    s.json('timestamptz', '"2024-01-02T03:04:05.678Z"', '2024-01-02 04:04:05.678+01')
    s.json('timestamptz', '1704164645678', '2024-01-02 04:04:05.678+01')
    s.json('timestamp', '1704164645678', '2024-01-02 03:04:05.678')
    s.json('timestamptz', '1704164645678.9', '2024-01-02 04:04:05.6789+01')
    s.json('timestamptz', '1.704164645678e12', '2024-01-02 04:04:05.678+01')
    s.json('timestamptz', '0', '1970-01-01 01:00:00+01')
    s.json('timestamp', '-1', '1969-12-31 23:59:59.999')
    s.json('timestamp', '0.0005', '1970-01-01 00:00:00.000001')
    s.json('timestamp(0)', '1500', s.value("SELECT timestamp(0) '1970-01-01 00:00:01.5'::text"))
    s.bad('timestamptz', '1e30', '22008')
    s.bad('timestamptz', '-1e18', '22008')
    s.bad('timestamp', '9223372036854775807', '22008')
    s.bad('timestamptz', '"2024-02-30T00:00:00Z"', '22008')
    s.bad('timestamptz', '"2024-13-01"', '22008')
    s.bad('timestamptz', '"2024-01-01T10:00:00+25:00"', '22009')
    s.bad('timestamptz', '"yesterday-ish"', '22007')
    # a time that depends on when it is read is none
    for typename in ('timestamptz', 'timestamp', 'date', 'tstzrange', 'datemultirange', 'timestamptz[]'):
        form = {'tstzrange': '[2024-01-01,%s)', 'datemultirange': '{[%s,2100-01-01)}', 'timestamptz[]': '{%s}'}.get(typename, '%s')
        for word in ('now', 'Today', 'TOMORROW', 'yesterday', ' now ', 'today allballs'):
            s.bad(typename, '"' + form % word + '"', '22007')
    for word in ('now', 'NOW'):
        s.bad('time', '"%s"' % word, '22007')
        s.bad('timestamptz[]', '["2024-01-01", "%s"]' % word, '22007')
        s.bad('person', '{"at": "%s"}' % word, '22007')
        s.bad('person', '"(bob,,%s)"' % word, '22007')
    for word in ('infinity', '-infinity', 'epoch', '2024-01-01 America/New_York'):
        s.json('timestamptz', '"%s"' % word, s.value("SELECT timestamptz '%s'::text" % word))
    s.json('text', '"now"', 'now')
    s.json('text[]', '"{now,today}"', '{now,today}')
    s.bad('timestamptz', '""', '22007')
    s.bad('timestamptz', 'true', '22P02')
    s.bad('timestamptz', '{}', '22P02')
    s.bad('date', '20240101', '22P02', 'date')
    s.bad('date', '0', '22P02')
    s.bad('date', '"2023-02-29"', '22008')
    s.json('date', '"2024-01-02"', '2024-01-02')
    s.json('time', '"10:11:12.5"', '10:11:12.5')
    s.json('interval', '"P1DT2H"', '1 day 02:00:00')
    s.bad('interval', '"never"', '22007')
    s.bad('time', '"25:00"', '22008')


def test_json_columns(s):
    s.json('jsonb', '{"b":1.50,"a":[true,null,"x\\u00e9"],"b":2}', '{"a": [true, null, "xé"], "b": 2}')
    s.json('jsonb', '"text"', '"text"')
    s.json('jsonb', '12345678901234567890.10', '12345678901234567890.10')
    s.json('jsonb', 'true', 'true')
    s.json('jsonb', 'null', None)
    s.json('jsonb', '[null]', '[null]')
    s.json('jsonb', '[' * 40 + ']' * 40, '[' * 40 + ']' * 40)
    s.json('json', '{ "b" : 1.50, "b":2 }', '{ "b" : 1.50, "b":2 }')
    s.json('json', 'null', None)
    s.json('json', '"\\u0000"', '"\\u0000"')
    s.json('json', '1e999999', '1e999999')
    s.bad('jsonb', '"\\u0000"', '22P05')
    s.bad('jsonb', '{"\\u0000":1}', '22P05')
    s.bad('jsonb', '["\\ud800"]', '22P02')
    s.bad('jsonb', '[1e999999]', '22003')


def test_nested(s):
    s.json('int[]', '[1,2,null]', '{1,2,NULL}')
    s.json('int[]', '[]', '{}')
    s.json('int[]', '[[],[]]', '{}')
    s.json('int[]', '[[1,2],[3,4]]', '{{1,2},{3,4}}')
    s.json('int[]', ' [ [ [ 1 ] ] ] ', '{{{1}}}')
    s.json('int[]', '"{1,2}"', '{1,2}')
    s.json('int[]', 'null', None)
    s.json('text[]', '["a","b,c","\\"",1,true,{"x":[1]}]', '{a,"b,c","\\"",1,true,"{\\"x\\":[1]}"}')
    s.json('varchar(2)[]', '["ab"]', '{ab}')
    s.json('jsonb[]', '[[1,2],[3]]', '{"[1, 2]",[3]}')
    s.json('positive[]', '[1,2]', '{1,2}')
    s.json('address[]', '[{"zip":1},null]', '{"(,1,)",NULL}')
    s.bad('int[]', '[1,"x"]', '22P02', 'c[1]')
    s.bad('int[]', '[[1],[2,3]]', '22P02', 'matching dimensions')
    s.bad('int[]', '[[1],2]', '22P02')
    s.bad('int[]', '[1,[2]]', '22P02')
    s.bad('int[]', '[[[[[[[1]]]]]]]', '54000')
    s.bad('int[]', '5', '22P02')
    s.bad('int[]', '{"a":1}', '22P02')
    s.bad('int[]', '"{1"', '22P02')
    s.bad('varchar(2)[]', '["abc"]', '22001', 'c[0]')
    s.bad('positive[]', '[1,0]', '23514', 'c[1]')
    s.json('address', '{"zip":"5","street":"a","x":[1,{}],"tags":["p","q"]}', '(a,5,"{p,q}")')
    s.json('address', '{}', '(,,)')
    s.json('address', '{"zip":1,"zip":2}', '(,2,)')
    s.json('address', '{"z\\u0069p":3,"ZIP":4}', '(,3,)')
    s.json('address', '"(a,5,)"', '(a,5,)')
    s.json('person', '{"home":{"zip":7},"name":"Jo","at":0}',
           '(Jo,"(,7,)","1970-01-01 01:00:00+01")')
    s.bad('address', '{"zip":"x"}', '22P02', 'c.zip')
    s.bad('person', '{"home":{"tags":["a",{"b":"\\u0000"},"\\u0000"]}}', '22P05', 'c.home.tags[2]')
    s.bad('person', '{"name":"Joseph"}', '22001', 'c.name')
    s.bad('address', '[1]', '22P02')
    s.bad('address', '1', '22P02')
    s.json('int4range', '"[1,3)"', '[1,3)')
    s.json('point', '"(1,2)"', '(1,2)')
    s.json('inet', '"10.0.0.1"', '10.0.0.1')
    s.json('regclass', '"pg_class"', 'pg_class')
    s.json_sql('xml', '"<a/>"', "'<a/>'")
    s.bad('inet', '"10.0.0.256"', '22P02')
    s.bad('regclass', '"no_such_table"', '42P01')
    s.bad('int4range', '"[3,1)"', '22000')


def test_domains(s):
    s.json('positive', '1', '1')
    s.bad('positive', '0', '23514', 'positive')
    s.bad('positive', '"x"', '22P02')
    s.json('positive', 'null', None)
    s.json('needed', '"x"', 'x')
    s.bad('needed', 'null', '23502', 'needed')
    values, errors = s.decode(s.type_table('needed'), '{}')
    s.check('missing field of a domain that is not null', errors[0][:2], ('c', '23502'))
    s.json('short', '"abc"', 'abc')
    s.bad('short', '"abcd"', '22001')
    s.json('fraction', '1', '1')
    s.bad('fraction', '0', '22012')
    s.bad('fraction', '0.01', '23514')
    s.json('place', '{"zip":10}', '(,10,)')
    s.bad('place', '{"zip":9}', '23514')
    s.json('ints', '[1,2]', '{1,2}')
    s.bad('ints', '[1,2,3]', '23514')
    s.bad('raising', '5', 'P0001', 'not 5')
    s.error('a cancel request goes on', '57014',
            "SELECT * FROM ks_test_decode(%s, 'json', 'none', '{}', '{}', NULL, '{\"c\":1}')",
            s.type_table('canceling'))
    s.error('a cancel request goes on, subtransaction held', '57014',
            "SELECT * FROM ks_test_decode(%s, 'json', 'none', '{}', '{}', NULL, '{\"c\":1}')",
            s.type_table('canceling_later'))
    s.check('the connection works after it', s.value('SELECT 1'), 1)
    s.cursor.execute('BEGIN; SAVEPOINT before')
    s.error('inside a subtransaction', '57014',
            "SELECT * FROM ks_test_decode(%s, 'json', 'none', '{}', '{}', NULL, '{\"c\":1}')",
            s.type_table('canceling'))
    s.cursor.execute('ROLLBACK TO before')
    s.check('savepoints work after it', s.value('SELECT 1'), 1)
    s.cursor.execute('COMMIT')
    values, errors = s.decode('many_guards', '{"a":0,"b":"10.0.0.1","c":1,"d":"1 day"}')
    s.check('several guarded columns', (values, [e[:2] for e in errors]),
            ({'a': None, 'b': '10.0.0.1', 'c': None, 'd': '1 day'}, [('a', '23514'), ('c', 'P0001')]))


def test_documents(s):
    s.check('plain', s.decode('pair', '{"a":1,"b":"x"}'), ({'a': '1', 'b': 'x'}, []))
    s.check('missing and extra fields', s.decode('pair', '{"z":[1,{"a":5}],"B":1}'),
            ({'a': None, 'b': None}, []))
    s.check('last of repeated fields', s.decode('pair', '{"a":1,"b":"x","a":2}')[0]['a'], '2')
    s.check('last of repeated fields is null', s.decode('pair', '{"a":1,"a":null}'),
            ({'a': None, 'b': None}, []))
    s.check('a bad one that is not the last', s.decode('pair', '{"a":"x","a":3}'),
            ({'a': '3', 'b': None}, []))
    s.check('key with escapes', s.decode('pair', '{"\\u0061":1,"\\u0000":2,"a\\u0000":3}')[0]['a'], '1')
    s.check('white space', s.decode('pair', ' \n\t{ "a" : 1 ,\r\n "b" : "x" } \n'),
            ({'a': '1', 'b': 'x'}, []))
    s.check('empty object', s.decode('pair', '{}'), ({'a': None, 'b': None}, []))
    s.check('tombstone', s.decode('pair', None), ({'a': None, 'b': None}, []))
    s.check('only wanted columns are converted', s.decode('pair', '{"a":"x","b":"y"}', wanted=['b']),
            ({'b': 'y'}, []))
    s.check('an error for each column', [e[:2] for e in s.decode('strict', '{"id":"x"}')[1]],
            [('id', '22P02'), ('v', '23502')])
    s.check('not null by tombstone', [e[:2] for e in s.decode('strict', None)[1]],
            [('id', '23502'), ('v', '23502')])
    s.check('dropped column', s.decode('gone', '{"a":1,"b":2,"c":3}'), ({'a': '1', 'c': '3'}, []))
    deep = '{"z":' + '[' * 511 + ']' * 511 + '}'
    s.check('deep', s.decode('pair', deep)[1], [])
    s.malformed('{"z":' + '[' * 512 + ']' * 512 + '}', '54001', 'deeper')
    s.malformed('[' * 100000, '54001')
    s.malformed('{"a":' * 100000, '54001')
    for value in ('', ' ', '{', '}', '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', '{,}',
                  '{"a" 1}', '{"a":1 "b":2}', '{"a":1]', '{"a":[1}', '{"a":[1,]}', '{"a":[,1]}',
                  '{"a":[1 2]}', "{'a':1}", '{a:1}', '{1:1}', '{"a":nul}', '{"z":nulll}', '{"z":True}',
                  '{"z":01}', '{"z":1.}', '{"z":.5}', '{"z":+1}', '{"z":-}', '{"z":1e}', '{"z":0x1}',
                  '{"z":NaN}', '{"z":1_0}', '{"z":"\\x"}', '{"z":"\\u12g4"}', '{"z":"\\u123"}',
                  '{"\\x":1}', '{"z":"a\nb"}', '{"z":"\t"}', '{"z":"a}', '{"z":"a\\"}', '{} {}',
                  '{}x', '{},', '{"a":1}}', '{"a":{}', '{"a":"x""y"}', '{"a":1/*c*/}', '{"z":[}',
                  '\ufeff{}', '{}\0', '\0', '{"z":1\0}', '{"z":\x01}', '{"z":1\x01}', '{"a"::1}',
                  '{"z":[1,,2]}', '{"z":{"a":1,}}', '{"z":tru e}', '{"z":--1}', '{"z":1.e5}'):
        s.malformed(value, '22P02', 'JSON')
    # where the tokenizer itself finds fault
    for value, place in (('{"a": "x\ny"}', 'not escaped (at byte 9)'), ('{"a": "\\"\n"}', 'not escaped (at byte 10)'),
                         ('{"a": "x\\\ny"}', 'not escaped (at byte 10)'), ('{"a": 1, "b": "x', 'not closed (at byte 15)')):
        s.malformed(value, '22P02', place)
    for value in ('null', '[]', '[{"a":1}]', '1', '"x"', 'true', ' null '):
        s.malformed(value, '22P02', 'not a JSON object')
    for value in (b'{"z":"\xff"}', b'{"z":"\xc3"}', b'{"z":"\xed\xa0\x80"}', b'\xff', b'{"\xc0\x80":1}',
                  b'{"z":"\xf5\x80\x80\x80"}'):
        s.malformed(value, '22021', 'UTF-8')
    big = '"' + 'x' * 20000000 + '"'
    s.check('large text', len(s.decode('pair', '{"b":' + big + '}')[0]['b']), 20000000)
    s.check('large jsonb', len(s.decode('doc', '[' + big + ']', format='jsonb')[0]['body']), 20000004)
    s.check('large array', len(s.decode(s.type_table('int[]'), '{"c":[1' + ',1' * 2000000 + ']}')[0]['c']),
            4000003)
    long = s.decode('pair', '{"a":"' + 'y' * 5000 + '\x7f"}')[1][0][2]
    s.check('messages are short', len(long) <= 1100, True)
    hostile = s.decode('pair', '{"a":"a\\nLOG: fake\\r\\u001b[31m"}')[1][0][2]
    s.check('messages have no control characters', [c for c in hostile if ord(c) < 32], [])


def test_paths(s):
    def paths(value, *paths):
        return s.decode('pair', value, paths=paths)

    s.check('nested', paths('{"x":{"y":5}}', 'a=x.y'), ({'a': '5', 'b': None}, []))
    s.check('element', paths('{"x":[{"y":4},{"y":5}],"b":"q"}', 'a=x[1].y'), ({'a': '5', 'b': 'q'}, []))
    s.check('a.b[0].c', paths('{"a":{"b":[{"c":9}]}}', 'a=a.b[0].c'), ({'a': '9', 'b': None}, []))
    s.check('no such element', paths('{"x":[1]}', 'a=x[1]'), ({'a': None, 'b': None}, []))
    s.check('nested elements', paths('{"x":[[1,2],[3,4]]}', 'a=x[1][0]'), ({'a': '3', 'b': None}, []))
    s.check('through a scalar', paths('{"x":5}', 'a=x.y'), ({'a': None, 'b': None}, []))
    s.check('through null', paths('{"x":null}', 'a=x.y'), ({'a': None, 'b': None}, []))
    s.check('object where an array is meant', paths('{"x":{"0":1}}', 'a=x[0]'), ({'a': None, 'b': None}, []))
    s.check('whole and part', paths('{"x":{"y":5}}', 'a=x.y', 'b=x'), ({'a': '5', 'b': '{"y":5}'}, []))
    s.check('same path twice', paths('{"x":7}', 'a=x', 'b=x'), ({'a': '7', 'b': '7'}, []))
    s.check('last field on the way', paths('{"x":{"y":5},"x":{"z":1}}', 'a=x.y'), ({'a': None, 'b': None}, []))
    s.check('last field on the way, scalar', paths('{"x":{"y":5},"x":1}', 'a=x.y'), ({'a': None, 'b': None}, []))
    s.check('last field, array', paths('{"x":[5],"x":[]}', 'a=x[0]'), ({'a': None, 'b': None}, []))
    s.check('quoted name', paths('{"x.y":{"q\\"":3}}', 'a="x.y"."q"""'), ({'a': '3', 'b': None}, []))
    s.check('plain names are no paths', s.decode('pair', '{"a":{"b":1}}')[1][0][:2], ('a', '22P02'))
    s.check('message has the path', paths('{"x":{"y":"q"}}', 'a=x.y')[1][0][2].startswith(
        'column "a", field x.y: '), True)
    for path in ('', '.', 'x.', '.x', 'x..y', 'x[', 'x[]', 'x[-1]', 'x[a]', 'x[1', '[0]', 'x]', '"x',
                 'x"y"', 'x[99999999999999999999]', 'x[0]y', '.'.join(['x'] * 40)):
        s.error('path %.40s' % path, '22023',
                "SELECT * FROM ks_test_decode('pair', 'json', 'none', '{}', %s, NULL, '{}')",
                ['a=' + path])


def test_keys(s):
    def key(value, key, key_format, keys=('id',), table='keyed', **options):
        return s.decode(table, value, key=key, key_format=key_format, keys=keys, **options)

    s.check('text', key('{"id":1,"v":"x"}', '7', 'text'), ({'id': '7', 'v': 'x'}, []))
    s.check('no key: field', key('{"id":1,"v":"x"}', None, 'text'), ({'id': '1', 'v': 'x'}, []))
    s.check('no key, no field', key('{"v":"x"}', None, 'text'), ({'id': None, 'v': 'x'}, []))
    s.check('none: field', key('{"id":1,"v":"x"}', '7', 'none'), ({'id': '1', 'v': 'x'}, []))
    s.check('text, bad', [e[:2] for e in key('{"id":1}', 'x', 'text')[1]], [('id', '22P02')])
    s.check('empty key is a key', [e[:2] for e in key('{"id":1}', '', 'text')[1]], [('id', '22P02')])
    s.check('int', key('{}', b'\xff\xff\xff\xfe', 'int')[0]['id'], '-2')
    s.check('bigint', key('{}', b'\x7f\xff\xff\xff\xff\xff\xff\xff', 'bigint')[0]['id'], '9223372036854775807')
    s.check('bigint, negative', key('{}', b'\x80' + b'\0' * 7, 'bigint')[0]['id'], '-9223372036854775808')
    s.check('int for a text column', key('{}', b'\0\0\0\x05', 'int', keys=('v',))[0]['v'], '5')
    s.check('int, wrong size', [e[:2] for e in key('{"v":"x"}', b'\0\0\0', 'int')[1]], [(None, '22P03')])
    s.check('value is read though the key is bad', key('{"v":"x"}', b'\0\0\0', 'int')[0]['v'], 'x')
    s.check('bigint, wrong size', [e[:2] for e in key('{}', b'\0\0\0\0', 'bigint')[1]], [(None, '22P03')])
    s.check('int for smallint', s.decode(s.type_table('smallint'), '{}', key=b'\0\1\0\0',
                                         key_format='int', keys=['c'])[1][0][:2], ('c', '22003'))
    s.check('bytea', s.decode(s.type_table('bytea'), '{}', key=b'\0\xff', key_format='bytea',
                              keys=['c']), ({'c': '\\x00ff'}, []))
    s.check('bytea, domain', s.decode(s.type_table('blob'), '{}', key=b'', key_format='bytea',
                                      keys=['c']), ({'c': '\\x'}, []))
    s.check('json number', key('{}', ' 12 ', 'json')[0]['id'], '12')
    s.check('json string', key('{}', '"a\\u0062"', 'json', keys=('v',))[0]['v'], 'ab')
    s.check('json object by name', key('{}', '{"x":1,"id":5}', 'json')[0]['id'], '5')
    s.check('json object without it', key('{"id":4}', '{"x":1}', 'json')[0]['id'], None)
    s.check('json null', key('{"id":4}', 'null', 'json')[0]['id'], None)
    s.check('json array into text', key('{}', '[1]', 'json', keys=('v',))[0]['v'], '[1]')
    s.check('json into jsonb', s.decode(s.type_table('jsonb'), '{}', key='{"c":1}', key_format='json',
                                        keys=['c'])[0]['c'], '{"c": 1}')
    s.check('json into composite', s.decode(s.type_table('address'), '{}', key='{"zip":1}',
                                            key_format='json', keys=['c'])[0]['c'], '(,1,)')
    s.check('json, malformed', [e[:2] for e in key('{}', '{', 'json')[1]], [(None, '22P02')])
    s.check('json, empty', [e[:2] for e in key('{}', '', 'json')[1]], [(None, '22P02')])
    s.check('json, not UTF-8', [e[:2] for e in key('{}', b'"\xff"', 'json')[1]], [(None, '22021')])
    s.check('text, not UTF-8', [e[:2] for e in key('{}', b'\xff', 'text')[1]], [(None, '22021')])
    s.check('text with a zero byte', [e[:2] for e in key('{}', b'1\0', 'text')[1]], [(None, '22021')])
    s.check('binary key without key columns', s.decode('pair', '{"a":1}', key=b'\xff'),
            ({'a': '1', 'b': None}, []))
    composite = dict(table='composite_key', keys=('a', 'b'))
    s.check('composite', key('{"v":"x","a":"no"}', '{"b":2,"a":"k","c":3}', 'json', **composite),
            ({'a': 'k', 'b': '2', 'v': 'x'}, []))
    s.check('composite, part missing', key('{"a":"no"}', '{"b":2}', 'json', **composite),
            ({'a': None, 'b': '2', 'v': None}, []))
    s.check('composite, no key', key('{"v":"x","a":"k","b":3}', None, 'json', **composite),
            ({'a': 'k', 'b': '3', 'v': 'x'}, []))
    for document in ('5', 'null', '[1]'):
        s.check('composite, %s' % document, [e[:2] for e in key('{}', document, 'json', **composite)[1]],
                [(None, '22P02')])
    s.check('key with a path, no key', s.decode('keyed', '{"x":{"id":6}}', keys=['id'], paths=['id=x.id']),
            ({'id': '6', 'v': None}, []))
    s.check('tombstone of a stream', key(None, '7', 'text'), ({'id': '7', 'v': None}, []))
    s.check('tombstone of a table', s.decode('upsert', None, key='7', keys=['id']),
            ({'id': '7', 'v': None}, []))
    s.check('tombstone of a table without key', [e[:2] for e in s.decode('upsert', None, keys=['id'])[1]],
            [('id', '23502')])
    s.check('key of a table missing', [e[:2] for e in s.decode('upsert', '{"v":"x"}', keys=['id'])[1]],
            [('id', '23502')])
    s.check('malformed value, good key', s.decode('keyed', '{', key='7', keys=['id'])[0],
            {'id': '7', 'v': None})


def test_key_text(s):
    def text(key_format, key):
        return s.value("SELECT ks_test_key_text('keyed', 'json', %s, '{}', '{}', %s, '{}')",
                       key_format, key)

    s.check('text', text('text', 'é1'.encode()), 'é1')
    s.check('json', text('json', b' {"a": 1} '), '{"a": 1}')
    s.check('json string', text('json', b'"x"'), '"x"')
    s.check('bytea', text('bytea', b'\x00\xff'), '\\x00ff')
    s.check('int', text('int', b'\xff\xff\xff\xff'), '-1')
    s.check('bigint', text('bigint', b'\0' * 7 + b'\x05'), '5')
    s.check('no key', text('text', None), None)
    s.check('none', text('none', b'x'), None)
    s.check('text, bad', text('text', b'\xff')[:5], '22021')
    s.check('int, bad', text('int', b'\0')[:5], '22P03')
    s.check('json, bad', text('json', b'{')[:5], '22P02')


def test_csv(s):
    def csv(value, table='pair', **options):
        return s.decode(table, value, format='csv', **options)

    def copied(value):
        """What COPY makes of the line."""
        s.cursor.execute('TRUNCATE pair')
        s.cursor.copy_expert('COPY pair FROM STDIN (FORMAT csv)', io.StringIO(value + '\n'))
        row = s.query('SELECT a::text, b FROM pair')[0]
        return ({'a': row[0], 'b': row[1]}, [])

    for value in ('1,x', '1,', ',', '1,""', '"1","x"', '1,"a,b"', '1,"a""b"', '1,a"b,c"d', '1," x "',
                  ' 1 , x', '1,""""', '1,"a\nb"', '1,\\N', '1,"x"y', ',""',
                  '1,"a\r\nb"', '1,é'):
        s.check('csv %r' % value, csv(value), copied(value))
    s.check('newline at the end', csv('1,x\n'), ({'a': '1', 'b': 'x'}, []))
    s.check('CR LF at the end', csv('1,x\r\n'), ({'a': '1', 'b': 'x'}, []))
    s.check('CR at the end', csv('1,x\r'), ({'a': '1', 'b': 'x'}, []))
    s.check('no end-of-data mark', csv('\\.', table=s.type_table('text'))[0], {'c': '\\.'})
    s.check('empty line, one column', csv('', table=s.type_table('text')), ({'c': None}, []))
    s.check('bad column', [e[:2] for e in csv('x,y')[1]], [('a', '22P02')])
    s.check('types', csv('1,b,1.10,2024-01-01T00:00:00Z,"{1,2}",\\x00ff,t', table='line'),
            ({'a': '1', 'b': 'b', 'c': '1.10', 'd': '2024-01-01 01:00:00+01', 'e': '{1,2}',
              'f': '\\x00ff', 'g': 't'}, []))
    s.check('bytea by its input function', csv('1,,,,,a\\000b,', table='line')[0]['f'], '\\x610062')
    s.check('composite', csv('"(a,5,)"', table=s.type_table('address'))[0]['c'], '(a,5,)')
    s.check('jsonb', csv('"{""a"":1}"', table=s.type_table('jsonb'))[0]['c'], '{"a": 1}')
    s.check('json null is a value', csv('null', table=s.type_table('jsonb'))[0]['c'], 'null')
    s.check('jsonb, bad', csv('{', table=s.type_table('jsonb'))[1][0][:2], ('c', '22P02'))
    s.check('enum', csv('sad', table=s.type_table('mood'))[0]['c'], 'sad')
    s.check('domain', csv('0', table=s.type_table('positive'))[1][0][:2], ('c', '23514'))
    s.check('domain, null', csv('', table=s.type_table('needed'))[1][0][:2], ('c', '23502'))
    s.check('not null', [e[:2] for e in csv(',', table='strict')[1]], [('id', '23502'), ('v', '23502')])
    s.check('key column is a field, too', csv('1,x', table='keyed', key='5', keys=['id']),
            ({'id': '5', 'v': 'x'}, []))
    s.check('key column from the field', csv('1,x', table='keyed', keys=['id']), ({'id': '1', 'v': 'x'}, []))
    s.check('dropped column', csv('1,2', table='gone'), ({'a': '1', 'c': '2'}, []))
    s.check('tombstone', csv(None), ({'a': None, 'b': None}, []))
    for value in ('', '1', '1,x,y', '1,x,', '1,"x', '1,"', '1,x\n2,y', '1,x\n\n', '1,x\ry', '\n'):
        s.malformed(value, '22P04', 'CSV', format='csv')
    for value in (b'1,\xff', b'1,\xc3', b'1,a\0b'):
        s.malformed(value, '22021', 'UTF-8', format='csv')


def test_single(s):
    s.check('text', s.decode('note', 'any é\n', format='text'), ({'body': 'any é\n'}, []))
    s.check('empty text', s.decode('note', '', format='text'), ({'body': ''}, []))
    s.check('text, tombstone', s.decode('note', None, format='text'), ({'body': None}, []))
    s.check('text, other type', s.decode(s.type_table('int'), '12', format='text'), ({'c': '12'}, []))
    s.check('text, bad type', s.decode(s.type_table('int'), 'x', format='text')[1][0][:2], ('c', '22P02'))
    s.check('text and key', s.decode('keyed', 'x', format='text', key='1', keys=['id']),
            ({'id': '1', 'v': 'x'}, []))
    s.check('text, no key', s.decode('keyed', 'x', format='text', keys=['id']), ({'id': None, 'v': 'x'}, []))
    s.malformed(b'\xff', '22021', 'UTF-8', table='note', format='text')
    s.malformed(b'a\0b', '22021', 'UTF-8', table='note', format='text')
    s.check('bytea', s.decode('data', b'\0\xff', format='bytea'), ({'body': '\\x00ff'}, []))
    s.check('bytea, tombstone', s.decode('data', None, format='bytea'), ({'body': None}, []))
    s.check('jsonb', s.decode('doc', '{"b":1,"a":[1.50]}', format='jsonb'), ({'body': '{"a": [1.50], "b": 1}'}, []))
    s.check('jsonb, scalar', s.decode('doc', ' 5 ', format='jsonb'), ({'body': '5'}, []))
    s.check('jsonb, string', s.decode('doc', '"\\n"', format='jsonb'), ({'body': '"\\n"'}, []))
    s.check('jsonb, array', s.decode('doc', '[]', format='jsonb'), ({'body': '[]'}, []))
    s.check('jsonb, null', s.decode('doc', 'null', format='jsonb'), ({'body': None}, []))
    s.check('jsonb, tombstone', s.decode('doc', None, format='jsonb'), ({'body': None}, []))
    s.check('jsonb, \\u0000', s.decode('doc', '"\\u0000"', format='jsonb')[1][0][:2], ('body', '22P05'))
    s.check('jsonb and key', s.decode('keydoc', '[1]', format='jsonb', key='3', keys=['id']),
            ({'id': '3', 'body': '[1]'}, []))
    s.check('jsonb, key from its field', s.decode('keydoc', '{"id":4}', format='jsonb', keys=['id']),
            ({'id': '4', 'body': '{"id": 4}'}, []))
    for value in ('', '{', '1 2', '"a" "b"', 'nul', '"a', '[1', ']', '"a"b"', '1 ,'):
        s.malformed(value, '22P02', 'JSON', table='doc', format='jsonb')
    s.malformed(b'"\xff"', '22021', 'UTF-8', table='doc', format='jsonb')


def test_definitions(s):
    def refused(name, sqlstate, table, format='json', key_format='text', keys=(), paths=()):
        s.error(name, sqlstate, "SELECT * FROM ks_test_decode(%s, %s, %s, %s, %s, NULL, NULL)",
                table, format, key_format, list(keys), list(paths))

    refused('text with two columns', '42P17', 'pair', 'text')
    refused('bytea with two columns', '42P17', 'pair', 'bytea')
    refused('bytea into text', '42804', 'note', 'bytea')
    refused('jsonb into text', '42804', 'note', 'jsonb')
    refused('text with only a key', '42P17', 'note', 'text', keys=['body'])
    refused('two keys as text', '42P17', 'composite_key', key_format='text', keys=['a', 'b'])
    refused('two keys as int', '42P17', 'composite_key', key_format='int', keys=['a', 'b'])
    refused('bytea key into text', '42804', 'note', key_format='bytea', keys=['body'])
    refused('int key into bytea', '42804', 'data', key_format='int', keys=['body'])
    refused('int key into an array', '42804', s.type_table('int[]'), key_format='int', keys=['c'])
    refused('path with csv', '42P17', 'pair', 'csv', paths=['a=x'])


def test_headers(s):
    def headers(*pairs):
        return s.value('SELECT ks_test_headers(%s::text[], %s::bytea[])',
                       [pair[0] for pair in pairs], [pair[1] for pair in pairs])

    s.check('none', headers(), None)
    s.check('text', headers(('a', b'x'), ('b', 'é'.encode())), {'a': 'x', 'b': 'é'})
    s.check('last of repeated names', headers(('a', b'x'), ('a', b'y')), {'a': 'y'})
    s.check('without value', headers(('a', None), ('b', b'')), {'a': None, 'b': ''})
    s.check('not UTF-8', headers(('a', b'\xff\x00'), ('b', b'a\0b'), ('c', b'\xfe')),
            {'a': '/wA=', 'b': 'YQBi', 'c': '/g=='})


def test_encode(s):
    def row(expression):
        return bytes(s.value('SELECT ks_test_encode(x) FROM (SELECT %s) x' % expression)).decode()

    s.check('scalars', row("1 AS a, 'x\"\n' AS b, true AS c, NULL::int AS d, 1.50 AS e, 0.1::float8 AS f"),
            '{"a":1,"b":"x\\"\\n","c":true,"d":null,"e":1.50,"f":0.1}')
    s.check('numbers', row("9223372036854775807 AS a, 'NaN'::numeric AS b, 'Infinity'::float8 AS c,"
                           " '-Infinity'::float4 AS d, -1e30::numeric AS e, 1e-7::float8 AS f"),
            '{"a":9223372036854775807,"b":"NaN","c":"Infinity","d":"-Infinity",'
            '"e":-1000000000000000000000000000000,"f":1e-07}')
    s.cursor.execute("SET DateStyle = 'German, DMY'")
    s.cursor.execute("SET IntervalStyle = 'sql_standard'")
    s.cursor.execute("SET bytea_output = 'escape'")
    s.cursor.execute("SET extra_float_digits = -10")
    s.check('times', row("timestamptz '2024-01-02 03:04:05.678+02' AS a, timestamp '2024-01-02 03:04:05' AS b,"
                         " date '2024-12-31' AS c, time '10:11:12.5' AS d, interval '1 day 2 hours' AS e,"
                         " timestamptz 'infinity' AS f"),
            '{"a":"2024-01-02T01:04:05.678+00:00","b":"2024-01-02T03:04:05","c":"2024-12-31",'
            '"d":"10:11:12.5","e":"P1DT2H","f":"infinity"}')
    s.check('bytea', row("'\\x00ff'::bytea AS a, 0.1::float8 AS b"), '{"a":"\\\\x00ff","b":0.1}')
    s.check('ranges', row("tstzrange('2024-01-01 00:00+00', '2024-01-02 00:00+00') AS a, int4range(1, 3) AS b"),
            '{"a":"[2024-01-01T00:00:00+00:00,2024-01-02T00:00:00+00:00)","b":"[1,3)"}')
    s.check('arrays', row("ARRAY[[1,2],[3,NULL]] AS a, '{}'::int[] AS b, ARRAY['x', NULL] AS c,"
                          " ARRAY[timestamp '2024-01-02'] AS d"),
            '{"a":[[1,2],[3,null]],"b":[],"c":["x",null],"d":["2024-01-02T00:00:00"]}')
    for setting in ('DateStyle', 'IntervalStyle', 'bytea_output', 'extra_float_digits'):
        s.cursor.execute('RESET ' + setting)
    s.check('settings come back', s.value('SHOW TimeZone'), 'Europe/Berlin')
    s.check('composite', row("ROW('a', 5, '{p}')::address AS a, 3::positive AS b, 'sad'::mood AS c"),
            '{"a":{"street":"a","zip":5,"tags":["p"]},"b":3,"c":"sad"}')
    s.check('json', row("'{\"x\": 1.50}'::jsonb AS a, '[1 ]'::json AS b"), '{"a":{"x": 1.50},"b":[1 ]}')
    s.check('some columns', bytes(s.value(
        "SELECT ks_test_encode(x, '{f,t}') FROM (SELECT 1 AS a, 2 AS b) x")).decode(), '{"b":2}')


def test_encode_records(s):
    def encode(what, row, table='keyed', format='json', key_format='text', keys=('id',), paths=()):
        result = s.value("SELECT ks_test_encode_record(%s, %s, %s, %s, %s, %s, ROW" + row + '::' + table + ')',
                         table, format, key_format, list(keys), list(paths), what)
        return None if result is None else bytes(result)

    s.check('text key', encode('key', "(5, 'x')"), b'5')
    s.check('json key', encode('key', "(5, 'x')", key_format='json'), b'5')
    s.check('json key, string', encode('key', "(5, 'x')", key_format='json', keys=['v']), b'"x"')
    s.check('int key', encode('key', "(-2, 'x')", key_format='int'), b'\xff\xff\xff\xfe')
    s.check('bigint key', encode('key', "(5, 'x')", key_format='bigint'), b'\0' * 7 + b'\x05')
    s.check('key none', encode('key', "(5, 'x')", key_format='none'), None)
    s.check('key null', encode('key', "(NULL, 'x')"), None)
    s.check('composite key', encode('key', "('k', 2, 'x')", table='composite_key', key_format='json',
                                    keys=['a', 'b']), b'{"a":"k","b":2}')
    s.check('composite key, part null', encode('key', "(NULL, 2, 'x')", table='composite_key',
                                               key_format='json', keys=['a', 'b']), b'{"a":null,"b":2}')
    s.error('int key too large', '22003', "SELECT ks_test_encode_record('keyed', 'json', 'int', '{id}', '{}',"
            " 'key', ROW(3000000000, 'x')::keyed)")
    s.check('value', encode('value', "(5, 'é')"), '{"id":5,"v":"é"}'.encode())
    s.check('value, nulls', encode('value', '(NULL, NULL)'), b'{"id":null,"v":null}')
    s.check('paths', encode('value', "('k', 2, 'x')", table='composite_key', keys=(),
                            paths=['a=x.y', 'b=x.z[1].q', 'v="p.q"']),
            b'{"x":{"y":"k","z":[null,{"q":2}]},"p.q":"x"}')
    s.check('csv', encode('value', "(5, 'a\"b,c')", format='csv'), b'5,"a""b,c"')
    s.check('csv, null and empty', encode('value', "(NULL, '')", format='csv'), b',""')
    s.check('text', encode('value', "('é')", table='note', format='text', keys=()), 'é'.encode())
    s.check('text, null', encode('value', "(NULL)", table='note', format='text', keys=()), None)
    s.check('bytea', encode('value', "('\\x00ff')", table='data', format='bytea', keys=()), b'\0\xff')
    s.check('jsonb', encode('value', "('{\"a\":1}')", table='doc', format='jsonb', keys=()), b'{"a": 1}')

    def key_text(key_format, text):
        result = s.value("SELECT ks_test_encode_record('keyed', 'json', %s, '{id}', '{}', 'text', NULL, %s)",
                         key_format, text)
        return None if result is None else bytes(result)

    s.check('text form, text', key_text('text', 'é'), 'é'.encode())
    s.check('text form, json', key_text('json', ' {"a":1} '), b'{"a":1}')
    s.check('text form, bytea', key_text('bytea', '\\x00ff'), b'\0\xff')
    s.check('text form, int', key_text('int', '-1'), b'\xff' * 4)
    s.check('text form, bigint', key_text('bigint', '1'), b'\0' * 7 + b'\x01')
    s.check('text form, none', key_text('none', 'x'), None)
    for key_format, text, sqlstate in (('json', 'x', '22P02'), ('int', 'x', '22P02'), ('int', '3000000000', '22003')):
        s.error('text form, bad %s' % key_format, sqlstate,
                "SELECT ks_test_encode_record('keyed', 'json', %s, '{id}', '{}', 'text', NULL, %s)",
                key_format, text)


def test_round_trip(s):
    """What ks_encoder_value writes is what ks_decode reads, in json and csv."""
    s.cursor.execute('CREATE TABLE trip (a bigint, b numeric, c float8, d text, e timestamptz, f bytea,'
                     ' g address, h text[], i jsonb, j interval, k tstzrange, l date, m bool, n mood, o uuid,'
                     ' p float4, q timestamp)')
    row = r"""ROW(-9223372036854775808, 1.10, 1e-300, E'q"\n,\\', '2024-01-02 03:04:05.123456+00', '\x00ff',
        ROW('s', 1, '{"a,b",NULL}')::address, '{x,NULL,""}', '{"a":[1.0]}', '1 mon -2 days 3.5 s',
        '[2024-01-01 00:00+00,2024-02-01 00:00+00)', '2024-02-29', true, 'happy',
        'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 0.1, '0044-03-15 12:00 BC')::trip"""
    names = [r[0] for r in s.query("SELECT attname FROM pg_attribute WHERE attrelid = 'trip'::regclass"
                                   " AND attnum > 0 ORDER BY attnum")]
    expected = dict(zip(names, s.query('SELECT %s FROM (SELECT (%s).*) x'
                                       % (', '.join("format('%%s', %s)" % name for name in names), row))[0]))
    for format in ('json', 'csv'):
        for style in ('ISO', 'German', 'SQL, DMY'):
            s.cursor.execute("SET DateStyle = '%s'" % style)
            value = bytes(s.value("SELECT ks_test_encode_record('trip', %s, 'none', '{}', '{}', 'value', " + row + ')',
                                  format))
            s.cursor.execute('RESET DateStyle')
            s.check('round trip, %s, %s' % (format, style), s.decode('trip', value, format=format),
                    (expected, []))


def test_memory(s):
    """Records, good and bad, leave nothing behind in the decoder."""
    s.cursor.execute('CREATE TABLE everything (a positive, b inet, c address, d int[], e jsonb, f mood,'
                     ' g interval, h fraction, i text)')
    for value in ('{"a":1,"b":"10.0.0.1","c":{"zip":1,"tags":["x"]},"d":[1,2],"e":{"\\u0061":1},"f":"sad",'
                  '"g":"1 day","h":1,"i":"\\n"}',
                  '{"a":0,"b":"x","c":{"zip":"x"},"d":[1,"x"],"e":"\\u0000","f":"x","g":"x","h":0}', '{', 'null'):
        s.check('memory, %.20s' % value, s.value(
            "SELECT ks_test_memory('everything', 'json', 'none', '{}', '{}', NULL, %s, NULL, 3000)",
            value.encode()) < 8192, True)


def test_latin1(s):
    s.check('é', s.decode('pair', '{"a":1,"b":"é\\u00e9"}'), ({'a': '1', 'b': 'éé'}, []))
    s.json('jsonb', '{"é":"\\u00e9"}', '{"é": "é"}')
    s.json('json', '{"é":1}', '{"é":1}')
    s.json('mood', '"ok"', 'ok')
    s.json('varchar(1)', '"é"', 'é')
    s.bad('text', '"\u20ac"', '22P05')
    s.bad('text', '"\\u20ac"', '22P05')
    s.bad('jsonb', '["\u20ac"]', '22P05')
    s.bad('jsonb', '["\\u20ac"]', '22P05')
    s.check('csv', s.decode('pair', '1,é', format='csv'), ({'a': '1', 'b': 'é'}, []))
    s.check('key', s.decode('keyed', '{}', key='é', keys=['v'])[0]['v'], 'é')
    s.cursor.execute('CREATE TABLE accents ("é" int)')
    s.check('column name', s.decode('accents', '{"é":5}'), ({'é': '5'}, []))
    s.cursor.execute('CREATE TYPE accented AS ("é" int)')
    s.json('accented', '{"é":6}', '(6)')
    s.check('headers', s.value('SELECT ks_test_headers(%s, %s::bytea[])', ['a', 'b'],
                               ['é'.encode(), '€'.encode()]), {'a': 'é', 'b': '4oKs'})
    s.check('encode', bytes(s.value("SELECT ks_test_encode(x) FROM (SELECT 'é' AS \"é\") x")).decode(),
            '{"é":"é"}')


def main():
    suite = Suite(sys.argv[1], 'postgres')
    suite.cursor.execute(SCHEMA)
    for test in (test_integers, test_floats, test_numerics, test_strings, test_bool_bytea_uuid_enum,
                 test_times, test_json_columns, test_nested, test_domains, test_documents, test_paths,
                 test_keys, test_key_text, test_csv, test_single, test_definitions, test_headers,
                 test_encode, test_encode_records, test_round_trip, test_memory):
        test(suite)
    latin1 = Suite(sys.argv[1], 'latin1')
    latin1.cursor.execute(SCHEMA)
    test_latin1(latin1)
    passed = suite.passed + latin1.passed
    failed = suite.failed + latin1.failed
    print('%d passed, %d failed' % (passed, failed))
    sys.exit(1 if failed else 0)


main()
