#!/usr/bin/env python3
"""Drives the functions of stream_test.c, and local logs under concurrency; see run.sh.

Every test is a function test_*; it gets a fresh session.  With arguments only
the tests whose names contain one of them run; "speed" runs the measurements.
"""
import random
import sys
import threading
import time

import psycopg2
import psycopg2.errors

DSN = sys.argv[1]
passed = failed = 0


def check(name, good, detail=""):
    """Counts one check, and shows it if it failed."""
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print("FAILED %s: %s" % (name, detail))


def equal(name, got, want):
    """Checks that two values are the same."""
    check(name, got == want, "got %r, wanted %r" % (got, want))


def connect():
    """A new session that commits by itself."""
    con = psycopg2.connect(DSN)
    con.autocommit = True
    cur = con.cursor()
    cur.execute("SET timezone = 'UTC'")
    return con


def show(con, stream, records, *queries, part=0, first=0, last=-1):
    """Result of queries over a batch of records (partition, key, value, timestamp)."""
    cur = con.cursor()
    cur.execute("SELECT * FROM show(%s, %s::text[], %s, %s::text[], %s, %s)",
                (stream, [[str(r[0])] + list(r[1:]) for r in records], part, list(queries), first, last))
    return [row[0] for row in cur.fetchall()]


def event(i, a=1, b=2, at=None, key="k", partition=0, stamp="2024-01-01 00:00+00"):
    """A record of stream ev."""
    fields = ['"id":%d' % i, '"a":%s' % a, '"b":%s' % b, '"big":%d.50' % i]
    if at:
        fields.append('"at":"%s"' % at)
    return (partition, key, "{%s}" % ",".join(fields), stamp)


# ---------------------------------------------------------------- shown batches

