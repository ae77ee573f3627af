#!/usr/bin/env python3
"""out.py [options] TOPOLOGY.sql: exactly-once under faults, from topic to topic.

A transactional generator fills a topic, kstream computes what the topology says, and
faults drawn from a seed strike: processes are killed and stopped, the broker goes and
comes back, the network (test/proxy) is cut, delayed, or loses chosen requests and
answers, fault points of the engine fire.  After each fault work must go on.  At the
end an independent consumer (test/verify) checks the topics, and SELECTs are compared
with the same SELECT over what that consumer has read.

Everything runs in servers of its own below --work, which are started where they do not
run and destroyed at the end, unless --keep is given.  The last line is a report in
JSON; the exit code is 0 when nothing was violated, 1 when something was, 3 when the
build lacks what the topology needs.  README.md says how to write a
topology; the seed repeats faults and data, not their timing.
"""
import argparse
import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time

import psycopg2

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
CACHE = os.environ.get("KS_CACHE", os.path.join(TOP, ".cache"))
DB = "chaos"

# Requests that a rule of the proxy may be about: what every reader sends, what publishers send as well.
READ_APIS = ["Fetch", "Metadata", "ListOffsets"]
WRITE_APIS = ["Produce", "AddPartitionsToTxn", "AddOffsetsToTxn", "TxnOffsetCommit", "commit", "InitProducerId"]
RULES = ["lose", "close", "steal", "hold request", "hold response", "drop response"]


def log(text):
    """A line of progress."""
    print("[%6.1fs] %s" % (time.time() - START, text), flush=True)


def run(*command, **options):
    """Runs a program; its output, or an exception that holds it."""
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, text=True, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError("%s: %s" % (command[0], done.stdout))
    return done.stdout


def free_port():
    """A port below the range that outgoing connections use."""
    return int(run("bash", "-c", '. "$0"; free_port', os.path.join(TOP, "test/rig/env.sh")))


def wait_until(seconds, done):
    """Calls a function until it returns something true; its last result."""
    end = time.time() + seconds
    while True:
        result = done()
        if result or time.time() > end:
            return result
        time.sleep(0.05)


class Topology:
    """A file of SQL, with directives in comments: what is around the queries, and what is checked."""

    def __init__(self, path, suffix):
        with open(path, encoding="utf-8") as source:
            text = source.read()
        self.name = os.path.splitext(os.path.basename(path))[0]
        self.topics, self.outputs, self.needs = {}, [], []
        self.load, self.fixed, self.standins, self.verify = None, [], [], []
        self.read, self.fold, self.equal = [], [], []
        # a directive goes on in lines that begin with --+
        lines = re.findall(r"^--@ *(.*(?:\n--\+.*)*)", text, re.M)
        names = [line.split()[1] for line in lines if line.startswith("topic ")]
        self.names = {name: "%s_%s" % (name, suffix) for name in names}
        for line in lines:
            self.directive(re.sub(r"\n--\+ *", " ", line).strip())
        self.sql = self.filled(text)

    def filled(self, text):
        """Text with the names of topics in the place of @NAME@."""
        return re.sub(r"@(\w+)@", lambda m: self.names.get(m.group(1), m.group(0)), text)

    def directive(self, line):
        """Takes one directive."""
        verb, _, rest = line.partition(" ")
        word = rest.split()
        if verb == "topic":
            self.topics[word[0]] = word[1:]
        elif verb == "load":
            self.load = (word[0], word[1:])
        elif verb == "fixed":
            name, count, value = rest.split(None, 2)
            self.fixed.append((name, int(count), value))
        elif verb == "standin":
            self.standins.append(tuple(rest.split(None, 1)))
        elif verb == "equal":
            self.equal.append(tuple(self.filled(part).strip() for part in rest.split("===")))
        elif verb == "verify":
            self.verify.append(word)
        elif verb in ("outputs", "needs", "read", "fold"):
            getattr(self, verb).extend(word)
        else:
            raise SystemExit("out.py: unknown directive: " + line)


