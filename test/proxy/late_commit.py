#!/usr/bin/env python3
"""late_commit.py BOOTSTRAP PROXIED CONTROL_SOCKET PRODUCER [ROUNDS [new]]: a commit that arrives late.

A plain librdkafka producer (PRODUCER is test/chaos/producer.c, compiled) comes through
the proxy.  The commit of a transaction is stolen, so that the client repeats it on a new
connection; it is released while the next transaction is open, which is then aborted.  With "new" that one
is a new client's with the same transactional id, which has raised the epoch.
Prints, for each outcome, how often it came: what the client was told, and what a reader
of committed records sees.
"""
import collections
import os
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get("KS_CACHE", os.path.join(HERE, "../../.cache"))


def asker(write, readline):
    """A function that sends a line and returns the answer."""
    def ask(line):
        write(line + "\n")
        return readline().strip()
    return ask


def start(program, proxied):
    """A producer and a function that commands it."""
    producer = subprocess.Popen([program, proxied], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    return producer, asker(producer.stdin.write, producer.stdout.readline)


def end(producer):
    """Ends a producer."""
    producer.stdin.close()
    producer.wait()


def one_round(bootstrap, proxied, proxy, program, new):
    """What the client was told about commit and abort, and the records that count."""
    topic = "late_%d_%d" % (os.getpid(), time.time_ns())
    subprocess.run([os.path.join(CACHE, "kafka/kafkactl"), bootstrap, "create", topic, "1"], check=True)
    begin = "begin\t" + topic
    producer, say = start(program, proxied)

    def send(value):
        say("send\t%s\t0\t0\t-\t%s" % (topic, value.encode().hex()))

    proxy("clear")
    for line in (begin, "flush", "commit", begin):
        say(line)
    send("committed")
    proxy("steal commit")
    told = [say("commit")]
    if new:
        end(producer)
        producer, say = start(program, proxied)
    say(begin)
    send("aborted")
    say("flush")
    proxy("release")
    time.sleep(0.3)
    told.append(say("abort"))
    end(producer)
    lines = subprocess.run([os.path.join(HERE, "../chaos/topic_read.py"), bootstrap, topic],
                           stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return tuple(told), tuple(bytes.fromhex(line.split(",")[4][2:]).decode() for line in lines)


def main():
    """See the head of this file."""
    bootstrap, proxied, control, program = sys.argv[1:5]
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(control)
    proxy = asker(lambda line: sock.sendall(line.encode()), sock.makefile().readline)
    outcomes = collections.Counter(one_round(bootstrap, proxied, proxy, program, "new" in sys.argv[6:])
                                   for _ in range(int(sys.argv[5]) if len(sys.argv) > 5 else 10))
    for (told, seen), count in outcomes.items():
        print("%d times: commit: %s, abort: %s; committed records: %s" % (count, told[0], told[1], ", ".join(seen)))


if __name__ == "__main__":
    main()
