"""Cases of the law test about event time: windows, late records, watermark.

Random event times (out of order, far late, far future, equal, NULL, infinite) in
some partitions; a query that groups by a window; copies of it that take different
steps.  The reference is plain SQL over the records consumed: _stream_time by a
window function, lateness by its definition, sessions as islands, the watermark
from the positions.  Of each step the driver knows which records it took and what
the watermark was before, so that closings by the clock can be checked as well.
Some keep their changes, which must fold to the table after every step.
"""
import random

import psycopg2

import driver
import fold

MINUTE = 60
BASE = 1704067200       # 2024-01-01 00:00 UTC

WINDOWS = [("fixed", "kstream.tumble({t}, '1 min')", 0), ("fixed", "kstream.tumble({t}, '5 min')", 0),
           ("fixed", "kstream.tumble({t}, '7 min', timestamptz '2001-02-03 04:05:06+00')", 0),
           ("fixed", "kstream.tumble({t}, '1 day', 'Europe/Berlin')", 0), ("fixed", "kstream.tumble({t}, '1 month')", 0),
           ("hop", "kstream.hop({t}, '1 min', '3 min')", 0), ("hop", "kstream.hop({t}, '2 min', '5 min')", 0),
           ("hop", "kstream.hop({t}, '3 min', '1 min')", 0),
           ("session", "kstream.session({t}, '1 min')", 60), ("session", "kstream.session({t}, '30 s')", 30),
           ("session", "kstream.session({t}, '4 min')", 240)]
EXACT = ["count(*)", "sum({v})", "avg({v})", "min({v})", "max({v})", "count({v}) FILTER (WHERE {v} > 2)", "count(DISTINCT {v})",
         "stddev({v})", "upper({w})", "lower({w})", "sum({v}) * 2 + count(*)", "string_agg({v}::text, ',' ORDER BY {v})", "bool_or({v} > 5)"]
ORDERED = ["sum({f}{ord})", "array_agg({v}{ord})", "string_agg({v}::text, ''{ord})", "avg({f}{ord})"]
KEYS = [[], ["{k}"], ["{k}"], ["{k}"], ["{k}", "{v} % 2"]]
SHAPES = ["direct", "direct", "direct", "sub", "view", "lateral", "join", "union", "two"]


def stamp(seconds):
    return "to_timestamp(%s)" % seconds


