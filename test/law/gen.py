"""Generator of the law test: one seed makes one case.

A case is plain data (dicts and lists), so that it can be shrunk by leaving
parts out.  Query texts hold two marks: {ord} stands where an aggregate sees
rows in order of arrival (nothing for kstream, an explicit ORDER BY for the
reference), and every output says how it may be compared.
"""
import random
import re

from coltypes import KEY_TYPES, TYPES

T = TYPES


class Col:
    """A column an expression may use: its text, its type."""

    def __init__(self, text, ctype, row_only=False):
        self.text = text
        self.type = ctype
        self.row_only = row_only


class Rel:
    """What FROM holds so far: text, columns, and what is known of its rows."""

    def __init__(self, text, cols, order=None, many=False, streams=1):
        self.text = text
        self.cols = cols
        self.order = order      # columns giving the order of arrival
        self.many = many        # several rows may come of one record
        self.streams = streams


# Expressions: klass of the column -> (text, resulting type)
EXPRESSIONS = {
    "int": [("{0}::numeric + 1", "num"), ("{0} % 3", "int8"), ("-({0}::numeric)", "num"), ("coalesce({0}, 0)", "int8"), ("{0}::text", "text"),
            ("{0}::numeric / 3", "num"), ("{0} * 0.5::float8", "float8"), ("{0} IS NULL", "bool"), ("{0} > 1", "bool"),
            ("CASE WHEN {0} > 1 THEN 'big' WHEN {0} < 0 THEN 'neg' END", "text"), ("nullif({0}, 1)", "int8"),
            ("abs({0} % 5)::int4", "int4"), ("ARRAY[({0} % 7)::int4, 1]", "ints"), ("ROW(({0} % 3)::int4, 'r')::lk.pair", "comp"),
            ("lk.double({0})", "arr"), ("{0} BETWEEN 0 AND 3", "bool"), ("{0} IN (1, 2, 7)", "bool"),
            ("int4range(0, ({0} % 4)::int4 + 4)", "int4range"), ("to_char({0}, 'FM99')", "text")],
    "num": [("{0} + 0.10", "num"), ("round({0}, 1)", "num"), ("{0}::text", "text"), ("{0}::float8", "float8"),
            ("{0} > 0", "bool"), ("coalesce({0}, 1.000)", "num"), ("trunc({0})::numeric(30,2)", "num2"),
            ("CASE WHEN {0} = 1 THEN 'one' ELSE 'other' END", "text")],
    "float": [("{0} + 1", "float8"), ("{0}::text", "text"), ("{0} > 0", "bool"), ("coalesce({0}, 0)", "float8"), ("-{0}", "float8")],
    "text": [("{0} || 'z'", "text"), ("upper({0})", "text"), ("length({0})", "int4"), ("coalesce({0}, '')", "text"),
             ("{0} = 'a'", "bool"), ("{0}::text COLLATE \"C\"", "textc"), ("left({0}, 1)", "text"), ("md5({0})", "text"),
             ("{0}::text COLLATE lk.ci", "textci"), ("to_jsonb({0}::text)", "jsonb"), ("string_to_array({0}, 'b')", "texts"),
             ("nullif({0}, '')", "text"), ("{0}::bytea", "bytea"), ("replace({0}, 'a', 'bb')", "text"), ("{0} LIKE '%a%'", "bool"),
             ("CASE WHEN {0} COLLATE \"C\" > 'a' THEN 1 ELSE 0 END", "int4"), ("{0}::lk.citext", "citext")],
    "citext": [("{0}::text", "text"), ("{0} = 'a'", "bool"), ("length({0})", "int4")],
    "bool": [("NOT {0}", "bool"), ("{0} IS TRUE", "bool"), ("{0}::int", "int4"), ("coalesce({0}, false)", "bool")],
    "date": [("{0} + 1", "date"), ("{0}::text", "text"), ("{0} > '2024-01-15'", "bool"), ("to_char({0}, 'YYYY-MM')", "text")],
    "ts": [("date_trunc('day', {0})", "ts"), ("{0}::text", "text"), ("{0} > '2024-02-01'", "bool"), ("{0}::date", "date"),
           ("extract(hour FROM {0})", "num")],
    "time": [("{0}::interval", "interval"), ("{0}::text", "text")],
    "interval": [("{0} * 2", "interval"), ("{0} > '1 hour'", "bool"), ("justify_hours({0})", "interval")],
    "uuid": [("{0}::text", "text")],
    "jsonb": [("{0} -> 'a'", "jsonb"), ("{0} ->> 'a'", "text"), ("jsonb_typeof({0})", "text"), ("{0} @> '{{\"a\": 1}}'", "bool"),
              ("{0} || '[1]'", "jsonb"), ("jsonb_build_array({0}, 1)", "jsonb"), ("{0} #> '{{b,1}}'", "jsonb")],
    "json": [("{0}::text", "text"), ("json_typeof({0})", "text")],
    "ints": [("{0}[1]", "int4"), ("cardinality({0})", "int4"), ("{0} || 9", "ints"), ("2 = ANY({0})", "bool"),
             ("array_to_string({0}, '-')", "text"), ("(SELECT sum(u) FROM unnest({0}) u)", "int8")],
    "texts": [("{0}[1]", "text"), ("cardinality({0})", "int4"), ("array_to_string({0}, '|', '*')", "text")],
    "arr": [("cardinality({0})", "int4")],
    "enum": [("{0}::text", "text"), ("{0} > 'sad'", "bool")],
    "comp": [("({0}).i", "int4"), ("({0}).t", "text"), ("{0} IS NULL", "bool")],
    "bytea": [("encode({0}, 'hex')", "text"), ("length({0})", "int4")],
    "inet": [("host({0})", "text"), ("masklen({0})", "int4")],
    "range": [("isempty({0})", "bool"), ("{0}::text", "text")],
    "multirange": [("isempty({0})", "bool")],
    "bit": [("length({0})", "int4"), ("{0}::text", "text")],
    "point": [("{0}[0]", "float8")],
}

