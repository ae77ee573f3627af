"""Generator of the law test's joins of streams: one seed makes one case.

A case holds streams with records, the text of a query, and the text of what
plain Postgres gives over the records consumed: the same query with the rules of
the contract on time written out.  A side of a join is a text with two marks:
{rel} is where its records come from, {extra} what the reference needs of them.
"""
import random
import re

MINUTE = 60000000

# How a bound may be written: -B <= b.ts - a.ts <= A, with intervals in minutes.
# Each: text of the lower and of the upper bound, whether the bound is strict.
LOWER = [("{b} >= {a} - interval '{n} min'", 0), ("{a} <= {b} + interval '{n} min'", 0), ("{b} - {a} >= interval '-{n} min'", 0),
         ("{b} > {a} - interval '{n} min'", 1), ("{a} - {b} < interval '{n} min'", 1), ("{a} - interval '{n} min' <= {b}", 0),
         ("{b} + interval '2 min' >= {a} - (interval '{n} min' - interval '2 min')", 0), ("{a} - {b} <= make_interval(mins => {n})", 0),
         ("NOT {b} < {a} - interval '{n} min' AND {b} >= {a} - interval '{n} min'", 0)]
UPPER = [("{b} <= {a} + interval '{n} min'", 0), ("{a} >= {b} - interval '{n} min'", 0), ("{b} - {a} <= interval '{n} min'", 0),
         ("{b} < {a} + interval '{n} min'", 1), ("{a} - {b} > interval '-{n} min'", 1), ("{a} + interval '{n} min' >= {b}", 0),
         ("interval '{n} min' >= {b} - {a}", 0), ("{b} <= interval '{n} min' + {a}", 0)]

# Types of the keys, which differ between streams.
TEXT_TYPES = ["text", "text", "text", "varchar", "varchar(9)", "bpchar", "char(3)"]
NUMBER_TYPES = ["int", "int", "int", "bigint", "smallint", "numeric", "numeric(9,2)"]

# A side: text, then names of its key, second key, value and time.  {t}: the stream's time column.
SIDES = [("{rel} {alias}", "k", "k2", "v", "{t}"),
         ("{rel} {alias}", "k", "k2", "v", "{t}"),
         ("(SELECT k AS x, k2 AS y, v + 1 AS z, {t} AS w, v AS unused{extra} FROM {rel}) {alias}", "x", "y", "z", "w"),
         ("(SELECT upper(k) AS k, k2, v, {t} AS w{extra} FROM {rel} WHERE v <> 3) {alias}", "k", "k2", "v", "w"),
         ("(SELECT s.k, d.n AS k2, s.v, s.{t} AS w{extra_s} FROM {rel} s JOIN lt.dim d ON d.id = s.k2) {alias}", "k", "k2", "v", "w"),
         ("(SELECT s.k, s.k2, coalesce(d.n, -s.v) AS v, s.{t} AS w{extra_s} FROM {rel} s LEFT JOIN lt.dim d ON d.id = s.v) {alias}",
          "k", "k2", "v", "w"),
         ("(SELECT k, k2, 3 AS v, {t} AS w{extra} FROM {rel}) {alias}", "k", "k2", "v", "w"),
         ("(SELECT i.* FROM (SELECT k, k2, v, {t} AS w{extra} FROM {rel} WHERE v IS NOT NULL) i) {alias}", "k", "k2", "v", "w")]

# Sides after the first that look at it themselves; {where}: conditions of the join, in terms of l.
LATERAL = [("LATERAL (SELECT l.k, l.k2, l.v, l.{t}{extra_l} FROM {rel} l{where}) {alias}", "k", "k2", "v", "{t}"),
           ("LATERAL (SELECT l.k, l.k2, {av} AS v, l.{t}{extra_l} FROM {rel} l{where}) {alias}", "k", "k2", "v", "{t}"),
           ("LATERAL (SELECT l.k, {ak2} AS k2, d.n AS v, l.{t}{extra_l} FROM {rel} l JOIN lt.dim d ON d.id = l.v AND d.n <= {av}{where}) {alias}",
            "k", "k2", "v", "{t}"),
           ("LATERAL (SELECT i.* FROM (SELECT l.k, l.k2, l.v, l.{t}{extra_l} FROM {rel} l{where}) i, lt.many m WHERE m.id = {av}) {alias}",
            "k", "k2", "v", "{t}")]

