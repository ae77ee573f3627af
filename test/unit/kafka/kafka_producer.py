"""Tests of src/kafka/producer.h, run by kafka_test.py.

The first half runs on the real broker, the second on the client library's mock
cluster, which answers as it is told to but does not keep positions.
"""
import threading
import time

import kafka_test as kt
from kafka_test import Session, broker, check, equal, kafkactl, make_server, records

background = []  # the tests on the mock cluster, while those on the broker run
WAIT = 15000    # ms: longer than anything takes that goes well


class Producer(Session):
    """A session with a producer, and short names for what tests do with it."""

    def __init__(self, server="kafka", tid=None, group=None):
        super().__init__()
        self.server = server
        self.open(tid, group)

    def open(self, tid=None, group=None):
        """Opens a producer, closing the one before."""
        self.tid, self.group = tid, group
        self.one("SELECT kp_open(%s, %s, %s)", self.server, tid, group)

    def connect(self, wait=WAIT):
        """Takes the transactional id over."""
        return self.one("SELECT kp_connect(%s)", wait)

    def reopen(self):
        """Opens and connects again."""
        self.open(self.tid, self.group)
        return self.connect()

    def state(self):
        """The state's name."""
        return self.one("SELECT kp_state()")

    def begin(self):
        """Starts a transaction."""
        return self.one("SELECT kp_begin()")

    def send(self, topic, part, seq, key="k", value="v", ms=1700000000123, headers=None):
        """Sends one record."""
        return self.one("SELECT kp_send(%s, %s, %s, %s, %s, %s, %s)", topic, part, key, value, ms, headers, seq)

    def fill(self, topic, parts, first, count, size=100):
        """Sends numbered records."""
        return self.one("SELECT kp_fill(%s, %s, %s, %s, %s)", topic, parts, first, count, size)

    def commit(self, topic, pos, meta="m", wait=WAIT):
        """Commits."""
        return self.one("SELECT kp_commit(%s, %s, %s, %s)", topic, pos, meta, wait)

    def position(self, topic, wait=WAIT):
        """Where the last transaction left off."""
        return self.one("SELECT kp_position(%s, %s)", topic, wait)

    def poll_until(self, done, seconds=15):
        """Polls an idempotent producer until done(outcome)."""
        end = time.time() + seconds
        while time.time() < end:
            outcome = self.one("SELECT kp_poll(200)")
            if done(outcome):
                break
        return outcome

    def settle(self):
        """Polls until nothing is on its way."""
        return self.poll_until(lambda o: o not in ("ok", "again", "broker_away") or
                               self.one("SELECT kp_pending()") == "0 0")

    def acked(self):
        """Greatest sequence acknowledged."""
        return self.one("SELECT kp_acked()")

    def why(self, field):
        """A part of the last error."""
        return self.one("SELECT kp_error(%s)", field)

    def done(self):
        """Closes the producer; milliseconds."""
        return self.one("SELECT kp_close()")


def values(topic, parts=1, start=0):
    """Values of all committed records of a topic."""
    s = Session(server="kafka")
    for part in range(parts):
        s.assign(topic, part, start)
    got = [e[7] for e in records(s.until_eof(parts))]
    s.conn.close()
    return got


def becomes(condition, seconds=15):
    """Waits for a condition."""
    end = time.time() + seconds
    while not condition() and time.time() < end:
        time.sleep(0.05)
    return condition()


def elapsed(function, *args):
    """Result, and milliseconds that took."""
    start = time.time()
    result = function(*args)
    return result, (time.time() - start) * 1000


# --- on the real broker ------------------------------------------------------------