# Expressions that fail for some records.
FAILING = {
    "int": [("1 / ({0} - 2)", "int8"), ("{0} + 2147483647", "int8"), ("{0}::int2", "int2"), ("lk.picky({0}::int)", "int4"), ("({0}::int)::lk.posint", "posint"),
            ("{0} * 4::int2", "int8"), ("sqrt({0}::float8)", "float8"), ("({0}::int)::lk.filled", "int4")],
    "num": [("{0}::int4", "int4"), ("1 / {0}", "num"), ("ln({0})::float8", "float8"), ("{0}::numeric(3,1)", "num2")],
    "float": [("{0}::int4", "int4"), ("1 / {0}", "float8"), ("{0}::numeric", "num")],
    "text": [("{0}::int", "int4"), ("{0}::numeric", "num"), ("{0}::date", "date"), ("{0}::text::lk.word", "word"),
             ("{0}::bool", "bool"), ("{0}::jsonb", "jsonb"), ("chr(length({0}) - 1)", "text"), ("{0}::lk.mood", "enum")],
    "ts": [("extract(epoch FROM {0})::int2", "int2")],
    "jsonb": [("({0} ->> 'a')::int", "int4"), ("({0} -> 'a')::numeric", "num")],
    "texts": [("{0}[1]::int", "int4")],
    "comp": [("({0}).t::int", "int4")],
}

# Aggregates: klass -> (text, result klass, properties).
#   o: sees rows in order of arrival   f: floating point, depends on order in the last digits
#   a: its value may be spelled in several ways if its input may   t: compare as text
ANY_AGGS = [("count({0})", "int8", ""), ("count(*)", "int8", ""), ("lk.count_nulls({0})", "int8", ""),
            ("array_agg({0}{ord})", "arr", "o"), ("jsonb_agg({0}{ord})", "jsonb", "o"), ("json_agg({0}{ord})", "json", "ot"),
            ("lk.first_value_of({0}{ord})", None, "o"), ("lk.last_value_of({0}{ord})", None, "o"), ("lk.card({0}{ord})", "int4", "")]
KEY_AGGS = [("count(DISTINCT {0})", "int8", ""), ("array_agg({0} ORDER BY {0})", "arr", "a"),
            ("array_agg(DISTINCT {0})", "arr", "a"), ("mode() WITHIN GROUP (ORDER BY {0})", None, "a"),
            ("percentile_disc(0.5) WITHIN GROUP (ORDER BY {0})", None, "a"),
            ("lk.my_disc(0.3) WITHIN GROUP (ORDER BY {0})", None, "a"),
            ("percentile_disc(ARRAY[0, 0.25, 1]) WITHIN GROUP (ORDER BY {0} DESC)", "arr", "a"),
            ("array_agg(DISTINCT {0} ORDER BY {0} DESC NULLS LAST)", "arr", "a")]
AGGS = {
    "int": [("sum({0})", "num", ""), ("sum({0})", "num", ""), ("avg({0})", "num", ""), ("min({0})", None, ""), ("max({0})", None, ""),
            ("stddev({0})", "num", ""), ("var_pop({0})", "num", ""), ("bit_or({0})", None, ""), ("bit_and({0})", None, ""),
            ("bit_xor({0})", None, ""), ("sum(DISTINCT {0})", "num", ""), ("avg(DISTINCT {0} % 10)", "num", ""),
            ("lk.sumsq({0})", "num", ""), ("lk.wavg({0}, 2)", "num", ""), ("lk.least_of(({0} % 9)::int, 5)", "int4", ""),
            ("lk.least_of(VARIADIC ARRAY[({0} % 9)::int, 3])", "int4", ""), ("lk.count_and_list(({0} % 5)::int{ord})", "comp", "o"),
            ("percentile_cont(0.5) WITHIN GROUP (ORDER BY {0})", "float8", ""),
            ("percentile_cont(ARRAY[0.1, 0.9]) WITHIN GROUP (ORDER BY {0})", "arr", ""),
            ("rank(3) WITHIN GROUP (ORDER BY ({0} % 10)::int)", "int8", ""),
            ("dense_rank(1) WITHIN GROUP (ORDER BY ({0} % 10)::int)", "int8", ""),
            ("cume_dist(2) WITHIN GROUP (ORDER BY ({0} % 10)::int)", "float8", ""),
            ("percent_rank(2) WITHIN GROUP (ORDER BY ({0} % 10)::int)", "float8", ""),
            ("corr({0}, 2 - {0} % 4{ord})", "float8", "f"), ("regr_slope({0} % 7, {0} % 5{ord})", "float8", "f"),
            ("covar_pop({0} % 7, {0} % 5{ord})", "float8", "f"), ("regr_count({0}, 1)", "int8", ""),
            ("json_object_agg('k' || coalesce({0} % 4, -9)::text, {0} ORDER BY {0})", "json", "tx"),
            ("jsonb_object_agg('k' || coalesce({0}::text, 'n'), {0})", "jsonb", "")],
    "num": [("sum({0})", "num", ""), ("avg({0})", "num", ""), ("min({0})", None, "a"), ("max({0})", None, "a"),
            ("stddev_samp({0})", "num", ""), ("sum(DISTINCT {0})", "num", "a"), ("lk.sumsq({0})", "num", ""),
            ("lk.wavg({0}, {0})", "num", ""), ("percentile_cont(0.25) WITHIN GROUP (ORDER BY {0}::float8)", "float8", "")],
    "float": [("sum({0}{ord})", "float8", "f"), ("avg({0}{ord})", "float8", "f"), ("min({0})", None, "a"), ("max({0})", None, "a"),
              ("variance({0}{ord})", "float8", "f"), ("stddev_pop({0}{ord})", "float8", "f"),
              ("regr_r2({0}, {0} + 1{ord})", "float8", "f"), ("percentile_cont(0.5) WITHIN GROUP (ORDER BY {0})", "float8", "a")],
    "text": [("min({0})", None, "a"), ("max({0})", None, "a"), ("string_agg({0}, ','{ord})", "text", "o"),
             ("string_agg({0}, '' ORDER BY {0} COLLATE \"C\")", "text", "a"), ("string_agg(DISTINCT {0}::text, '|')", "text", ""),
             ("string_agg({0}, {0}{ord})", "text", "o"), ("max(length({0}))", "int4", ""),
             ("xmlagg(xmlelement(name v, md5({0})) ORDER BY {0} COLLATE \"C\")::text", "text", "tx"),
             ("jsonb_object_agg(coalesce({0} || '_', 'n'), length({0}))", "jsonb", ""),
             ("json_object_agg(coalesce({0}, 'n'), 1 ORDER BY {0} COLLATE \"C\")", "json", "tx")],
    "citext": [("max({0})", None, "a")],
    "bool": [("bool_and({0})", "bool", ""), ("bool_or({0})", "bool", ""), ("every({0})", "bool", "")],
    "date": [("min({0})", None, ""), ("max({0})", None, "")],
    "ts": [("min({0})", None, ""), ("max({0})", None, "")],
    "time": [("min({0})", None, ""), ("max({0})", None, "")],
    "interval": [("min({0})", None, "a"), ("sum({0}{ord})", "interval", "a"), ("avg({0}{ord})", "interval", "a")],
    "ints": [("max({0})", None, "")],
    "texts": [("min({0})", None, "")],
    "enum": [("min({0})", None, ""), ("max({0})", None, "")],
    "inet": [("max({0})", None, "")],
    "range": [("range_agg({0})", "multirange", "a"), ("range_intersect_agg({0})", None, "a")],
    "multirange": [("range_agg({0})", "multirange", "")],
    "jsonb": [("jsonb_agg({0} ORDER BY {0})", "jsonb", "a"), ("array_agg({0} -> 'a'{ord})", "arr", "oa")],
    "bit": [("count(DISTINCT {0})", "int8", "")],
}

