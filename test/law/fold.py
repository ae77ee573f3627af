"""The changes of a result table, put together again.

Each change must fit what the changes before it have left: an insert meets no row
of its key, an update and a delete meet the row they say they replace.  And all of
them together must leave exactly the rows of the table.
"""
import collections

import driver


class Fold:
    """The rows of one table by its changes; keyed: has it a key?"""

    def __init__(self, session, relation, keyed):
        self.session, self.relation, self.keyed = session, relation, keyed
        self.position = 0
        self.rows = {} if keyed else collections.Counter()

    def take(self, position, op, key, old, new):
        if position != self.position + 1:
            raise driver.Mismatch("%s: change %d follows on %d" % (self.relation, position, self.position))
        self.position = position
        if (old is None) != (op == "insert") or (new is None) != (op == "delete"):
            raise driver.Mismatch("%s: change %d is %s of %s to %s" % (self.relation, position, op, old, new))
        if self.keyed:
            if self.rows.get(key) != old:
                raise driver.Mismatch("%s: change %d replaces %s, but there is %s" % (self.relation, position, old, self.rows.get(key)))
            self.rows.pop(key, None)
            if new is not None:
                self.rows[key] = new
            return
        if old is not None:
            if self.rows[old] == 0:
                raise driver.Mismatch("%s: change %d replaces %s, which is not there" % (self.relation, position, old))
            self.rows[old] -= 1
        if new is not None:
            self.rows[new] += 1

    def check(self):
        """Takes the changes since the last time; compares with the table."""
        for change in self.session.rows("SELECT position, op, key::text, old::text, new::text FROM kstream.changes('%s', %d, max_rows => 1000000)"
                                        " ORDER BY position" % (self.relation, self.position)):
            self.take(*change)
        images = list(self.rows.values()) if self.keyed else list(self.rows.elements())
        self.session.cur.execute("SELECT jsonb_populate_record(NULL::%s, i::jsonb)::text FROM unnest(%%s::text[]) i" % self.relation, [images])
        folded = collections.Counter(r[0] for r in self.session.cur.fetchall())
        table = collections.Counter(r[0] for r in self.session.rows("SELECT t::text FROM %s t" % self.relation))
        if folded != table:
            raise driver.Mismatch("%s: its changes leave %s, which is not in the table, and not %s" % (
                self.relation, sorted((folded - table).elements())[:4], sorted((table - folded).elements())[:4]))
