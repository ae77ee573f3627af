#!/usr/bin/env python3
"""Prints nanoseconds per JSON record for several sets of wanted columns.

Run by run.sh with DECODE_TEST="python3 decode_speed.py"; the least of many
short runs, so that other work on the machine counts less.
"""
import sys

import psycopg2

DOCUMENT = (b'{"id":123456,"user":"user_4711","ts":"2026-01-02T03:04:05.678Z","amount":12345.67,'
            b'"qty":3,"item":"widget-abc","note":"some longer text goes","ok":true,"ratio":5.25}')
WANTED = ([], ['id'], ['id', 'user'], ['id', 'amount'], ['id', 'amount', 'user'],
          ['id', 'amount', 'ts', 'user'], None)


def main():
    connection = psycopg2.connect(sys.argv[1] + ' dbname=postgres')
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute('CREATE TABLE speed (id bigint, "user" text, amount numeric,'
                   ' ts timestamptz, qty int, ratio float8, ok bool, item text)')
    print(len(DOCUMENT), 'bytes')
    for wanted in WANTED:
        cursor.execute("SELECT min(ks_test_speed('speed', 'json', 'none', '{}', '{}', NULL,"
                       " %s, %s, 5000)) FROM generate_series(1, 300)", (DOCUMENT, wanted))
        print('%7.1f ns  %s' % (cursor.fetchone()[0],
                                'all' if wanted is None else ', '.join(wanted) or 'none'))


main()