def test_producer_transaction():
    background.append(threading.Thread(target=mock_all))
    background[0].start()
    kafkactl("create", "ptx", 3)
    p = Producer(tid="ptx", group="ptx")
    equal("tx: opened", p.state(), "unconnected")
    equal("tx: no position yet", p.position("ptx"), "none")
    equal("tx: partitions", p.one("SELECT kp_partitions('ptx', %s)", WAIT), "3")
    equal("tx: partitions of nothing", p.one("SELECT kp_partitions('nothing', %s)", WAIT), "-1")
    equal("tx: connect", p.connect(), "ok")
    equal("tx: begin", p.begin(), "ok")
    equal("tx: state", p.state(), "in_transaction")
    p.send("ptx", 0, 1, "k1", "v1", 1700000000123, ["h1=one", "h2", "h1=two", "h3="])
    p.send("ptx", 0, 2, None, "v2")
    p.send("ptx", 0, 3, "k3", None)
    p.send("ptx", 0, 4, "", "")
    p.send("ptx", 2, 5, "k5", "v5")
    meta = "v=1;inc=5;h=äöü;" + "x" * 1500
    equal("tx: commit", p.commit("ptx", 6, meta), "ok")
    equal("tx: all acknowledged", (p.acked(), p.one("SELECT kp_pending()")), (5, "0 0"))
    equal("tx: position and metadata", p.position("ptx"), "6 " + meta)

    s = Session(server="kafka")
    s.assign("ptx", 0, 0)
    got = records(s.until_eof())
    equal("tx: keys and values", [(e[6], e[7]) for e in got],
          [("k1", "v1"), (None, "v2"), ("k3", None), ("", "")])
    equal("tx: headers", [e[9] for e in got], [["h1=one", "h2=(null)", "h1=two", "h3="], [], [], []])
    check("tx: time", got[0][8].startswith("2023-11-14 22:13:20.123"), got[0][8])
    s.assign("ptx", 2, 0)
    equal("tx: the partition that was given", [e[7] for e in records(s.until_eof())], ["v5"])

    equal("tx: begin without records", p.begin(), "ok")
    equal("tx: commit of a position only", p.commit("ptx", 9, ""), "ok")
    equal("tx: that position", p.position("ptx"), "9 ")
    times = []
    for n in range(5):
        p.begin()
        p.send("ptx", n % 3, 10 + n)
        outcome, ms = elapsed(p.one, "SELECT kp_commit_by_events('ptx', %s, 'e', 20000)", 10 + n)
        equal("tx: commit driven by events", outcome, "ok")
        times.append(ms)
    # statistics come every 2 s and wake the descriptor, too; a commit needs it twice
    check("tx: the descriptor wakes", min(times) < 1500, times)
    equal("tx: position after them", p.position("ptx"), "14 e")
    p.done()


def test_producer_resumes():
    kafkactl("create", "presume", 1)
    p = Producer(tid="presume", group="presume")
    p.connect()
    p.begin()
    p.send("presume", 0, 1, value="one")
    equal("resume: first commit", p.commit("presume", 2), "ok")
    p.begin()
    p.fill("presume", 1, 2, 1000)
    check("resume: close with a transaction open", p.done() < 2500)

    p.open("presume", "presume")
    equal("resume: onlooker", (p.position("presume"), p.state()), ("2 m", "unconnected"))
    equal("resume: connect", p.connect(), "ok")
    equal("resume: position", p.position("presume"), "2 m")
    p.begin()
    p.send("presume", 0, 2, value="two")
    equal("resume: commit", p.commit("presume", 3), "ok")
    equal("resume: nothing of the open transaction", values("presume"), ["one", "two"])

    p.begin()
    p.send("presume", 0, 3, value="never")
    check("resume: acknowledged", becomes(lambda: p.settle() == "ok" and p.acked() == 3), p.acked())
    p.done()
    kt.produce("presume", 0, 1)
    # readers of committed records wait for the transaction that is open, which may last a minute
    check("resume: closing leaves the transaction", becomes(lambda: len(values("presume")) == 3), values("presume"))


def test_producer_commit_left_alone():
    """A producer that is closed while it commits: whatever became of it, the position tells."""
    kafkactl("create", "palone", 2)
    p = Producer(tid="palone", group="palone")
    p.connect()
    at = 0
    outcomes = set()
    for n in range(12):
        p.begin()
        p.fill("palone", 2, at, 50)
        p.commit("palone", at + 50, "m", n * 5)
        outcomes.add(p.reopen())
        where = p.position("palone")
        now = 0 if where == "none" else int(where.split()[0])
        check("alone: all or nothing", now in (at, at + 50), (at, now))
        at = now
    equal("alone: connected every time", outcomes, {"ok"})
    p.begin()
    p.fill("palone", 2, at, 10)
    equal("alone: last commit", p.commit("palone", at + 10), "ok")
    equal("alone: every record once", len(values("palone", 2)), at + 10)
    p.done()


def test_producer_fencing():
    kafkactl("create", "pfence", 1)
    a = Producer(tid="pfence", group="pfence")
    equal("fence: first", a.connect(), "ok")
    a.begin()
    a.send("pfence", 0, 1, value="a1")
    b = Producer(tid="pfence", group="pfence")
    equal("fence: onlooker", b.position("pfence"), "none")
    equal("fence: the onlooker fences nobody", a.commit("pfence", 2), "ok")
    a.begin()
    a.send("pfence", 0, 2, value="a2")
    equal("fence: second takes over", b.connect(), "ok")
    equal("fence: first finds out", a.commit("pfence", 3), "reopen")
    equal("fence: and why", (a.why("fenced"), a.why("name"), a.state()), ("yes", "_FENCED", "dead"))
    equal("fence: a dead one says the same again", a.begin(), "reopen")
    equal("fence: position for the second", b.position("pfence"), "2 m")

    equal("fence: first takes it back once", a.reopen(), "ok")
    b.begin()
    b.send("pfence", 0, 2)
    equal("fence: second finds out", (b.commit("pfence", 3), b.why("fenced")), ("reopen", "yes"))
    equal("fence: second comes back", b.reopen(), "ok")
    a.begin()
    a.send("pfence", 0, 2)
    equal("fence: first is told now", (a.commit("pfence", 3), a.why("sqlstate")), ("fenced", "55006"))
    b.begin()
    b.send("pfence", 0, 2, value="b2")
    equal("fence: second goes on", b.commit("pfence", 3), "ok")
    equal("fence: records", values("pfence"), ["a1", "b2"])
    a.done()
    b.done()