class Generator:
    def __init__(self, seed):
        self.rng = random.Random("time %d" % seed)
        self.seed = seed

    def event_time(self, now):
        rng = self.rng
        kind = rng.random()
        if kind < 0.04:
            return None
        if kind < 0.05:
            return "infinity"
        if kind < 0.10:
            return now - rng.randint(0, 3600)                   # far late
        if kind < 0.12:
            return now + rng.choice([600, 3600, 86400])         # far future
        if kind < 0.14:
            return -rng.randint(0, 10) * 60                     # before 1970
        return now - rng.choice([0, 0, 0, 10, 30, 60, 60, 61, 59, 120, 300]) + rng.randint(0, 3) * rng.choice([0, 1, 30])

    def make_rows(self, sources, partitions):
        rng = self.rng
        rows, now = [], [[BASE + rng.randint(0, 300) for _ in range(partitions)] for _ in range(sources)]
        for _ in range(rng.choice([5, 20, 60, 60, 120])):
            s, p = rng.randrange(sources), rng.randrange(partitions)
            now[s][p] += rng.choice([0, 0, 1, 10, 30, 60, 120])
            rows.append({"s": s, "p": p, "k": rng.choice("aab") if rng.random() > 0.05 else None, "v": rng.randint(0, 9),
                         "f": rng.choice([0.1, 0.2, 1e10, -1e10, 3.3]), "ts": self.event_time(now[s][p]), "at": now[s][p] + rng.randint(0, 5)})
        return rows

    def make_events(self, rows, copies, clock):
        rng, events, left = self.rng, [], rows
        while left > 0:
            n = min(left, rng.choice([1, 3, 10, 40, 200]))
            left -= n
            events.append(["insert", n])
            for copy in range(copies):
                for _ in range(rng.choice([0, 0, 1, 2])):
                    events.append(self.step(copy, clock))
        for copy in range(copies):
            events.append(["drain", copy, rng.choice([[1], [2, 3], [7], [1000], [50]])])
            if clock:
                events.append(["step", copy, 100, rng.choice([0, 30, 61, 3600, 90000, 4000000]), "plain"])
                events.append(["step", copy, 100, rng.choice([61, 3600]), "plain"])
        return events

    def step(self, copy, clock):
        rng = self.rng
        elapsed = rng.choice([0, 30, 59, 60, 61, 120, 600, 100000]) if clock and rng.random() < 0.4 else 0
        return ["step", copy, rng.choice([1, 2, 5, 20, 1000]), elapsed, rng.choice(["plain", "plain", "plain", "rollback", "fault"])]

    def make(self, copies):
        rng = self.rng
        shape = rng.choice(SHAPES)
        sources = 2 if shape == "two" else 1
        partitions = rng.choice([1, 1, 2, 3])
        kind, window, gap = rng.choice(WINDOWS)
        declared = rng.random() < 0.8
        outs = rng.sample(EXACT, rng.choice([1, 2, 3]))
        if partitions == 1 and sources == 1 and rng.random() < 0.5:
            outs.append(rng.choice(ORDERED))
        emit = rng.choice(["changes", "changes", "final"])
        grace = rng.choice([0, 0, 1, 10, 60, 300])
        retention = rng.choice([None, None, 0, 60, 600, 3600])
        if emit == "final" and retention is not None and retention <= grace:
            retention = grace + 1
        rows = self.make_rows(sources, partitions)
        return {"time": True, "seed": self.seed, "copies": copies, "shape": shape, "sources": sources, "partitions": partitions, "kind": kind,
                "window": window, "gap": gap, "declared": declared, "outs": outs, "keys": rng.choice(KEYS), "emit": emit, "grace": grace,
                "retention": retention, "having": rng.choice([None, None, None, "count(*) > 1", "sum({v}) % 2 = 0"]),
                "where": rng.choice([None, None, "{v} <> 7", "{v} % 3 > 0"]), "bad": rng.random() < 0.15,
                "time_expr": rng.choice(["{s}.ts", "{s}.ts", "coalesce({s}.ts, {s}._timestamp)"]) if declared else "{s}._timestamp",
                "rows": rows, "events": self.make_events(len(rows), copies, rng.random() < 0.4), "keep": rng.random() < 0.4}


