#!/usr/bin/env python3
"""Drives the functions of kafka_test.c against a real broker; see run.sh.

Every test is a function test_*; it gets a fresh session.  With arguments only
the tests whose names contain one of them run; "speed" runs the measurements.
"""
import gc
import os
import subprocess
import sys
import threading
import time

import psycopg2

SCRATCH = os.environ["KT_SCRATCH"]
PG_PORT = os.environ["KT_PG_PORT"]
KAFKA_PORT = os.environ["KT_KAFKA_PORT"]
TOP = os.environ["KS_TOP"]
SASL = "127.0.0.1:" + os.environ["KT_SASL_PORT"]
BROKER = "127.0.0.1:" + KAFKA_PORT
KAFKACTL = os.path.join(os.environ["KS_CACHE"], "kafka", "kafkactl")
PRODUCE = os.path.join(SCRATCH, "build", "kafka_produce")

passed = failed = 0
counting = threading.Lock()


def check(name, good, detail=""):
    """Counts one check, and shows it if it failed."""
    global passed, failed
    with counting:
        if good:
            passed += 1
        else:
            failed += 1
            print("FAILED %s: %s" % (name, detail))


def equal(name, got, want):
    """Checks that two values are the same."""
    check(name, got == want, "got %r, wanted %r" % (got, want))


def broker(verb):
    """start, stop, kill, freeze, thaw."""
    subprocess.run([TOP + "/test/kafka/broker.sh", verb, SCRATCH + "/broker", KAFKA_PORT],
                   check=True, stdout=subprocess.DEVNULL)