def test_producer_own_timeout():
    """A transaction that the coordinator ended itself is nobody else's doing, however often."""
    kafkactl("create", "ptime", 1)
    make_server("hasty", "transaction_timeout_ms '1000', socket_timeout_ms '30000'")
    p = Producer("hasty", "ptime", "ptime")
    equal("timeout: connect, though requests might take longer", p.connect(), "ok")
    for n in range(2):
        p.begin()
        p.send("ptime", 0, 1, value="late")
        time.sleep(3)      # run.sh lets the coordinator look twice a second
        outcome = p.commit("ptime", 2)
        equal("timeout: reopen", outcome, "reopen")
        equal("timeout: open again", p.reopen(), "ok")
    equal("timeout: nothing was committed", p.position("ptime"), "none")
    p.done()


def test_producer_missing_topic():
    kafkactl("create", "pthere", 2)
    make_server("impatient", "transaction_timeout_ms '3000'")
    p = Producer("impatient", "pmiss", "pmiss")
    p.connect()
    p.begin()
    p.send("pthere", 0, 1, value="never")
    p.send("pmissing", 0, 2)
    equal("missing: commit", p.commit("pthere", 3), "topic_missing")
    equal("missing: which", (p.why("topic"), p.why("sequence"), p.why("sqlstate")), ("pmissing", "2", "42704"))
    equal("missing: state", p.state(), "failed")
    equal("missing: begin is refused", p.begin(), "topic_missing")
    e = p.error("SELECT kp_throw('write a record')")
    check("missing: error", e.pgcode == "42704" and 'topic "pmissing"' in str(e) and "HINT" in str(e), e)
    equal("missing: another one", p.reopen(), "ok")
    p.begin()
    p.send("pthere", 0, 1, value="one")
    equal("missing: goes on", p.commit("pthere", 2), "ok")
    p.begin()
    equal("missing: partition", p.send("pthere", 7, 2, headers=["a=b"]), "topic_missing")
    equal("missing: which partition", (p.why("topic"), p.why("partition"), p.why("sequence")), ("pthere", "7", "2"))
    equal("missing: the transaction is whole", p.state(), "in_transaction")
    p.send("pthere", 1, 3, value="two")
    equal("missing: commits", p.commit("pthere", 4), "ok")
    p.begin()
    p.send("pthere", 1, 4, value="never")
    equal("missing: topic of the position", p.commit("pnowhere", 5), "topic_missing")
    equal("missing: is named", p.why("topic"), "pnowhere")
    equal("missing: nothing else was written", sorted(values("pthere", 2)), ["one", "two"])
    equal("missing: another one again", p.reopen(), "ok")
    equal("missing: was not created", p.one("SELECT kp_partitions('pmissing', 5000)"), "-1")
    p.done()


def test_producer_too_large():
    kafkactl("create", "plarge", 1, "max.message.bytes=5000")
    p = Producer(tid="plarge", group="plarge")
    p.connect()
    p.begin()
    p.send("plarge", 0, 1, value="small")
    equal("large: for the client", p.send("plarge", 0, 2, value="x" * 1100000), "too_large")
    equal("large: which", (p.why("sequence"), p.why("refused"), p.state()), ("2", "1", "in_transaction"))
    equal("large: the rest is committed", p.commit("plarge", 2), "ok")
    p.begin()
    p.send("plarge", 0, 2, value="y" * 20000)
    equal("large: for the broker", p.commit("plarge", 3), "too_large")
    equal("large: that one", (p.why("sequence"), p.why("refused"), p.why("sqlstate")), ("2", "1", "54000"))
    equal("large: another one", p.reopen(), "ok")
    equal("large: position", p.position("plarge"), "2 m")
    equal("large: records", values("plarge"), ["small"])
    p.done()

    p.open()
    p.connect()
    for seq in range(10):
        p.send("plarge", 0, seq, value="z%d" % seq)
    p.settle()
    p.send("plarge", 0, 10, value="y" * 20000)
    equal("large: at least once", p.poll_until(lambda o: o != "ok"), "too_large")
    equal("large: acknowledged before", (p.acked(), p.why("sequence"), p.state()), (9, "10", "dead"))
    p.done()


