"""Runs one case of the law test: streams, copies of the query, steps, and the
comparison with plain Postgres after every step."""
import math
import os

import psycopg2

import gen

SETTINGS = "SET client_min_messages = error; SET timezone = 'UTC'; SET statement_timeout = '60s'; SET jit = off"
# Since 16 the planner may sort the input of all aggregates for those that have an ORDER BY; the reference reads by offset.
SETTINGS += "; SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = 'enable_presorted_aggregate'"


FAULT_POINTS = ["after_decode", "after_state", "after_positions"]


# What jsonb does not tell apart: the spelling of json, its null from NULL, -0 from 0.
IN_JSON = {"json": "nullif(%s::jsonb::text, 'null')", "jsonb": "nullif(%s::text, 'null')",
           "double precision": "(%s + 0)::text", "real": "(%s + 0)::text"}
IN_JSON.update((t + "[]", "to_jsonb(%s)::text") for t in list(IN_JSON))


class Mismatch(Exception):
    """The law is broken; the text says how."""


class Invalid(Exception):
    """The generator made a query Postgres itself does not take."""


class Refused(Exception):
    """kstream refused the query in the proper way."""


def prepare_database(name):
    """A fresh database with the extension and the fixture."""
    conn = psycopg2.connect(dbname="postgres")
    conn.autocommit = True
    cur = conn.cursor()
    cur.execute('DROP DATABASE IF EXISTS "%s" WITH (FORCE)' % name)
    cur.execute('CREATE DATABASE "%s"' % name)
    conn.close()
    conn = psycopg2.connect(dbname=name)
    conn.autocommit = True
    cur = conn.cursor()
    cur.execute("CREATE EXTENSION kstream")
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixture.sql")) as file:
        cur.execute(file.read())
    conn.close()


def drop_database(name):
    conn = psycopg2.connect(dbname="postgres")
    conn.autocommit = True
    conn.cursor().execute('DROP DATABASE IF EXISTS "%s" WITH (FORCE)' % name)
    conn.close()


class Session:
    """A connection that remembers, if asked, what it ran."""

    def __init__(self, dbname, script=None):
        self.conn = psycopg2.connect(dbname=dbname)
        self.conn.autocommit = True
        self.cur = self.conn.cursor()
        self.script = None
        self.run(SETTINGS)
        self.script = script

    def run(self, sql):
        if self.script is not None:
            self.script.append(sql)
        self.cur.execute(sql)

    def rows(self, sql):
        self.run(sql)
        return self.cur.fetchall()

    def close(self):
        self.conn.close()


class Database:
    """The two sessions a process uses: ks for kstream, ref for the reference."""

    def __init__(self, name):
        self.name = name
        self.ks = self.ref = None
        self.connect()

    def connect(self):
        self.close()
        self.ks = Session(self.name)
        self.ref = Session(self.name)

    def close(self):
        for session in (self.ks, self.ref):
            if session is not None:
                try:
                    session.close()
                except psycopg2.Error:
                    pass