SRFS = {
    "ints": ["unnest({0})"],
    "texts": ["unnest({0})"],
    "int": ["generate_series(1, ({0} % 4)::int)"],
    "jsonb": ["jsonb_array_elements(CASE WHEN jsonb_typeof({0} -> 'b') = 'array' THEN {0} -> 'b' END)"],
    "text": ["regexp_split_to_table({0}, 'b')"],
}

# What a session may have set when it takes a step: the first group is pinned
# with a query, the others may change plans only.
SESSION = ["SET timezone = 'Asia/Kolkata'", "SET datestyle = 'German, DMY'", "SET intervalstyle = 'iso_8601'",
           "SET extra_float_digits = -5", "SET bytea_output = 'escape'", "SET search_path = pg_catalog", "SET xmlbinary = 'hex'",
           "SET enable_nestloop = off", "SET enable_hashjoin = off", "SET enable_mergejoin = off", "SET enable_material = off",
           "SET enable_sort = off", "SET work_mem = '64kB'"]

# Classes whose values do not count for the length of a group key.
FIXED_LENGTH = ("int", "float", "bool", "date", "ts", "time", "interval", "uuid", "enum", "oid", "char1", "name")

# What must be refused, whatever stands around it; {q} is a working query, {s} a stream.
REFUSED = [
    "SELECT DISTINCT 1 FROM ({q}) q", "SELECT * FROM {s} ORDER BY _offset", "SELECT * FROM {s} LIMIT 3",
    "SELECT *, row_number() OVER () FROM {s}", "SELECT _offset FROM {s} UNION SELECT _offset FROM {s}",
    "SELECT _offset FROM {s} EXCEPT ALL SELECT _offset FROM {s}", "SELECT _partition, _offset, count(*) FROM {s} GROUP BY CUBE (1, 2)",
    "SELECT count(*) FROM {s} GROUP BY _partition", "SELECT a._offset FROM {s} a JOIN {s} b ON a._offset = b._offset",
    "SELECT random() FROM {s}", "SELECT g FROM generate_series(1, 3) g LEFT JOIN {s} ON g = _offset",
    "SELECT g FROM generate_series(1, 3) g WHERE EXISTS (SELECT FROM {s} WHERE _offset = g)",
    "SELECT * FROM (SELECT count(*) FROM {s}) x", "SELECT * FROM {s} FOR UPDATE",
    "SELECT g, _offset FROM generate_series(1, 3) g FULL JOIN {s} ON g = _offset",
    "SELECT DISTINCT ON (_partition) _offset FROM {s}", "SELECT 1 AS one",
    "WITH RECURSIVE r AS (SELECT _offset AS o FROM {s} UNION ALL SELECT o + 1 FROM r WHERE o < 3) SELECT * FROM r",
    "SELECT _offset FROM {s} UNION ALL SELECT 1", "SELECT nextval('lt.seq') FROM {s}", "SELECT r FROM {s}, lt.vol",
]


