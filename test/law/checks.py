"""Checks of single properties that random cases cannot reach."""
import threading
import time

import driver


def compare_and_set(db):
    """A batch whose position was moved under it must fail, and leave nothing behind."""
    ks, other = db.ks, db.ref
    if not ks.rows("SELECT 1 FROM pg_settings WHERE name = 'kstream.fault_points'"):
        return "not checked: the engine was built without fault points"
    ks.run("CREATE SCHEMA cas; SET search_path = cas")
    ks.run("SELECT kstream.create_stream('s', 'a int', server => 'local')")
    ks.run("SELECT kstream.create_table_as('r', 'SELECT count(*) AS n FROM s', paused => true)")
    ks.run("INSERT INTO s (a) SELECT 1 FROM generate_series(1, 9)")
    ks.run("SELECT kstream.step('r', 3)")
    ks.run("SET kstream.fault_points = 'after_state:sleep=1500'")

    def move():
        time.sleep(0.4)
        other.run("UPDATE kstream_catalog.position p SET next_offset = 6, records = 6 FROM kstream_catalog.query q"
                  " WHERE q.id = p.query AND q.relation = 'cas.r'::regclass")

    thread = threading.Thread(target=move)
    thread.start()
    state = None
    try:
        ks.run("SELECT kstream.step('r', 3)")
    except driver.psycopg2.Error as error:
        state = "40001" if "concurrently updated" in str(error) else error.pgcode
    thread.join()
    ks.run("SET kstream.fault_points = ''; RESET search_path")
    rows = other.rows("SELECT n FROM cas.r")
    ks.run("DROP SCHEMA cas CASCADE")
    if state is None or not state.startswith("40") or rows != [(3,)]:
        raise driver.Mismatch("a moved position was overwritten: SQLSTATE %s, table %s" % (state, rows))
    return "ok"


ALL = [compare_and_set]