class Run:
    """One run of one case."""

    def __init__(self, db, case, script=None):
        self.db = db
        self.case = case
        self.ks = db.ks
        self.ref = db.ref
        self.ks.script = script
        self.script = script
        self.streams = [s["name"] for s in case["streams"]]
        self.inserted = 0
        self.compared = 0
        self.failing = []
        self.follows = len(case["rows"]) % 3 == 0
        # What a row-wise query gives may as well go into a stream, and is read back from its log.
        self.into_stream = not self.follows and not case["query"].get("agg", True) and len(case["rows"]) % 3 == 1

    # -------------------------------------------------------- set-up

    def clean(self):
        for session in (self.ks, self.ref):
            session.script = None
            if session.conn.get_transaction_status() != 0:
                session.cur.execute("ROLLBACK")
        self.ref.run("RESET ALL; " + SETTINGS)
        self.ks.run("RESET ALL; DROP SCHEMA IF EXISTS st CASCADE; DROP SCHEMA IF EXISTS arc CASCADE;"
                    "DROP SCHEMA IF EXISTS base CASCADE; DROP SCHEMA IF EXISTS lt CASCADE;" + SETTINGS)
        self.ks.script = self.script

    def create_streams(self):
        self.ks.run("CREATE SCHEMA st; CREATE SCHEMA arc; CREATE SCHEMA base; CREATE SCHEMA lt; CREATE SEQUENCE lt.seq;"
                    " CREATE VIEW lt.vol AS SELECT random() AS r")
        for sql in self.case["prelude"]:
            self.ks.run(sql)
        for stream in self.case["streams"]:
            columns = ", ".join("%s %s" % (n, gen.TYPES[t].sql) for n, t in stream["cols"])
            self.ks.run("SELECT kstream.create_stream('st.%s', $c$%s$c$, server => 'local', partitions => %d)" % (
                stream["name"], columns, stream["partitions"]))
            for schema in ("base", "arc"):
                self.ks.run("CREATE TABLE %s.%s (%s, _key text, _partition int, _offset int8, _timestamp timestamptz,"
                            " _headers jsonb, _stream_time timestamptz)" % (schema, stream["name"], columns))
        for schema in ("arc", "st"):
            self.ks.run("SET search_path = %s, lt, lk" % schema)
            for name, sql in self.case["views"]:
                try:
                    self.ks.run("CREATE VIEW %s.%s AS %s" % (schema, name, sql))
                except psycopg2.Error as error:
                    if schema == "arc":
                        raise Invalid(str(error))
                    raise Mismatch("a view over a stream cannot be created: %s" % error)
        self.ref.run("SET search_path = arc, lt, lk; " + self.case["planner"])
        if self.script is not None:
            self.script.append("SET search_path = st, lt, lk")

    def values(self, row, offset=None, stream_time=None):
        """A record as a VALUES list."""
        items = row["v"] + [row["k"], str(row["p"])]
        if offset is not None:
            items.append(str(offset))
        items += ["'%s'::timestamptz" % row["ts"], row["h"] + "::jsonb"]
        if offset is not None:
            items.append("'%s'::timestamptz" % stream_time)
        return "(%s)" % ", ".join(items)

    def fill_base(self):
        """All records with the offsets they will get."""
        offsets, times = {}, {}
        by_stream = {}
        for row in self.case["rows"]:
            place = (row["s"], row["p"])
            offsets[place] = offsets.get(place, -1) + 1
            times[place] = max(times.get(place, ""), row["ts"])
            by_stream.setdefault(row["s"], []).append(self.values(row, offsets[place], times[place]))
        for index, values in by_stream.items():
            stream = self.case["streams"][index]
            columns = [n for n, _ in stream["cols"]] + ["_key", "_partition", "_offset", "_timestamp", "_headers", "_stream_time"]
            self.ks.run("INSERT INTO base.%s (%s) VALUES %s" % (stream["name"], ", ".join(columns), ", ".join(values)))

    def create_queries(self):
        case = self.case
        text = gen.render(case["query"])
        if case.get("refuse"):
            self.must_be_refused(case["refuse"].replace("{q}", text).replace("{s}", self.streams[0]))
        try:
            self.reference("CREATE VIEW arc.q AS " + gen.render(case["query"], True))
            self.ref.run("SELECT * FROM arc.q LIMIT 0")
        except psycopg2.Error as error:
            raise Invalid(str(error))
        self.ids = []
        for copy in range(case["copies"]):
            try:
                self.ks.run("SELECT kstream.%s('st.r%d', $q$%s$q$, paused => true%s%s)" % (
                    "create_stream_as" if self.into_stream else "create_table_as",
                    copy, text, ", on_error => 'stop'" if case.get("stop") else "",
                    ", keep_changes => '1 day'" if self.follows else
                    ", server => 'local', partitions => %d" % (1 + len(case["rows"]) % 2) if self.into_stream else ""))
            except psycopg2.Error as error:
                if error.pgcode == "0A000" and error.diag.message_hint:
                    raise Refused(error.diag.message_primary)
                raise Mismatch("not refused properly: %s %s" % (error.pgcode, error))
            self.ids.append(self.ks.rows("SELECT id FROM kstream_catalog.query WHERE relation = 'st.r%d'::regclass" % copy)[0][0])

    def must_be_refused(self, text):
        try:
            self.ks.run("SELECT kstream.create_table_as('st.refused', $q$%s$q$, paused => true)" % text)
        except psycopg2.Error as error:
            if error.pgcode == "0A000" and error.diag.message_hint:
                return
            raise Mismatch("refused, but not with 0A000 and a hint: %s %s\n%s" % (error.pgcode, error, text))
        raise Mismatch("accepted, but must be refused: %s" % text)

    def find_bad(self):
        rows = gen.mark_order(gen.render_rows(self.case["query"]), True)
        self.reference("CREATE TABLE base.bad AS SELECT * FROM lk.bad_records('{%s}', $q$%s$q$)" % (",".join(self.streams), rows))
        self.bad = {tuple(r[:3]): r[3] for r in self.ref.rows("SELECT stream, part, off, state FROM base.bad")}

    def reference(self, sql):
        """Runs a statement of the reference; the script has one session, which changes sides for it."""
        if self.script is not None:
            self.script.append("SET search_path = arc, lt, lk; %s; SET search_path = st, lt, lk" % sql)
        self.ref.run(sql)

    def assertion(self, query, message):
        """In the script: the query must return no row."""
        if self.script is not None:
            self.script.append("SET search_path = arc, lt, lk")
            self.script.append("DO $law$ BEGIN IF EXISTS (%s) THEN RAISE EXCEPTION '%s'; END IF; END $law$" % (query, message))
            self.script.append("SET search_path = st, lt, lk")

    # -------------------------------------------------------- events

    def insert(self, count, rolled_back):
        batch = self.case["rows"][self.inserted:self.inserted + count]
        statements = []
        for index, stream in enumerate(self.case["streams"]):
            values = [self.values(r) for r in batch if r["s"] == index]
            if values:
                columns = [n for n, _ in stream["cols"]] + ["_key", "_partition", "_timestamp", "_headers"]
                statements.append("INSERT INTO st.%s (%s) VALUES %s" % (stream["name"], ", ".join(columns), ", ".join(values)))
        if not statements:
            return
        if rolled_back:
            self.ks.run("BEGIN; %s; ROLLBACK" % "; ".join(statements))
        self.ks.run("; ".join(statements))
        self.inserted += count

    def step(self, copy, size, mode):
        call = "SELECT kstream.step('st.r%d', %d)" % (copy, size)
        if self.case.get("stop"):
            mode = "plain"
        if mode == "rollback":
            self.ks.run("BEGIN; %s; ROLLBACK" % call)
            self.compare(copy)
        elif mode == "error":
            try:
                self.ks.run("BEGIN; %s; SELECT 1 / 0; COMMIT" % call)
            except psycopg2.errors.DivisionByZero:
                pass
            self.ks.run("ROLLBACK")
            self.compare(copy)
        elif mode == "fault":
            self.fault(call)
            self.compare(copy)
        elif mode == "savepoint":
            self.ks.run("BEGIN; SAVEPOINT a; %s; ROLLBACK TO a; %s; COMMIT" % (call, call))
        elif mode == "double":
            self.ks.run("BEGIN; %s; %s; COMMIT" % (call, call))
        try:
            records = self.ks.rows(call)[0][0]
        except psycopg2.Error as error:
            if not self.stopped(copy, error):
                raise
            records = 0
        if records > size:
            raise Mismatch("a step of %d consumed %d records" % (size, records))
        self.compare(copy)
        return records

    def stopped(self, copy, error):
        """on_error => 'stop': an error must mean that a bad record is next."""
        if not self.case.get("stop"):
            return False
        return any((s, p, n) in self.bad and self.bad[(s, p, n)] == error.pgcode for s, p, n, _, _ in self.positions(copy))

    def fault(self, call):
        """A step that fails inside the engine, where it was built with fault points."""
        if not self.ks.rows("SELECT 1 FROM pg_settings WHERE name = 'kstream.fault_points'"):
            return
        point = FAULT_POINTS[len(self.case["rows"]) % len(FAULT_POINTS)]
        self.ks.run("SET kstream.fault_points = '%s:error'" % point)
        try:
            self.ks.run(call)
        except psycopg2.Error:
            pass
        self.ks.run("SET kstream.fault_points = ''")

    def event(self, event):
        kind = event[0]
        if kind == "insert":
            self.insert(event[1], event[2])
        elif kind == "step":
            self.step(event[1], event[2][0] if isinstance(event[2], list) else event[2], event[3])
        elif kind == "reset" and self.into_stream:
            pass
        elif kind == "reset":
            self.ks.run("SELECT kstream.reset('st.r%d')" % event[1])
            self.compare(event[1])
        else:
            sizes, turn = event[2], 0
            while self.step(event[1], sizes[turn % len(sizes)], event[3] if turn == 0 else "plain") > 0:
                turn += 1
                if turn > 3 * len(self.case["rows"]) + 10:
                    raise Mismatch("steps never end")

    # -------------------------------------------------------- comparison

    def positions(self, copy):
        return self.ref.rows("SELECT c.relname, p.partition, p.next_offset, p.records, p.dead FROM kstream_catalog.position p"
                             " JOIN pg_class c ON c.oid = p.source WHERE p.query = %d" % self.ids[copy])

    def fill_archive(self, copy):
        """Exactly the records consumed so far, the bad ones left out; all records with no copy."""
        statements = []
        for name in self.streams:
            statements.append("DELETE FROM arc.%s" % name)
            consumed = "" if copy is None else (
                " AND EXISTS (SELECT FROM kstream_catalog.position p JOIN kstream_catalog.query q ON q.id = p.query"
                " WHERE q.relation = 'st.r%d'::regclass AND p.source = 'st.%s'::regclass"
                " AND p.partition = b._partition AND b._offset < p.next_offset)" % (copy, name))
            statements.append("INSERT INTO arc.%s SELECT * FROM base.%s b WHERE NOT EXISTS (SELECT FROM base.bad x WHERE x.stream = '%s'"
                              " AND x.part = b._partition AND x.off = b._offset)%s" % (name, name, name, consumed))
        self.reference("; ".join(statements))

    def columns(self):
        outs = self.case["query"]["outs"]
        if "raw" in self.case["query"]:
            names = [r[0] for r in self.ref.rows("SELECT attname FROM pg_attribute WHERE attrelid = 'arc.q'::regclass AND attnum > 0")]
            own = ("_partition", "_offset", "_stream_time") if self.into_stream else ()  # the new stream's
            return ["%s::text" % n for n in names if n not in own], []
        columns = ["o%d%s" % (i, "" if o["cmp"] == "eq" else "::text") for i, o in enumerate(outs)]
        return columns, [i for i, o in enumerate(outs) if o["cmp"] == "approx"]

    def compare(self, copy):
        self.compared += 1
        positions = self.positions(copy)
        self.fill_archive(copy)
        columns, approx = self.columns()
        if self.script is not None:
            rounded = ["round(o%d::numeric, 6)" % i if i in approx else c for i, c in enumerate(columns)]
            table = "SELECT %s FROM st.r%d" % (", ".join(rounded), copy)
            batch = "SELECT %s FROM arc.q" % ", ".join(rounded)
            self.assertion("(%s EXCEPT ALL %s) UNION ALL (%s EXCEPT ALL %s)" % (table, batch, batch, table),
                           "the table is not what the query gives in batch")
        cols = ", ".join("%s AS o%d" % (c, i) for i, c in enumerate(columns))
        sql = ("WITH a AS MATERIALIZED (SELECT %s FROM st.r%d), b AS MATERIALIZED (SELECT %s FROM arc.q)"
               " SELECT 'table' AS only_in, x::text, x.* FROM (SELECT * FROM a EXCEPT ALL SELECT * FROM b) x"
               " UNION ALL SELECT 'batch', x::text, x.* FROM (SELECT * FROM b EXCEPT ALL SELECT * FROM a) x" % (cols, copy, cols))
        try:
            differences = self.ref.rows(sql)
        except psycopg2.Error as error:
            raise Invalid("the reference fails: %s" % error)
        if differences and approx:
            differences = tolerate(differences, [i + 2 for i in approx])
        if differences:
            raise Mismatch("copy %d at %s:\n  %s" % (
                copy, sorted(p[:3] for p in positions), "\n  ".join("only in %s: %s" % d[:2] for d in differences[:10])))
        self.compare_dead_letters(copy, positions)
        if self.follows:
            self.compare_changes(copy)
        if self.into_stream:
            self.compare_log(copy)

    def compare_log(self, copy):
        """Offsets are dense, and stream time is the greatest event time so far."""
        wrong = self.ref.rows("SELECT _partition, _offset FROM (SELECT *, row_number() OVER w - 1 AS n, max(_timestamp) OVER w AS t FROM st.r%d"
                              " WINDOW w AS (PARTITION BY _partition ORDER BY _offset)) r WHERE n <> _offset OR t <> _stream_time" % copy)
        if wrong:
            raise Mismatch("copy %d: the log has holes or wrong times at %s" % (copy, wrong[:5]))

    def compare_changes(self, copy):
        """All changes together, applied to nothing, are the table; their positions are dense."""
        columns = self.ref.rows("SELECT quote_ident(attname), atttypid::regtype::text FROM pg_attribute"
                                " WHERE attrelid = 'st.r%d'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum" % copy)
        cols = ", ".join(IN_JSON.get(t, "%s::text") % c for c, t in columns)
        # arrays of jsonb cannot be made of JSON again: an element that is an array could be a dimension
        apart = [c for c, t in columns if t in ("json[]", "jsonb[]")]
        told = ", ".join("nullif((doc -> '%s')::text, 'null')" % c if c in apart else IN_JSON.get(t, "%s::text") % c for c, t in columns)
        folded = ("SELECT %s FROM (SELECT image::jsonb AS doc, (jsonb_populate_record(NULL::st.r%d, image::jsonb - '{%s}'::text[])).* FROM ("
                  "SELECT image, sum(n)::int AS n FROM kstream.changes('st.r%d', max_rows => NULL),"
                  " LATERAL (VALUES (new::text, 1), (old::text, -1)) i(image, n) WHERE image IS NOT NULL GROUP BY image"
                  ") f, generate_series(1, abs(f.n))) g" % (told, copy, ",".join(apart), copy))
        table = "SELECT %s FROM st.r%d" % (cols, copy)
        dense = ("SELECT 'positions', count(*)::text FROM kstream.changes('st.r%d', max_rows => NULL)"
                 " HAVING count(*) <> coalesce(max(position), 0) OR count(*) <> kstream.position('st.r%d')" % (copy, copy))
        sql = ("SELECT 'changes', x::text FROM (%s EXCEPT ALL %s) x UNION ALL SELECT 'table', x::text FROM (%s EXCEPT ALL %s) x"
               " UNION ALL %s" % (folded, table, table, folded, dense))
        self.assertion(sql, "the changes are not those of the table")
        differences = self.ref.rows(sql)
        if differences:
            raise Mismatch("copy %d: the changes are not those of the table:\n  %s" % (
                copy, "\n  ".join("only in %s: %s" % d for d in differences[:10])))

    def compare_dead_letters(self, copy, positions):
        self.assertion("SELECT x.stream, x.part, x.off, x.state FROM base.bad x JOIN kstream_catalog.position p ON p.query = (SELECT id FROM kstream_catalog.query WHERE relation = 'st.r%d'::regclass)"
                       " AND p.source = ('st.' || x.stream)::regclass AND p.partition = x.part AND x.off < p.next_offset EXCEPT ALL"
                       " SELECT c.relname::text, d.partition, d.\"offset\", d.sqlstate FROM kstream_catalog.dead_letter d"
                       " JOIN pg_class c ON c.oid = d.source WHERE d.query = (SELECT id FROM kstream_catalog.query WHERE relation = 'st.r%d'::regclass)" % (copy, copy),
                       "a dead letter is missing")
        self.assertion("SELECT 1 FROM kstream_catalog.dead_letter d JOIN pg_class c ON c.oid = d.source"
                       " LEFT JOIN base.bad x ON x.stream = c.relname AND x.part = d.partition AND x.off = d.\"offset\""
                       " WHERE d.query = (SELECT id FROM kstream_catalog.query WHERE relation = 'st.r%d'::regclass) AND x.off IS NULL" % copy, "a good record is a dead letter")
        consumed = {(s, p): n for s, p, n, _, _ in positions}
        if self.case.get("stop") and any(o < consumed.get((s, p), 0) for s, p, o in self.bad):
            raise Mismatch("copy %d at %s went past a bad record: %s" % (copy, sorted(p[:3] for p in positions), self.bad))
        wanted = sorted((s, p, o) for (s, p, o) in self.bad if o < consumed.get((s, p), 0))
        found = self.ref.rows("SELECT c.relname, d.partition, d.\"offset\", d.sqlstate FROM kstream_catalog.dead_letter d"
                              " JOIN pg_class c ON c.oid = d.source WHERE d.query = %d" % self.ids[copy])
        if sorted(f[:3] for f in found) != wanted:
            raise Mismatch("copy %d at %s: dead letters are %s, should be %s" % (
                copy, sorted(p[:3] for p in positions), sorted(found), [w + (self.bad[w],) for w in wanted]))
        for s, p, o, state in found:
            if state != self.bad[(s, p, o)]:
                raise Mismatch("copy %d: dead letter of %s has SQLSTATE %s, should be %s" % (copy, (s, p, o), state, self.bad[(s, p, o)]))
        for s, p, n, records, dead in positions:
            if records != n or dead != len([w for w in wanted if w[:2] == (s, p)]):
                raise Mismatch("copy %d: %s/%d at %d counts %d records and %d dead ones" % (copy, s, p, n, records, dead))

    def compare_streams(self):
        """A bounded read shows exactly what was inserted."""
        for name in self.streams:
            columns = [r[0] for r in self.ref.rows("SELECT attname FROM pg_attribute WHERE attrelid = 'base.%s'::regclass"
                                                   " AND attnum > 0 ORDER BY attnum" % name)]
            cols = ", ".join("%s::text" % c for c in columns)
            left = self.ref.rows("(SELECT %s FROM st.%s EXCEPT ALL SELECT %s FROM base.%s) UNION ALL"
                                 " (SELECT %s FROM base.%s EXCEPT ALL SELECT %s FROM st.%s)" % ((cols, name, cols, name) * 2))
            if left:
                raise Mismatch("bounded read of %s differs: %s" % (name, left[:5]))

    def run(self):
        """Raises Mismatch, Invalid or Refused; returns the number of comparisons."""
        self.clean()
        try:
            self.create_streams()
            self.fill_base()
            self.create_queries()
            self.find_bad()
            for sql in self.case.get("session", []):
                self.ks.run(sql)
            for event in self.case["events"]:
                self.event(event)
            self.compare_streams()
        except psycopg2.OperationalError as error:
            raise Mismatch("connection lost: %s" % error)
        except psycopg2.Error as error:
            raise self.explain_error(error)
        return self.compared

    def explain_error(self, error):
        """A step failed: the law allows it only if plain Postgres fails as well."""
        if self.ks.conn.closed or self.ref.conn.closed:
            return Mismatch("connection lost: %s" % error)
        for session in (self.ks, self.ref):
            if session.conn.get_transaction_status() != 0:
                session.cur.execute("ROLLBACK")
        try:
            self.fill_archive(None)
            self.ref.rows("SELECT x::text FROM arc.q x")
        except psycopg2.Error:
            return Invalid("an aggregate fails in plain Postgres as well: %s" % error)
        except AttributeError:
            pass
        return Mismatch("error %s: %s" % (error.pgcode, error))


def tolerate(differences, approx):
    """Leaves out pairs of rows that differ only in the last digits of floats."""
    left = [d for d in differences if d[0] == "table"]
    right = [d for d in differences if d[0] == "batch"]
    rest = []
    for row in left:
        for other in right:
            if all(close(row[i], other[i]) if i in approx else alike(row[i], other[i]) for i in range(2, len(row))):
                right.remove(other)
                break
        else:
            rest.append(row)
    return rest + right


def alike(a, b):
    """Equal, or two spellings of a key of which only one can stand in the table."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    return a == b or str(a).strip().lower() == str(b).strip().lower()


def close(a, b):
    if a == b:
        return True
    try:
        return math.isclose(float(a), float(b), rel_tol=1e-9, abs_tol=1e-9)
    except (TypeError, ValueError):
        return False