class Proxy:
    """The proxy between kstream and the broker."""

    def __init__(self, folder, port, back):
        self.folder = folder
        run(os.path.join(TOP, "test/proxy/ctl.sh"), "start", folder, port, back)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.path.join(folder, "control"))
        self.answers = self.sock.makefile()

    def command(self, *words):
        """One command; true if it is answered by ok."""
        self.sock.sendall((" ".join(str(w) for w in words) + "\n").encode())
        return self.answers.readline().startswith("ok")

    def stop(self):
        """Ends it."""
        self.command("quit")


class Rig:
    """Broker, proxy, cluster and generator."""

    def __init__(self, options, topology):
        self.options, self.topology = options, topology
        self.work = options.work or tempfile.mkdtemp(prefix="kstream-out.")
        os.makedirs(self.work, exist_ok=True)
        os.chmod(self.work, 0o755)
        self.cluster = os.path.join(self.work, "c")
        self.port = options.port or free_port()
        self.broker_dir = os.path.join(self.work, "broker")
        self.ports = [free_port() for _ in range(3)]
        self.broker_address = "127.0.0.1:%d" % self.ports[0]
        self.proxied = "127.0.0.1:%d" % self.ports[1]
        self.log_file = os.path.join(self.work, "intents.%d" % os.getpid())
        self.generator = self.proxy = None

    # --- servers ---

    def broker(self, verb):
        """start, stop, kill, freeze, thaw, destroy."""
        run(os.path.join(TOP, "test/kafka/broker.sh"), verb, self.broker_dir, self.ports[0],
            env=dict({k: v for k, v in os.environ.items() if k != "KAFKA_BOOTSTRAP"},
                     KS_BROKER_PROXY="%d:%d" % (self.ports[1], self.ports[2])))

    def postgres(self, verb, *settings):
        """start, stop, kill, destroy."""
        run(os.path.join(TOP, "test/rig/cluster.sh"), verb, self.cluster, self.port, *settings)

    def kafkactl(self, *words):
        """The rig's tool, past the proxy."""
        return run(os.path.join(CACHE, "kafka/kafkactl"), self.broker_address, *words)

    def start(self):
        """Starts everything and makes topics and queries."""
        self.broker("destroy")
        self.broker("start")
        self.proxy = Proxy(os.path.join(self.work, "proxy"), self.ports[1], self.ports[2])
        self.postgres("start", "include_if_exists=faults.conf", "kstream.max_workers=2",
                      "kstream.batch_rows=%d" % self.options.batch_rows)
        for name, arguments in self.topology.topics.items():
            self.kafkactl("create", self.topology.names[name], *arguments)
        self.fill_fixed()
        self.sql("DROP DATABASE IF EXISTS %s WITH (FORCE)" % DB, "postgres")
        self.sql("CREATE DATABASE " + DB, "postgres")
        self.sql("CREATE EXTENSION kstream")
        missing = [name for name in self.topology.needs
                   if not self.sql("SELECT 1 FROM pg_proc WHERE pronamespace = 'kstream'::regnamespace AND proname = '%s'" % name)]
        if missing:
            log("this build has no kstream.%s: nothing to do" % ", kstream.".join(missing))
            return False
        self.sql("CREATE SERVER kafka FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers '%s')" % self.proxied)
        self.sql(self.topology.sql)
        self.start_generator()
        return True

    def stop(self, live):
        """Takes everything away."""
        if live and live.poll() is None:
            live.kill()
        self.kill_generator()
        if self.proxy:
            try:
                self.proxy.stop()
            except OSError as e:
                log("proxy: %s" % e)
        if not self.options.keep:
            self.postgres("destroy")
            self.broker("destroy")

    # --- SQL ---

    def sql(self, statement, database=DB):
        """Runs statements in a session of their own; the rows of the last one."""
        connection = psycopg2.connect(host=self.cluster, port=self.port, user="postgres", dbname=database, connect_timeout=10)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def try_sql(self, statement, database=DB):
        """The same; None while the server is away."""
        try:
            return self.sql(statement, database)
        except psycopg2.Error:
            return None

    def progress(self):
        """Records processed so far by all queries; -1 while the server is away."""
        rows = self.try_sql("SELECT coalesce(sum(records), 0)::bigint FROM kstream_catalog.position")
        return rows[0][0] if rows else -1

    def published(self):
        """Ends of all output topics, added up; -1 while the broker is away."""
        total = 0
        for name in self.topology.outputs:
            try:
                total += sum(int(line.split()[2]) for line in self.kafkactl("ends", self.topology.names[name]).splitlines())
            except RuntimeError:
                return -1
        return total

    # --- data ---

    def compiled(self, name):
        """A program of test/chaos."""
        program = os.path.join(self.work, name)
        run("gcc", "-O1", "-o", program, os.path.join(TOP, "test/chaos", name + ".c"), "-lrdkafka")
        return program

    def fill_fixed(self):
        """Records that are there before anything starts: key k0, k1 ..., {} in the value is the number."""
        for name, count, value in self.topology.fixed:
            lines = "".join("k%d|%s\n" % (i, value.replace("{}", str(i))) for i in range(count))
            subprocess.run(["kcat", "-P", "-b", self.broker_address, "-t", self.topology.names[name], "-K", "|",
                            "-X", "partitioner=murmur2_random"], input=lines, text=True, check=True)

    def start_generator(self):
        """The transactional load; it goes on where its log ends."""
        name, arguments = self.topology.load
        program = self.compiled("generator")
        self.generator = subprocess.Popen(
            [program, self.broker_address, self.topology.names[name], self.log_file, "rate=%d" % self.options.rate,
             "seed=%d" % self.options.seed, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop_generator(self):
        """Ends it after its transaction."""
        self.generator.communicate(timeout=300)
        if self.generator.returncode != 0:
            raise RuntimeError("the generator failed")
        self.generator = None

    def committed(self):
        """Records that the generator has committed, all its lives together."""
        counts, total = {}, 0
        with open(self.log_file, encoding="utf-8") as source:
            for line in source:
                word = line.split()
                if word[:1] == ["begin"] and len(word) == 5:
                    counts[word[1]] = int(word[3])
                elif word[:1] == ["committed"] and len(word) == 3:
                    total += counts[word[1]]
        return total

    def kill_generator(self):
        """SIGKILL, in the middle of whatever it does."""
        if self.generator:
            self.generator.kill()
            self.generator.communicate()
            self.generator = None


class Faults:
    """What can go wrong.  Each kind is a method; all it draws comes from the seed."""

    def __init__(self, rig, rng):
        self.rig, self.rng = rig, rng
        self.missed = []
        writes = bool(rig.topology.outputs)
        self.kinds = ["worker_kill", "worker_freeze", "worker_terminate", "backend_kill", "postmaster_kill",
                      "lost_tail", "broker_kill", "broker_stop", "broker_freeze", "generator_kill",
                      "net_reset", "net_cut", "net_blackhole", "net_delay", "net_throttle"]
        for api in READ_APIS + (WRITE_APIS if writes else []):
            self.kinds += ["rule %s %s" % (rule, api) for rule in RULES]
        if rig.try_sql("SHOW kstream.fault_points") is not None:
            for point in self.points(writes):
                self.kinds += ["point %s %s" % (point, action) for action in ("crash", "error")]

    @staticmethod
    def points(writes):
        """Names of the engine's fault points; those of folders for output only where something is put out."""
        found = set()
        for folder, _, files in os.walk(os.path.join(TOP, "src")):
            for name in files:
                with open(os.path.join(folder, name), encoding="utf-8") as source:
                    names = re.findall(r'KS_FAULT\("(\w+)"\)', source.read())
                if writes or not re.search(r"publish|outbox|produce", name):
                    found.update(names)
        return sorted(found)

    def strike(self, kind):
        """One fault, with its end."""
        word = kind.split()
        if word[0] == "rule":
            self.rule(" ".join(word[1:-1]), word[-1])
        elif word[0] == "point":
            self.point(word[1], word[2])
        else:
            getattr(self, kind)()

    def workers(self):
        """Process ids of the engine's workers, the launcher aside."""
        rows = self.rig.try_sql("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'kstream%' "
                                "AND backend_type <> 'kstream launcher'", "postgres")
        return [row[0] for row in rows or []]

    def signal_worker(self, number):
        """A signal to one of them; its process id, or None where there is none."""
        pids = wait_until(10, self.workers)
        if not pids:
            return None
        pid = self.rng.choice(sorted(pids))
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return None
        return pid

    def worker_kill(self):
        """SIGKILL: the server restarts."""
        self.signal_worker(signal.SIGKILL)

    def worker_freeze(self):
        """SIGSTOP, as a machine that is too busy does."""
        pause = self.rng.choice([0.5, 1, 2, self.rig.options.freeze])
        pid = self.signal_worker(signal.SIGSTOP)
        time.sleep(pause)
        if pid:
            os.kill(pid, signal.SIGCONT)

    def worker_terminate(self):
        """What an administrator does."""
        self.rig.try_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'kstream%' "
                         "AND backend_type <> 'kstream launcher'", "postgres")

    def backend_kill(self):
        """SIGKILL of a session that has nothing to do with us: the server restarts."""
        connection = psycopg2.connect(host=self.rig.cluster, port=self.rig.port, user="postgres", dbname="postgres")
        os.kill(connection.get_backend_pid(), signal.SIGKILL)
        connection.close()

    def postmaster_kill(self):
        """SIGKILL of the postmaster, and a new one."""
        self.rig.postgres("kill")
        time.sleep(self.rng.random())
        self.rig.postgres("start")

    def lost_tail(self):
        """The WAL writer stops, then everything is killed: commits that were not flushed are forgotten."""
        rows = self.rig.try_sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'", "postgres")
        if rows:
            os.kill(rows[0][0], signal.SIGSTOP)
        time.sleep(0.3 + 2 * self.rng.random())
        kill = subprocess.Popen([os.path.join(TOP, "test/rig/cluster.sh"), "kill", self.rig.cluster, str(self.rig.port)])
        time.sleep(0.1)
        if rows:
            os.kill(rows[0][0], signal.SIGKILL)
        kill.wait()
        self.rig.postgres("start")

    def broker_kill(self):
        """SIGKILL; it comes back."""
        self.rig.broker("kill")
        time.sleep(3 * self.rng.random())
        self.rig.broker("start")

    def broker_stop(self):
        """A clean stop."""
        self.rig.broker("stop")
        self.rig.broker("start")

    def broker_freeze(self):
        """It does nothing for a while."""
        self.rig.broker("freeze")
        time.sleep(1 + 4 * self.rng.random())
        self.rig.broker("thaw")

    def generator_kill(self):
        """SIGKILL of the load, which leaves a transaction open."""
        self.rig.kill_generator()
        self.rig.start_generator()

    def for_a_while(self, *command):
        """A state of the network that ends."""
        self.rig.proxy.command(*command)
        time.sleep(0.3 + 4 * self.rng.random())
        self.rig.proxy.command("heal")

    def net_reset(self):
        """All connections at once, several times."""
        for _ in range(self.rng.randint(1, 5)):
            self.rig.proxy.command("reset")
            time.sleep(0.3 * self.rng.random())

    def net_cut(self):
        """Nobody is there."""
        self.for_a_while("cut")

    def net_blackhole(self):
        """Nothing arrives, in one direction or in both."""
        self.for_a_while("blackhole", *self.rng.choice([[], ["up"], ["down"]]))

    def net_delay(self):
        """Everything takes long."""
        self.for_a_while("delay", self.rng.choice([20, 100, 400]), 50)

    def net_throttle(self):
        """A narrow line."""
        self.for_a_while("throttle", 64000)

    def rule(self, action, api):
        """Something happens to the n-th request of a kind, or to its answer; then the connections are reset."""
        proxy = self.rig.proxy
        proxy.command(action, api, 1, self.rng.randint(0, 10) if api in ("Fetch", "Produce", "commit") else 0)
        if api in ("InitProducerId", "ListOffsets", "Metadata"):
            self.worker_terminate()
        if not proxy.command("wait", 15):
            self.missed.append("%s %s" % (action, api))
        time.sleep(2 * self.rng.random())
        # what is held arrives while the client is already at its next transaction
        if action != "drop response" or self.rng.random() < 0.5:
            proxy.command("release")
        time.sleep(self.rng.random())
        proxy.command("reset")
        proxy.command("heal")

    def point(self, name, action):
        """The engine crashes, or fails, the n-th time it gets to a point."""
        nth = 1 if name == "after_open" else self.rng.randint(1, 30)
        size = os.path.getsize(os.path.join(self.rig.cluster, "server.log"))
        self.set_points("%s:%s:%d" % (name, action, nth))
        if name == "after_open":
            self.worker_terminate()
        if not wait_until(20, lambda: self.hit(size, name, action)):
            self.missed.append("point %s %s" % (name, action))
        self.set_points("")

    def hit(self, size, name, action):
        """Has the log said so since?"""
        with open(os.path.join(self.rig.cluster, "server.log"), encoding="utf-8", errors="replace") as source:
            source.seek(size)
            text = source.read()
        return re.search(r"was terminated by signal 9" if action == "crash" else r'fault point "%s"' % name, text)

    def set_points(self, text):
        """Fault points from now on."""
        with open(os.path.join(self.rig.cluster, "data/faults.conf"), "w", encoding="utf-8") as out:
            out.write("kstream.fault_points = '%s'\n" % text)
        wait_until(30, lambda: self.rig.try_sql("SELECT pg_reload_conf()", "postgres"))


class Trial:
    """The faults one after the other, and the verdict."""

    def __init__(self, rig, options):
        self.rig, self.options = rig, options
        self.rng = random.Random(options.seed)
        self.violations = []
        self.recovery, self.done = [], {}
        self.busy = 0
        self.live = None

    def violation(self, name, detail):
        """Something is wrong."""
        self.violations.append("%s: %s" % (name, detail))
        log("VIOLATION %s: %s" % (name, detail))

    def plan(self, faults):
        """The kinds in their order: each once, then by chance."""
        kinds = sorted(faults.kinds)
        if self.options.only:
            kinds = [kind for kind in kinds if re.search(self.options.only, kind)]
            if not kinds:
                raise SystemExit("out.py: no fault fits " + self.options.only)
        plan = []
        while len(plan) < self.options.faults:
            self.rng.shuffle(kinds)
            plan += kinds
        return plan[:self.options.faults]

    def moves(self, before, seconds):
        """Waits until queries have processed more and, where topics are written, more has been published."""
        return wait_until(seconds, lambda: self.rig.progress() > before[0] >= 0 and
                          (not self.rig.topology.outputs or self.rig.published() > before[1] >= 0))

    def mark(self):
        """How far everything is."""
        return self.rig.progress(), self.rig.published() if self.rig.topology.outputs else 0

    def strike(self, faults, kind):
        """One fault: while work is going on, and then it goes on again."""
        before = self.mark()
        time.sleep(0.2 + 0.8 * self.rng.random())
        if self.moves(before, 0):
            self.busy += 1
        log("fault %d: %s" % (sum(self.done.values()) + 1, kind))
        self.done[kind] = self.done.get(kind, 0) + 1
        faults.strike(kind)
        start = time.time()
        after = wait_until(60, lambda: [m for m in [self.mark()] if min(m) >= 0])
        if after and self.moves(after[0], self.options.patience):
            self.recovery.append(time.time() - start)
        else:
            self.violation("stuck", "nothing moves after %s: %s" % (
                kind, self.rig.try_sql("SELECT name, state, last_error FROM kstream.queries")))

    def catch_up(self):
        """The load ends, and everything is processed and published."""
        self.rig.proxy.command("heal")
        self.rig.stop_generator()
        end = time.time() + 600
        while True:
            try:
                self.rig.sql("SELECT kstream.wait(timeout => '5 min')")
                return
            except psycopg2.Error as e:
                # a query that failed by the last fault is tried again by itself
                if (e.pgcode == "KS001" or time.time() > end) and time.time() > end - 300:
                    self.violation("stuck", "wait: %s" % str(e).strip())
                    return
                time.sleep(1)

    def checks(self):
        """What the records of the topics must fulfil."""
        topology = self.rig.topology
        load = topology.names[topology.load[0]]
        words = ["set", "topic=" + load, "field=id", "log=" + self.rig.log_file,
                 "order", "topic=" + load, "field=id", "strict=1", "partitioned", "topic=" + load]
        for check in topology.verify:
            words += [re.sub(r"@log@", self.rig.log_file, topology.filled(word)) for word in check]
        return words

    def start_live(self):
        """A consumer that reads all the time; it judges when all is over."""
        self.live = subprocess.Popen(
            [os.path.join(TOP, "test/verify/verify.sh"), self.rig.broker_address, "live=" + self.file("over", "now"), *self.checks()],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def judge(self, who, code, out):
        """Takes what a consumer says."""
        for line in out.splitlines():
            if line.startswith("ok "):
                log("%s: %s" % (who, line))
            else:
                self.violation(who, line)
        if code not in (0, 1):
            self.violation(who, "gives no verdict")

    def verify_topics(self):
        """What the independent consumer says; what it has read goes into files."""
        topology = self.rig.topology
        words = []
        for name in [topology.load[0]] + topology.outputs:
            words += ["settled", "topic=" + topology.names[name], "for=60"]
        words += self.checks()
        for name in topology.read:
            words += ["print", "topic=" + topology.names[name], "out=" + self.file("read", name)]
        for name in topology.fold:
            words += ["fold", "topic=" + topology.names[name], "out=" + self.file("fold", name)]
        if topology.outputs:
            words += ["nothing-extra", "topic=" + ",".join(topology.names[name] for name in topology.outputs),
                      "for=%g" % self.options.extra]
        done = subprocess.run([os.path.join(TOP, "test/verify/verify.sh"), self.rig.broker_address, *words],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.judge("reader", done.returncode, done.stdout)
        with open(self.file("over", "now"), "w", encoding="utf-8"):
            pass
        out, _ = self.live.communicate(timeout=300)
        self.judge("live reader", self.live.returncode, out)

    def file(self, kind, name):
        """Where the consumer writes what it has read."""
        return os.path.join(self.rig.work, "%s.%s.%d" % (kind, name, os.getpid()))

    def load_reference(self):
        """Tables ref.NAME of what the consumer has read, and ref.fold_NAME."""
        connection = psycopg2.connect(host=self.rig.cluster, port=self.rig.port, user="postgres", dbname=DB)
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA IF NOT EXISTS ref")
            for kind, names, columns in (
                    ("read", self.rig.topology.read,
                     'topic text, p int, o bigint, ts bigint, key text, value text, headers jsonb'),
                    ("fold", self.rig.topology.fold, 'key text, value text')):
                for name in names:
                    table = "ref." + ("fold_" if kind == "fold" else "") + name
                    cursor.execute("CREATE TABLE %s (%s, j jsonb GENERATED ALWAYS AS (value::jsonb) STORED)" % (table, columns))
                    with open(self.file(kind, name), encoding="utf-8") as source:
                        cursor.copy_expert("COPY %s (%s) FROM STDIN" % (
                            table, ", ".join(column.split()[0] for column in columns.split(", "))), source)
                    cursor.execute("ANALYZE " + table)
        connection.close()

    def compare(self):
        """Pairs of queries that must give the same rows."""
        for left, right in self.rig.topology.equal:
            rows = self.rig.sql(
                "SELECT count(*), (array_agg(x::text))[1:5] FROM ("
                "(SELECT 'only left', * FROM ({0}) l EXCEPT ALL SELECT 'only left', * FROM ({1}) r) UNION ALL "
                "(SELECT 'only right', * FROM ({1}) r EXCEPT ALL SELECT 'only right', * FROM ({0}) l)) x".format(left, right))
            if rows[0][0]:
                self.violation("unequal", "%s === %s: %d rows, such as %s" % (left, right, rows[0][0], rows[0][1]))
            else:
                log("equal: %s" % left)

    def standins(self):
        """Rows (key, value) of queries put into topics by the test, where the engine cannot yet."""
        for name, query in self.rig.topology.standins:
            program = self.rig.compiled("producer")
            lines = ["begin"]
            for number, (key, value) in enumerate(self.rig.sql(query)):
                lines.append("\t".join(["send", self.rig.topology.names[name], "-1", "0", key.encode().hex(),
                                        value.encode().hex(), b"kstream_seq".hex(), str(number + 1).encode().hex()]))
            subprocess.run([program, self.rig.broker_address], input="\n".join(lines + ["commit", ""]), text=True,
                           stdout=subprocess.DEVNULL, check=True)

    def check_log(self):
        """Lines of the server's log that nothing may cause."""
        with open(os.path.join(self.rig.cluster, "server.log"), encoding="utf-8", errors="replace") as source:
            for line in source:
                if re.search(r"TRAP|PANIC|Assert|(?<!some data is )corrupt|server process .* was terminated by signal (?!9\b)", line):
                    self.violation("log", line.strip())

    def run(self):
        """The whole trial."""
        self.start_live()
        if not wait_until(60, lambda: self.moves((0, 0), 0)):
            self.violation("stuck", "the queries do not start")
        faults = Faults(self.rig, self.rng)
        for kind in self.plan(faults):
            self.strike(faults, kind)
        if self.options.faults and self.busy * 2 < self.options.faults:
            self.violation("idle", "work was going on at %d of %d faults only" % (self.busy, self.options.faults))
        self.catch_up()
        self.standins()
        self.verify_topics()
        self.load_reference()
        self.compare()
        self.check_log()
        return faults

    def report(self, faults):
        """The line of JSON."""
        times = sorted(self.recovery) or [0]
        return {"topology": self.rig.topology.name, "seed": self.options.seed, "records": self.rig.committed(),
                "faults": sum(self.done.values()), "busy": self.busy, "kinds": self.done, "missed": faults.missed,
                "t_p50": round(times[len(times) // 2], 2), "t_p95": round(times[int(len(times) * 0.95)], 2),
                "t_max": round(times[-1], 2), "violations": len(self.violations)}


def main():
    """See the head of this file."""
    parser = argparse.ArgumentParser(description="Exactly-once under faults, from topic to topic.")
    parser.add_argument("topology")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100000)
    parser.add_argument("--faults", type=int, default=20, help="how many")
    parser.add_argument("--only", help="kinds of faults, a regular expression")
    parser.add_argument("--rate", type=int, default=2000, help="records per second")
    parser.add_argument("--batch-rows", type=int, default=200)
    parser.add_argument("--freeze", type=float, default=3, help="longest time for which a worker is stopped")
    parser.add_argument("--patience", type=float, default=90, help="seconds until work must go on after a fault")
    parser.add_argument("--extra", type=float, default=5, help="seconds in which nothing more may arrive at the end")
    parser.add_argument("--work", help="directory (made where none is given)")
    parser.add_argument("--port", type=int, help="of the cluster")
    parser.add_argument("--keep", action="store_true", help="leave the servers running")
    options = parser.parse_args()
    rig = Rig(options, Topology(options.topology, "%d_%d" % (options.seed, os.getpid())))
    log("out.py --seed %d --faults %d %s in %s" % (options.seed, options.faults, shlex.quote(options.topology), rig.work))
    trial = Trial(rig, options)
    try:
        able = rig.start()
        if able:
            print(json.dumps(trial.report(trial.run())))
    finally:
        rig.stop(trial.live)
    sys.exit(3 if not able else 1 if trial.violations else 0)


START = time.time()
if __name__ == "__main__":
    main()
