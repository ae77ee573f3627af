#!/usr/bin/env python3
"""report.py RESULTS: prints the machine, a table of medians and the ratios of a
run of run.sh, from its lines of JSON."""

import json
import os
import platform
import statistics
import subprocess
import sys


def first_line(*command):
    """The first line a command prints, or '?'."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return (done.stdout or done.stderr).splitlines()[0].strip()
    except (OSError, IndexError):
        return "?"


def machine():
    """What the figures were measured on."""
    model = "?"
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return "%d cores of %s, Linux %s; %s, librdkafka %s, %s" % (
        os.cpu_count(), model, platform.release(), first_line("postgres", "--version"),
        first_line("pkg-config", "--modversion", "rdkafka"), first_line("java", "--version"))


def read(path):
    """Name of a measurement -> its runs, in the order of the file."""
    runs = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            result = json.loads(line)
            runs.setdefault(result["name"], []).append(result)
    return runs


def median(runs, name, field):
    """The median of a field over the runs of a measurement, or None."""
    values = [r[field] for r in runs.get(name, []) if field in r]
    return statistics.median(values) if values else None


def cell(value, digits):
    """A number for a table."""
    return "" if value is None else f"{value:,.{digits}f}"


def ratio(runs, label, name):
    """A line that compares both systems in a measurement, if both have it."""
    ours, theirs = f"kstream-{name}", f"streams-{name}"
    if ours in runs and theirs in runs:
        rate = median(runs, ours, "rate") / median(runs, theirs, "rate")
        cpu = median(runs, theirs, "cpu_us") / median(runs, ours, "cpu_us")
        print(f"{label}: {rate:.1f} times Kafka Streams' throughput, {cpu:.1f} times less CPU per record")


CPU, PEAK = ("CPU us per record", "cpu_us", 2), ("peak MB", "peak_mb", 0)


def rates(runs, names, ratios, *columns):
    """A table of measurements of throughput with these columns (heading, field,
    digits), and below it the ratios (label, name)."""
    names = [n for n in names if n in runs]
    if not names:
        return
    print("| measurement | records/s (median) | each run | %s | runs | right |" % " | ".join(heading for heading, _, _ in columns))
    print("|---|---:|---|%s---:|---|" % ("---:|" * len(columns)))
    for name in names:
        each = " ".join(f"{r['rate'] / 1000:,.0f}k" for r in runs[name])
        cells = " | ".join(cell(median(runs, name, field), digits) for _, field, digits in columns)
        right = "yes" if all(r["ok"] for r in runs[name]) else "NO"
        print(f"| {name} | {cell(median(runs, name, 'rate'), 0)} | {each} | {cells} | {len(runs[name])} | {right} |")
    print()
    for label, name in ratios:
        ratio(runs, label, name)
    print()


def both(*names):
    """The measurements of these names, of both systems."""
    return [f"{system}-{name}" for name in names for system in ("kstream", "streams")]


def latency(runs):
    """The table of the paced runs."""
    names = ("client-latency", "kstream-latency", "streams-latency", "streams-eos-latency", "kstream-echo-eos",
             "streams-echo-eos", "kstream-echo-alo", "streams-echo-alo")
    names = [n for n in names if n in runs]
    if not names:
        return
    print("| measurement | p50 ms | p90 ms | p99 ms | max ms | p99 of each run | cores used | runs | right |")
    print("|---|---:|---:|---:|---:|---|---:|---:|---|")
    for name in names:
        each = " ".join(f"{r['p99_ms']:.1f}" for r in runs[name])
        right = "yes" if all(r["ok"] for r in runs[name]) else "NO"
        print(f"| {name} | {cell(median(runs, name, 'p50_ms'), 2)} | {cell(median(runs, name, 'p90_ms'), 2)} "
              f"| {cell(median(runs, name, 'p99_ms'), 2)} | {cell(median(runs, name, 'max_ms'), 1)} | {each} "
              f"| {cell(median(runs, name, 'cpu_share'), 2)} | {len(runs[name])} | {right} |")
    print()


def main():
    runs = read(sys.argv[1])
    disturbed = sum(1 for each in runs.values() for r in each if r["others_before"] >= 0.25)
    print()
    print(machine())
    print()
    rates(runs, ["drain", *both("10k", "1m")], [("10k keys", "10k"), ("1m keys", "1m")],
          CPU, PEAK, ("without shared buffers", "private_mb", 0))
    rates(runs, both("tumble", "hop", "join"), [(name, name) for name in ("tumble", "hop", "join")],
          CPU, PEAK, ("state MB", "state_mb", 0))
    rates(runs, both("enrich-eos", "enrich-alo"), [("join, eos", "enrich-eos"), ("join, alo", "enrich-alo")],
          ("from the start s", "from_start_s", 2), CPU, PEAK, ("private MB", "private_mb", 0))
    latency(runs)
    if disturbed:
        print(f"{disturbed} runs began while something else used more than a quarter of a core: repeat on a quiet machine")


if __name__ == "__main__":
    main()