class Run:
    """One run of one case."""

    def __init__(self, db, case, script=None):
        self.ks, self.ref, self.case = db.ks, db.ref, case
        self.ks.script = script
        self.inserted = self.compared = 0
        self.watermark = [None] * case["copies"]        # seconds, None: nothing yet
        self.ends = {}

    # -------------------------------------------------------- texts

    def clause(self, names, reference):
        """Select list and what follows FROM; names: how columns are called there."""
        case = self.case
        fill = dict(names, ord=" ORDER BY q._offset" if reference else "")
        keys = [k.format(**fill) for k in case["keys"]] + [fill["w"]]
        outs = ["sum(100 / (%s - 3))" % fill["v"]] if case["bad"] else []
        outs = keys + outs + [o.format(**fill) for o in case["outs"]]
        having = " HAVING " + case["having"].format(**fill) if case["having"] else ""
        return ", ".join("%s AS o%d" % o for o in zip(outs, range(99))), " GROUP BY " + ", ".join(keys) + having

    def query(self):
        case = self.case
        w = case["window"].format(t=case["time_expr"].format(s="s0"))
        lateral = case["kind"] == "hop"
        names = {"k": "s0.k", "v": "s0.v", "f": "s0.f", "w": "w" if lateral else w}
        where = case["where"]
        source = "s0" + (", %s w" % w if lateral else "")
        if case["shape"] == "direct":
            outs, rest = self.clause(names, False)
            return "SELECT %s FROM %s%s%s" % (outs, source, " WHERE " + where.format(**names) if where else "", rest)
        if case["shape"] == "join":
            outs, rest = self.clause(names, False)
            return "SELECT %s FROM s0 LEFT JOIN names n ON n.k = s0.k%s%s%s" % (
                outs, ", %s w" % w if lateral else "", " WHERE " + where.format(**names) if where else "", rest)
        branch = "SELECT s0.k, s0.v, s0.f, %s AS w FROM %s" % (names["w"], source)
        if case["shape"] == "union":
            branch += " UNION ALL " + (branch if case["kind"] != "fixed" else "SELECT s0.k, s0.v, s0.f, kstream.tumble(%s, '2 min') FROM s0" % (
                case["time_expr"].format(s="s0")))
        elif case["shape"] == "two":
            branch += " UNION ALL " + branch.replace("s0", "s1")
        elif case["shape"] == "lateral" and not lateral:
            branch = "SELECT s0.k, s0.v, s0.f, x.w FROM s0, LATERAL (SELECT %s AS w) x" % w
        elif case["shape"] == "view":
            branch = "SELECT k, v, f, w FROM seen_through"
        names = {"k": "q.k", "v": "q.v", "f": "q.f", "w": "q.w"}
        outs, rest = self.clause(names, False)
        return "SELECT %s FROM (%s) q%s%s" % (outs, branch, " WHERE " + where.format(**names) if where else "", rest)

    def rows_sql(self, copy):
        """Rows with their windows, _stream_time, and the watermark before their batch."""
        case = self.case
        w = case["window"].format(t=case["time_expr"].format(s="s"))
        columns = "s.k, s.v, s.f, s.src, s._partition, s._offset, s._stream_time, s.before"
        source = ("(SELECT b.*, c.before FROM (SELECT *, max(CASE WHEN isfinite(ts) THEN ts ELSE _timestamp END) OVER"
                  " (PARTITION BY src, _partition ORDER BY _offset) AS _stream_time FROM base.rows) b"
                  " JOIN base.consumed c ON c.copy = %d AND (c.src, c.p, c.off) = (b.src, b._partition, b._offset)%s) s" % (
                      copy, " WHERE b.v <> 3" if case["bad"] else ""))
        if not case["declared"]:
            source = source.replace("CASE WHEN isfinite(ts) THEN ts ELSE _timestamp END", "_timestamp")
        if case["kind"] == "hop":
            sql = "SELECT %s, w FROM %s, %s w" % (columns, source, w)
        else:
            sql = "SELECT %s, %s AS w FROM %s" % (columns, w, source)
        if case["shape"] == "union":
            sql += " UNION ALL " + (sql if case["kind"] != "fixed" else "SELECT %s, kstream.tumble(%s, '2 min') FROM %s" % (
                columns, case["time_expr"].format(s="s"), source))
        if case["where"]:
            sql = "SELECT * FROM (%s) q WHERE %s" % (sql, case["where"].format(v="q.v"))
        return sql

    def late_sql(self):
        case = self.case
        closed = None
        if case["emit"] == "final":
            closed = case["grace"]
        elif case["retention"] is not None:
            closed = max(case["grace"], case["retention"])
        late = "upper(w) + interval '%d s' <= _stream_time" % case["grace"]
        if closed is not None:
            late += " OR upper(w) + interval '%d s' <= before" % closed
        return "coalesce(%s, false)" % late

    def expected_sql(self, copy):
        case = self.case
        names = {"k": "q.k", "v": "q.v", "f": "q.f", "w": "q.w"}
        outs, rest = self.clause(names, True)
        rows = "SELECT * FROM (%s) r WHERE NOT %s" % (self.rows_sql(copy), self.late_sql())
        if case["kind"] == "session":
            part = ", ".join(k.format(k="k", v="v") for k in case["keys"] + ["'x'::text"])
            order = "lower(w), src, _partition, _offset"
            rows = ("SELECT k, v, f, src, _partition, _offset, CASE WHEN w IS NOT NULL THEN tstzrange(min(lower(w)) OVER x, max(upper(w)) OVER x) END AS w"
                    " FROM (SELECT *, sum(CASE WHEN lower(w) <= reach THEN 0 ELSE 1 END) OVER (PARTITION BY {p}, w IS NULL ORDER BY {o}) AS island"
                    " FROM (SELECT *, max(upper(w)) OVER (PARTITION BY {p}, w IS NULL ORDER BY {o} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reach"
                    " FROM ({r}) a) b) c WINDOW x AS (PARTITION BY {p}, w IS NULL, CASE WHEN w IS NOT NULL THEN island END)").format(p=part, o=order, r=rows)
        mark = "'-infinity'::timestamptz" if self.watermark[copy] is None else stamp(self.watermark[copy])
        keep = "true"
        if case["emit"] == "final":
            keep += " AND upper(q.w) + interval '%d s' <= %s" % (case["grace"] + case["gap"], mark)
        if case["retention"] is not None:
            keep += " AND NOT coalesce(upper(q.w) + interval '%d s' <= %s, false)" % (max(case["grace"], case["retention"]) + case["gap"], mark)
        return "SELECT %s FROM (%s) q WHERE %s%s" % (outs, rows, keep, rest)

    # -------------------------------------------------------- running

    def setup(self):
        case = self.case
        for session in (self.ks, self.ref):
            if session.conn.get_transaction_status() != 0:
                session.cur.execute("ROLLBACK")
            session.cur.execute("RESET ALL; " + driver.SETTINGS)
        self.ks.run("DROP SCHEMA IF EXISTS st CASCADE; DROP SCHEMA IF EXISTS arc CASCADE; DROP SCHEMA IF EXISTS base CASCADE;"
                    " DROP SCHEMA IF EXISTS lt CASCADE; CREATE SCHEMA st; CREATE SCHEMA base; SET search_path = st")
        for s in range(case["sources"]):
            self.ks.run("SELECT kstream.create_stream('s%d', 'k text, v int, f float8, ts timestamptz', server => 'local', partitions => %d%s)" % (
                s, case["partitions"], ", \"timestamp\" => 'ts'" if case["declared"] else ""))
        self.ks.run("CREATE TABLE names (k text, name text); INSERT INTO names VALUES ('a', 'Ann')")
        self.ks.run("CREATE TABLE base.rows (src int, k text, v int, f float8, ts timestamptz, _partition int, _offset bigint, _timestamp timestamptz)")
        self.ks.run("CREATE TABLE base.consumed (copy int, src int, p int, off bigint, before timestamptz)")
        if case["shape"] == "view":
            w = case["window"].format(t=case["time_expr"].format(s="s0"))
            self.ks.run("CREATE VIEW seen_through AS SELECT s0.k, s0.v, s0.f, %s AS w FROM s0%s" % (
                ("w", ", %s w" % w) if case["kind"] == "hop" else (w, "")))
        options = "grace => '%d s', emit => '%s', idle_timeout => '1 min'" % (case["grace"], case["emit"])
        if case["retention"] is not None:
            options += ", retention => '%d s'" % case["retention"]
        if case["keep"]:
            options += ", keep_changes => '1 day'"
        self.ids = []
        self.folds = [fold.Fold(self.ks, "st.r%d" % copy, True) for copy in range(case["copies"]) if case["keep"]]
        for copy in range(case["copies"]):
            self.ks.run("SELECT kstream.create_table_as('r%d', $q$%s$q$, paused => true, %s)" % (copy, self.query(), options))
            self.ids.append(self.ks.rows("SELECT id FROM kstream_catalog.query WHERE relation = 'r%d'::regclass" % copy)[0][0])

    def insert(self, count):
        for row in self.case["rows"][self.inserted:self.inserted + count]:
            place = (row["s"], row["p"])
            offset = self.ends.get(place, 0)
            self.ends[place] = offset + 1
            ts = "NULL" if row["ts"] is None else "'infinity'" if row["ts"] == "infinity" else stamp(row["ts"])
            values = "%s, %d, %s, %s" % ("NULL" if row["k"] is None else "'%s'" % row["k"], row["v"], row["f"], ts)
            self.ks.run("INSERT INTO s%d (k, v, f, ts, _partition, _timestamp) VALUES (%s, %d, %s)" % (row["s"], values, row["p"], stamp(row["at"])))
            self.ks.run("INSERT INTO base.rows VALUES (%d, %s, %d, %d, %s)" % (row["s"], values, row["p"], offset, stamp(row["at"])))
        self.inserted += count

    def positions(self, copy):
        return {(int(s[-1]), p): (n, t) for s, p, n, t in self.ref.rows(
            "SELECT c.relname, p.partition, p.next_offset, extract(epoch FROM p.stream_time)::float8 FROM kstream_catalog.position p"
            " JOIN pg_class c ON c.oid = p.source WHERE p.query = %d" % self.ids[copy])}

    def advance(self, copy, before, elapsed):
        """Notes what the step took, and where the watermark must be now."""
        after = self.positions(copy)
        old = self.watermark[copy]
        mark = "NULL" if old is None else stamp(old)
        held, times = [], []
        for s in range(self.case["sources"]):
            for p in range(self.case["partitions"]):
                first = before.get((s, p), (0, None))[0]
                last, time = after.get((s, p), (0, None))
                if last > first:
                    self.ref.run("INSERT INTO base.consumed SELECT %d, %d, %d, o, %s FROM generate_series(%d, %d) o" % (copy, s, p, mark, first, last - 1))
                idle = last == self.ends.get((s, p), 0) and (time is None or (last == first and elapsed >= MINUTE))
                times.append(time)
                if not idle:
                    held.append(time)
        known = [t for t in times if t is not None]
        if held:
            now = None if None in held else min(held)
        else:
            now = max(known) + elapsed if known else None
        if now is not None and (old is None or now > old):
            self.watermark[copy] = now

    def step(self, copy, size, elapsed, mode):
        call = "SELECT kstream.step('r%d', %d, '%d s')" % (copy, size, elapsed)
        if mode == "rollback":
            self.ks.run("BEGIN; %s; ROLLBACK" % call)
            self.compare(copy)
        elif mode == "fault":
            point = driver.FAULT_POINTS + ["before_close", "after_close", "between_emit_and_delete", "between_table_and_state"]
            self.ks.run("SET kstream.fault_points = '%s:error'" % point[(size + elapsed + self.inserted) % len(point)])
            before = self.positions(copy)
            try:
                self.ks.run(call)
            except psycopg2.Error:
                self.ks.run("SET kstream.fault_points = ''")
                self.compare(copy)
            else:       # the step did not come to that point
                self.ks.run("SET kstream.fault_points = ''")
                self.advance(copy, before, elapsed)
                self.compare(copy)
        before = self.positions(copy)
        taken = self.ks.rows(call)[0][0]
        self.advance(copy, before, elapsed)
        self.compare(copy)
        return taken

    def compare(self, copy):
        self.compared += 1
        expected = self.expected_sql(copy)
        outs = ["o%d::text" % i for i in range(len(self.case["keys"]) + 1 + bool(self.case["bad"]) + len(self.case["outs"]))]
        cols = ", ".join(outs)
        sql = ("WITH a AS MATERIALIZED (SELECT %s FROM st.r%d), b AS MATERIALIZED (SELECT %s FROM (%s) e)"
               " SELECT 'table', x::text FROM (SELECT * FROM a EXCEPT ALL SELECT * FROM b) x"
               " UNION ALL SELECT 'batch', x::text FROM (SELECT * FROM b EXCEPT ALL SELECT * FROM a) x" % (cols, copy, cols, expected))
        differences = self.ref.rows(sql)
        if differences:
            raise driver.Mismatch("copy %d, watermark %s:\n  %s\n  %s" % (copy, self.watermark[copy], self.query(), "\n  ".join(map(str, differences[:8]))))
        if self.folds:
            self.folds[copy].check()
        late = ("SELECT DISTINCT src, _partition, _offset, w::text FROM (%s) r WHERE %s" % (self.rows_sql(copy), self.late_sql()))
        wanted = self.ref.rows("SELECT * FROM (%s) x ORDER BY 1, 2, 3, 4" % late)
        found = self.ref.rows("SELECT right(l.source::text, 1)::int, l.partition, l.\"offset\", l.\"window\"::text FROM kstream_catalog.late_record l"
                              " WHERE query = %d ORDER BY 1, 2, 3, 4" % self.ids[copy])
        counted = self.ref.rows("SELECT coalesce(sum(late), 0)::int FROM kstream_catalog.position WHERE query = %d" % self.ids[copy])[0][0]
        if counted != len(wanted) or (counted < 1000 and sorted(found) != sorted(wanted)):
            raise driver.Mismatch("copy %d: %d late counted, %d kept, %d wanted: %s\n  %s" % (
                copy, counted, len(found), len(wanted), self.query(), sorted(set(found) ^ set(wanted))[:5]))
        self.compare_state(copy)
        mark = self.ref.rows("SELECT extract(epoch FROM max(watermark))::float8 FROM kstream_catalog.position WHERE query = %d" % self.ids[copy])[0][0]
        if mark is not None and (self.watermark[copy] is None or mark > self.watermark[copy] + 1e-6):
            raise driver.Mismatch("copy %d: watermark %s, should be %s" % (copy, mark, self.watermark[copy]))
        # A watermark that has closed nothing is not stored, and forgotten with the task.
        self.watermark[copy] = mark

    def compare_state(self, copy):
        """The state holds what the table shows or will show, and inputs belong to it."""
        state, inputs = self.ref.rows("SELECT state::text, inputs::text FROM kstream_catalog.query WHERE id = %d" % self.ids[copy])[0]
        case, key = self.case, len(self.case["keys"]) + 1
        if state is None or self.watermark[copy] is None:
            return
        after = []
        if case["emit"] == "final":
            after.append(case["grace"])
        if case["retention"] is not None:
            after.append(max(case["grace"], case["retention"]))
        if after and self.ref.rows("SELECT FROM %s WHERE upper(k%d) + interval '%d s' <= %s LIMIT 1" % (
                state, key, min(after) + case["gap"], stamp(self.watermark[copy]))):
            raise driver.Mismatch("copy %d: a closed window is left in the state: %s" % (copy, self.query()))
        if inputs is not None and self.ref.rows(
                "SELECT FROM (SELECT _gid, count(*) AS n FROM %s GROUP BY 1) i FULL JOIN %s s USING (_gid) WHERE i.n IS DISTINCT FROM s._ninputs" % (inputs, state)):
            raise driver.Mismatch("copy %d: inputs do not fit their groups: %s" % (copy, self.query()))

    def run(self):
        try:
            self.setup()
            for event in self.case["events"]:
                if event[0] == "insert":
                    self.insert(event[1])
                elif event[0] == "step":
                    self.step(*event[1:])
                else:
                    turn = 0
                    while self.step(event[1], event[2][turn % len(event[2])], 0, "plain") > 0:
                        turn += 1
        except psycopg2.Error as error:
            raise driver.Mismatch("error %s: %s\n  %s" % (error.pgcode, error, self.query()))
        return self.compared


def shrink(case, fails):
    """Leaves out rows and copies for as long as the case still fails."""
    for copy in range(case["copies"]):
        events = [e if e[0] == "insert" else [e[0], 0] + e[2:] for e in case["events"] if e[0] == "insert" or e[1] == copy]
        small = dict(case, copies=1, events=events)
        if case["copies"] > 1 and fails(small):
            case = small
            break
    size = len(case["rows"])
    while size >= 1:
        start = 0
        while start < len(case["rows"]):
            small = dict(case, rows=case["rows"][:start] + case["rows"][start + size:], events=[list(e) for e in case["events"]])
            position = 0
            for event in small["events"]:
                if event[0] == "insert":
                    first, last = position, position + event[1]
                    event[1] -= max(0, min(last, start + size) - max(first, start))
                    position = last
            if fails(small):
                case = small
            else:
                start += size
        size //= 2
    index = 0
    while index < len(case["events"]):
        small = dict(case, events=case["events"][:index] + case["events"][index + 1:])
        if case["events"][index][0] != "insert" and fails(small):
            case = small
        else:
            index += 1
    return case
