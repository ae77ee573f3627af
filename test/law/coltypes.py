"""Column types of the law test: how they are spelled, and values worth trying.

A type is ambiguous when two of its values can be equal and yet print
differently (1.0 and 1.00): such values may stand for each other in a result.
"""

NULL_SHARE = 0.1


class ColType:
    """One column type; klass says which expressions and aggregates fit it."""

    def __init__(self, name, sql, klass, values, ambiguous=False, key=True, equality=True):
        self.name = name
        self.sql = sql
        self.klass = klass
        self.values = values
        self.ambiguous = ambiguous
        self.key = key              # has a btree operator class
        self.equality = equality    # can be compared by EXCEPT

    def base(self):
        """The type without a collation clause, as a cast needs it."""
        return self.sql.split(" COLLATE ")[0]

    def literal(self, rng, few=False):
        """A value as an SQL literal with its type; sometimes NULL."""
        if rng.random() < NULL_SHARE:
            return "NULL"
        value = rng.choice(self.values[:4] if few else self.values)
        if value.startswith("="):
            return value[1:]
        return "'%s'::%s" % (value.replace("'", "''"), self.base())


LONG = ["=repeat('ac', 1250)", "=repeat('x', 3000)", "=repeat('yz', 6000)"]
LIMIT = ["=repeat('x', 2595)", "=repeat('x', 2596)", "=repeat('x', 2597)", "=repeat('y', 2600)"]
WORDS = ["a", "A", "b", "", "abc", "ABC", "1", "7", "-3", "x'y\"z", "ä", "Ä", "a ", "12.5", "2024-02-29", "t"]

TYPES = {t.name: t for t in [
    ColType("int2", "int2", "int", ["0", "1", "2", "3", "-1", "32767", "-32768"]),
    ColType("int4", "int4", "int", ["0", "1", "2", "3", "-1", "5", "7", "2147483647"]),
    ColType("int8", "int8", "int", ["0", "1", "2", "3", "-5", "9223372036854775807", "100"]),
    ColType("many", "int4", "int", [str(i) for i in range(150)]),
    ColType("num", "numeric", "num", ["1", "1.0", "1.00", "0", "-2.50", "3.1415926535897932384626", "NaN",
                                      "12345678901234567890.5", "0.00"], ambiguous=True),
    ColType("num2", "numeric(12,2)", "num", ["1", "2.5", "0", "-7.25", "1000000.99", "NaN"]),
    ColType("float8", "float8", "float", ["0", "-0", "1.5", "0.1", "-2.3", "NaN", "Infinity", "-Infinity", "1e10", "1e-10"],
            ambiguous=True),
    ColType("float4", "float4", "float", ["0", "1.5", "0.25", "-0", "NaN", "1e5"], ambiguous=True),
    ColType("text", "text", "text", WORDS),
    ColType("longtext", "text", "text", WORDS[:4] + LONG),
    ColType("limittext", "text", "text", WORDS[:4] + LIMIT),
    ColType("textc", 'text COLLATE "C"', "text", WORDS),
    ColType("textci", 'text COLLATE lk.ci', "text", WORDS, ambiguous=True),
    ColType("texticu", 'text COLLATE "und-x-icu"', "text", WORDS),
    ColType("varchar", "varchar(8)", "text", WORDS),
    ColType("bpchar", "char(5)", "text", ["a", "a ", "b", "", "abcde"], ambiguous=True),
    ColType("citext", "lk.citext", "citext", ["a", "A", "b", "", "Abc", "aBC"], ambiguous=True),
    ColType("name", "name", "name", ["a", "b", "c", ""]),
    ColType("bool", "bool", "bool", ["t", "f"]),
    ColType("date", "date", "date", ["2024-01-01", "2024-02-29", "1999-12-31", "infinity"]),
    ColType("ts", "timestamp", "ts", ["2024-01-01 00:00", "2024-02-29 12:34:56.789", "-infinity", "2024-01-01 01:00"]),
    ColType("tstz", "timestamptz", "ts", ["2024-01-01 00:00+00", "2024-06-30 22:00+02", "2024-06-30 20:00+00"]),
    ColType("time", "time", "time", ["00:00", "12:30", "23:59:59.5"]),
    ColType("interval", "interval", "interval", ["1 day", "24 hours", "1 mon", "30 days", "0", "-1 hour"], ambiguous=True),
    ColType("uuid", "uuid", "uuid", ["00000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff",
                                     "00000000-0000-0000-0000-000000000002"]),
    ColType("jsonb", "jsonb", "jsonb", ['{"a": 1, "b": [1, 2, 3]}', '{"a": 1.0, "b": [1, 2, 3]}', '[1, 2]', '"x"', "null",
                                        '{"a": "q", "b": []}', "3", '{}', '{"a": null}'], ambiguous=True),
    ColType("json", "json", "json", ['{"a": 1}', '{"a":1}', "[1, 2]", "null"], key=False, equality=False),
    ColType("ints", "int[]", "ints", ["{1,2}", "{}", "{3}", "{1,NULL,2}", "{5,5}"]),
    ColType("texts", "text[]", "texts", ["{a,b}", "{}", "{NULL}", '{"x,y",z,A}']),
    ColType("nums", "numeric[]", "arr", ["{1,2}", "{1.0,2.00}", "{}"], ambiguous=True),
    ColType("enum", "lk.mood", "enum", ["sad", "ok", "happy"]),
    ColType("comp", "lk.pair", "comp", ["(1,a)", "(1,b)", "(,)", "(2,A)"]),
    ColType("posint", "lk.posint", "int", ["1", "2", "3", "10"]),
    ColType("word", "lk.word", "text", ["a", "b", "cc", "A"]),
    ColType("bytea", "bytea", "bytea", ["\\x", "\\x00ff", "\\x61", "\\xdeadbeef"]),
    ColType("inet", "inet", "inet", ["10.0.0.1", "10.0.0.0/8", "::1", "192.168.1.0/24"]),
    ColType("int4range", "int4range", "range", ["[1,5)", "[3,8)", "empty", "[10,)", "(,0)"]),
    ColType("numrange", "numrange", "range", ["[1,2]", "[1.0,2.00]", "(0,1)", "empty"], ambiguous=True),
    ColType("multirange", "int4multirange", "multirange", ["{[1,3),[5,7)}", "{}", "{[2,6)}"]),
    ColType("varbit", "varbit", "bit", ["101", "", "1", "0011"]),
    ColType("oid", "oid", "oid", ["1", "2", "3"]),
    ColType("char1", '"char"', "char1", ["a", "b"]),
    ColType("point", "point", "point", ["(1,2)", "(0,0)"], key=False, equality=False),
]}

KEY_TYPES = [t for t in TYPES.values() if t.key]