def test_shown(con):
    recs = [event(i, partition=i % 2) for i in range(5)]
    equal("rows", show(con, "ev", recs, "SELECT id, name, big, _key, _partition, _offset FROM ev"),
          ["%d|k|%d.50|k|%d|%d" % (i, i, i % 2, i // 2) for i in range(5)])
    equal("window", show(con, "ev", recs, "SELECT id FROM ev", first=1, last=3), ["1", "2"])
    equal("empty", show(con, "ev", [], "SELECT id FROM ev"), [])
    equal("self join", show(con, "ev", recs, "SELECT count(*) FROM ev x JOIN ev y USING (id)"), ["5"])
    equal("whole row", show(con, "ev", recs[:1], "SELECT (e).b, e.* IS NULL FROM ev e"), ["2|f"])
    equal("two queries", show(con, "ev", recs, "SELECT sum(id) FROM ev", "SELECT sum(a), max(big) FROM ev"),
          ["10", "5|4.50"])
    equal("added later", show(con, "ev", recs, "SELECT id, big FROM ev", part=2),
          ["%d|%d.50" % (i, i) for i in range(5)])
    equal("rescan", show(con, "ev", recs, "SELECT (SELECT count(*) FROM ev WHERE id >= g) FROM generate_series(3, 5) g"),
          ["2", "1", "0"])
    # conditions on metadata do not narrow a batch wrongly
    equal("quals", show(con, "ev", recs, "SELECT id FROM ev WHERE _partition = 1 AND _offset >= 1"), ["3"])
    plan = show(con, "ev", recs, "EXPLAIN SELECT id FROM ev WHERE _offset > 1")
    check("explain", any("Batch Rows: 5" in x for x in plan) and any("Topic: ev" in x for x in plan)
          and not any("Range" in x for x in plan), plan)
    cur = con.cursor()
    try:
        cur.execute("SELECT count(*) FROM ev")
        check("hidden again", False)
    except psycopg2.Error as e:
        equal("hidden again", e.pgcode[:2], "08")
    con.rollback()


def test_bad_rows(con):
    recs = [event(1), (0, "k", "nonsense", None), event(3, a='"x"'), event(4, a=9), event(13), event(14),
            (0, None, '{"id": 7, "a": 1, "b": 2}', None), event(8)]
    def bad(lines):
        return [" ".join(x.split()[1:3]) for x in lines if x.startswith("bad")]
    def good(lines):
        return [x for x in lines if not x.startswith("bad")]
    # what a query reads decides what is bad for it
    lines = show(con, "ev", recs, "SELECT at FROM ev")
    equal("document", ([x.split()[0] for x in bad(lines)], len(good(lines))), (["0/1"], 7))
    lines = show(con, "ev", recs, "SELECT id FROM ev")
    equal("id", (bad(lines)[1:], good(lines)), (["0/4 22023", "0/5 23514"], ["1", "3", "4", "7", "8"]))
    lines = show(con, "ev", recs, "SELECT _offset, a FROM ev")
    equal("a", ([x.split()[0] for x in bad(lines)], good(lines)), (["0/1", "0/2", "0/3"], ["0|1", "4|1", "5|1", "6|1", "7|1"]))
    lines = show(con, "ev", recs, "SELECT _offset, b FROM ev")
    # the constraint a < b is not judged where a cannot be decoded
    equal("b", ([x.split()[0] for x in bad(lines)], good(lines)), (["0/1", "0/3"], ["0|2", "2|2", "4|2", "5|2", "6|2", "7|2"]))
    lines = show(con, "ev", recs, "SELECT _offset, name FROM ev")
    equal("name", [x.split()[0] for x in bad(lines)], ["0/1", "0/6"])
    # columns decoded for the first query do not make rows bad for the second
    lines = show(con, "ev", recs, "SELECT id, a FROM ev", "SELECT count(*) FROM ev")
    equal("second query", good(lines)[-1], "7")
    lines = show(con, "ev", recs, "SELECT id FROM ev", "SELECT a FROM ev", part=3)
    equal("in parts", [x.split()[0] for x in bad(lines)], ["0/1", "0/4", "0/5", "0/1", "0/2", "0/3"])
    equal("no errors, no subtransaction left", show(con, "ev", recs[:1], "SELECT id FROM ev"), ["1"])


def test_owner(con):
    """Constraints run as the stream's owner where a superuser reads, and leave no setting behind."""
    lines = show(con, "owned", [(0, None, '{"id": 0}', None), (0, None, '{"id": 1}', None)],
                 "SELECT id FROM owned", "SELECT current_user, current_setting('application_name')")
    equal("as the owner", lines, ["bad 0/0 P0001 as stream_owner", "1", "postgres|"])


def test_times(con):
    recs = [event(0, at="2024-01-01 10:00+00", stamp="2024-02-01 00:00+00"),
            event(1, at="2024-01-01 09:00+00", stamp="2024-02-01 00:00+00"),
            event(2, at="2024-01-01 08:00+00", partition=1),
            event(3, at="2024-01-01 11:00+00", stamp=None),
            (0, "k", '{"id": 4, "at": "never"}', "2024-02-01 00:00+00"),
            (0, "k", "nonsense", "2024-02-01 00:00+00"),
            event(6, at="2024-01-01 08:30+00", partition=1),
            event(7, stamp="2024-01-01 12:00+00"),
            event(8, at="infinity", stamp="2024-01-01 13:00+00"),
            event(9, stamp=None)]
    want = ["0|10", "1|10", "2|08", "3|11", "4|11", "6|08", "7|12", "8|13", "9|13"]
    q = "SELECT id, to_char(_stream_time, 'HH24') FROM ev"
    for part in (0, 3, 6):
        equal("stream time", [x for x in show(con, "ev", recs, q, part=part) if not x.startswith("bad")], want)
    plain = [(0, None, '{"id": 1}', None), (0, None, '{"id": 2}', "2024-01-01 03:00+00"), (0, None, "x", "2024-01-01 05:00+00"),
             (0, None, '{"id": 4}', "2024-01-01 04:00+00")]
    lines = show(con, "plain", plain, "SELECT id, to_char(_stream_time, 'HH24'), to_char(_timestamp, 'HH24') FROM plain")
    equal("record time", [x for x in lines if not x.startswith("bad")], ["1||", "2|03|03", "4|05|04"])


def test_tombstone(con):
    equal("null value", show(con, "plain", [(0, "k", None, None)], "SELECT id, v, _key, _offset FROM plain"), ["||k|0"])


# ---------------------------------------------------------------- local logs

def test_partitioner(con):
    cur = con.cursor()
    # hashes of Kafka's own test of its partitioner (21, foobar ...), made positive
    for key, h in (("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536),
                   ("a-little-bit-longer-string", -1486304829),
                   ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971), ("abc", 479470107)):
        cur.execute("SELECT partition_of(%s, 100000)", (key,))
        equal("murmur2 of " + key, cur.fetchone()[0], (h & 0x7fffffff) % 100000)


def test_retention(con):
    cur = con.cursor()
    cur.execute("SELECT kstream.create_stream('aging', 'n int', server => 'local', partitions => 2)")
    for hours in (50, 40, 30, 1, 20, 0):
        cur.execute("INSERT INTO aging (n, _partition, _timestamp) SELECT %s, p, now() - %s * interval '1 hour'"
                    " FROM generate_series(0, 1) p, generate_series(1, 3)", (hours, hours))
    cur.execute("SELECT trim_log('aging')")
    equal("no retention", cur.fetchone()[0], 0)
    cur.execute("UPDATE kstream_catalog.local_log SET retention = '35 hours' WHERE relation = 'aging'::regclass")
    cur.execute("SELECT trim_log('aging')")
    equal("rows gone", cur.fetchone()[0], 12)
    cur.execute("SELECT min(_offset), max(_offset), count(*), min(n) FROM aging WHERE _partition = 1")
    equal("rest", cur.fetchone(), (6, 17, 12, 0))
    cur.execute("SELECT array_agg(DISTINCT n) FROM aging WHERE _offset < 8")
    equal("read from the middle", cur.fetchone()[0], [30])
    cur.execute("SELECT count(*) FROM aging WHERE _timestamp > now() - interval '10 hours'")
    equal("by time", cur.fetchone()[0], 12)
    cur.execute("UPDATE kstream_catalog.local_log SET retention = '0' WHERE relation = 'aging'::regclass")
    cur.execute("SELECT trim_log('aging'), trim_log('aging')")
    equal("all but the last", cur.fetchone(), (18, 0))
    cur.execute("SELECT min(_offset), count(*) FROM aging WHERE _partition = 0")
    equal("the last segment stays", cur.fetchone(), (15, 3))
    cur.execute("INSERT INTO aging (n, _partition) VALUES (99, 0)")
    cur.execute("SELECT _offset FROM aging WHERE n = 99")
    equal("offsets go on", cur.fetchone()[0], 18)
    cur.execute("DROP FOREIGN TABLE aging")


class Concurrency:
    """Writers that sleep, roll back and use savepoints, and readers that poll."""
    partitions = 3

    def __init__(self, seconds):
        self.stop = time.time() + seconds
        self.errors = []
        self.committed = []
        self.read = []

    def insert(self, cur, rnd, w, n, count):
        """Inserts numbered rows into one partition; returns them."""
        p = rnd.randrange(self.partitions)
        cur.execute("INSERT INTO busy (w, n, _partition) SELECT %s, x, %s FROM generate_series(%s, %s) x",
                    (w, p, n, n + count - 1))
        return [(p, w, i) for i in range(n, n + count)]

    def transaction(self, con, rnd, w, n):
        """One transaction; returns its rows if it committed, and the next number."""
        cur = con.cursor()
        cur.execute("SET TRANSACTION ISOLATION LEVEL " + ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")[w % 3])
        rows = []
        for _ in range(rnd.randint(1, 3)):
            savepoint = rnd.random() < 0.4
            count = rnd.choice((1, 1, 2, 10, 1500)) if rnd.random() < 0.1 else 1
            if savepoint:
                cur.execute("SAVEPOINT s")
            part = self.insert(cur, rnd, w, n, count)
            n += count
            if savepoint and rnd.random() < 0.5:
                cur.execute("ROLLBACK TO s")
            else:
                rows += part
            if rnd.random() < 0.3:
                time.sleep(rnd.random() * 0.02)
        if rnd.random() < 0.2:
            con.rollback()
            return [], n
        try:
            con.commit()
        except psycopg2.errors.SerializationFailure:
            con.rollback()
            return [], n
        return rows, n

    def writer(self, w):
        """Thread of a writer."""
        rnd = random.Random(w)
        con = psycopg2.connect(DSN)
        n = 0
        try:
            while time.time() < self.stop:
                rows, n = self.transaction(con, rnd, w, n)
                self.committed += rows
        except psycopg2.Error as e:
            self.errors.append("writer %d: %r" % (w, e))
        con.close()

    def reader(self, r):
        """Thread of a reader: polls each partition from where it is."""
        rnd = random.Random(100 + r)
        con = connect()
        cur = con.cursor()
        place = [0] * self.partitions
        rows = []
        last = False
        while not last:
            last = time.time() > self.stop + 1
            for p in range(self.partitions):
                limit = " LIMIT 7" if rnd.random() < 0.3 and not last else ""
                cur.execute("SELECT w, n, _offset FROM busy WHERE _partition = %s AND _offset >= %s" + limit, (p, place[p]))
                for w, n, offset in cur.fetchall():
                    if offset != place[p]:
                        self.errors.append("reader %d: wanted offset %d, got %d" % (r, place[p], offset))
                    place[p] = offset + 1
                    rows.append((p, w, n))
            time.sleep(rnd.random() * 0.005)
        self.read.append(rows)
        con.close()

    def run(self):
        """Runs all threads to their end."""
        threads = [threading.Thread(target=self.writer, args=(w,)) for w in range(6)]
        threads += [threading.Thread(target=self.reader, args=(r,)) for r in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()


def test_concurrency(con):
    con.cursor().execute("SELECT kstream.create_stream('busy', 'w int, n int', server => 'local', partitions => %d)"
                         % Concurrency.partitions)
    test = Concurrency(6)
    test.run()
    equal("no errors", test.errors, [])
    want = sorted(test.committed)
    check("much was written", len(want) > 1000, len(want))
    for rows in test.read:
        check("every row once", sorted(rows) == want, "%d rows, wanted %d" % (len(rows), len(want)))
        seen = {}
        order = True
        for p, w, n in rows:
            order &= seen.get((p, w), -1) < n
            seen[(p, w)] = n
        check("in the order of their writers", order)


def test_aborts(con):
    """Errors and cancellation in the middle of scans and inserts leave nothing behind."""
    cur = con.cursor()
    cur.execute("SELECT kstream.create_stream('aborts', 'n int CHECK (n <> 500)', server => 'local')")
    cur.execute("INSERT INTO aborts (n) SELECT generate_series(1000, 9000)")
    for sql in ("INSERT INTO aborts (n) SELECT generate_series(1, 3000)", "SELECT 1 / (n - 5000) FROM aborts",
                "SELECT count(*) FROM aborts a, aborts b WHERE 1 / (a.n - 1500 + b.n - b.n) = 7"):
        try:
            cur.execute(sql)
            check("fails", False, sql)
        except psycopg2.Error:
            pass
    cur.execute("SET statement_timeout = 200")
    try:
        cur.execute("SELECT count(*) FROM aborts a, aborts b, aborts c WHERE a.n = c.n + b.n")
        check("cancelled", False)
    except psycopg2.Error as e:
        equal("cancelled", e.pgcode, "57014")
    cur.execute("RESET statement_timeout")
    cur.execute("DO $$ BEGIN INSERT INTO aborts (n) SELECT generate_series(1, 3000);"
                " EXCEPTION WHEN check_violation THEN INSERT INTO aborts (n) VALUES (1); END $$")
    cur.execute("SELECT n, _offset FROM aborts WHERE _offset > 8000")
    equal("only the last row", cur.fetchall(), [(1, 8001)])
    equal("no warnings", con.notices, [])
    cur.execute("DROP FOREIGN TABLE aborts")


def speed(con):
    """Figures: cost of showing rows, of writing and of reading a local log."""
    cur = con.cursor()
    for query in ("SELECT count(*) FROM plain", "SELECT sum(id) FROM plain", "SELECT max(_offset) FROM plain"):
        cur.execute("SELECT scan_speed('plain', '{\"id\": 1, \"v\": \"x\"}', 100000, %s)", (query,))
        print("%-32s %6.1f ns per row" % (query, cur.fetchone()[0]))
    cur.execute("SELECT kstream.create_stream('fast', 'id int, usr text, n float8', key => 'usr', server => 'local')")
    for what, sql in (("insert 1 M rows", "INSERT INTO fast (id, usr, n) SELECT i, 'u' || i % 1000, i FROM generate_series(1, 1000000) i"),
                      ("read 1 M rows", "SELECT count(*), sum(n) FROM fast")):
        start = time.time()
        cur.execute(sql)
        print("%-32s %6.2f s" % (what, time.time() - start))
    start = time.time()
    for i in range(2000):
        cur.execute("INSERT INTO fast (id) VALUES (1)")
    print("%-32s %6.0f us each" % ("2,000 single inserts", (time.time() - start) * 500))
    cur.execute("DROP FOREIGN TABLE fast")


def main():
    """Runs the tests named on the command line, or all."""
    names = sys.argv[2:]
    if names == ["speed"]:
        speed(connect())
        return 0
    for name, test in sorted(globals().items()):
        if not name.startswith("test_") or (names and not any(n in name for n in names)):
            continue
        con = connect()
        try:
            test(con)
        except Exception as e:                          # a test that breaks is one failure
            check(name, False, repr(e))
        con.close()
    print("%d passed, %d failed" % (passed, failed))
    return failed != 0


sys.exit(main())