def kafkactl(*args):
    """Runs the rig's Kafka tool; again where a broker that has just started knows no controller yet."""
    for attempt in range(3):
        done = subprocess.run([KAFKACTL, BROKER] + [str(a) for a in args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        sys.stderr.write(done.stderr)
        if "waiting for controller" not in done.stderr:
            break
    done.check_returncode()


def produce(topic, part, count, size=100, mode="plain", *rate):
    """Produces records."""
    subprocess.run([PRODUCE, BROKER, topic] + [str(a) for a in (part, count, size, mode) + rate],
                   check=True)


class Session:
    """A connection and short names for what the tests do with it."""

    def __init__(self, user="postgres", server=None):
        self.conn = psycopg2.connect(host=SCRATCH + "/pg", port=PG_PORT, user=user, dbname="postgres")
        self.conn.autocommit = True
        if server:
            self.one("SELECT kt_open(%s)", server)

    def rows(self, sql, *args):
        """All rows of a query."""
        with self.conn.cursor() as cur:
            cur.execute(sql, args or None)
            return cur.fetchall() if cur.description else []

    def one(self, sql, *args):
        """The only value of a query."""
        rows = self.rows(sql, *args)
        return rows[0][0] if rows else None

    def error(self, sql, *args):
        """The error a statement raises, or None."""
        try:
            self.rows(sql, *args)
        except psycopg2.Error as e:
            return e
        return None

    def assign(self, topic, part, offset):
        """Assigns a partition."""
        self.one("SELECT kt_assign(%s, %s, %s)", topic, part, offset)

    def poll(self, max_events=10000, max_bytes=0, timeout=0):
        """Polls once: rows (kind, topic, part, offset, code, message, key, value, ts, headers)."""
        return self.rows("SELECT kind, topic, part, \"offset\", code, message, key, value, ts::text, headers "
                         "FROM kt_poll(%s, %s, %s)", max_events, max_bytes, timeout)

    def until(self, done, seconds=15, **poll):
        """Polls until done(events) is true; all events."""
        events = []
        end = time.time() + seconds
        while time.time() < end:
            events += self.poll(timeout=200, **poll)
            if done(events):
                break
        return events

    def until_eof(self, parts=1, seconds=15, **poll):
        """Polls until so many EOF events have come."""
        return self.until(lambda ev: len([e for e in ev if e[0] == "eof"]) >= parts, seconds, **poll)

    def until_error(self, seconds=15):
        """Polls until an error event has come; all events."""
        return self.until(lambda ev: any(e[0] == "error" for e in ev), seconds)


def records(events):
    """The records of a list of events."""
    return [e for e in events if e[0] == "record"]


def make_server(name="kafka", options="", boot=None):
    """A foreign server on the broker."""
    admin = Session()
    admin.rows("DROP SERVER IF EXISTS %s CASCADE" % name)
    admin.rows("CREATE SERVER %s FOREIGN DATA WRAPPER kt OPTIONS (bootstrap_servers '%s'%s)"
               % (name, boot or BROKER, ", " + options if options else ""))
    admin.conn.close()


# --- properties and options ------------------------------------------------

def test_properties_are_classified():
    s = Session()
    shown = [line.split("|")[0].strip() for line in s.one("SELECT kt_linked_properties()").splitlines()
             if line.count("|") >= 5 and not line.startswith(("Property", "-"))]
    check("properties: the library shows some", len(shown) > 120, len(shown))
    for name in sorted(set(shown)):
        got = s.one("SELECT kt_class(%s)", name.replace(".", "_"))
        check("class of " + name, got != "unknown", got)
    names = s.one("SELECT kt_table_names()").split()
    equal("properties: no name twice", sorted(names), sorted(set(names)))


def test_property_classes():
    s = Session()
    want = {
        "forbidden": "plugin_library_paths ssl_engine_location ssl_providers sasl_kerberos_kinit_cmd sasl_kerberos_principal "
                     "interceptors log_cb opaque ut_handle_ProduceResponse internal_termination_signal test_mock_num_brokers "
                     "offset_store_path offset_store_method ssl_ca",
        "server_file": "ssl_key_location ssl_ca_location ssl_keystore_location https_ca_location sasl_oauthbearer_assertion_file",
        "superuser": "enable_ssl_certificate_verification ssl_endpoint_identification_algorithm "
                     "enable_sasl_oauthbearer_unsecure_jwt debug sasl_oauthbearer_token_endpoint_url",
        "secret": "sasl_username sasl_password ssl_key_pem ssl_key_password sasl_oauthbearer_client_secret",
        "fixed": "group_id enable_auto_commit auto_offset_reset isolation_level check_crcs transactional_id log_queue",
        "allowed": "bootstrap_servers client_id security_protocol sasl_mechanism ssl_ca_pem fetch_min_bytes linger_ms",
        "unknown": "bootstrap.servers nonsense bootstrap_server",
    }
    for cls, names in want.items():
        for name in names.split():
            equal("class of " + name, s.one("SELECT kt_class(%s)", name), cls)


def refused(session, kind, option, value, state, *parts):
    """Checks that an option is refused, with words in the message, detail or hint."""
    sql = {"server": "CREATE SERVER bad FOREIGN DATA WRAPPER kt OPTIONS (%s '%s')",
           "mapping": "CREATE USER MAPPING FOR CURRENT_USER SERVER kafka OPTIONS (%s '%s')"}[kind]
    e = session.error(sql % (option, value))
    name = "%s option %s" % (kind, option)
    if e is None:
        check(name, False, "was taken")
        session.rows("DROP SERVER IF EXISTS bad" if kind == "server"
                     else "DROP USER MAPPING FOR CURRENT_USER SERVER kafka")
        return
    equal(name + " state", e.pgcode, state)
    whole = str(e)
    for part in parts:
        check("%s says %s" % (name, part), part in whole, whole)
    if "secret" in value.lower():
        check(name + " hides the value", value not in whole, whole)


def test_validator():
    make_server()
    su, plain, reader = Session(), Session("plain"), Session("reader")
    for s in (su, plain):
        refused(s, "server", "bootstrap_server", "a:1", "HV00D", "HINT", "bootstrap_servers")
        refused(s, "server", "sasl_mecanism", "PLAIN", "HV00D", "sasl_mechanism")
        refused(s, "server", "qwertzuiop", "x", "HV00D", "librdkafka")
        refused(s, "server", "plugin_library_paths", "/nonexistent.so", "HV00D", "not allowed")
        refused(s, "server", "ut_handle_ProduceResponse", "1", "HV00D")
        refused(s, "server", "group_id", "g", "HV00D", "cannot be set")
        refused(s, "server", "sasl_mechanism", "GSSAPI", "HV024", "SCRAM-SHA-256")
        refused(s, "server", "security_protocol", "telnet", "HV024", "telnet")
        refused(s, "server", "fetch_wait_max_ms", "abc", "HV024")
        refused(s, "server", "socket_send_buffer_bytes", "99999999", "HV024", "between 0 and 16777216")
        refused(s, "server", "sasl_password", "Secret-4711", "HV00D", "CREATE USER MAPPING")
        refused(s, "server", "sasl_username", "Secret-4711", "HV00D", "CREATE USER MAPPING")
    refused(su, "mapping", "bootstrap_servers", "a:1", "HV00D", "CREATE SERVER")
    refused(su, "mapping", "sasl_pasword", "Secret-4711", "HV00D", "sasl_password")
    refused(plain, "server", "ssl_ca_location", "/etc/passwd", "42501", "pg_read_server_files", "_pem")
    refused(plain, "server", "enable_ssl_certificate_verification", "false", "42501")
    refused(reader, "server", "debug", "all", "42501")
    equal("pg_read_server_files may name files",
          reader.error("CREATE SERVER filed FOREIGN DATA WRAPPER kt OPTIONS (ssl_ca_location '/nonexistent')"), None)
    equal("superuser may weaken security",
          su.error("CREATE SERVER weak FOREIGN DATA WRAPPER kt OPTIONS (enable_ssl_certificate_verification 'false')"), None)
    equal("plain user may make a server",
          plain.error("CREATE SERVER fine FOREIGN DATA WRAPPER kt OPTIONS (bootstrap_servers 'a:1', fetch_min_bytes '1')"), None)
    equal("no option is required", plain.error("CREATE SERVER empty FOREIGN DATA WRAPPER kt"), None)
    su.rows("CREATE SERVER clear FOREIGN DATA WRAPPER kt OPTIONS (security_protocol 'sasl_plaintext', sasl_mechanism 'PLAIN')")
    check("password in the clear warns", any("in the clear" in n for n in su.conn.notices), su.conn.notices)
    su.rows("DROP SERVER filed, weak, fine, empty, clear")


def test_connect_time_checks():
    admin = Session()
    admin.rows("DROP SERVER IF EXISTS local, sasl CASCADE; CREATE SERVER local FOREIGN DATA WRAPPER kt")
    e = admin.error("SELECT kt_open('local')")
    check("a server without a broker is refused", e is not None and "no Kafka broker" in str(e), e)
    make_server("sasl", "security_protocol 'sasl_ssl'")
    e = admin.error("SELECT kt_open('sasl')")
    check("SASL without a mechanism is refused", e is not None and "sasl_mechanism" in str(e), e)
    make_server("sasl", "ssl_ca_pem 'Secretly no certificate', security_protocol 'ssl'")
    e = admin.error("SELECT kt_open('sasl')")
    check("a bad certificate is an error", e is not None and e.pgcode == "HV00N", e)
    equal("nothing is left alive", admin.one("SELECT kt_live()"), 0)


def test_secrets_stay_secret():
    make_server("sasl", "security_protocol 'sasl_plaintext', sasl_mechanism 'SCRAM-SHA-256', debug 'all'")
    s = Session()
    s.rows("CREATE USER MAPPING FOR PUBLIC SERVER sasl OPTIONS (sasl_username 'Ursula-Secret', sasl_password 'Pass-Secret')")
    s.one("SELECT kt_open('sasl')")
    equal("secrets are blanked", s.one("SELECT kt_clean_text(%s)", "a Pass-Secret b Ursula-Secret\x01\u00e9 c"),
          "a *********** b *************??? c")
    equal("text is cut", len(s.one("SELECT kt_clean_text(repeat('y', 5000))")), 1024)
    s.assign("any", 0, 0)
    s.until(lambda ev: False, 3)
    e = s.error("SELECT kt_partition_count('any', 500)")
    check("request on a broker without SASL fails", e is not None, e)
    check("secrets are not in its text", "Secret" not in str(e), e)
    check("the reason is not either", "Secret" not in (s.one("SELECT kt_down()") or ""))
    s.one("SELECT kt_close()")
    with open(SCRATCH + "/pg/log") as log:
        text = "".join(line for line in log if "STATEMENT" not in line and "CREATE USER MAPPING" not in line)
    check("the library's log comes to the server's log", "Kafka client \"test\"" in text, text[-2000:])
    check("without secrets", "Pass-Secret" not in text and "Ursula-Secret" not in text)
    lines = [l for l in text.splitlines() if "Kafka client" in l]
    check("and not too much of it", len(lines) < 40, len(lines))
    Session().rows("DROP SERVER sasl CASCADE")


# --- reading -----------------------------------------------------------------

def test_read_all():
    kafkactl("create", "all", 4)
    produce("all", -1, 20000)
    s = Session(server="kafka")
    for part in range(4):
        s.assign("all", part, 0)
    events = s.until_eof(4)
    equal("all records of four partitions", len(records(events)), 20000)
    for part in range(4):
        mine = [e for e in events if e[2] == part]
        equal("order in partition %d" % part, [e[3] for e in records(mine)], list(range(5000)))
        equal("end of partition %d" % part, mine[-1][0:4], ("eof", "all", part, 5000))
    numbers = sorted(int(e[7].split()[1]) for e in records(events))
    equal("every value once", numbers, list(range(20000)))
    equal("cached end", s.one("SELECT kt_cached_end('all', 2)"), 5000)
    # From offsets, as after a restart.
    s = Session(server="kafka")
    for part in range(4):
        s.assign("all", part, 4000 + part)
    events = s.until_eof(4)
    for part in range(4):
        equal("restart of partition %d" % part, [e[3] for e in records(events) if e[2] == part],
              list(range(4000 + part, 5000)))


def test_wake_up():
    kafkactl("create", "wake", 1)
    s = Session(server="kafka")
    s.assign("wake", 0, 0)
    equal("end of an empty partition", [e[0:4] for e in s.until_eof()], [("eof", "wake", 0, 0)])
    for i in range(5):
        while s.poll():
            pass
        s.one("SELECT kt_wait_event(0)")
        timer = threading.Timer(0.3, produce, ("wake", 0, 1))
        timer.start()
        woken = s.one("SELECT kt_wait_event(5000)")
        # Statistics wake as well: what counts is that records do not wait.
        while woken >= 0 and not (got := records(s.poll())):
            woken = s.one("SELECT kt_wait_event(5000)")
        check("woken by a record (%d)" % i, woken >= 0 and got[0][3] == i, (woken, got))
        timer.join()
    start = time.time()
    s.poll()
    check("an empty poll does not wait", time.time() - start < 0.1)
    start = time.time()
    equal("a poll with a time-out waits", s.until_eof(9, 0.1) and 0 or len(s.poll(timeout=700)), 0)
    check("as long as it should", 0.6 < time.time() - start < 2, time.time() - start)


def test_limits():
    kafkactl("create", "limits", 1)
    produce("limits", 0, 3000, 1000)
    s = Session(server="kafka")
    s.assign("limits", 0, 0)
    time.sleep(1)
    equal("greatest number of events", len(s.poll(7)), 7)
    s.poll(500)
    sizes = [sum(len(e[7]) for e in s.poll(10000, 50000)) for _ in range(4)]
    check("greatest number of bytes, nearly", all(30000 < n < 70000 for n in sizes), sizes)
    equal("one event at least", len(s.poll(10000, 1)), 1)
    rest = records(s.until_eof())
    equal("no record lost by limits", rest[-1][3], 2999)


def test_seek():
    kafkactl("create", "seek", 2)
    produce("seek", 0, 2000)
    produce("seek", 1, 10)
    s = Session(server="kafka")
    s.assign("seek", 0, 0)
    s.assign("seek", 1, 5)
    s.until_eof(2)
    for offset in (0, 1500, 3, 1999, 2000, 700):
        s.assign("seek", 0, offset)
        events = s.until_eof()
        equal("seek to %d" % offset, [e[3] for e in records(events)], list(range(offset, 2000)))
    # Again and again while records are under way: nothing stale comes through.
    for i in range(60):
        offset = (i * 37) % 1900
        s.assign("seek", 0, offset)
        if i % 3:
            time.sleep(0.004 * (i % 7))
        events = s.until(lambda ev: len(records(ev)) >= 5, 10, max_events=5)
        equal("seek under way %d" % i, [e[3] for e in records(events)][:5], list(range(offset, offset + 5)))
    s.one("SELECT kt_unassign('seek', 0)")
    produce("seek", 0, 10)
    produce("seek", 1, 10)
    events = s.until(lambda ev: len(records(ev)) >= 10)
    equal("only the other partition after unassign", sorted(set(e[2] for e in events)), [1])
    equal("which goes on", [e[3] for e in records(events)], list(range(10, 20)))


def test_pause():
    kafkactl("create", "pause", 2)
    produce("pause", 0, 30000)
    produce("pause", 1, 30000)
    s = Session(server="kafka")
    s.assign("pause", 0, 0)
    s.assign("pause", 1, 0)
    events = s.until(lambda ev: len(records(ev)) > 3000, max_events=1000)
    for _ in range(5):
        s.one("SELECT kt_pause('pause', 0, true)")
        during = s.until(lambda ev: False, 0.5, max_events=1000)
        equal("nothing of a paused partition", [e for e in during if e[2] == 0], [])
        events += during
        s.one("SELECT kt_pause('pause', 0, false)")
        events += s.until(lambda ev: len(records(ev)) > 1000, 5, max_events=1000)
    eofs = len([e for e in events if e[0] == "eof"])
    events += s.until_eof(2 - eofs) if eofs < 2 else []
    for part in range(2):
        equal("all records in spite of pauses %d" % part,
              [e[3] for e in records(events) if e[2] == part], list(range(30000)))
    s.one("SELECT kt_pause('pause', 1, true)")
    s.assign("pause", 1, 29990)
    equal("assign ends a pause", len(records(s.until_eof())), 10)


def test_transactions():
    kafkactl("create", "txn", 1)
    produce("txn", 0, 100, 100, "commit")
    produce("txn", 0, 50, 100, "abort")
    s = Session(server="kafka")
    s.assign("txn", 0, 0)
    events = s.until_eof()
    equal("only committed records", [e[3] for e in records(events)], list(range(100)))
    equal("the end is behind the markers", events[-1][3], 152)
    equal("which is the end of the topic", s.one("SELECT kt_offsets('txn', 0, 5000)"), "0 152")
    produce("txn", 0, 10, 100, "commit")
    events = s.until_eof()
    equal("the next ones", [e[3] for e in records(events)], list(range(152, 162)))
    produce("txn", 0, 10, 100, "open")
    produce("txn", 0, 10)
    time.sleep(0.5)
    equal("nothing behind an open transaction", records(s.until(lambda ev: False, 1)), [])
    equal("whose start is the end", s.one("SELECT kt_offsets('txn', 0, 5000)"), "0 163")


def test_record_shapes():
    kafkactl("create", "shapes", 1)
    produce("shapes", 0, 0, 0, "shapes")
    s = Session(server="kafka")
    s.assign("shapes", 0, 0)
    got = records(s.until_eof())
    equal("shapes: key and value", [(e[6], e[7]) for e in got],
          [("k1", "v1"), ("k2", None), ("", ""), (None, "late")])
    equal("shapes: headers", [e[9] for e in got], [["h1=one", "h2=(null)", "h1=two"], [], [], []])
    s = Session(server="kafka")
    s.assign("shapes", 0, 0)
    time.sleep(1)
    equal("shapes: times", [r[0] for r in s.rows(
        "SELECT extract(epoch FROM ts)::text FROM kt_poll(3, 0, 3000)")][0], "1700000000.123000")
    s.assign("shapes", 0, 3)
    far = s.one("SELECT ts::text FROM kt_poll(1, 0, 5000)")
    check("shapes: a time far away", far.startswith("294246") or far.startswith("294247"), far)


# --- errors --------------------------------------------------------------------

def test_out_of_range():
    kafkactl("create", "range", 1)
    produce("range", 0, 100)
    s = Session(server="kafka")
    s.assign("range", 0, 500)
    last = s.until_error()[-1]
    equal("beyond the end", last[0:5], ("error", "range", 0, 500, "out_of_range"))
    equal("nothing follows an error", s.until(lambda ev: False, 0.7), [])
    s.assign("range", 0, 90)
    equal("reading again after it", [e[3] for e in records(s.until_eof())], list(range(90, 100)))
    kafkactl("delete-records", "range", 0, 50)
    s.assign("range", 0, 10)
    equal("before the start", s.until_error()[-1][3:5], (10, "out_of_range"))
    equal("start and end", s.one("SELECT kt_offsets('range', 0, 5000)"), "50 100")
    # An error of an old assignment does not hit the new one.
    for _ in range(20):
        s.assign("range", 0, 10)
        s.assign("range", 0, 60)
        events = s.until_eof()
        equal("no stale error", [e[0] for e in events if e[0] == "error"], [])
        equal("no stale record", events[0][3], 60)


def test_missing_topic():
    s = Session(server="kafka")
    start = time.time()
    s.assign("missing", 0, 0)
    last = s.until_error(10)[-1:]
    equal("missing topic", [(e[0], e[4]) for e in last], [("error", "topic_missing")])
    check("is noticed soon", time.time() - start < 6, time.time() - start)
    kafkactl("create", "one", 1)
    s.assign("one", 3, 0)
    equal("missing partition", [(e[0], e[2], e[4]) for e in s.until_error(10)[-1:]], [("error", 3, "topic_missing")])
    equal("missing topic has no partitions", s.one("SELECT kt_partition_count('missing', 5000)"), 0)
    e = s.error("SELECT kt_offsets('missing', 0, 3000)")
    check("offsets of a missing topic", e is not None and e.pgcode == "42704", e)
    e = s.error("SELECT kt_partition_count('not/valid', 3000)")
    check("invalid name", e is not None and e.pgcode == "42704", e)
    # Created later: assigned again, it is read.
    kafkactl("create", "missing", 1)
    produce("missing", 0, 5)
    s.assign("missing", 0, 0)
    equal("created later", len(records(s.until_eof())), 5)
    kafkactl("delete", "missing")
    start = time.time()
    last = s.until_error(30)[-1:]
    equal("deleted topic", [(e[0], e[4]) for e in last], [("error", "topic_missing")])
    check("is noticed in time", time.time() - start < 25, time.time() - start)


def test_corrupt():
    kafkactl("create", "corrupt", 2)
    for part in (0, 1):
        for _ in range(3):
            produce("corrupt", part, 10)
    broker("stop")
    name = SCRATCH + "/broker/data/corrupt-0/00000000000000000000.log"
    with open(name, "r+b") as f:
        data = f.read()
        at = 0
        while int.from_bytes(data[at:at + 8], "big") < 10:
            at += 12 + int.from_bytes(data[at + 8:at + 12], "big")
        at += (12 + int.from_bytes(data[at + 8:at + 12], "big")) // 2    # within the batch that begins with offset 10
        f.seek(at)
        f.write(bytes([data[at] ^ 0x55]))
    broker("start")
    s = Session(server="kafka")
    s.assign("corrupt", 0, 0)
    s.assign("corrupt", 1, 0)
    events = s.until_error()
    equal("records before the damage", [e[3] for e in records(events) if e[2] == 0], list(range(10)))
    equal("the damage", [e[2:5] for e in events if e[0] == "error"], [(0, 10, "corrupt")])
    events += s.until(lambda ev: False, 1)
    equal("nothing behind it", [e[3] for e in records(events) if e[2] == 0], list(range(10)))
    equal("the other partition goes on", [e[3] for e in records(events) if e[2] == 1], list(range(30)))
    s.assign("corrupt", 0, 10)
    again = [e[2:5] for e in s.until_error()]
    # A broker that was not stopped in time recovers its log and cuts it at the damage: an error as well.
    if again != [(0, 10, "out_of_range")]:
        equal("again when tried again", again, [(0, 10, "corrupt")])
    s.assign("corrupt", 0, 20)
    behind = [(e[0], e[3], e[4]) for e in s.until_eof()]
    if behind != [("error", 20, "out_of_range")]:
        equal("but not behind it", behind, [("record", i, "ok") for i in range(20, 30)] + [("eof", 30, "ok")])


# --- requests --------------------------------------------------------------------

def test_requests():
    s = Session(server="kafka")
    equal("create a topic", s.one("SELECT kt_create('kafka', 'made', 3, 1, 10000)"), True)
    equal("create it again", s.one("SELECT kt_create('kafka', 'made', 3, 1, 10000)"), False)
    equal("with the broker's defaults", s.one("SELECT kt_create('kafka', 'made2', -1, -1, 10000)"), True)
    # the broker may know of a topic a little later than the controller that made it
    for name, topic, count in (("partitions", "made", 3), ("partitions by default", "made2", 4)):
        end = time.time() + 10
        while s.one("SELECT kt_partition_count(%s, 5000)", topic) == 0 and time.time() < end:
            time.sleep(0.1)
        equal(name, s.one("SELECT kt_partition_count(%s, 5000)", topic), count)
    e = s.error("SELECT kt_create('kafka', 'made3', 1, 7, 10000)")
    check("too many replicas", e is not None and e.pgcode == "22023", e)
    e = s.error("SELECT kt_create('kafka', 'bad/name', 1, 1, 10000)")
    check("bad name", e is not None, e)
    s.assign("made", 0, 0)
    kafkactl("partitions", "made", 5)
    equal("new partitions", s.one("SELECT kt_partition_count('made', 5000)"), 5)
    produce("made", 4, 7)
    s.assign("made", 4, 0)
    got = s.until(lambda ev: len(records(ev)) >= 7)
    equal("are read", len(records(got)), 7)
    check("cluster id", len(s.one("SELECT kt_cluster_id(5000)")) > 10)
    equal("no handle but ours", s.one("SELECT kt_live()"), 1)


def test_offsets_by_time():
    kafkactl("create", "times", 1)
    produce("times", 0, 0, 0, "shapes")
    s = Session(server="kafka")
    for at, want in (("-infinity", 0), ("1960-01-01", 0), ("2023-11-14 22:13:20.123+00", 0),
                     ("2023-11-14 22:13:20.1231+00", 1), ("294000-01-01", 3), ("infinity", 4)):
        equal("offset at " + at, s.one("SELECT kt_offset_for_time('times', 0, %s)", at), want)
    kafkactl("create", "times2", 1)
    produce("times2", 0, 10)
    equal("later than all", s.one("SELECT kt_offset_for_time('times2', 0, now() + '1 day')"), 10)


def test_fingerprint():
    kafkactl("create", "seam", 1)
    produce("seam", 0, 100)
    produce("seam", 0, 10, 100, "commit")
    s = Session(server="kafka")
    first = s.one("SELECT kt_fingerprint('seam', 0, 42)")
    equal("finds the record", first.split()[0], "42")
    equal("is stable", s.one("SELECT kt_fingerprint('seam', 0, 42)"), first)
    check("differs between records", s.one("SELECT kt_fingerprint('seam', 0, 43)").split()[1] != first.split()[1])
    equal("at a marker: nothing behind it", s.one("SELECT kt_fingerprint('seam', 0, 110)"), None)
    equal("at the end", s.one("SELECT kt_fingerprint('seam', 0, 111)"), None)
    equal("beyond the end", s.one("SELECT kt_fingerprint('seam', 0, 5000)"), None)
    produce("seam", 0, 1)
    equal("at a marker: the next one", s.one("SELECT kt_fingerprint('seam', 0, 110)").split()[0], "111")
    s.assign("seam", 0, 42)
    equal("the same through the consumer", s.one("SELECT kt_polled_fingerprint()"), first)
    equal("while the partition is read", s.one("SELECT kt_fingerprint('seam', 0, 42)"), first)
    equal("which goes on undisturbed", [e[3] for e in records(s.until_eof())][:3], [43, 44, 45])
    check("one more handle at most", s.one("SELECT kt_live()") <= 2)
    start = time.time()
    for i in range(50):
        s.one("SELECT kt_fingerprint('seam', 0, %s)", i)
    check("looks are quick", time.time() - start < 2, time.time() - start)
    time.sleep(5.2)
    s.poll()
    time.sleep(0.3)
    equal("the second handle goes when idle", s.one("SELECT kt_live()"), 1)
    other = Session(server="kafka")
    equal("the same in another session", other.one("SELECT kt_fingerprint('seam', 0, 42)"), first)
    kafkactl("delete-records", "seam", 0, 50)
    equal("deleted record", other.one("SELECT kt_fingerprint('seam', 0, 42)"), None)


# --- life and death ----------------------------------------------------------------

def test_clean_up():
    kafkactl("create", "clean", 1)
    produce("clean", 0, 1000)
    s = Session()
    for _ in range(5):
        e = s.error("SELECT kt_open_and_fail('kafka', 'clean')")
        check("fails on purpose", "on purpose" in str(e), e)
        equal("handle is gone after an error", s.one("SELECT kt_live()"), 0)
    check("batch held over a close", s.one("SELECT kt_close_before_free('kafka', 'clean')") > 0)
    equal("handle is gone after that", s.one("SELECT kt_live()"), 0)
    gc.collect()  # what earlier tests have let go of is closed now
    # Sessions that end with living handles end well: the server notices a crash.
    for i in range(15):
        t = Session(server="kafka")
        t.assign("clean", 0, 0)
        if i % 2:
            t.poll(timeout=300)
        if i % 3 == 0:
            t.conn.close()
        else:
            s.one("SELECT pg_terminate_backend(%s)", t.conn.get_backend_pid())
    end = time.time() + 10
    while time.time() < end and s.one("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'") > 1:
        time.sleep(0.1)
    equal("all sessions have ended", s.one(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"), 1)
    with open(SCRATCH + "/pg/log") as log:
        text = log.read()
    check("no session crashed", "was terminated by signal" not in text and "exited with exit code" not in text)


def test_cancel():
    s = Session()
    make_server("nowhere", boot="127.0.0.1:1")
    s.one("SELECT kt_open('nowhere')")
    s.rows("SET statement_timeout = 300")
    for sql in ("SELECT kt_partition_count('t', 20000)", "SELECT kt_offsets('t', 0, 20000)",
                "SELECT kt_cluster_id(20000)", "SELECT count(*) FROM kt_poll(10, 0, 20000)",
                "SELECT kt_create('nowhere', 't', 1, 1, 20000)", "SELECT kt_fingerprint('t', 0, 0)"):
        start = time.time()
        e = s.error(sql)
        check("cancelled: " + sql, e is not None and e.pgcode == "57014", e)
        check("in time: " + sql, time.time() - start < 2.5, time.time() - start)
    s.rows("RESET statement_timeout")
    e = s.error("SELECT kt_partition_count('t', 1500)")
    check("no broker: state", e is not None and e.pgcode == "08006", e)
    check("no broker: hint", e is not None and "bootstrap_servers" in str(e), e)
    check("no broker: reason", e is not None and "refused" in str(e), e)
    check("broker_down says so", "refused" in (s.one("SELECT kt_down()") or ""), s.one("SELECT kt_down()"))
    check("closing is quick", s.one("SELECT kt_close()") < 1700)


def slowest(session, seconds):
    """Greatest time of one poll in milliseconds, over some seconds of polling."""
    return float(session.one("SELECT kt_drain(10000, 999, %s)", seconds).split()[4])


def test_broker_killed():
    kafkactl("create", "killed", 1)
    produce("killed", 0, 1000)
    s = Session(server="kafka")
    s.assign("killed", 0, 0)
    s.until_eof()
    equal("broker is up", s.one("SELECT kt_down()"), None)
    broker("kill")
    check("polls do not wait for a dead broker", slowest(s, 3) < 100)
    check("it is seen to be down", s.one("SELECT kt_down()") is not None)
    equal("no event tells of it", s.poll(), [])
    t = Session(server="kafka")
    t.assign("killed", 0, 0)
    check("closing without a broker is quick", t.one("SELECT kt_close()") < 1700)
    broker("start")
    produce("killed", 0, 10)
    events = s.until(lambda ev: len(records(ev)) >= 10, 20)
    equal("goes on after the restart", [e[3] for e in records(events)], list(range(1000, 1010)))
    equal("and is up", s.one("SELECT kt_down()"), None)
    # Up again is noticed without any record, too.
    broker("kill")
    slowest(s, 3)
    check("down again", s.one("SELECT kt_down()") is not None)
    broker("start")
    end = time.time() + 15
    while time.time() < end and s.one("SELECT kt_down()") is not None:
        time.sleep(0.2)
    equal("up again, idle", s.one("SELECT kt_down()"), None)


def test_broker_frozen():
    kafkactl("create", "frozen", 1)
    produce("frozen", 0, 200000, 170)
    s = Session(server="kafka")
    s.assign("frozen", 0, 0)
    events = s.poll(1000, 0, 5000)
    broker("freeze")
    try:
        check("polls do not wait for a frozen broker", slowest(s, 2) < 100)
        t = Session(server="kafka")
        t.assign("frozen", 0, 0)
        e = t.error("SELECT kt_partition_count('frozen', 1500)")
        check("a request times out", e is not None and e.pgcode == "08006", e)
        ms = t.one("SELECT kt_close()")
        check("destroying a connecting client takes <= 2 s", ms < 2000, ms)
        start = time.time()
        s.assign("frozen", 0, 5)
        s.one("SELECT kt_pause('frozen', 0, true)")
        s.one("SELECT kt_unassign('frozen', 0)")
        check("assign, pause, unassign do not wait", time.time() - start < 0.5, time.time() - start)
        for sql in ("SELECT kt_offsets('frozen', 0, 1200)", "SELECT kt_offset_for_time('frozen', 0, now())",
                    "SELECT kt_cluster_id(10)", "SELECT kt_fingerprint('frozen', 0, 3)"):
            s.rows("SET statement_timeout = 1000")
            start = time.time()
            s.error(sql)
            check("frozen, cancelled in time: " + sql, time.time() - start < 2.3, time.time() - start)
        s.rows("RESET statement_timeout")
        s.assign("frozen", 0, 0)
        ms = s.one("SELECT kt_close()")
        check("destroying a reading client takes <= 2 s", ms < 2000, ms)
        u = Session(server="kafka")
        u.assign("frozen", 0, 0)
        start = time.time()
        pid = u.conn.get_backend_pid()
        u.conn.close()
        admin = Session()
        while admin.one("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", pid) and time.time() < start + 10:
            time.sleep(0.05)
        check("a session with a frozen broker ends in time", time.time() - start < 3, time.time() - start)
    finally:
        broker("thaw")
    check("some records came before", len(records(events)) > 0)


# --- login -----------------------------------------------------------------------

def add_sasl_listener():
    """Gives the broker a second listener with users alice and bob, and permissions to alice's topic."""
    broker("stop")
    path = SCRATCH + "/broker/server.properties"
    with open(path) as f:
        lines = f.read().splitlines()
    with open(path, "w") as f:
        for line in lines:
            if line.startswith(("listeners=", "advertised.listeners=")):
                line += ",SASL_PLAINTEXT://" + SASL
            elif line.startswith("listener.security.protocol.map="):
                line += ",SASL_PLAINTEXT:SASL_PLAINTEXT"
            f.write(line + "\n")
        f.write("sasl.enabled.mechanisms=PLAIN\n"
                "listener.name.sasl_plaintext.plain.sasl.jaas.config="
                "org.apache.kafka.common.security.plain.PlainLoginModule required "
                "user_alice=\"alice-Secret\" user_bob=\"bob-Secret\";\n"
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
                "super.users=User:ANONYMOUS;User:alice\n")
    broker("start")


def test_login():
    kafkactl("create", "private", 1)
    produce("private", 0, 10)
    add_sasl_listener()
    make_server("sasl", "security_protocol 'sasl_plaintext', sasl_mechanism 'PLAIN'", SASL)
    admin = Session()

    def login(user, password):
        """A session as that user of the broker."""
        admin.rows("DROP USER MAPPING IF EXISTS FOR postgres SERVER sasl")
        admin.rows("CREATE USER MAPPING FOR postgres SERVER sasl OPTIONS (sasl_username '%s', sasl_password '%s')"
                   % (user, password))
        return Session(server="sasl")

    s = login("alice", "alice-Secret")
    s.assign("private", 0, 0)
    equal("alice reads", len(records(s.until_eof())), 10)
    check("her second client logs in as well", s.one("SELECT kt_fingerprint('private', 0, 5)") is not None)
    equal("alice creates", s.one("SELECT kt_create('sasl', 'alices', 1, 1, 10000)"), True)

    s = login("bob", "bob-Secret")
    s.assign("private", 0, 0)
    last = s.until_error()[-1:]
    equal("bob may not read", [e[4] for e in last], ["denied"])
    for sql in ("SELECT kt_partition_count('private', 3000)", "SELECT kt_offsets('private', 0, 3000)",
                "SELECT kt_create('sasl', 'bobs', 1, 1, 10000)", "SELECT kt_fingerprint('private', 0, 5)"):
        e = s.error(sql)
        check("bob: " + sql, e is not None and e.pgcode == "42501", e)
        check("bob: no secret", "Secret" not in str(e), e)

    s = login("alice", "wrong-Secret")
    s.assign("private", 0, 0)
    s.until(lambda ev: False, 3)
    why = s.one("SELECT kt_down()") or ""
    check("a wrong password is told", "uthentication" in why, why)
    check("and not shown", "Secret" not in why, why)
    e = s.error("SELECT kt_partition_count('private', 2000)")
    check("in errors, too", e is not None and "uthentication" in str(e) and "Secret" not in str(e), e)


# --- figures ---------------------------------------------------------------------

def speed():
    """Drain rate and latency; figures, no checks."""
    kafkactl("create", "speed", 4)
    produce("speed", -1, 3000000, 170)
    s = Session(server="kafka")
    for batch in (10000, 10000, 1000, 100000):
        for part in range(4):
            s.assign("speed", part, 0)
        got = s.one("SELECT kt_drain(%s, 4, 60)", batch).split()
        rss = int(s.one("SELECT pg_read_file('/proc/self/statm')").split()[1]) * 4 // 1024
        print("drain, batches of %d: %s records in %.2f s = %.2f M/s, %s polls, longest %.1f ms, RSS %d MB"
              % (batch, got[0], float(got[3]), int(got[0]) / float(got[3]) / 1e6, got[2], float(got[4]), rss))
    kafkactl("create", "latency", 4)
    s = Session(server="kafka")
    for part in range(4):
        s.assign("latency", part, 0)
    thread = threading.Thread(target=produce, args=("latency", -1, 30000, 170, "plain", 5000))
    thread.start()
    print("latency at 5,000/s:", s.one("SELECT kt_latency(5000)"), "(with the start)")
    print("latency at 5,000/s:", s.one("SELECT kt_latency(24000)"))
    thread.join()


def main():
    """Runs the tests asked for."""
    wanted = sys.argv[1:]
    make_server()
    sys.modules["kafka_test"] = sys.modules["__main__"]
    import kafka_producer
    if wanted == ["speed"]:
        speed()
        return 0
    for name, test in list(globals().items()) + list(vars(kafka_producer).items()):
        if name.startswith("test_") and (not wanted or any(w in name for w in wanted)):
            before = failed
            start = time.time()
            try:
                test()
            except Exception as e:  # a test that breaks is a failed check
                check(name, False, repr(e))
            print("%s %s (%.1f s)" % ("ok    " if failed == before else "FAILED", name[5:], time.time() - start))
            sys.stdout.flush()
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