def test_producer_idempotent():
    kafkactl("create", "pidem", 4)
    p = Producer()
    equal("idem: connect", (p.connect(), p.state()), ("ok", "ready"))
    equal("idem: nothing yet", p.acked(), -1)
    equal("idem: fill", p.fill("pidem", 4, 0, 20000), "ok")
    equal("idem: settles", p.settle(), "ok")
    equal("idem: acknowledged", p.acked(), 19999)
    s = Session(server="kafka")
    for part in range(4):
        s.assign("pidem", part, 0)
    got = records(s.until_eof(4))
    equal("idem: in order of each partition",
          [[int(e[6]) for e in got if e[2] == part] for part in range(4)],
          [list(range(part, 20000, 4)) for part in range(4)])
    p.send("pnone", 0, 20000)
    equal("idem: missing topic", p.poll_until(lambda o: o != "ok"), "topic_missing")
    equal("idem: is final", (p.state(), p.acked()), ("dead", 19999))
    p.done()


def test_producer_small_queue():
    kafkactl("create", "psmall", 2)
    make_server("narrow", "queue_buffering_max_messages '100', linger_ms '20', compression_type 'lz4'")
    p = Producer("narrow", "psmall", "psmall")
    p.connect()
    p.begin()
    equal("queue: waits for room", p.fill("psmall", 2, 0, 1000), "ok")
    equal("queue: commit", p.commit("psmall", 1000), "ok")
    equal("queue: records", len(values("psmall", 2)), 1000)
    p.done()

    make_server("tiny", "queue_buffering_max_kbytes '100'")
    p = Producer("tiny", "psmall", "psmall")
    p.connect()
    p.begin()
    p.send("psmall", 0, 1000)
    equal("queue: a position", p.commit("psmall", 1001), "ok")
    p.begin()
    equal("queue: smaller than a record", p.send("psmall", 0, 1001, value="x" * 200000), "too_large")
    equal("queue: which", (p.why("sequence"), p.state()), ("1001", "in_transaction"))
    check("queue: why", "queue_buffering_max_kbytes" in p.why("message"), p.why("message"))
    equal("queue: the rest", (p.send("psmall", 0, 1002), p.commit("psmall", 1003)), ("ok", "ok"))
    p.done()


def test_producer_volume():
    kafkactl("create", "pvolume", 4)
    p = Producer(tid="pvolume", group="pvolume")
    p.connect()
    said = p.one("SELECT kp_speed('pvolume', 4, 10, 20000, 170)")
    check("volume: went well", "records/s" in said, said)
    s = Session(server="kafka")
    for part in range(4):
        s.assign("pvolume", part, 0)
    equal("volume: all there", s.one("SELECT kt_drain(10000, 4, 60)").split()[0], "200000")
    equal("volume: position", p.position("pvolume"), "200000 speed")
    p.done()


def test_producer_does_not_wait():
    """With a broker that is frozen nothing waits longer than its slice, and closing is bounded."""
    kafkactl("create", "pfrozen", 1)
    p = Producer(tid="pfrozen", group="pfrozen")
    p.connect()
    p.begin()
    p.send("pfrozen", 0, 1, value="one")
    p.commit("pfrozen", 2)
    p.begin()
    p.send("pfrozen", 0, 2, value="two")
    broker("freeze")
    try:
        outcome, ms = elapsed(p.commit, "pfrozen", 3, "m", 0)
        check("frozen: commit", outcome == "again" and ms < 500, (outcome, ms))
        outcome, ms = elapsed(p.commit, "pfrozen", 3, "m", 100)
        check("frozen: commit in a slice", outcome == "again" and 90 < ms < 1000, (outcome, ms))
        outcome, ms = elapsed(p.position, "pfrozen", 0)
        check("frozen: position", outcome in ("again", "broker_away") and ms < 500, (outcome, ms))
        ms = p.done()
        check("frozen: close", ms < 2500, ms)
        p.open("pfrozen", "pfrozen")
        outcome, ms = elapsed(p.connect, 0)
        check("frozen: connect", outcome in ("again", "broker_away") and ms < 500, (outcome, ms))
        ms = p.done()
        check("frozen: close while connecting", ms < 2500, ms)
    finally:
        broker("thaw")
    p.open("pfrozen", "pfrozen")
    equal("frozen: connect again", p.connect(30000), "ok")
    where = p.position("pfrozen")
    check("frozen: position", where in ("2 m", "3 m"), where)
    equal("frozen: records and position agree", values("pfrozen"), ["one", "two"][:int(where[0]) - 1])
    p.done()


