#!/usr/bin/env python3
"""show.py SECONDS: the screen of the demo, and what happens while one watches.

Reads everything it shows from the database twice a second, with plain SQL on
the tables and kstream's views.  On a terminal the tables move in place; without
one a short report is printed every five seconds.  The environment says where
things are: PGHOST, PGPORT (the database), KS_TOP, KS_DEMO_RUN (directories) and
KS_DEMO_BROKER_PORT (empty: the broker is not ours, so it is left alone).
"""
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import psycopg2

TOP = os.environ["KS_TOP"]
RUN = os.environ["KS_DEMO_RUN"]
BROKER_PORT = os.environ.get("KS_DEMO_BROKER_PORT", "")
TTY = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"

BOLD, DIM, OFF = ("\033[1m", "\033[2m", "\033[0m") if TTY else ("", "", "")

QUERIES = {
    "countries": "SELECT country, orders, revenue, average FROM revenue ORDER BY revenue DESC LIMIT 9",
    "top": "SELECT customer, name, tier, orders, revenue FROM top_customers",
    "last": "SELECT id, customer, coalesce(name, '-'), coalesce(country, '??'), amount, per_item, vat"
            " FROM enriched ORDER BY id DESC LIMIT 3",
    "queries": """
        SELECT q.name, q.state, s.records_in, s.dead, l.lag, s.commit_p50_ms, s.commit_p99_ms,
               s.e2e_p50_ms, s.e2e_p99_ms, q.worker_pid, l.ends
          FROM kstream.queries q
               JOIN kstream.stat_query s USING (relation)
               LEFT JOIN (SELECT relation, sum(lag)::bigint AS lag, sum(end_offset)::bigint AS ends
                            FROM kstream.stat_partition GROUP BY relation) l USING (relation)
         ORDER BY q.id""",
    "bad": 'SELECT query, partition, "offset", message FROM kstream.dead_letters ORDER BY id DESC LIMIT 1',
}


class Show:
    """What is known about the database, and what has happened."""

    def __init__(self, seconds):
        self.start = time.monotonic()
        self.seconds = seconds
        self.events = []
        self.rows = {name: [] for name in QUERIES}
        self.history = {}
        self.rate = {}
        self.connection = None
        self.down_since = None
        self.printed_events = 0

    def passed(self):
        """Seconds since the start."""
        return time.monotonic() - self.start

    def say(self, text):
        """Notes something that has happened, for the list of events."""
        self.events.append((self.passed(), text))

    def refresh(self):
        """Reads everything anew; while the database is away what was read last stays."""
        try:
            if self.connection is None:
                self.connection = psycopg2.connect(dbname="postgres", user="postgres", connect_timeout=2,
                                                   application_name="demo screen")
                self.connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with self.connection, self.connection.cursor() as cursor:
                for name, statement in QUERIES.items():
                    cursor.execute(statement)
                    self.rows[name] = cursor.fetchall()
        except psycopg2.Error as error:
            if self.connection is not None:
                self.connection.close()
                self.connection = None
            if self.down_since is None:
                self.down_since = self.passed()
                lines = str(error).strip().splitlines()
                self.say("the database is away: " + (lines[0] if lines else "connection lost"))
            return
        if self.down_since is not None:
            self.say(f"the database is back after {self.passed() - self.down_since:.1f} s;"
                     " the workers have started by themselves")
            self.down_since = None
        self.measure()

    def measure(self):
        """Records per second of each query, over the last two seconds."""
        for row in self.rows["queries"]:
            points = self.history.setdefault(row[0], [])
            points.append((self.passed(), row[2]))
            while len(points) > 2 and points[0][0] < self.passed() - 2:
                points.pop(0)
            (from_time, from_count), (to_time, to_count) = points[0], points[-1]
            self.rate[row[0]] = (to_count - from_count) / (to_time - from_time) if to_time > from_time else 0

    def worker_pid(self):
        """The process that runs the query per_customer, or None."""
        return next((row[9] for row in self.rows["queries"] if row[0] == "per_customer" and row[9]), None)