class Generator:
    """Makes the case of a seed."""

    def __init__(self, seed):
        self.seed = seed
        self.rng = random.Random(seed * 7919 + 17)
        self.prelude = []
        self.views = []
        self.ctes = []
        self.number = 0
        self.fails = self.rng.random() < 0.25
        # Whether an expression below a join fails depends on the plan: failing ones
        # stand there only where there is no join, else above all joins.
        self.joins_allowed = not self.fails or self.rng.random() < 0.4
        self.fails_now = self.fails and not self.joins_allowed

    def name(self, prefix):
        self.number += 1
        return "%s%d" % (prefix, self.number)

    def chance(self, share):
        return self.rng.random() < share

    # ------------------------------------------------------------ schema and data

    def make_streams(self):
        rng = self.rng
        self.streams = []
        for i in range(rng.choice([1, 1, 1, 2, 3])):
            types = [rng.choice(list(TYPES)) for _ in range(rng.randint(3, 7))]
            types += [rng.choice(["int4", "int8", "num", "text"])]
            if i > 0:       # share some with the first, for UNION ALL
                types = [c[1] for c in self.streams[0]["cols"] if rng.random() < 0.6] + types[:4]
            self.streams.append({"name": "s%d" % (i + 1), "partitions": rng.choice([1, 1, 2, 3]),
                                 "cols": [["c%d" % n, t] for n, t in enumerate(types)]})

    def make_rows(self):
        rng = self.rng
        self.rows = []
        few = rng.random() < 0.7
        for _ in range(rng.choice([3, 12, 20, 30, 45, 60])):
            index = rng.randrange(len(self.streams))
            stream = self.streams[index]
            values = [TYPES[t].literal(rng, few and rng.random() < 0.8) for _, t in stream["cols"]]
            when = "2024-03-01 00:%02d:%02d+00" % (rng.randrange(60), rng.randrange(60))
            self.rows.append({"s": index, "p": rng.randrange(stream["partitions"]), "ts": when,
                              "k": rng.choice(["NULL", "'k1'", "'k2'"]), "h": rng.choice(["NULL", "NULL", "'{\"h\": \"1\"}'"]),
                              "v": values})
            if rng.random() < 0.1:
                self.rows.append(dict(self.rows[-1]))
        self.bulk = rng.random() < 0.02
        if self.bulk:       # batches of the size that is planned differently
            self.rows = [dict(row) for _ in range(1200 // len(self.rows)) for row in self.rows]

    def make_events(self, copies):
        """When rows arrive, and who takes steps of which size in which manner."""
        rng = self.rng
        events = []
        left = len(self.rows)
        eager = [rng.random() < 0.7 for _ in range(copies)]
        sizes = [rng.choice([[1], [1, 2, 3], [2, 5, 9], [4, 100], [1000]]) for _ in range(copies)]
        if self.bulk:
            sizes = [rng.choice([[200, 400], [1000], [5000]]) for _ in range(copies)]
        while left > 0:
            count = min(left, rng.choice([300, 600, 1500] if self.bulk else [1, 3, 7, 15, 60]))
            left -= count
            events.append(["insert", count, rng.random() < 0.1])
            for copy in range(copies):
                if eager[copy] and rng.random() < 0.6:
                    for _ in range(rng.randint(1, 3)):
                        events.append(["step", copy, rng.choice(sizes[copy]), self.step_mode()])
        for copy in range(copies):
            if rng.random() < 0.06:
                events.append(["reset", copy])
            events.append(["drain", copy, sizes[copy], self.step_mode()])
        return events

    def step_mode(self):
        return self.rng.choices(["plain", "rollback", "savepoint", "double", "error", "fault"], [78, 5, 6, 5, 3, 3])[0]

    # ------------------------------------------------------------ expressions

    def derive(self, col, failing=False):
        """An expression over one column."""
        options = (FAILING if failing else EXPRESSIONS).get(col.type.klass)
        if options and col.type.name == "textci":
            options = [o for o in options if not any(word in o[0] for word in ("LIKE", "replace", "string_to_array"))]
        if not options:
            return None
        text, kind = self.rng.choice(options)
        if col.type.name == "textci" and kind == "text":
            kind = "textci"  # it keeps its collation, with which not all can be done
        return Col("(%s)" % text.format(col.text), TYPES[kind] if kind in TYPES else T["nums"])

    def expr(self, cols, depth=0):
        """A column, or an expression over columns."""
        rng = self.rng
        col = rng.choice(cols)
        if rng.random() < 0.35 and depth == 0:
            return col
        if self.fails_now and rng.random() < 0.15:
            made = self.derive(col, True)
            if made:
                return made
        same = [c for c in cols if c.type is col.type and c is not col]
        if same and rng.random() < 0.25 and col.type.key:
            other = rng.choice(same)
            form = rng.choice(["coalesce({0}, {1})", "CASE WHEN {0} = {1} THEN {0} ELSE {1} END", "greatest({0}, {1})",
                               "least({0}, {1})"])
            if "CASE" not in form or col.type.klass != "name":
                return Col("(%s)" % form.format(col.text, other.text), col.type)
        made = self.derive(col) or col
        if depth < 1 and rng.random() < 0.3:
            return self.derive(made) or made
        return made

    def condition(self, cols):
        """A condition over columns, tables included."""
        rng = self.rng
        if self.joins_allowed and self.chance(0.15):
            col = rng.choice([c for c in cols if c.type.key] or cols)
            table = self.table_like(col)
            if table:
                return rng.choice(["{0} IN (SELECT {2} FROM {1})", "{0} NOT IN (SELECT {2} FROM {1} WHERE {2} IS NOT NULL)",
                                   "EXISTS (SELECT FROM {1} WHERE {2} = {0})", "NOT EXISTS (SELECT FROM {1} WHERE {2} = {0})",
                                   "{0} = ANY (SELECT {2} FROM {1})"]).format(col.text, table["name"], table["key"])
        for _ in range(20):
            made = self.expr(cols)
            if made.type.klass == "bool":
                return made.text
        col = rng.choice(cols)
        return rng.choice(["{0} IS NOT NULL", "{0} IS NULL OR {0} IS NOT NULL", "coalesce({0}::text, '') <> 'b'"]).format(col.text)

    # ------------------------------------------------------------ lookups

    def table_like(self, col, key_name=None):
        """A new lookup table whose key has the column's type."""
        rng = self.rng
        if not col.type.key or not col.type.equality:
            return None
        name = self.name("t")
        key = key_name or name + "_k"
        unique = rng.random() < 0.65
        kinds = [rng.choice(["int4", "num", "text", "float8", "bool", "ints", "enum"]) for _ in range(2)]
        cols = [("%s_v%d" % (name, i), TYPES[t]) for i, t in enumerate(kinds)]
        self.prelude.append("CREATE TABLE lt.%s (%s_id int PRIMARY KEY, %s %s%s, %s)" % (
            name, name, key, col.type.sql, " UNIQUE" if unique else "", ", ".join("%s %s" % (n, t.sql) for n, t in cols)))
        rows = []
        for i in range(rng.choice([0, 1, 4, 8, 12])):
            rows.append("(%d, %s, %s)" % (i, col.type.literal(rng, rng.random() < 0.7), ", ".join(t.literal(rng) for _, t in cols)))
        if rows:
            self.prelude.append("INSERT INTO lt.%s VALUES %s ON CONFLICT DO NOTHING" % (name, ", ".join(rows)))
        if rng.random() < 0.3:
            self.prelude.append("ANALYZE lt.%s" % name)
        return {"name": name, "key": key, "id": name + "_id", "cols": cols, "unique": unique}

    def table_columns(self, table, alias, key_type):
        cols = [Col("%s.%s" % (alias, n), t) for n, t in table["cols"]]
        return cols + [Col("%s.%s" % (alias, table["id"]), T["int4"]), Col("%s.%s" % (alias, table["key"]), key_type)]

    def join(self, rel, first):
        """Joins a lookup to what FROM holds; returns the text of the join."""
        rng = self.rng
        col = rng.choice([c for c in rel.cols if c.type.key and c.type.equality and not c.row_only] or [Col("(1)", T["int4"])])
        kind = rng.choice(["table", "table", "table", "using", "view", "limit", "aggregate", "unnest", "series", "json",
                           "function", "values", "comma", "range", "subselect"])
        outer = rng.choice(["JOIN", "LEFT JOIN"])
        alias = self.name("j")
        if kind == "using" and (not first or not rel.plain or "." not in col.text or "(" in col.text or col.text.split(".")[1].startswith("_")):
            kind = "table"
        if kind == "table":
            table = self.table_like(col)
            rel.many |= not table["unique"]
            extra = " AND " + self.condition(rel.cols) if rng.random() < 0.2 else ""
            rel.cols = rel.cols + self.table_columns(table, alias, col.type)
            return "%s %s %s ON %s = %s.%s%s" % (outer, table["name"], alias, col.text, alias, table["key"], extra)
        if kind == "using":
            key = col.text.split(".")[1]
            table = self.table_like(col, key)
            rel.many |= not table["unique"]
            rel.cols = rel.cols + self.table_columns(table, alias, col.type)[:-2]
            if rng.random() < 0.4:
                return "NATURAL %s %s %s" % (outer, table["name"], alias)
            return "%s %s %s USING (%s)" % (outer, table["name"], alias, key)
        if kind == "view":
            table = self.table_like(col)
            name = self.name("tv")
            text = rng.choice(["SELECT {k}, count(*) AS n FROM {t} GROUP BY {k}", "SELECT DISTINCT {k}, 7 AS n FROM {t}",
                               "SELECT {k}, row_number() OVER (ORDER BY {i}) AS n FROM {t}",
                               "SELECT {k}, {i}::int8 AS n FROM {t} ORDER BY {i} LIMIT 5",
                               "WITH w AS (SELECT * FROM {t}) SELECT {k}, {i}::int8 AS n FROM w UNION SELECT {k}, 1 FROM {t}"])
            self.prelude.append("CREATE VIEW lt.%s AS %s" % (name, text.format(k=table["key"], i=table["id"], t="lt." + table["name"])))
            rel.many = True
            rel.cols = rel.cols + [Col("%s.n" % alias, T["int8"])]
            return "%s %s %s ON %s = %s.%s" % (outer, name, alias, col.text, alias, table["key"])
        if kind in ("limit", "aggregate", "subselect"):
            table = self.table_like(col)
            where = "WHERE %s = %s" % (table["key"], col.text)
            if kind == "aggregate":
                rel.cols = rel.cols + [Col("%s.n" % alias, T["int8"]), Col("%s.m" % alias, T["int4"])]
                return "%s LATERAL (SELECT count(*) AS n, max(%s) AS m FROM %s %s) %s ON true" % (
                    outer, table["id"], table["name"], where, alias)
            limit = "ORDER BY %s DESC LIMIT %d" % (table["id"], rng.choice([1, 2])) if kind == "limit" else ""
            rel.many |= not limit.endswith("1")
            rel.cols = rel.cols + self.table_columns(table, alias, col.type)
            return "%s LATERAL (SELECT * FROM %s %s %s) %s ON %s" % (outer, table["name"], where, limit, alias,
                                                                       rng.choice(["true", "%s.%s > 1" % (alias, table["id"])]))
        rel.many = True
        if kind == "comma" or kind == "range":
            ints = [c for c in rel.cols if c.type.klass == "int" and not c.row_only]
            table = self.table_like(col)
            before = rel.cols
            rel.cols = rel.cols + self.table_columns(table, alias, col.type)
            if ints and kind == "range":
                return "%s %s %s ON %s BETWEEN %s.%s AND %s.%s + 1" % (outer, table["name"], alias, rng.choice(ints).text,
                                                                       alias, table["id"], alias, table["id"])
            rel.where.append("%s = %s.%s" % (col.text, alias, table["key"]))
            if before is rel.cols:
                return ""
            return "CROSS JOIN %s %s" % (table["name"], alias)
        by_class = {c.type.klass: c for c in rng.sample(rel.cols, len(rel.cols))}
        if kind == "unnest" and "ints" in by_class:
            rel.cols = rel.cols + [Col("%s.u" % alias, T["int4"]), Col("%s.o" % alias, T["int8"])]
            return "%s LATERAL unnest(%s) WITH ORDINALITY AS %s(u, o) ON true" % (outer, by_class["ints"].text, alias)
        if kind == "json" and "jsonb" in by_class:
            rel.cols = rel.cols + [Col("%s.a" % alias, T["text"])]
            text = by_class["jsonb"].text
            return ("%s LATERAL jsonb_to_recordset(CASE WHEN jsonb_typeof(%s) = 'object' THEN jsonb_build_array(%s, %s) END)"
                    " AS %s(a text, b jsonb) ON true" % (outer, text, text, text, alias))
        if kind == "function" and "int" in by_class:
            rel.cols = rel.cols + [Col("%s.n" % alias, T["int4"]), Col("%s.sq" % alias, T["int4"])]
            return "%s LATERAL lk.up_to((%s %% 5)::int) %s ON true" % (outer, by_class["int"].text, alias)
        if kind == "values":
            rel.cols = rel.cols + [Col("%s.x" % alias, T["int4"]), Col("%s.y" % alias, T["text"])]
            return "CROSS JOIN (VALUES (1, 'one'), (2, NULL)) AS %s(x, y)" % alias
        rel.cols = rel.cols + [Col("%s.g" % alias, T["int4"])]
        top = "(%s %% 3)::int" % by_class["int"].text if "int" in by_class else "2"
        return "%s LATERAL generate_series(1, %s) AS %s(g) ON true" % (outer, top, alias)

    # ------------------------------------------------------------ what reads streams

    def stream_columns(self, stream, alias):
        cols = [Col("%s.%s" % (alias, n), TYPES[t]) for n, t in stream["cols"]]
        if self.chance(0.3):
            cols.append(Col(alias + "._key", T["text"]))
            cols.append(Col(alias + "._offset", T["int8"]))
            cols.append(Col(alias + "._timestamp", T["tstz"]))
            cols.append(Col(alias + "._headers", T["jsonb"]))
            cols.append(Col(alias + "._stream_time", T["tstz"]))
        if self.chance(0.1):
            cols.append(Col("to_jsonb(%s)" % alias, T["jsonb"], True))
        return cols

    def base(self, stream=None):
        stream = stream or self.rng.choice(self.streams)
        alias = self.name("a")
        rel = Rel("%s %s" % (stream["name"], alias), self.stream_columns(stream, alias),
                  "%s._partition, %s._offset" % (alias, alias))
        rel.partitions = stream["partitions"]
        rel.stream = stream
        return rel

    def select_from(self, rel, width):
        """A row-wise SELECT over rel with output names d0..; returns its text and column types."""
        outs, kinds = [], []
        for i in range(width):
            col = self.expr(rel.cols)
            outs.append("%s AS d%d" % (col.text, i))
            kinds.append(col.type)
        where = getattr(rel, "where", []) + ([self.condition(rel.cols)] if self.chance(0.5) else [])
        if rel.order:
            p, o = rel.order.split(", ")
            outs += [p + " AS p_", o + " AS o_"]
        source = " ".join([rel.text] + getattr(rel, "joins", []))
        where = " WHERE " + " AND ".join("(%s)" % w for w in where) if where else ""
        return "SELECT %s FROM %s%s" % (", ".join(outs), source, where), kinds

    def wrap(self, rel):
        """A sub-select, view or CTE over rel."""
        rng = self.rng
        text, kinds = self.select_from(rel, rng.randint(2, 5))
        alias = self.name("x")
        how = rng.choice(["sub", "sub", "view", "cte"])
        if self.ctes and how == "view":
            how = "sub"         # a view does not see WITH
        if how == "view":
            name = self.name("v")
            self.views.append([name, text])
            source = "%s %s" % (name, alias)
        elif how == "cte":
            name = self.name("w")
            self.ctes.append("%s AS %s(%s)" % (name, rng.choice(["", "", "MATERIALIZED ", "NOT MATERIALIZED "]), text))
            source = "%s %s" % (name, alias)
        else:
            source = "(%s) %s" % (text, alias)
        result = Rel(source, [Col("%s.d%d" % (alias, i), k) for i, k in enumerate(kinds)],
                     "%s.p_, %s.o_" % (alias, alias) if rel.order else None, rel.many, rel.streams)
        result.partitions = rel.partitions
        return result

    def union(self):
        """UNION ALL of two or three branches, each over a stream."""
        rng = self.rng
        kinds = [TYPES[rng.choice(self.streams[0]["cols"])[1]] for _ in range(rng.randint(2, 4))]
        branches = []
        for _ in range(rng.choice([2, 2, 3])):
            rel = self.base()
            outs = []
            for i, kind in enumerate(kinds):
                fit = [c for c in rel.cols if c.type is kind]
                text = rng.choice(fit).text if fit and rng.random() < 0.9 else "(%s)::%s" % ((T["longtext"] if kind is T["limittext"] else kind).literal(rng), kind.base())
                collation = kind.sql[len(kind.base()):]
                outs.append("%s%s AS d%d" % (text, collation, i))
            where = " WHERE " + self.condition(rel.cols) if rng.random() < 0.4 else ""
            branches.append("SELECT %s FROM %s%s" % (", ".join(outs), rel.text, where))
        alias = self.name("u")
        text = " UNION ALL ".join(branches)
        if rng.random() < 0.3:
            name = self.name("v")
            self.views.append([name, text])
            source = "%s %s" % (name, alias)
        else:
            source = "(%s) %s" % (text, alias)
        rel = Rel(source, [Col("%s.d%d" % (alias, i), k) for i, k in enumerate(kinds)], None, False, 2)
        rel.partitions = 99
        rel.union_text = text
        return rel

    def make_from(self):
        rng = self.rng
        if rng.random() < 0.2:
            rel = self.union()
        else:
            rel = self.base()
        for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
            if self.joins_allowed and rng.random() < 0.25:
                rel.where, rel.plain, rel.joins = [], True, []
                rel.joins.append(self.join(rel, True))
            rel = self.wrap(rel)
        rel.where = []
        rel.plain = True
        joins = []
        for i in range(rng.choice([0, 0, 0, 1, 1, 2, 3]) if self.joins_allowed else 0):
            joins.append(self.join(rel, i == 0))
        return rel, joins

    # ------------------------------------------------------------ the query

    def make_append(self, rel, joins):
        rng = self.rng
        outs = []
        if rng.random() < 0.05 and rel.streams == 1 and not joins and not self.ctes and not rel.where:
            return {"with": [], "raw": "SELECT * FROM %s WHERE %s" % (rel.text, " AND ".join("(%s)" % w for w in self.wheres) or "true"), "agg": False, "outs": [],
                    "where": [], "joins": [], "keys": [], "having": []}
        for i in range(rng.randint(1, 6)):
            if rng.random() < 0.12:
                by_class = [c for c in rel.cols if c.type.klass in SRFS and c.type.name != "textci"]
                if by_class:
                    col = rng.choice(by_class)
                    text = rng.choice(SRFS[col.type.klass]).format(col.text)
                    outs.append({"sql": text, "cmp": "eq", "rows": []})
                    continue
            if rng.random() < 0.08:
                col = rng.choice([c for c in rel.cols if c.type.key] or rel.cols)
                table = self.table_like(col)
                if table:
                    outs.append({"sql": "(SELECT max(%s) FROM %s WHERE %s = %s)" % (table["id"], table["name"], table["key"], col.text),
                                 "cmp": "text", "rows": []})
                    continue
            col = self.expr(rel.cols)
            outs.append({"sql": col.text, "cmp": "text", "rows": []})
        where = self.wheres
        query = {"with": self.ctes, "from": rel.text, "joins": joins, "where": where, "keys": [], "outs": outs, "having": [], "agg": False}
        if rel.streams > 1 and not joins and not self.ctes and rng.random() < 0.3 and getattr(rel, "union_text", None):
            query = {"with": [], "raw": rel.union_text, "agg": False, "outs": [], "where": [], "joins": [], "keys": [], "having": []}
        return query

    def group_key(self, cols):
        rng = self.rng
        if rng.random() < 0.06:
            return rng.choice([Col("'const'::text", T["text"]), Col("NULL::int", T["int4"]), Col("(1 + 1)", T["int4"])])
        if rng.random() < 0.05:
            ints = [c for c in cols if c.type.klass == "ints"]
            if ints:
                return Col("unnest(%s)" % rng.choice(ints).text, T["int4"])
        for _ in range(20):
            col = rng.choice(cols) if rng.random() < 0.6 else self.expr(cols)
            if col.type.key and col.type.equality:
                return col
        return Col("'none'::text", T["text"])

    def aggregate(self, rel):
        """One aggregate call: its text, result type, how to compare, the expressions it evaluates per row."""
        rng = self.rng
        ordered = rel.order and rel.partitions == 1 and not rel.many
        for _ in range(50):
            col = rng.choice(rel.cols) if rng.random() < 0.75 else self.expr(rel.cols)
            options = list(AGGS.get(col.type.klass, [])) * 2
            if rng.random() < 0.6 or not options:
                options += ANY_AGGS
                if col.type.key:
                    options += KEY_AGGS
            if ordered and rng.random() < 0.3:
                options = [o for o in options if "{ord}" in o[0]] or options
            text, kind, props = rng.choice(options)
            if "o" in props and not ordered:
                continue
            if "{ord}" in text and col.type.klass == "interval" and not ordered:
                continue
            if col.type.klass in ("arr", "ints", "texts") and ("array_agg" in text or "card" in text or "ARRAY[0" in text):
                continue        # arrays of arrays must have equal sizes
            if col.type.name in ("name", "char1", "oid", "bit") and ("string_agg" in text):
                continue
            if col.type.name == "oid" or "'" in col.text and "::" not in col.text and "(" not in col.text:
                continue
            if ("object_agg" in text or "xmlagg" in text) and col.type.ambiguous:
                continue
            if "lk.my_disc" in text and col.type.klass == "citext":
                continue
            break
        else:
            return {"sql": "count(*)", "type": T["int8"], "cmp": "text", "rows": [], "amb": False}
        args = [col.text] if "{0}" in text else []      # count(*) evaluates none
        result = col.type if kind is None else TYPES.get(kind, T["nums"])
        ambiguous = "a" in props and col.type.ambiguous
        order = " ORDER BY " + rel.order if ordered else ""
        call = text.format(col.text, ord="{ord}") if "{ord}" in text else text.format(col.text)
        call = call.replace("{ord}", "\x01" + order + "\x02")
        rows = args
        if rng.random() < 0.2:
            condition = self.condition(rel.cols)
            if "::text" == call[-6:]:
                call = call[:-6] + " FILTER (WHERE %s)::text" % condition
            else:
                call += " FILTER (WHERE %s)" % condition
            rows = ["CASE WHEN %s THEN %s END" % (condition, a) for a in args] or [condition]
            made = self.derive(col, True) if self.fails or rng.random() < 0.2 else None
            if "sum(" in text and made and made.type.klass in ("int", "num") and "DISTINCT" not in text:
                call = "count(%s) FILTER (WHERE %s)" % (made.text, condition)
                rows = ["CASE WHEN %s THEN %s END" % (condition, made.text)]
                return {"sql": call, "type": T["int8"], "cmp": "text", "rows": rows, "amb": False}
        compare = "text"
        if ambiguous or (col.type.ambiguous and "distinct" in text.lower()):
            compare = "eq"
        if "f" in props and not ordered:
            compare = "approx"
        if not result.equality:
            compare = "text"
        if col.type.ambiguous and ("a" in props or kind is None):
            compare = "eq" if compare == "text" and result.equality else compare
        return {"sql": call, "type": result, "cmp": compare, "rows": rows, "amb": compare != "text"}

    def over_aggregate(self, agg):
        """An expression over an aggregate that cannot fail."""
        forms = {"int": ["coalesce({0}, 0) * 2", "{0}::text", "{0} > 3", "CASE WHEN {0} > 2 THEN 'many' END", "nullif({0}, 1)"],
                 "num": ["coalesce({0}, 0) + 1", "{0}::text", "round({0}, 2)", "{0} / 3"],
                 "text": ["length({0})", "coalesce({0}, 'none') || '!'", "md5({0})"],
                 "arr": ["cardinality({0})"], "bool": ["NOT {0}"], "jsonb": ["jsonb_typeof({0})"], "comp": ["({0}).t"]}
        options = forms.get(agg["type"].klass)
        if not options or agg["amb"]:
            return agg
        text = self.rng.choice(options)
        if text == "coalesce({0}, 0) * 2" and agg["type"].name != "int8":
            text = "coalesce({0}, 0)::numeric * 2"
        elif text == "coalesce({0}, 0) * 2":
            text = "coalesce({0}, 0)::numeric * 2"
        call = agg["sql"] if agg["type"].klass != "comp" else "(" + agg["sql"] + ")"
        return dict(agg, sql="(" + text.replace("{0}", call) + ")", cmp="text")

    def make_aggregate(self, rel, joins):
        rng = self.rng
        keys = [self.group_key(rel.cols) for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3]))]
        outs = []
        for i, key in enumerate(keys):
            compare = "eq"
            outs.append({"sql": key.text, "cmp": compare, "rows": [], "key": i})
        if keys and rng.random() < 0.15:
            outs.append(dict(outs[0]))
            outs[-1].pop("key")
        aggs = [self.aggregate(rel) for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 4]))]
        if not keys and not aggs:
            aggs = [self.aggregate(rel)]
        for agg in aggs:
            made = self.over_aggregate(agg) if rng.random() < 0.25 else agg
            outs.append({k: made[k] for k in ("sql", "cmp", "rows")})
        if aggs and rng.random() < 0.1:     # twice
            outs.append({k: aggs[0][k] for k in ("sql", "cmp", "rows")})
        for key in keys:
            if rng.random() < 0.15 and not key.type.ambiguous and "unnest" not in key.text:
                made = self.derive(key)
                if made and "SELECT" not in made.text:
                    outs.append({"sql": made.text, "cmp": "eq" if made.type.equality else "text", "rows": []})
        if rng.random() < 0.06:
            outs.append({"sql": "(SELECT count(*) FROM pg_catalog.pg_language l WHERE l.lanname < 'b')", "cmp": "text", "rows": []})
        having = []
        if rng.random() < 0.08:
            name = self.name("lim")
            self.ctes.append("%s AS (SELECT 2 AS n, 'x'::text AS t)" % name)
            if rng.random() < 0.5:
                having.append("count(*) >= (SELECT n FROM %s)" % name)
            else:
                outs.append({"sql": "count(*) + (SELECT n FROM %s)" % name, "cmp": "text", "rows": []})
        plain = [k for k in keys if k.type.key and k.type.equality and re.fullmatch(r"\w+\.\w+", k.text)]
        if plain and rng.random() < 0.1:
            key = rng.choice(plain)
            table = self.table_like(key)
            if table:
                form = rng.choice(["(SELECT max({i}) FROM {t} WHERE {k} = {x})", "(SELECT count(*) FROM {t} WHERE {k} = {x})",
                                   "EXISTS (SELECT FROM {t} WHERE {k} = {x})", "{x} IN (SELECT {k} FROM {t})",
                                   "(SELECT sum({i}) FROM {t} WHERE {k} = {x}) + count(*)"])
                text = form.format(i=table["id"], t=table["name"], k=table["key"], x=key.text)
                if "EXISTS" in text or "{x} IN" in form:
                    having.append(text)
                else:
                    outs.append({"sql": text, "cmp": "text", "rows": []})
        if rng.random() < 0.25:
            having.append(rng.choice(["count(*) > 1", "count(*) % 2 = 1", "count(*) BETWEEN 2 AND 4", "count(*) < 3", "true", "count(*) > 100",
                                      "count(*) > (SELECT count(*) FROM pg_catalog.pg_language l WHERE l.lanname = 'c')",
                                      "count(*) IN (SELECT 2)"]))
        where = self.wheres
        rng.shuffle(outs)
        return {"with": self.ctes, "from": rel.text, "joins": joins, "where": where, "keys": [k.text for k in keys],
                "keytypes": [k.type.name for k in keys], "outs": outs, "having": having, "agg": True}

    def avoid_limit(self, query):
        """Values at the very limit of a group key only where its length is known to the byte."""
        long_keys = [t for t in query.get("keytypes", []) if TYPES[t].klass not in FIXED_LENGTH]
        if len(long_keys) > 1 or any(TYPES[t].klass not in ("text", "citext") for t in long_keys):
            for stream in self.streams:
                for col in stream["cols"]:
                    col[1] = "longtext" if col[1] == "limittext" else col[1]

    def make(self, copies):
        self.make_streams()
        rel, joins = self.make_from()
        self.wheres = rel.where + [self.condition(rel.cols) for _ in range(self.rng.choice([0, 0, 1, 2]))]
        self.fails_now = self.fails
        query = self.make_aggregate(rel, joins) if self.chance(0.65) else self.make_append(rel, joins)
        self.avoid_limit(query)
        self.make_rows()
        must_refuse = None
        if self.chance(0.03):
            must_refuse = self.rng.choice(REFUSED)
        stop = self.fails and self.chance(0.2)
        session = [s for s in SESSION if self.chance(0.12)]
        return {"session": session, "stop": stop, "seed": self.seed, "streams": self.streams, "prelude": self.prelude, "views": self.views, "query": query,
                "rows": self.rows, "events": self.make_events(copies), "copies": copies, "refuse": must_refuse,
                "planner": self.rng.choice(["", "SET enable_hashagg = off", "SET enable_hashjoin = off", "SET enable_sort = off"])}


