#!/usr/bin/env python3
"""The law test: continuous queries against the same SELECT run in batch.

  law.py [--cases N] [--seed N] [--jobs N] [--minutes M] [--splits N] [--time SHARE] [--stop]

Every seed is a case: random streams, records, lookup tables and a query, of
which several copies process the same records in different steps.  After every
step the table, its dead letters and its counters must be what plain Postgres
gives over exactly the records consumed.  A failing case is shrunk and written
to failures/ as a script that runs by itself.
"""
import argparse
import collections
import multiprocessing
import os
import queue as queues
import sys
import time

import checks
import driver
import gen
import gen_time
import shrink

STALLED = 150       # seconds without news after which the run is given up
HERE = os.path.dirname(os.path.abspath(__file__))


def run_case(db, case, script=None):
    """Kind of outcome (ok, refused, invalid, mismatch), text, comparisons."""
    if db.ks.conn.closed or db.ref.conn.closed:
        db.connect()
    run = (gen_time if case.get("time") else driver).Run(db, case, script)
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


def wait_for_server(db):
    for _ in range(100):
        try:
            db.connect()
            return
        except driver.psycopg2.Error:
            time.sleep(0.2)
    raise SystemExit("the server does not come back")


def job(number, args, deadline, queue):
    """One process: its own database, every jobs-th seed."""
    name = "law%d_%d" % (os.getpid(), number)
    driver.prepare_database(name)
    db = driver.Database(name)
    try:
        for check in checks.ALL if number == 0 else []:
            try:
                queue.put((0, "check", "%s: %s" % (check.__name__, check(db)), 0, 0))
            except driver.Mismatch as error:
                queue.put((0, "mismatch", "%s: %s" % (check.__name__, error), 0, 0))
        for seed in range(args.seed + number, args.seed + args.cases, args.jobs):
            if time.time() > deadline:
                break
            timed = args.time * 1000 > seed * 7919 % 1000
            case = (gen_time if timed else gen).Generator(seed).make(args.splits)
            started = time.time()
            kind, text, compared = run_case(db, case)
            queue.put((seed, kind, text, compared, time.time() - started))
            if kind == "mismatch" and not args.no_shrink:
                report(db, case, text, queue)
    finally:
        db.close()
        driver.drop_database(name)
        queue.put(None)


def report(db, case, text, queue):
    """Shrinks the case and writes it down."""
    small = shrink.shrink(case, lambda c: run_case(db, c), 40)
    kind, text, _ = run_case(db, small)
    folder = os.path.join(os.environ.get("KS_LAW_FAILURES", os.path.join(HERE, "failures")))
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "seed_%d.sql" % case["seed"])
    with open(path, "w") as file:
        file.write(shrink.script_of(db, small, text))
    queue.put((case["seed"], "shrunk", path, 0, 0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--time", type=float, default=0.4, help="share of cases about event time")
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--stop", action="store_true", help="end with the first failure")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()

    queue = multiprocessing.Queue()
    started = time.time()
    jobs = [multiprocessing.Process(target=job, args=(n, args, started + args.minutes * 60, queue)) for n in range(args.jobs)]
    for process in jobs:
        process.start()
    count, compared, running, slow, reasons = collections.Counter(), 0, args.jobs, 0, collections.Counter()
    shown = last = time.time()
    while running:
        try:
            item = queue.get(timeout=5)
        except queues.Empty:
            died = not all(process.is_alive() or process.exitcode == 0 for process in jobs)
            if not died and time.time() - last < STALLED:
                continue
            print("  FAILED  a process of the test %s" % ("died" if died else "makes no progress"))
            count["mismatch"] += 1
            break
        if item is None:
            running -= 1
            continue
        last = time.time()
        seed, kind, text, done, seconds = item
        if kind in ("shrunk", "check"):
            print("  %s" % ("seed %d: written to %s" % (seed, text) if kind == "shrunk" else text), flush=True)
            continue
        count[kind] += 1
        compared += done
        slow = max(slow, seconds)
        if kind == "mismatch":
            print("  FAILED  seed %d: %s" % (seed, text), flush=True)
            if args.stop:
                for process in jobs:
                    process.terminate()
                break
        elif kind != "ok":
            reasons[kind + ": " + text.splitlines()[0][:110]] += 1
            if args.verbose:
                print("  seed %d %s: %s" % (seed, kind, text.splitlines()[0]), flush=True)
        total = sum(count.values())
        if time.time() - shown > 15:
            shown = time.time()
            print("  %d cases, %d comparisons, %d mismatches, %.0f s" % (total, compared, count["mismatch"], shown - started), flush=True)
    for process in jobs:
        process.join(10)
        if process.is_alive():
            process.terminate()
        if process.exitcode != 0 and not args.stop:
            print("  FAILED  a process of the test died")
            count["mismatch"] += 1

    total = sum(count.values())
    seconds = time.time() - started
    for reason, times in reasons.most_common(200 if args.verbose else 8):
        print("  %4d x %s" % (times, reason))
    print("  law: %d cases (%d equal, %d refused, %d where plain Postgres fails as well), %d splits each, %d comparisons, "
          "%d mismatches, %.0f s, slowest case %.1f s" % (total, count["ok"], count["refused"], count["invalid"], args.splits,
                                                           compared, count["mismatch"], seconds, slow))
    failed = count["mismatch"]
    if count["refused"] + count["invalid"] > total * 0.2:
        print("  FAILED  too many cases prove nothing")
        failed += 1
    if total == 0:
        failed += 1
    print("law: %d equal, %d failed" % (total - count["mismatch"], failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