def test_producer_broker_restart():
    kafkactl("create", "pbounce", 1)
    p = Producer(tid="pbounce", group="pbounce")
    p.connect()
    i = Producer()
    i.connect()
    i.send("pbounce", 0, 1, value="i1")
    i.settle()
    broker("kill")
    i.send("pbounce", 0, 2, value="i2")
    equal("restart: at least once waits", i.poll_until(lambda o: o == "broker_away"), "broker_away")
    check("restart: says why", "down" in i.why("message") or "127.0.0.1" in i.why("message"), i.why("message"))
    equal("restart: sqlstate", i.why("sqlstate"), "08006")
    equal("restart: its state", (i.state(), i.acked()), ("ready", 1))
    broker("start")
    i.settle()
    equal("restart: goes on by itself", i.acked(), 2)
    at = 0
    for n in range(3):
        p.begin()
        p.send("pbounce", 0, n, value="p%d" % at)
        if p.commit("pbounce", at + 1, "m", 20000) != "ok":
            equal("restart: reopen", p.reopen(), "ok")
        where = p.position("pbounce")
        at = 0 if where == "none" else int(where.split()[0])
    check("restart: transactions go on", at >= 2, at)
    equal("restart: records", values("pbounce"), ["i1", "i2"] + ["p%d" % n for n in range(at)])
    p.done()
    i.done()


def test_producer_errors_leak_nothing():
    s = Session()
    descriptors = "SELECT count(*) FROM pg_ls_dir('/proc/self/fd')"
    s.error("SELECT kp_open_and_fail('kafka', NULL)")
    e = s.error("SELECT kp_open_and_fail('kafka')")
    check("leak: raises", "on purpose" in str(e), e)
    before = s.one(descriptors)
    for n in range(5):
        s.error("SELECT kp_open_and_fail('kafka')")
    end = time.time() + 15
    while s.one("SELECT kt_live()") > 0 and time.time() < end:
        time.sleep(0.1)
    equal("leak: no client lives", s.one("SELECT kt_live()"), 0)
    check("leak: no descriptor", s.one(descriptors) <= before, (before, s.one(descriptors)))


def test_producer_options():
    s = Session()
    for option in ("transactional_id", "enable_idempotence", "acks", "message_timeout_ms", "max_in_flight", "partitioner"):
        e = s.error("CREATE SERVER refused FOREIGN DATA WRAPPER kt OPTIONS (bootstrap_servers 'x', %s '1')" % option)
        check("options: %s is refused" % option, e is not None, e)
    for value, good in (("999", False), ("1000", True), ("900001", False)):
        e = s.error("CREATE SERVER timeout%s FOREIGN DATA WRAPPER kt OPTIONS "
                    "(bootstrap_servers 'x', transaction_timeout_ms '%s')" % (value, value))
        equal("options: transaction_timeout_ms %s" % value, e is None, good)


def test_producer_login():
    """Logins; kafka_test.py's test has given the broker a listener for them, or this does."""
    with open(kt.SCRATCH + "/broker/server.properties") as f:
        if "SASL_PLAINTEXT" not in f.read():
            kt.add_sasl_listener()
    kafkactl("create", "plogin", 1)
    make_server("psasl", "security_protocol 'sasl_plaintext', sasl_mechanism 'PLAIN'", kt.SASL)
    admin = Session()

    def login(user, password, tid):
        """A producer as that user of the broker."""
        admin.rows("DROP USER MAPPING IF EXISTS FOR postgres SERVER psasl")
        admin.rows("CREATE USER MAPPING FOR postgres SERVER psasl OPTIONS (sasl_username '%s', sasl_password '%s')"
                   % (user, password))
        return Producer("psasl", tid, tid)

    p = login("alice", "alice-Secret", "alice")
    equal("login: alice connects", p.connect(), "ok")
    p.begin()
    p.send("plogin", 0, 1)
    equal("login: alice commits", p.commit("plogin", 2), "ok")
    equal("login: alice reads her position", p.position("plogin"), "2 m")
    p.done()

    p = login("bob", "bob-Secret", "bob")
    equal("login: bob may not look", p.position("plogin"), "denied")
    equal("login: the group is named", (p.why("resource"), p.why("sqlstate")), ('group "bob"', "42501"))
    p.open("bob", "bob")
    equal("login: bob may not connect", p.connect(), "denied")
    equal("login: the id is named", p.why("resource"), 'transactional id "bob"')
    p.open()
    p.connect()
    p.send("plogin", 0, 1)
    equal("login: bob may not write", p.poll_until(lambda o: o != "ok"), "denied")
    check("login: what for", p.why("resource") in ('topic "plogin"', "cluster"), p.why("resource"))

    p = login("alice", "wrong-Secret", "alice2")
    equal("login: wrong password", p.connect(), "denied")
    check("login: is told", "uthentication" in p.why("message") and p.why("resource") == "login", p.why("message"))
    check("login: no secret", "Secret" not in p.why("message"), p.why("message"))
    equal("login: position, too", login("alice", "wrong-Secret", "alice3").position("plogin"), "denied")