# ------------------------------------------------------------ from parts to text

def mark_order(text, reference):
    """Resolves the marks of arrival order: only the reference spells it out."""
    while "\x01" in text:
        before, rest = text.split("\x01", 1)
        order, after = rest.split("\x02", 1)
        text = before + (order if reference else "") + after
    return text


def tail(query, grouped):
    """FROM and what follows."""
    text = " FROM " + query["from"]
    for join in query["joins"]:
        text += "\n  " + join
    if query["where"]:
        text += "\n  WHERE " + " AND ".join("(%s)" % w for w in query["where"])
    if grouped and query["keys"]:
        text += "\n  GROUP BY " + ", ".join(query["keys"])
    if grouped and query["having"]:
        text += "\n  HAVING " + " AND ".join(query["having"])
    return text


def with_clause(query):
    return "WITH %s\n" % ", ".join(query["with"]) if query["with"] else ""


def render(query, reference=False):
    """The SELECT, as kstream gets it or as the reference runs it."""
    if "raw" in query:
        return query["raw"]
    outs = ", ".join("%s AS o%d" % (o["sql"], i) for i, o in enumerate(query["outs"]))
    return mark_order(with_clause(query) + "SELECT " + outs + tail(query, query["agg"]), reference)


def render_rows(query):
    """The row-wise part: what is evaluated for each record, and so can make it bad."""
    if not query["agg"]:
        return render(query)
    items = ["%s AS k%d" % (k, i) for i, k in enumerate(query["keys"])]
    rows = []
    for out in query["outs"]:
        rows += [r for r in out["rows"] if r not in rows]
    items += ["%s AS r%d" % (r, i) for i, r in enumerate(rows)]
    inner = "SELECT " + (", ".join(items) or "1 AS one") + tail(query, False)
    sizes = []
    for i, kind in enumerate(query["keytypes"][:len(query["keys"])]):
        if TYPES[kind].klass not in FIXED_LENGTH and query["keys"][i] not in query["keys"][:i]:
            sizes.append("coalesce(lk.key_size(q.k%d), 0)" % i)
    if sizes:
        inner = "SELECT q.*, lk.check_key(%s) FROM (%s OFFSET 0) q" % (" + ".join(sizes), inner)
    return with_clause(query) + inner