# Tables below a side of the join, and what may be asked of them; a table with several rows for a record only where nothing is.
BELOW = [("{side} JOIN lt.dim d{x} ON d{x}.id = {x}.{v}", "d{x}.n <= {other}.{ov}"),
         ("{side} LEFT JOIN lt.dim d{x} ON d{x}.id = {x}.{v}", "coalesce(d{x}.n, 1) <= {other}.{ov}"),
         ("{side} LEFT JOIN lt.dim d{x} ON {x}.{k2} = d{x}.id AND {x}.{v} > 1 LEFT JOIN lt.dim e{x} ON e{x}.id = d{x}.n", "e{x}.n = {other}.{ov}"),
         ("{side} LEFT JOIN LATERAL (SELECT count(*) AS n FROM lt.many m WHERE m.id < {x}.{v}) d{x} ON {x}.{v} < 5", "d{x}.n < {other}.{ov}"),
         ("{side} JOIN lt.many m{x} ON m{x}.id = {x}.{v}", None)]

EXTRA = [None, None, None, "{a}.{av} < {b}.{bv}", "({a}.{av} + {b}.{bv}) % 2 = 0", "{a}.{av} IS NOT NULL", "{b}.{bv} > 2",
         "({a}.{av} > 1 OR {b}.{bv} < 4)", "{b}.{bk2} IS NOT NULL", "{a}.{av} < 4", "{a}.{ak} <> 'c'", "{b}.{bv} <> 3", "{a}.{av} = 2"]
KEYS = [["{a}.{ak} = {b}.{bk}"], ["{a}.{ak} = {b}.{bk}"], ["{b}.{bk2} = {a}.{ak2}"], ["{b}.{bk2} = {a}.{ak2}"],
        ["{a}.{ak} = {b}.{bk}", "{a}.{ak2} = {b}.{bk2}"], ["lower({a}.{ak}) = lower({b}.{bk})"],
        ["{a}.{ak} = {b}.{bk}", "{a}.{ak2} IS NOT DISTINCT FROM {b}.{bk2}"], ["({a}.{ak}, {a}.{ak2}) = ({b}.{bk}, {b}.{bk2})"],
        ["coalesce({a}.{ak}, 'a') = {b}.{bk}"], ["{a}.{ak} = coalesce({b}.{bk}, 'b')"], ["{a}.{ak2} + 1 = {b}.{bk2} * 2"],
        ["{a}.{ak} || 'x' = {b}.{bk} || 'x'"], ["{a}.{av} % 3 = {b}.{bv} % 3"], ["{a}.{ak2} = {b}.{bv}"], ["length({a}.{ak}) = {b}.{bk2}"]]

# Conditions on the first side, for a LATERAL one to look at.
OF_FIRST = ["{a}.{av} < 4", "{a}.{av} > 2", "{a}.{ak} <> 'c'", "coalesce({a}.{av}, 1) % 2 = 0"]

# What may be asked above the join of a second side whose value is a constant or of the first.
THROUGH = ["{b}.{bv} IS NULL OR {a}.{av} >= {b}.{bv}", "{a}.{av} > coalesce({b}.{bv}, 1)", "{b}.{bv} IS NULL", "coalesce({b}.{bv}, 0) > 3 OR {a}.{av} < 3"]
WHERE = [None, None, None, None] + THROUGH[:2] + ["{a}.{av} IS DISTINCT FROM 2", "coalesce({b}.{bv}, 0) < 5", "coalesce({a}.{av}, 0) + coalesce({b}.{bv}, 0) <> 4"]


