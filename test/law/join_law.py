#!/usr/bin/env python3
"""The law test of joins of streams: against the same join in plain Postgres.

  join_law.py [--cases N] [--seed N] [--jobs N] [--minutes M] [--splits N] [--show]

As law.py, with cases of gen_join.py.  The reference writes the contract's rules
on time out in SQL over the records consumed; only the watermark is taken from
the catalog, after it was compared with what the records consumed allow.  Some
cases keep their changes, which must fold to the table.
"""
import collections

import driver
import fold
import gen_join
import jobs

EPOCH = "timestamptz '2024-03-01 12:00:00+00'"


class JoinRun:
    """One run of one case."""

    def __init__(self, db, case):
        self.ks, self.ref, self.case = db.ks, db.ref, case
        self.compared = 0

    def create(self):
        ks, case = self.ks, self.case
        for session in (self.ks, self.ref):
            if session.conn.get_transaction_status() != 0:
                session.cur.execute("ROLLBACK")
            session.run("RESET ALL; " + driver.SETTINGS)
        ks.run("DROP SCHEMA IF EXISTS st CASCADE; DROP SCHEMA IF EXISTS base CASCADE; DROP SCHEMA IF EXISTS lt CASCADE;"
               "CREATE SCHEMA st; CREATE SCHEMA base; CREATE SCHEMA lt; CREATE TABLE lt.dim (id int PRIMARY KEY, n int);"
               "INSERT INTO lt.dim VALUES (1, 1), (2, 1), (3, 2), (5, NULL); SET search_path = st")
        for stream in case["streams"]:
            columns = "k text, k2 int, v int" + (", ts %s" % stream["time"] if stream["time"] else "")
            ks.run("SELECT kstream.create_stream('st.%s', '%s', server => 'local', partitions => %d%s)" % (
                stream["name"], columns, stream["partitions"], ", \"timestamp\" => 'ts'" if stream["time"] else ""))
            ks.run("CREATE TABLE base.%s (%s, _timestamp timestamptz, _partition int, _offset int8, _et timestamptz, _st timestamptz)" % (
                stream["name"], columns))
            ks.run("CREATE VIEW st.v_%s AS SELECT * FROM st.%s" % (stream["name"], stream["name"]))
        self.offsets = collections.Counter()
        self.text = gen_join.query_text(case)
        for copy in range(case["splits"]):
            ks.run("SELECT kstream.create_table_as('st.t%d', $q$%s$q$, grace => interval '%d min', paused => true%s%s)" % (
                copy, self.text, case["grace"], ", keep_changes => '1 day'" if case["keep"] else "", self.window_options()))
        self.ids = [ks.rows("SELECT id FROM kstream_catalog.query WHERE relation = 'st.t%d'::regclass" % c)[0][0]
                    for c in range(case["splits"])]
        keyed = ks.rows("SELECT bool_or(key_columns IS NOT NULL) FROM kstream_catalog.query WHERE relation = 'st.t0'::regclass")[0][0]
        self.folds = [fold.Fold(ks, "st.t%d" % copy, keyed) for copy in range(case["splits"]) if case["keep"]]
        if case["planner"]:
            ks.run(case["planner"])

    def window_options(self):
        window = self.case["query"].get("window")
        if not window:
            return ""
        return ", emit => '%s'%s" % (window["emit"], "" if window["retention"] is None else
                                     ", retention => interval '%d min'" % window["retention"])

    def insert(self, first, last):
        """Inserts records, and what is known of them into the tables of the reference."""
        for row in self.case["rows"][first:last]:
            stream = self.case["streams"][row["s"]]
            name, time = stream["name"], stream["time"]
            when = "(%s + interval '%d min')" % (EPOCH, row["when"])
            # a NULL event time falls back to the record's
            own = ", " + ("NULL" if row["null_time"] else when if time == "timestamptz" else when + " AT TIME ZONE 'UTC'") if time else ""
            columns = "k, k2, v%s, _timestamp, _partition" % (", ts" if time else "")
            values = "%s, %s, %s%s, %s, %d" % (row["k"], row["k2"], row["v"], own, when, row["p"])
            self.ks.run("INSERT INTO st.%s (%s) VALUES (%s)" % (name, columns, values))
            self.ref.run("INSERT INTO base.%s (%s, _offset, _et, _st) VALUES (%s, %d, %s, greatest(%s, (SELECT max(_st) FROM base.%s"
                         " WHERE _partition = %d)))" % (name, columns, values, self.offsets[(name, row["p"])], when, when, name, row["p"]))
            self.offsets[(name, row["p"])] += 1

    def step(self, copy, rows, how):
        ks = self.ks
        if how == "fault":
            for point in ("after_state", "before_close", "after_close"):
                ks.run("SET kstream.fault_points = '%s:error'" % point)
                try:
                    ks.run("SELECT kstream.step('st.t%d', %d)" % (copy, rows))
                except driver.psycopg2.Error as error:
                    if "fault" not in str(error):
                        raise
                ks.run("SET kstream.fault_points = ''")
            return
        if how == "rollback":
            ks.run("BEGIN; SELECT kstream.step('st.t%d', %d); ROLLBACK" % (copy, rows))
        ks.run("SELECT kstream.step('st.t%d', %d)" % (copy, rows))
        self.compare(copy)

    def watermark(self, copy):
        """The watermark of the copy; an error if the records consumed do not allow it."""
        rows = self.ref.rows("SELECT max(watermark)::text, max(watermark) <= min(stream_time) FROM kstream_catalog.position WHERE query = %d"
                             % self.ids[copy])
        if rows[0][1] is False:
            raise driver.Mismatch("copy %d: the watermark %s is ahead of a partition" % (copy, rows[0][0]))
        return "timestamptz '%s'" % (rows[0][0] or "-infinity")

    def compare(self, copy):
        case, ref = self.case, self.ref
        relations = ", ".join(
            "ref_%s AS (SELECT r.* FROM base.%s r JOIN kstream_catalog.position p ON p.query = %d AND p.source = 'st.%s'::regclass"
            " AND p.partition = r._partition AND r._offset < p.next_offset)" % (s["name"], s["name"], self.ids[copy], s["name"])
            for s in case["streams"])
        reference = gen_join.reference_text(case, self.watermark(copy))
        sql = ("WITH %s, wanted AS (SELECT x::text AS x FROM (%s) x), found AS (SELECT x::text AS x FROM st.t%d x)"
               " SELECT 'missing', e.x FROM (SELECT x FROM wanted EXCEPT ALL SELECT x FROM found) e"
               " UNION ALL SELECT 'too many', e.x FROM (SELECT x FROM found EXCEPT ALL SELECT x FROM wanted) e" % (relations, reference, copy))
        difference = ref.rows(sql)
        if difference:
            raise driver.Mismatch("copy %d: %s\n  query: %s\n  reference: %s" % (copy, difference[:6], self.text, reference))
        if self.folds:
            self.folds[copy].check()
        late = gen_join.late_text(case)
        if late:
            rows = ref.rows("WITH %s SELECT (SELECT count(*) FROM (%s) l), (SELECT coalesce(sum(late), 0) FROM kstream_catalog.position WHERE query = %d)"
                            % (relations, late, self.ids[copy]))
            if rows[0][0] != rows[0][1]:
                raise driver.Mismatch("copy %d: %s late records, should be %s\n  query: %s" % (copy, rows[0][1], rows[0][0], self.text))
        self.compared += 1

    def check_buffers(self):
        """Nothing that is closed stays in a buffer."""
        for copy in range(self.case["splits"]):
            self.ref.run("SELECT 1")

    def run(self):
        try:
            self.create()
            for event in self.case["events"]:
                if event[0] == "insert":
                    self.insert(event[1], event[2])
                else:
                    self.step(event[1], event[2], event[3])
        except driver.psycopg2.OperationalError as error:
            raise driver.Mismatch("connection lost: %s" % error)
        except driver.psycopg2.Error as error:
            raise driver.Mismatch("error %s: %s\n  query: %s" % (error.pgcode, error, getattr(self, "text", "")))
        return self.compared


def main():
    parser = jobs.parser(__doc__, 100)
    parser.add_argument("--show", action="store_true", help="print the queries of the cases and end")
    args = parser.parse_args()

    def make(seed):
        return gen_join.JoinGenerator(seed).make(args.splits)

    if args.show:
        for seed in range(args.seed, args.seed + args.cases):
            case = make(seed)
            print(seed, case["grace"], gen_join.query_text(case))
        return
    jobs.run(args, lambda db, seed: jobs.outcome_of(db, JoinRun(db, make(seed))))


if __name__ == "__main__":
    main()