def number(value, digits=0):
    """A number as people read it."""
    return "-" if value is None else f"{value:,.{digits}f}"


def beside(left, right, width):
    """Two blocks of lines, one beside the other."""
    height = max(len(left), len(right))
    left, right = left + [""] * (height - len(left)), right + [""] * (height - len(right))
    return [a.ljust(width) + "  " + b for a, b in zip(left, right)]


def tables(show):
    """The lines of the aggregates that move."""
    countries = ["revenue                  orders        sum    avg"]
    most = max([row[2] for row in show.rows["countries"]] or [1])
    for country, orders, revenue, average in show.rows["countries"]:
        bar = "█" * round(16 * float(revenue / most)) if most else ""
        countries.append(f"{country} {bar:<17}{number(orders):>9}{number(revenue):>12}{number(average, 2):>7}")
    top = ["top_customers (a view)         orders       sum"]
    for customer, name, tier, orders, revenue in show.rows["top"]:
        top.append(f"{customer} {name[:16]:<16} {tier or '':<7}{number(orders):>6}{number(revenue):>11}")
    lines = beside(countries, top, 48)
    lines[0] = BOLD + lines[0] + OFF
    return lines


def last_rows(show):
    """The lines of the append-only table."""
    lines = ["", f"{BOLD}enriched, its last rows{OFF}"]
    for ident, customer, name, country, amount, per_item, vat in show.rows["last"]:
        lines.append(f"{ident:>9}  {customer} {name[:18]:<18} {country}  amount {number(amount, 2):>9}"
                     f"  per item {number(per_item, 2):>8}  VAT {number(vat, 2):>8}")
    return lines


def statistics(show):
    """The lines about the queries themselves."""
    lines = ["", f"{BOLD}query            records   per s      lag  bad   commit ms p50/p99   end to end ms p50/p99  state{OFF}"]
    for name, state, records, dead, lag, c50, c99, e50, e99, _, _ in show.rows["queries"]:
        lines.append(f"{name:<13}{records:>11,}{show.rate.get(name, 0):>8,.0f}{number(lag):>9}{dead:>5}"
                     f"{number(c50, 1):>13} /{number(c99, 1):>6}{number(e50, 1):>14} /{number(e99, 1):>9}  {state}")
    for query, partition, offset, message in show.rows["bad"]:
        lines.append(f"{DIM}last bad record: {query}, partition {partition}, offset {offset}: {message}{OFF}")
    return lines


def happened(show, count):
    """The lines of the last events."""
    lines = ["", f"{BOLD}what happens{OFF}"]
    lines += [f"[{at:4.0f} s] {text}" for at, text in show.events[-count:]]
    return lines


def clock(show):
    """The line at the top."""
    ends = next((row[10] for row in show.rows["queries"] if row[0] == "per_customer"), 0)
    if show.down_since is not None:
        return f"{BOLD}kstream{OFF}  {show.passed():3.0f} of {show.seconds} s   the database is away; below is what was read last"
    return (f"{BOLD}kstream{OFF}  {show.passed():3.0f} of {show.seconds} s"
            f"   orders in the topic: {number(ends)}   look yourself: psql -h {os.environ['PGHOST']}"
            f" -p {os.environ['PGPORT']} -U postgres")


def cut(line, width):
    """A line no longer than the screen; sequences that take no room are not counted."""
    shown, result, at = 0, "", 0
    while at < len(line):
        if line[at] == "\033":
            end = line.index("m", at) + 1
            result += line[at:end]
            at = end
            continue
        if shown < width:
            result += line[at]
        shown += 1
        at += 1
    return result


def screen(show, height):
    """All lines of the screen; what a small one has no room for is left out, least important first."""
    blocks = [[clock(show), ""], tables(show), last_rows(show), statistics(show)]
    if sum(map(len, blocks)) + 7 > height:
        blocks = [[line for line in block if line] for block in blocks]
    if sum(map(len, blocks)) + 5 > height:
        del blocks[2]
    lines = [line for block in blocks for line in block]
    return (lines + happened(show, max(height - len(lines) - 2, 3)))[:height]


