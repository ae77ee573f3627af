"""Makes a failing case small, and a script of it."""
import copy
import time

import driver
import gen_time


def shrink(case, run, seconds):
    """Leaves out parts for as long as the case still fails."""
    end = time.time() + seconds
    if case.get("time"):
        return gen_time.shrink(case, lambda c: time.time() < end and run(c)[0] == "mismatch")

    def fails(candidate):
        return time.time() < end and run(candidate)[0] == "mismatch"

    changed = True
    while changed and time.time() < end:
        changed = False
        for attempt in (fewer_copies, fewer_events, fewer_rows, fewer_parts):
            for candidate in attempt(case):
                if fails(candidate):
                    case = candidate
                    changed = True
                    break
    return case


def without(case, change):
    candidate = copy.deepcopy(case)
    change(candidate)
    return candidate


def fewer_copies(case):
    for keep in range(case["copies"] if case["copies"] > 1 else 0):
        def change(c):
            c["copies"] = 1
            c["events"] = [e if e[0] == "insert" else [e[0], 0] + e[2:] for e in c["events"] if e[0] == "insert" or e[1] == keep]
        yield without(case, change)


def fewer_events(case):
    for i in reversed(range(len(case["events"]))):
        event = case["events"][i]
        if event[0] == "insert":
            continue
        yield without(case, lambda c: c["events"].pop(i))
        if event[0] in ("step", "drain") and event[3] != "plain":
            yield without(case, lambda c: c["events"][i].__setitem__(3, "plain"))
        if event[0] == "drain" and event[2] != [1000]:
            yield without(case, lambda c: c["events"][i].__setitem__(2, [1000]))


def fewer_rows(case):
    size = max(len(case["rows"]) // 2, 1)
    while size >= 1:
        for start in reversed(range(0, len(case["rows"]), size)):
            yield without(case, lambda c: drop_rows(c, start, size))
        size //= 2


def drop_rows(case, start, size):
    """Leaves rows out, and takes them from the inserts they came with."""
    position = 0
    for event in case["events"]:
        if event[0] != "insert":
            continue
        first, last = position, position + event[1]
        event[1] -= max(0, min(last, start + size) - max(first, start))
        position = last
    case["events"] = [e for e in case["events"] if e[0] != "insert" or e[1] > 0]
    del case["rows"][start:start + size]


def fewer_parts(case):
    query = case["query"]
    for part in ("having", "where", "joins", "outs", "with"):
        for i in reversed(range(len(query[part]) if part in query else 0)):
            if part == "outs" and ("key" in query["outs"][i] or len(query["outs"]) == 1):
                continue
            yield without(case, lambda c: c["query"][part].pop(i))
    for i in reversed(range(len(query["keys"]))):
        yield without(case, lambda c: drop_key(c["query"], i))
    for i in range(len(case.get("session", []))):
        yield without(case, lambda c: c["session"].pop(i))
    if case.get("refuse"):
        yield without(case, lambda c: c.__setitem__("refuse", None))
    for stream in range(len(case["streams"])):
        for partitions in range(1, case["streams"][stream]["partitions"]):
            def change(c):
                c["streams"][stream]["partitions"] = partitions
                for row in c["rows"]:
                    if row["s"] == stream:
                        row["p"] %= partitions
            yield without(case, change)


def drop_key(query, i):
    query["keys"].pop(i)
    query["keytypes"].pop(i)
    query["outs"] = [o for o in query["outs"] if o.get("key") != i]
    for out in query["outs"]:
        if out.get("key", -1) > i:
            out["key"] -= 1


def script_of(db, case, text):
    """
    A script that fails by itself in an empty database of a server that preloads
    kstream: what the run did, with its comparisons as assertions.
    """
    script = []
    run = (gen_time if case.get("time") else driver).Run(db, case, script)
    try:
        run.run()
    except Exception:
        pass        # how it fails is in text
    finally:
        run.ks.script = None
    lines = ["/*", "Seed %s of the law test." % case["seed"], text[:3000].replace("*/", "* /").replace("/*", "/ *"), "*/",
             "\\set ON_ERROR_STOP on", "\\set QUIET on", "CREATE EXTENSION IF NOT EXISTS kstream;", "\\ir ../fixture.sql",
             "RESET search_path;", driver.SETTINGS + ";"]
    lines += ["%s;" % statement for statement in script if statement]
    return "\n".join(lines) + "\n"