# --- on the mock cluster -------------------------------------------------------------

PRODUCE, FIND, INIT, PARTITIONS, OFFSETS, END, COMMIT = 0, 10, 22, 24, 25, 26, 28
API_NAMES = {PRODUCE: "Produce", FIND: "FindCoordinator", INIT: "InitProducerId", PARTITIONS: "AddPartitionsToTxn",
             OFFSETS: "AddOffsetsToTxn", END: "EndTxn", COMMIT: "TxnOffsetCommit"}

# What an answer with a code leads to: state afterwards and codes, by outcome.
# "ok": the library tries again and goes on.  A code followed by ! is told for fencing.
# Of outcomes with | between them newer libraries have either, as their threads happen to run.
OUTCOMES = {
    PRODUCE: {
        "ok ready": "3 5 6 7 8 9 14 15 16 19 20 46 56",
        "reopen failed": "-1 13 48 49 51 59 90!",
        "ok ready|reopen failed": "2",
        "reopen dead": "45 47!",
        "too_large failed": "10 18",
        "topic_missing failed": "17",
        "denied failed": "29 30 31 53",
        "fatal failed": "21 32 35 42 43 44 87",
    },
    FIND: {
        "ok ready": "-1 3 7 13 14 15 16 24 29 30 35 42 43 44 47 48 49 51 59 90",
        "denied dead": "31 53",
    },
    INIT: {
        "ok ready": "-1 3 7 13 14 15 16 29 30 35 42 43 44 48 49 51 59",
        "reopen dead": "47! 90!",
        "denied dead": "31 53",
        "fatal dead": "50",
    },
    PARTITIONS: {
        "ok ready": "3 14 15 16 51",
        "reopen failed": "-1 7 13 49 55 59",
        "reopen dead": "47! 48 90!",
        "denied failed": "29 30",
        "denied dead": "31 53",
        "fatal failed": "35 42 43 44",
    },
    OFFSETS: {
        "ok ready": "3 7 14 15 16 51",
        "reopen failed": "-1 13 49 59 90!",
        "reopen dead": "47! 48",
        "denied failed": "29 30",
        "denied dead": "31 53",
        "fatal failed": "24 35 42 44",
        "fatal dead": "43",
    },
    COMMIT: {
        "ok ready": "3 7 14 15 16 51",
        "reopen failed": "-1 13 22 25 59 82 90!",
        "reopen dead": "47! 48 49",
        "denied failed": "29 30",
        "denied dead": "31 53",
        "fatal failed": "12 24 28 35 42 44",
        "fatal dead": "43",
    },
    END: {
        "ok ready": "14 15 16 51",
        "reopen dead": "-1 3 7 10 13 47! 48 49 59 90!",
        "denied dead": "29 30 31 53",
        "fatal dead": "35 42 43 44",
    },
}

# What answers that never end lead to.
LASTING = {
    PRODUCE: {"reopen failed": "3 6 14 19"},
    FIND: {"broker_away connecting": "14 15 42"},
    INIT: {"broker_away connecting": "14 51", "fatal dead": "42 44 35"},
    PARTITIONS: {"reopen failed": "3 14 15 51"},
    OFFSETS: {"reopen failed": "7 14 15 51", "topic_missing failed": "3"},
    COMMIT: {"reopen failed": "7 14 15 51", "topic_missing failed": "3"},
    END: {"reopen dead": "14 15 51"},
}


class Mock(Producer):
    """A session with a mock cluster of its own."""
    count = 0
    lock = threading.Lock()

    def __init__(self, options="transaction_timeout_ms '1500'"):
        Session.__init__(self)
        with Mock.lock:
            Mock.count += 1
            self.server = "mock%d" % Mock.count
            make_server(self.server, options, self.one("SELECT kp_mock_start(3)"))
        self.one("SELECT kp_mock_topic('t', 4)")
        self.cases = 0

    def next(self):
        """A producer with an id of its own."""
        self.cases += 1
        self.open("%s-%d" % (self.server, self.cases), "g")

    def errors(self, api, code, times):
        """The next requests are answered with code; none: as usual."""
        self.one("SELECT kp_mock_errors(%s, %s, %s)", api, code, times)

    def up(self, up):
        """All brokers."""
        for n in (1, 2, 3):
            self.one("SELECT kp_mock_up(%s, %s)", n, up)

    def case(self, api, code, times, wait):
        """One transaction during which api answers code; outcome and state."""
        self.next()
        early = api in (FIND, INIT)
        if early:
            self.errors(api, code, times)
        outcome = self.connect(wait)
        if not early:
            self.errors(api, code, times)
        if outcome == "ok":
            outcome = self.begin()
        if outcome == "ok":
            outcome = self.send("t", 0, 7)
        if outcome == "ok":
            outcome = self.commit("t", 8, "m", wait)
        self.errors(api, 0, 0)
        return outcome + " " + self.state()

    def stop(self):
        """Ends the cluster."""
        self.done()
        self.one("SELECT kp_mock_stop()")
        self.conn.close()


