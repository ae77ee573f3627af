#!/usr/bin/env python3
"""The law test: continuous queries against the same SELECT run in batch.

  law.py [--cases N] [--seed N] [--jobs N] [--minutes M] [--splits N] [--time SHARE] [--stop]

Every seed is a case: random streams, records, lookup tables and a query, of
which several copies process the same records in different steps.  After every
step the table, its dead letters and its counters must be what plain Postgres
gives over exactly the records consumed.  A failing case is shrunk and written
to failures/ as a script that runs by itself.
"""
import os

import checks
import driver
import gen
import gen_time
import jobs
import shrink

HERE = os.path.dirname(os.path.abspath(__file__))


def run_made(db, case, script=None):
    """Runs a case: kind of outcome, text, comparisons."""
    return jobs.outcome_of(db, (gen_time if case.get("time") else driver).Run(db, case, script))


def main():
    parser = jobs.parser(__doc__, 300)
    parser.add_argument("--time", type=float, default=0.4, help="share of cases about event time")
    parser.add_argument("--no-shrink", action="store_true")
    args = parser.parse_args()

    def make(seed):
        timed = args.time * 1000 > seed * 7919 % 1000
        return (gen_time if timed else gen).Generator(seed).make(args.splits)

    def report(db, seed, _):
        """Shrinks the case and writes it down."""
        small = shrink.shrink(make(seed), lambda c: run_made(db, c), 40)
        _, text, _ = run_made(db, small)
        folder = os.path.join(os.environ.get("KS_LAW_FAILURES", os.path.join(HERE, "failures")))
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "seed_%d.sql" % seed)
        with open(path, "w") as file:
            file.write(shrink.script_of(db, small, text))
        return "seed %d: written to %s" % (seed, path)

    jobs.run(args, lambda db, seed: run_made(db, make(seed)), checks.ALL, None if args.no_shrink else report)


if __name__ == "__main__":
    main()
