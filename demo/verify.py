#!/usr/bin/env python3
"""verify.py BOOTSTRAP ORDERS_TOPIC CUSTOMERS_TOPIC: counts the topics again, and compares.

The independent count: kcat reads both topics from beginning to end, and this
program adds up what it sees, knowing nothing of how kstream works.  Exit code 0
when every table is equal to that count, 1 when any is not.
"""
import json
import subprocess
import sys
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal

import psycopg2

VAT = {"DE": "0.19", "FR": "0.20", "IT": "0.22", "ES": "0.21", "PL": "0.23", "NL": "0.21", "SE": "0.25", "PT": "0.23"}


def records(bootstrap, topic):
    """Every record of a topic: partition, offset, key, value (None for a tombstone)."""
    command = ["kcat", "-C", "-q", "-e", "-b", bootstrap, "-t", topic, "-o", "beginning", "-f", "%p\t%o\t%k\t%S\t%s\n"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as kcat:
        for line in kcat.stdout:
            partition, offset, key, size, value = line.rstrip("\n").split("\t", 4)
            yield int(partition), int(offset), key, None if size == "-1" else value
    if kcat.returncode != 0:
        raise SystemExit(f"kcat could not read topic {topic}")


def last_of_each_key(bootstrap, topic):
    """What a table over a topic must hold."""
    table = {}
    for _, _, key, value in records(bootstrap, topic):
        if value is None:
            table.pop(key, None)
        else:
            row = json.loads(value)
            table[key] = (row["name"], row["country"], row["tier"])
    return table


def add_up(bootstrap, topic, customers):
    """What the tables over orders must hold, and which records are bad for which of them."""
    count = {"records": 0, "customer": defaultdict(lambda: [0, Decimal(0), Decimal(0)]),
             "country": defaultdict(lambda: [0, Decimal(0)]), "enriched": {}, "damaged": set(), "no_items": set()}
    for partition, offset, key, value in records(bootstrap, topic):
        count["records"] += 1
        try:
            order = json.loads(value, parse_float=Decimal)
            if isinstance(order["amount"], str):
                raise ValueError("no number")
        except ValueError:
            count["damaged"].add((partition, offset))
            continue
        amount = Decimal(order["amount"])
        country = customers[key][1] if key in customers else "??"
        total = count["customer"][key]
        total[0], total[1], total[2] = total[0] + 1, total[1] + amount, max(total[2], amount)
        total = count["country"][country]
        total[0], total[1] = total[0] + 1, total[1] + amount
        if order["items"] == 0:
            count["no_items"].add((partition, offset))
            continue
        vat = (amount * Decimal(VAT[country])).quantize(Decimal("0.01"), ROUND_HALF_UP) if country in VAT else None
        count["enriched"][order["id"]] = (key, country, amount, vat)
    return count


class Comparison:
    """Prints one line per comparison and remembers whether all were equal."""

    def __init__(self, cursor):
        self.cursor = cursor
        self.equal = True

    def rows(self, statement):
        """Rows of a statement."""
        self.cursor.execute(statement)
        return self.cursor.fetchall()

    def compare(self, what, counted, found, note):
        """Compares two values; where they are sets or dicts, says how many differ."""
        same = counted == found
        self.equal = self.equal and same
        print(f"  {'equal ' if same else 'DIFFER'}  {what:<14}{note}")
        if not same:
            first = sorted(map(str, set(map(str, dict_or_set(counted))) ^ set(map(str, dict_or_set(found)))))[:3]
            print(f"          counted {len(dict_or_set(counted)):,}, found {len(dict_or_set(found)):,};"
                  f" first differences: {'; '.join(first)}")


def dict_or_set(value):
    """The entries of a dict, or a set as it is."""
    return set(value.items()) if isinstance(value, dict) else set(value)


def compare_tables(comparison, customers, count):
    """Each table with its count."""
    found = {row[0]: tuple(row[1:]) for row in comparison.rows("SELECT customer, name, country, tier FROM customers")}
    comparison.compare("customers", customers, found, f"{len(found):,} rows, all columns")
    found = {row[0]: tuple(row[1:]) for row in
             comparison.rows("SELECT customer, orders, revenue, biggest FROM per_customer")}
    comparison.compare("per_customer", {key: tuple(total) for key, total in count["customer"].items()}, found,
                       f"{len(found):,} customers: orders, revenue, biggest order of each")
    found = {row[0]: tuple(row[1:]) for row in comparison.rows("SELECT country, orders, revenue FROM revenue")}
    comparison.compare("revenue", {key: tuple(total) for key, total in count["country"].items()}, found,
                       f"{len(found):,} countries: {sum(row[0] for row in found.values()):,} orders,"
                       f" {sum(row[1] for row in found.values()):,}")
    rows = comparison.rows("SELECT id, customer, coalesce(country, '??'), amount, vat FROM enriched")
    found = {row[0]: tuple(row[1:]) for row in rows}
    comparison.compare("enriched", count["enriched"], found, f"{len(rows):,} rows: customer, country, amount, VAT of each")
    comparison.compare("enriched", [0], [len(rows) - len(found)], "no order is there twice")


def compare_dead_letters(comparison, count):
    """Bad records: the same ones, and none besides."""
    bad = {"per_customer": count["damaged"], "revenue": count["damaged"], "enriched": count["damaged"] | count["no_items"],
           "customers": set()}
    found = {name: [] for name in bad}
    for name, partition, offset in comparison.rows('SELECT query, partition, "offset" FROM kstream.dead_letters'):
        found.setdefault(name, []).append((partition, offset))
    comparison.compare("dead letters", {name: tuple(sorted(places)) for name, places in bad.items()},
                       {name: tuple(sorted(places)) for name, places in found.items()},
                       f"{sum(map(len, found.values())):,}: the damaged records of each query, each once")
    found = {name: (records_in, lag) for name, records_in, lag in comparison.rows(
        "SELECT name, records_in, (SELECT sum(lag) FROM kstream.stat_partition p WHERE p.relation = s.relation)::int"
        " FROM kstream.stat_query s WHERE name <> 'customers'")}
    comparison.compare("counters", {name: (count["records"], 0) for name in ("per_customer", "revenue", "enriched")},
                       found, f"{count['records']:,} records read by each query, nothing left to read")


def main():
    """Counts, compares, says what came out."""
    bootstrap, orders, customers_topic = sys.argv[1:4]
    customers = last_of_each_key(bootstrap, customers_topic)
    count = add_up(bootstrap, orders, customers)
    print(f"The topics hold {count['records']:,} orders, {len(count['damaged']):,} of them damaged and"
          f" {len(count['no_items']):,} without items, and {len(customers):,} customers.")
    connection = psycopg2.connect(dbname="postgres", user="postgres")
    comparison = Comparison(connection.cursor())
    compare_tables(comparison, customers, count)
    compare_dead_letters(comparison, count)
    if comparison.equal and count["records"] > 0:
        print("OK: every record counted exactly once")
        return 0
    print("FAIL: the tables differ from the topics")
    return 1


sys.exit(main())