def in_parallel(jobs):
    """Runs functions, a few at a time; an exception is a failed check."""
    def run():
        while True:
            with Mock.lock:
                if not jobs:
                    return
                job = jobs.pop()
            try:
                job()
            except Exception as e:
                check("in parallel", False, repr(e))
    threads = [threading.Thread(target=run) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def table_cases(table):
    """(api, code, told as fenced, expected) of a table."""
    for api, by_outcome in table.items():
        for expected, codes in by_outcome.items():
            for code in codes.split():
                yield api, int(code.rstrip("!")), code.endswith("!"), expected


def mock_each_code():
    """Each code on each request once."""
    def job(api):
        m = Mock()
        for which, code, fenced, expected in cases:
            if which == api:
                name = "%s answers %s" % (API_NAMES[api], m.one("SELECT kp_code_name(%s)", code))
                got = m.case(api, code, 1, WAIT)
                check(name, got in expected.split("|"), "got %r, wanted %r" % (got, expected))
                if not got.startswith("ok"):
                    equal(name + ": fenced", m.why("fenced"), "yes" if fenced else "no")
                    check(name + ": has a text, a hint and a state",
                          m.why("message") and m.why("hint") and m.why("sqlstate") != "00000")
        m.stop()
    cases = list(table_cases(OUTCOMES))
    check("table has its size", len(cases) >= 140, len(cases))
    in_parallel([lambda api=api: job(api) for api in OUTCOMES])


def mock_lasting_codes():
    """Codes that the library tries again after, for ever: given up, or told."""
    def job(api, code, expected):
        m = Mock()
        got = m.case(api, code, 50000, 4000)
        equal("%s answers %s for ever" % (API_NAMES[api], m.one("SELECT kp_code_name(%s)", code)), got, expected)
        m.stop()
    in_parallel([lambda a=api, c=code, e=expected: job(a, c, e)
                 for api, code, _, expected in table_cases(LASTING)])


def mock_brokers_down():
    m = Mock("transaction_timeout_ms '8000'")
    m.up(False)
    m.next()
    outcome = None
    end = time.time() + 10
    while outcome != "broker_away" and time.time() < end:
        outcome = m.connect(200)
    equal("down: connect", (outcome, m.state()), ("broker_away", "connecting"))
    equal("down: sqlstate", m.why("sqlstate"), "08006")
    m.up(True)
    end = time.time() + 15
    while outcome != "ok" and time.time() < end:
        outcome = m.connect(500)
    equal("up: connect", outcome, "ok")

    m.begin()
    m.send("t", 0, 1)
    m.up(False)
    outcome, ms = elapsed(m.commit, "t", 2, "m", 100)
    check("down: commit in a slice", outcome in ("again", "broker_away") and ms < 1000, (outcome, ms))
    m.up(True)
    end = time.time() + 15
    while outcome in ("again", "broker_away") and time.time() < end:
        outcome = m.commit("t", 2, "m", 500)
    equal("up: commit", (outcome, m.state()), ("ok", "ready"))

    m.begin()
    m.send("t", 0, 2)
    m.up(False)
    end = time.time() + 25
    while time.time() < end:
        outcome = m.commit("t", 3, "m", 500)
        if outcome not in ("again", "broker_away"):
            break
    equal("down for long: commit", outcome, "reopen")
    m.up(True)
    m.next()
    equal("up: a new one", m.connect(), "ok")
    m.stop()


def mock_slow_end():
    m = Mock("transaction_timeout_ms '3000'")
    m.next()
    m.one("SELECT kp_mock_coordinator('transaction', %s, 1)", m.tid)
    m.connect()
    m.begin()
    m.send("t", 0, 1)
    m.one("SELECT kp_mock_slow(1, %s, 0, 1500)", END)
    outcome, ms = elapsed(m.commit, "t", 2, "m", 300)
    check("slow: not finished", outcome == "again" and 290 < ms < 1200, (outcome, ms))
    equal("slow: state", m.state(), "committing")
    equal("slow: finished later", m.commit("t", 2), "ok")
    equal("slow: state then", m.state(), "ready")

    m.begin()
    m.send("t", 0, 2)
    m.one("SELECT kp_mock_slow(1, %s, 0, 10000)", END)
    outcome, ms = elapsed(m.commit, "t", 3)
    check("slow: too slow", outcome == "reopen" and ms < 9000, (outcome, ms))
    equal("slow: not to be used again", (m.begin(), m.state()), ("reopen", "dead"))
    ms = m.done()
    check("slow: close", ms < 2500, ms)
    m.stop()


def mock_lost_group_coordinator():
    """The broker that keeps the positions dies, and no other takes its place: the library would wait for ever."""
    m = Mock("transaction_timeout_ms '2000'")
    m.next()
    m.one("SELECT kp_mock_coordinator('transaction', %s, 1), kp_mock_coordinator('group', 'g', 2), kp_mock_leader('t', 0, 1)", m.tid)
    m.connect()
    m.begin()
    m.send("t", 0, 1)
    equal("lost: commit before", m.commit("t", 2), "ok")
    m.begin()
    m.send("t", 0, 2)
    m.one("SELECT kp_mock_up(2, false)")
    outcome, ms = elapsed(m.commit, "t", 3, "m", 20000)
    check("lost: given up", outcome == "reopen" and ms < 8000, (outcome, ms))
    ms = m.done()
    check("lost: close", ms < 2500, ms)
    m.one("SELECT kp_mock_up(2, true)")
    m.next()
    equal("lost: a new one", m.connect(), "ok")
    m.stop()


def mock_acknowledged():
    """Partitions that acknowledge out of order."""
    m = Mock()
    for part in range(4):
        m.one("SELECT kp_mock_leader('t', %s, %s)", part, 1 if part == 0 else 2)
    m.open()
    m.connect()
    m.send("t", 0, 0)
    m.send("t", 1, 1)
    m.settle()
    equal("order: at first", m.acked(), 1)
    m.one("SELECT kp_mock_slow(1, %s, 0, 2000)", PRODUCE)
    m.send("t", 0, 10)
    for seq in range(11, 20):
        m.send("t", 1, seq)
    m.poll_until(lambda o: m.one("SELECT kp_pending()").startswith("1 "))
    equal("order: one is late", (m.one("SELECT kp_pending()"), m.acked()), ("1 2", 1))
    equal("order: and comes", (m.settle(), m.acked()), ("ok", 19))

    m.one("SELECT kp_mock_slow(1, %s, 10, 1000)", PRODUCE)
    m.send("t", 1, 20)
    m.send("t", 0, 21)
    m.send("t", 1, 22)
    equal("order: one is refused", m.poll_until(lambda o: o != "ok"), "too_large")
    equal("order: acknowledged before it", (m.acked(), m.why("sequence")), (20, "21"))
    m.stop()


def mock_refused_together():
    """A batch is refused as a whole: the greatest record is suspect."""
    m = Mock("transaction_timeout_ms '9000', linger_ms '1000'")
    m.next()
    m.connect()
    m.begin()
    m.errors(PRODUCE, 10, 5)
    for seq in range(5):
        m.send("t", 0, seq, value="x" * (500 if seq == 3 else 10))
    equal("together: commit", m.commit("t", 5), "too_large")
    equal("together: which", (m.why("sequence"), m.why("refused")), ("3", "5"))
    m.stop()


def mock_denied_topics():
    """The library does not say which topic may not be written to: all candidates are named."""
    m = Mock("transaction_timeout_ms '9000'")
    m.one("SELECT kp_mock_topic('u', 1)")
    m.next()
    m.one("SELECT kp_mock_coordinator('transaction', %s, 1)", m.tid)
    m.connect()
    m.begin()
    m.one("SELECT kp_mock_slow(1, %s, 29, 2000)", PARTITIONS)
    m.send("t", 0, 1)
    m.send("u", 0, 2)
    equal("topics: commit", m.commit("t", 3), "denied")
    equal("topics: which", m.why("resource"), 'topic "t" or "u"')
    m.stop()


def mock_never_after_failure():
    """No transaction is committed of which a record failed, even if the commit would go well."""
    m = Mock()
    m.next()
    m.connect()
    m.begin()
    m.errors(PRODUCE, 87, 1)
    m.send("t", 0, 1)
    end = time.time() + 10
    outcome = "ok"
    seq = 2
    while outcome == "ok" and time.time() < end:
        outcome = m.fill("t", 1, seq, 600)
        seq += 600
    equal("failure: sending finds out", (outcome, m.why("name"), m.why("sequence")), ("fatal", "INVALID_RECORD", "1"))
    equal("failure: commit", m.commit("t", 3), "fatal")
    equal("failure: state", m.state(), "failed")
    m.stop()


def mock_all():
    """All of these, side by side: most of their time they wait."""
    in_parallel([test for name, test in globals().items() if name.startswith("mock_") and name != "mock_all"])


def test_producer_on_the_mock():
    """Waits for what test_producer_transaction has started, if it ran."""
    if not background:
        mock_all()
    for thread in background:
        thread.join()