def draw(show):
    """The whole screen, in place."""
    columns, height = shutil.get_terminal_size((100, 40))
    lines = screen(show, height - 1)
    sys.stdout.write("\033[H" + "".join(cut(line, columns - 1) + "\033[K\n" for line in lines) + "\033[J")
    sys.stdout.flush()


def report(show, full):
    """Without a terminal: events as they come, and now and then the figures."""
    for at, text in show.events[show.printed_events:]:
        print(f"[{at:4.0f} s] {text}")
    show.printed_events = len(show.events)
    if full:
        print("\n".join([clock(show)] + tables(show) + last_rows(show) + statistics(show)) + "\n")
    sys.stdout.flush()


def rig(script, *arguments):
    """Runs a script of the rig; its output is of no interest unless it fails."""
    done = subprocess.run([f"{TOP}/{script}", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{script} {' '.join(arguments)}: {done.stdout}")


def kill_worker(show):
    """kill -9 of a worker, in the middle of what it does."""
    pid = show.worker_pid()
    if pid is None:
        show.say("no worker to kill is running just now")
        return
    show.say(f"kill -9 {pid}: a worker dies in the middle of a batch. PostgreSQL restarts as after a crash")
    os.kill(pid, signal.SIGKILL)


def freeze_broker(show):
    """The broker stops answering for some seconds."""
    show.say("kill -STOP: the broker is frozen for 5 seconds; orders pile up at the producer")
    rig("test/kafka/broker.sh", "freeze", f"{RUN}/broker", BROKER_PORT)
    time.sleep(5)
    rig("test/kafka/broker.sh", "thaw", f"{RUN}/broker", BROKER_PORT)
    show.say("kill -CONT: the broker goes on; the queries catch up")


def kill_server(show):
    """kill -9 of the whole server, and a new start."""
    show.say("kill -9 of the whole PostgreSQL server, all its processes at once")
    with open(f"{RUN}/cluster/data/postmaster.pid", encoding="ascii") as file:
        postmaster = int(file.readline())
    os.kill(postmaster, signal.SIGSTOP)
    for pid in subprocess.run(["pgrep", "-P", str(postmaster)], stdout=subprocess.PIPE, check=True).stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    rig("test/rig/cluster.sh", "kill", f"{RUN}/cluster", os.environ["PGPORT"])
    time.sleep(1)
    show.say("PostgreSQL is started again")
    rig("test/rig/cluster.sh", "start", f"{RUN}/cluster", os.environ["PGPORT"])


def scenario(show, failures):
    """Runs the events at their times, beside the screen."""
    steps = [(0.22, kill_worker), (0.47, freeze_broker), (0.70, kill_server)]
    for share, step in steps:
        if step is freeze_broker and not BROKER_PORT:
            continue
        time.sleep(max(show.seconds * share - show.passed(), 0))
        try:
            step(show)
        except (OSError, RuntimeError) as error:
            show.say(str(error))
            failures.append(step.__name__)


def main():
    """Shows until the time is over; exit code 1 when an event could not be made to happen."""
    show = Show(int(sys.argv[1]))
    failures = []
    show.say("a generator produces orders and changes of customers; four tables follow")
    threading.Thread(target=scenario, args=(show, failures), daemon=True).start()
    if TTY:
        sys.stdout.write("\033[2J\033[?25l")
    tick = 0
    try:
        while show.passed() < show.seconds:
            began = time.monotonic()
            show.refresh()
            if TTY:
                draw(show)
            else:
                report(show, tick % 10 == 9 and show.down_since is None)
            tick += 1
            time.sleep(max(0.5 - (time.monotonic() - began), 0.05))
    finally:
        if TTY:
            sys.stdout.write("\033[?25h\n")
    return 1 if failures else 0


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
try:
    sys.exit(main())
except KeyboardInterrupt:
    sys.exit(130)
