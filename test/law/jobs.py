"""Runs cases in several processes, shows progress and counts; for law.py and join_law.py.

A process works on the seeds that are its turn, in a database of its own.  News
come through a queue as (seed, kind, text, comparisons, seconds): "ok", "refused",
"invalid" and "mismatch" are outcomes of a case, "note" is a line to be shown.
"""
import argparse
import collections
import multiprocessing
import os
import queue as queues
import sys
import time

import driver

STALLED = 150       # seconds without news after which the run is given up


def parser(description, cases):
    """The options that both tests have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--cases", type=int, default=cases)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--jobs", type=int, default=2)
    made.add_argument("--minutes", type=float, default=60)
    made.add_argument("--splits", type=int, default=3)
    made.add_argument("--stop", action="store_true", help="end with the first failure")
    made.add_argument("--verbose", action="store_true")
    return made


def wait_for_server(db):
    """Connects again, as soon as the server lets us."""
    for _ in range(100):
        try:
            db.connect()
            return
        except driver.psycopg2.Error:
            time.sleep(0.2)
    raise SystemExit("the server does not come back")


def outcome_of(db, run):
    """Kind of outcome, text and comparisons of a run of a case."""
    try:
        return "ok", "", run.run()
    except driver.Mismatch as error:
        outcome = "mismatch", str(error), run.compared
    except driver.Invalid as error:
        outcome = "invalid", str(error), run.compared
    except driver.Refused as error:
        outcome = "refused", str(error), run.compared
    if "connection lost" in outcome[1]:
        wait_for_server(db)
    return outcome


def work(number, args, deadline, queue, once, run_case, failed):
    """Body of a process: run_case(db, seed) for its seeds; failed(db, seed, text), or None, is told of a mismatch."""
    name = "law%d_%d" % (os.getpid(), number)
    driver.prepare_database(name)
    db = driver.Database(name)
    try:
        for check in once if number == 0 else []:
            try:
                queue.put((0, "note", "%s: %s" % (check.__name__, check(db)), 0, 0))
            except driver.Mismatch as error:
                queue.put((0, "mismatch", "%s: %s" % (check.__name__, error), 0, 0))
        for seed in range(args.seed + number, args.seed + args.cases, args.jobs):
            if time.time() > deadline:
                break
            if db.ks.conn.closed or db.ref.conn.closed:
                db.connect()
            started = time.time()
            kind, text, compared = run_case(db, seed)
            queue.put((seed, kind, text, compared, time.time() - started))
            if kind == "mismatch" and failed:
                queue.put((seed, "note", failed(db, seed, text), 0, 0))
    finally:
        db.close()
        driver.drop_database(name)
        queue.put(None)


class Tally:
    """What has come of the cases so far."""

    def __init__(self, args):
        self.args = args
        self.count, self.reasons = collections.Counter(), collections.Counter()
        self.compared = self.slowest = 0
        self.started = self.shown = time.time()

    def fail(self, text):
        """One more failure."""
        self.count["mismatch"] += 1
        print("  FAILED  %s" % text, flush=True)

    def take(self, seed, kind, text, compared, seconds):
        """One piece of news."""
        if kind == "note":
            print("  %s" % text, flush=True)
            return
        self.compared += compared
        self.slowest = max(self.slowest, seconds)
        if kind == "mismatch":
            self.fail("seed %d: %s" % (seed, text))
        else:
            self.count[kind] += 1
        if kind in ("refused", "invalid"):
            self.reasons[kind + ": " + text.splitlines()[0][:110]] += 1
            if self.args.verbose:
                print("  seed %d %s: %s" % (seed, kind, text.splitlines()[0]), flush=True)
        if time.time() - self.shown > 15:
            self.shown = time.time()
            print("  %d cases, %d comparisons, %d mismatches, %.0f s" % (
                sum(self.count.values()), self.compared, self.count["mismatch"], self.shown - self.started), flush=True)

    def close(self):
        """The last lines; the exit code."""
        count, total = self.count, sum(self.count.values())
        for reason, times in self.reasons.most_common(200 if self.args.verbose else 8):
            print("  %4d x %s" % (times, reason))
        print("  law: %d cases (%d equal, %d refused, %d where plain Postgres fails as well), %d splits each, %d comparisons, "
              "%d mismatches, %.0f s, slowest case %.1f s" % (
                  total, count["ok"], count["refused"], count["invalid"], self.args.splits, self.compared,
                  count["mismatch"], time.time() - self.started, self.slowest))
        failed = count["mismatch"] + (total == 0)
        if count["refused"] + count["invalid"] > total * 0.2:
            print("  FAILED  too many cases prove nothing")
            failed += 1
        print("law: %d equal, %d failed" % (total - count["mismatch"], failed))
        return 1 if failed else 0


def listen(tally, processes, queue):
    """Takes news until all processes have said that they are through."""
    running, last = len(processes), time.time()
    while running:
        try:
            item = queue.get(timeout=5)
        except queues.Empty:
            died = not all(process.is_alive() or process.exitcode == 0 for process in processes)
            if died or time.time() - last > STALLED:
                tally.fail("a process of the test %s" % ("died" if died else "makes no progress"))
                return
            continue
        if item is None:
            running -= 1
            continue
        last = time.time()
        tally.take(*item)
        if tally.args.stop and tally.count["mismatch"]:
            return


def run(args, run_case, once=(), failed=None):
    """Runs all cases and ends the program; see work() for what is called."""
    fork = multiprocessing.get_context("fork")  # what is to be called cannot be sent to a process started otherwise
    queue = fork.Queue()
    tally = Tally(args)
    deadline = tally.started + args.minutes * 60
    processes = [fork.Process(target=work, args=(n, args, deadline, queue, once, run_case, failed))
                 for n in range(args.jobs)]
    for process in processes:
        process.start()
    listen(tally, processes, queue)
    known = tally.count["mismatch"]
    for process in processes:
        process.join(1 if known and args.stop else 10)
        if process.is_alive():
            process.terminate()
        elif process.exitcode != 0 and not known:
            tally.fail("a process of the test died")
    sys.exit(tally.close())