class JoinGenerator:
    """Makes the case of a seed."""

    def __init__(self, seed):
        self.seed = seed
        self.rng = random.Random(seed * 6007 + 5)

    def chance(self, share):
        return self.rng.random() < share

    # ------------------------------------------------------------ streams and records

    def make_streams(self):
        rng = self.rng
        self.streams = []
        for i in range(rng.choice([1, 2, 2, 2, 3])):
            time = rng.choice(["timestamptz", "timestamptz", "timestamp", None])
            # event times of different types are not compared
            if self.streams and (time == "timestamp") != (self.streams[0]["time"] == "timestamp"):
                time = self.streams[0]["time"]
            self.streams.append({"name": "s%d" % (i + 1), "time": time, "partitions": rng.choice([1, 1, 2, 3]),
                                 "k": rng.choice(TEXT_TYPES), "k2": rng.choice(NUMBER_TYPES)})

    def make_rows(self):
        """Records in order of arrival; every partition has one before anything is processed."""
        rng = self.rng
        self.jitter = rng.choice([0, 1, 4, 10, 30])
        self.rows = []
        for stream in self.streams:
            for partition in range(stream["partitions"]):
                self.rows.append(self.make_row(stream, partition, -self.jitter))
        self.first = len(self.rows)
        step = rng.choice([0.05, 0.3, 1, 3])
        for n in range(rng.choice([10, 30, 60, 90])):
            stream = rng.choice(self.streams)
            when = int(n * step) + rng.randint(-self.jitter, self.jitter)
            if self.chance(0.03):
                when += rng.choice([-200, 60, 200])
            self.rows.append(self.make_row(stream, rng.randrange(stream["partitions"]), when))

    def make_row(self, stream, partition, when):
        rng = self.rng
        return {"s": self.streams.index(stream), "p": partition, "when": when, "k": rng.choice(["NULL", "'a'", "'b'", "'B'", "'c'"]),
                "k2": rng.choice(["NULL", "1", "1", "2"]), "v": rng.choice(["NULL", "1", "2", "3", "4", "5"]),
                "null_time": self.chance(0.03)}

    # ------------------------------------------------------------ the query

    def make_bounds(self):
        """-before <= b.ts - a.ts <= after, in minutes; their sum is not negative."""
        before, after = self.rng.choice([(5, 10), (0, 7), (7, 0), (3, 3), (0, 0), (20, 1), (1, 20), (-2, 8), (9, -3), (60, 60), (4, 4)])
        return before, after

    def spell(self, spellings, a, b, minutes):
        """A bound as text and its length in microseconds."""
        text, strict = self.rng.choice(spellings)
        text = text.format(a=a, b=b, n=minutes).replace("'--", "'").replace("- interval '-", "+ interval '")
        return text, minutes * MINUTE - strict

    def make_side(self, alias, first=None):
        """A side; first: that of the join, if this one may be LATERAL."""
        rng = self.rng
        stream = rng.choice(self.streams)
        lateral = first is not None and self.chance(0.35)
        text, k, k2, v, t = rng.choice(LATERAL if lateral else SIDES)
        column = "ts" if stream["time"] else "_timestamp"
        names = {"alias": alias, "t": column, "where": ""}
        if lateral:
            names.update(ak2="%s.%s" % (first["alias"], first["k2"]), av="%s.%s" % (first["alias"], first["v"]))
        return {"alias": alias, "stream": stream["name"], "text": text, "names": names, "k": k, "k2": k2, "v": v,
                "time": "%s.%s" % (alias, t.format(t=column)), "lateral": lateral, "below": None}

    def key_condition(self):
        return self.rng.choice(KEYS)

    def fill(self, text, a, b):
        return text.format(a=a["alias"], b=b["alias"], ak=a["k"], bk=b["k"], ak2=a["k2"], bk2=b["k2"], av=a["v"], bv=b["v"])

    def put_below(self, side, other, conditions):
        """Joins a table below the side, and may ask for something of it in the join."""
        text, asked = self.rng.choice(BELOW)
        names = {"x": side["alias"], "v": side["v"], "k2": side["k2"], "other": other["alias"], "ov": other["v"], "side": "{side}"}
        side["below"] = text.format(**names)
        if asked and self.chance(0.7):
            conditions.append(asked.format(**names))

    def put_inside(self, side, conditions):
        """Conditions of the join that a LATERAL side has inside; the others are left in ON."""
        inside = [c for c in conditions if side["lateral"] and self.chance(0.6)]
        if inside:
            where = " AND ".join(re.sub(r"\b%s\.(?=k\b|k2\b|v\b|ts\b|_timestamp\b)" % side["alias"], "l.", "(%s)" % c) for c in inside)
            side["names"]["where"] += (" AND " if side["names"]["where"] else " WHERE ") + where
        return [c for c in conditions if c not in inside] or ["true"]

    def conditions(self, a, b, keyed=True):
        """Conditions of a pair, and their bounds."""
        before, after = self.make_bounds()
        lower, before = self.spell(LOWER, a["time"], b["time"], before)
        upper, after = self.spell(UPPER, a["time"], b["time"], after)
        if self.chance(0.2) and before > 0 and after > 0 and before % MINUTE == 0 and after % MINUTE == 0:
            lower = "%s BETWEEN %s - interval '%d min' AND %s + interval '%d min'" % (
                b["time"], a["time"], before // MINUTE, a["time"], after // MINUTE)
            upper = "true"
        keys = [self.fill(t, a, b) for t in self.key_condition()] if keyed else []
        result = keys + [lower, upper]
        self.rng.shuffle(result)
        return result, before, after

    def make_query(self):
        rng = self.rng
        shape = rng.choice(["two"] * 7 + ["three"] * 2 + ["union"])
        if shape == "union":
            parts = [self.make_join(2), self.make_join(2)]
            return {"parts": parts, "aggregate": False}
        query = {"parts": [self.make_join(3 if shape == "three" else 2)], "aggregate": self.chance(0.25)}
        if not query["aggregate"] and self.chance(0.3):
            query["window"] = self.make_window(query["parts"][0])
        return query

    def make_window(self, join):
        """A window over the event times of the join, and what becomes of it.  Lengths in minutes."""
        rng = self.rng
        times = [side["time"] for side in join["sides"]]
        text = rng.choice(["greatest(%s)", "greatest(%s)", "least(%s)", "coalesce(%s)"]) % ", ".join(times)
        text = rng.choice([text, text, rng.choice(times)])
        if self.streams[0]["time"] == "timestamp":
            text = "(%s) AT TIME ZONE 'UTC'" % text
        return {"time": text, "kind": rng.choice(["tumble", "tumble", "hop", "session"]), "size": rng.choice([1, 5, 7]),
                "emit": rng.choice(["final", "final", "changes"]), "retention": rng.choice([None, None, 40, 200]), "keyed": self.chance(0.7)}

    def make_join(self, n):
        """One join: sides, conditions, type."""
        rng = self.rng
        kind = rng.choice(["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]) if n == 2 else "JOIN"
        sides = [self.make_side("a")]
        for alias in "bc"[:n - 1]:
            sides.append(self.make_side(alias, sides[0] if kind in ("JOIN", "LEFT JOIN") else None))
        keyed = kind == "FULL JOIN" or self.chance(0.9)
        on, bounds = [], {}
        pairs = [(0, 1)] if n == 2 else rng.choice([[(0, 1), (1, 2)], [(0, 1), (0, 2)], [(0, 1), (1, 2), (0, 2)]])
        for i, j in pairs:
            texts, before, after = self.conditions(sides[i], sides[j], keyed)
            on.append((j, texts))
            bounds[(i, j)] = after
            bounds[(j, i)] = before
        if n == 2:
            for extra in rng.sample(EXTRA, rng.choice([1, 1, 3])):
                if extra:
                    on[0][1].append(self.fill(extra, sides[0], sides[1]))
            if sides[1]["lateral"] and self.chance(0.6):
                on[0][1].append(self.fill(rng.choice(OF_FIRST), sides[0], sides[1]))
        comma = kind == "JOIN" and self.chance(0.2)
        for side, other in (sides[:2], sides[1::-1]):
            if n == 2 and not comma and not sides[1]["lateral"] and self.chance(0.2):
                self.put_below(side, other, on[0][1])
        on = [(j, self.put_inside(sides[j], texts)) for j, texts in on]
        where = rng.choice(THROUGH if re.search(r"(3|\{av\}) AS v", sides[1]["text"]) and self.chance(0.5) else WHERE)
        where = self.fill(where, sides[0], sides[1]) if where else None
        lookup = n == 2 and self.chance(0.2)
        return {"kind": kind, "sides": sides, "on": on, "bounds": close_bounds(bounds, n), "where": where, "lookup": lookup,
                "comma": comma}

    def make(self, splits):
        rng = self.rng
        self.make_streams()
        self.make_rows()
        query = self.make_query()
        events = []
        pending = self.rows[self.first:]
        done = 0
        events.append(["insert", 0, self.first])
        while done < len(pending):
            n = rng.choice([1, 2, 5, 9, 20, 50])
            events.append(["insert", self.first + done, self.first + min(done + n, len(pending))])
            done += n
            for copy in range(splits):
                if self.chance(0.7):
                    for _ in range(rng.choice([1, 1, 2])):
                        events.append(["step", copy, rng.choice([1, 2, 3, 7, 15, 400]), rng.choice(["commit"] * 8 + ["rollback", "fault"])])
        for copy in range(splits):
            for _ in range(3):
                events.append(["step", copy, 1000, "commit"])
        planner = rng.choice([None, None, "SET enable_nestloop = off", "SET enable_hashjoin = off", "SET enable_indexscan = off",
                              "SET enable_mergejoin = off; SET enable_hashjoin = off"])
        keep = self.chance(0.4)
        return {"seed": self.seed, "keep": keep, "streams": self.streams, "rows": self.rows, "query": query, "events": events,
                "grace": rng.choice([0, 0, 1, 5, 30]), "splits": splits, "planner": planner, "with": rng.choice([None, None, "view", "cte"])}


def close_bounds(bounds, n):
    """Bounds of all pairs, over chains as well."""
    for k in range(n):
        for i in range(n):
            for j in range(n):
                if i != j and (i, k) in bounds and (k, j) in bounds:
                    bounds[(i, j)] = min(bounds.get((i, j), 1 << 62), bounds[(i, k)] + bounds[(k, j)])
    return [[i, j, most] for (i, j), most in sorted(bounds.items()) if i != j]


# ---------------------------------------------------------------- texts

def side_text(side, rel, extra):
    """A side of the join; extra: columns the reference adds, or empty."""
    names = dict(side["names"], rel=rel, extra="".join(", " + e for e in extra), extra_s="".join(", s." + e for e in extra),
                 extra_l="".join(", l." + e for e in extra))
    text = side["text"].format(**names)
    return "(%s)" % side["below"].replace("{side}", text) if side["below"] else text


def from_text(join, rels, extra, added):
    """FROM, and what goes into WHERE.  added: conditions of the reference, for ON."""
    texts = [side_text(side, rel, extra) for side, rel in zip(join["sides"], rels)]
    if join["comma"]:
        where = [c for _, conditions in join["on"] for c in conditions] + added
        return ", ".join(texts), where
    result = texts[0]
    for j in range(1, len(texts)):
        conditions = [c for at, cs in join["on"] if at == j for c in cs]
        if j == len(texts) - 1:
            conditions += added
        result += " %s %s ON %s" % (join["kind"], texts[j], " AND ".join(conditions))
    if join["lookup"]:
        result += " LEFT JOIN lt.dim dim ON dim.id = a.%s" % join["sides"][0]["v"]
    return result, []


def select_list(join):
    items = []
    for side in join["sides"]:
        items += ["%s.%s AS %s_k" % (side["alias"], side["k"], side["alias"]), "%s.%s AS %s_v" % (side["alias"], side["v"], side["alias"]),
                  "%s AS %s_t" % (side["time"], side["alias"])]
    if join["lookup"] and not join["comma"]:
        items.append("dim.n AS looked_up")
    return items


def aggregate_list(join):
    a, b = join["sides"][:2]
    return ("%s.%s AS g, count(*) AS n, sum(%s.%s) AS s, max(%s) AS m, count(%s.%s) FILTER (WHERE %s.%s > 1) AS f, "
            "string_agg(%s.%s, ',' ORDER BY %s.%s COLLATE \"C\", %s) AS l" % (
                a["alias"], a["k"], b["alias"], b["v"], b["time"], b["alias"], b["v"], a["alias"], a["v"],
                b["alias"], b["k"], b["alias"], b["k"], b["time"]))


def join_text(join, rels, extra, added, more_where, aggregate, window=None):
    text, where = from_text(join, rels, extra, added)
    where = where + more_where + ([join["where"]] if join["where"] else [])
    columns = aggregate_list(join) if aggregate else window_list(join, window) if window else ", ".join(select_list(join))
    return "SELECT %s FROM %s%s%s" % (columns, text, " WHERE " + " AND ".join("(%s)" % w for w in where) if where else "",
                                      " GROUP BY %s.%s" % (join["sides"][0]["alias"], join["sides"][0]["k"]) if aggregate else "")


def window_list(join, window):
    """What a windowed query takes of the rows of the join."""
    a, b = join["sides"][:2]
    return "%s AS g, %s.%s AS av, %s.%s AS bv, %s.%s AS bk, %s AS t" % (
        "%s.%s" % (a["alias"], a["k"]) if window["keyed"] else "1", a["alias"], a["v"], b["alias"], b["v"], b["alias"], b["k"], window["time"])


WINDOW_AGGREGATES = ("count(*) AS n, sum(q.bv) AS s, count(q.bv) FILTER (WHERE q.av > 1) AS f,"
                     " string_agg(q.bk, ',' ORDER BY q.bk COLLATE \"C\", q.bv, q.av) AS l")


def window_text(window, rows):
    """The windowed query over the rows of the join."""
    if window["kind"] == "hop":
        return "SELECT q.g, w.w, %s FROM (%s) q, LATERAL kstream.hop(q.t, interval '2 min', interval '%d min') w(w) GROUP BY q.g, w.w" % (
            WINDOW_AGGREGATES, rows, window["size"])
    return "SELECT q.g, kstream.%s(q.t, interval '%d min') AS w, %s FROM (%s) q GROUP BY 1, 2" % (
        window["kind"], window["size"], WINDOW_AGGREGATES, rows)


def window_reference(case, window, wait, rows, watermark):
    """The same in plain Postgres, over the rows of the reference; wait: the longest of a record, in microseconds."""
    text = window_text(window, rows)
    gap = 0
    if window["kind"] == "session":
        gap = window["size"] * MINUTE
        text = ("SELECT g, CASE WHEN t IS NOT NULL THEN tstzrange(min(t), max(t) + interval '%d min') END AS w, %s FROM (SELECT *,"
                " count(*) FILTER (WHERE start) OVER (PARTITION BY g, t IS NULL ORDER BY t) AS nr FROM (SELECT *,"
                " (t - lag(t) OVER (PARTITION BY g, t IS NULL ORDER BY t) <= interval '%d min') IS NOT TRUE AS start FROM (%s) q) q) q"
                " GROUP BY g, nr, t IS NULL" % (window["size"], WINDOW_AGGREGATES, window["size"], rows))
        text = text.replace("CASE WHEN t IS NOT NULL", "CASE WHEN bool_and(t IS NOT NULL)")
    grace = case["grace"] * MINUTE
    keep = ["true"]
    if window["emit"] == "final":
        keep.append("upper(x.w) + interval '%d microseconds' <= %s" % (grace + gap + wait, watermark))
    if window["retention"] is not None:
        keep.append("NOT coalesce(upper(x.w) + interval '%d microseconds' <= %s, false)" % (
            max(grace, window["retention"] * MINUTE) + gap + wait, watermark))
    return "SELECT * FROM (%s) x WHERE %s" % (text, " AND ".join(keep))


def union_columns(case):
    """Branches of a UNION ALL have the same columns; all as text."""
    return len(case["query"]["parts"]) > 1


def query_text(case):
    """What the user writes."""
    result = []
    ctes = []
    window = case["query"].get("window")
    for join in case["query"]["parts"]:
        rels = [side["stream"] for side in join["sides"]]
        if case["with"] == "view":
            rels[0] = "v_" + rels[0]
        elif case["with"] == "cte":
            name = "cte_%s" % rels[-1]
            if name not in ctes:
                ctes.append(name)
            rels[-1] = name
        text = join_text(join, rels, [], [], [], case["query"]["aggregate"], window)
        result.append(window_text(window, text) if window else text)
    text = branches(case, result)
    if ctes:
        text = "WITH %s %s" % (", ".join("%s AS (SELECT * FROM %s)" % (c, c[4:]) for c in ctes), text)
    return text


def branches(case, texts):
    if len(texts) == 1:
        return texts[0]
    return " UNION ALL ".join("SELECT x.a_k::text, x.a_v, x.a_t::text AS a_t, x.b_k::text, x.b_v, x.b_t::text AS b_t FROM (%s) x" % t for t in texts)


def reference_text(case, watermark):
    """The same in plain Postgres, over relations ref_<stream> that hold the records consumed."""
    result = []
    for join in case["query"]["parts"]:
        grace = case["grace"] * MINUTE
        most = {(i, j): m for i, j, m in join["bounds"]}
        n = len(join["sides"])
        wait = [max([0] + [most[(i, j)] for j in range(n) if j != i]) + grace for i in range(n)]
        rels = ["(SELECT * FROM ref_%s WHERE _st <= _et + interval '%d microseconds')" % (side["stream"], wait[i])
                for i, side in enumerate(join["sides"])]
        added = []
        for i in range(n):
            for j in range(n):
                if i != j:
                    added.append("%s._st <= %s._et + interval '%d microseconds'" % (
                        join["sides"][j]["alias"], join["sides"][i]["alias"], max(most[(i, j)], 0) + grace))
        null_rows = []
        if join["kind"] != "JOIN":
            for i, other in ((0, 1), (1, 0)):
                mine, its = join["sides"][i]["alias"], join["sides"][other]["alias"]
                null_rows.append("%s._et IS NOT NULL OR %s._et + interval '%d microseconds' < %s" % (its, mine, wait[i], watermark))
        # a sub-select in FROM needs a name of its own
        rels = ["%s%s" % (rel, "" if side["text"].startswith("{rel} {alias}") or re.search(r"rel} [sl]\b", side["text"]) else " r")
                for rel, side in zip(rels, join["sides"])]
        window = case["query"].get("window")
        text = join_text(join, rels, ["_et", "_st"], added, null_rows, case["query"]["aggregate"], window)
        result.append(window_reference(case, window, max([0] + list(most.values())), text, watermark) if window else text)
    return branches(case, result)


def late_text(case):
    """Coordinates of the late records of a query over whole streams, once each; None where filters make it unclear."""
    texts = []
    for join in case["query"]["parts"]:
        grace = case["grace"] * MINUTE
        most = {(i, j): m for i, j, m in join["bounds"]}
        n = len(join["sides"])
        for i, side in enumerate(join["sides"]):
            if side["text"] != "{rel} {alias}" or n != 2:
                return None
            wait = max([0] + [most[(i, j)] for j in range(n) if j != i]) + grace
            texts.append("SELECT '%s' AS s, _partition, _offset FROM ref_%s WHERE _st > _et + interval '%d microseconds'" % (
                side["stream"], side["stream"], wait))
        if join["where"] or any(len(cs) != 2 for _, cs in join["on"]):
            return None     # keys and other conditions keep records out that nobody misses
    return " UNION ".join(texts)
