#!/usr/bin/env python3
"""Reads a topic to its end, independently of any Kafka library.

    topic_read.py BOOTSTRAP TOPIC [ends]

Writes one line per committed record, in CSV: partition, offset, timestamp in
milliseconds, key, value; keys and values as \\x and hexadecimal, empty for none.
With "ends" only the ends of the partitions (the last stable offsets) as the
broker gives them: partition, first, end.

Speaks Kafka's protocol itself (Metadata 1..., ListOffsets, Fetch with isolation
level read_committed; record batches of version 2, not compressed or gzip), so
that a count made with it owes nothing to the client library under test.
"""
import io
import socket
import struct
import sys
import zlib

METADATA, LIST_OFFSETS, FETCH = 3, 2, 1
EARLIEST, LATEST = -2, -1
READ_COMMITTED = 1


class Reader:
    """Takes big-endian values from bytes."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, fmt):
        """One value of struct's format."""
        value = struct.unpack_from(">" + fmt, self.data, self.at)[0]
        self.at += struct.calcsize(">" + fmt)
        return value

    def raw(self, length):
        """So many bytes; None if the length is negative."""
        if length < 0:
            return None
        value = self.data[self.at:self.at + length]
        self.at += length
        return value

    def string(self):
        """A nullable string."""
        value = self.raw(self.take("h"))
        return None if value is None else value.decode()

    def varint(self):
        """A zigzag integer of varying length."""
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)

    def array(self, item):
        """A list of what item(reader) reads."""
        return [item(self) for _ in range(self.take("i"))]


def string(text):
    """A string as the protocol writes it."""
    data = text.encode()
    return struct.pack(">h", len(data)) + data


class Broker:
    """One connection."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.sock = socket.create_connection((host, int(port)), 30)
        self.number = 0

    def receive(self, length):
        """So many bytes from the connection."""
        data = bytearray()
        while len(data) < length:
            part = self.sock.recv(min(length - len(data), 1 << 20))
            if not part:
                raise SystemExit("topic_read.py: the broker closed the connection")
            data += part
        return bytes(data)

    def request(self, api, version, body):
        """Sends a request and returns a reader of its answer."""
        self.number += 1
        head = struct.pack(">hhi", api, version, self.number) + string("topic_read")
        self.sock.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        answer = Reader(self.receive(struct.unpack(">i", self.receive(4))[0]))
        assert answer.take("i") == self.number
        return answer


def fail(what, code):
    """Ends the program when the broker answers with an error."""
    if code != 0:
        raise SystemExit("topic_read.py: %s: the broker answers with error %d" % (what, code))


def partitions(broker, topic):
    """Leader of each partition, and address of each broker."""
    r = broker.request(METADATA, 1, struct.pack(">i", 1) + string(topic))
    brokers = {}
    for _ in range(r.take("i")):
        node, host, port = r.take("i"), r.string(), r.take("i")
        r.string()
        brokers[node] = "%s:%d" % (host, port)
    r.take("i")
    leaders = {}
    for _ in range(r.take("i")):
        fail(topic, r.take("h"))
        r.string()
        r.take("b")
        for _ in range(r.take("i")):
            r.take("h")
            number, leader = r.take("i"), r.take("i")
            r.array(lambda x: x.take("i"))
            r.array(lambda x: x.take("i"))
            leaders[number] = leader
    return leaders, brokers


def list_offset(broker, topic, partition, when):
    """The first (EARLIEST) offset, or the last stable one (LATEST)."""
    body = struct.pack(">ibi", -1, READ_COMMITTED, 1) + string(topic) + struct.pack(">iiq", 1, partition, when)
    r = broker.request(LIST_OFFSETS, 2, body)
    r.take("i")
    r.take("i")
    r.string()
    r.take("i")
    r.take("i")
    fail("offsets of " + topic, r.take("h"))
    r.take("q")
    return r.take("q")


def fetch(broker, topic, partition, offset):
    """The record batches from an offset on, and the aborted transactions among them."""
    body = struct.pack(">iiiibi", -1, 500, 1, 1 << 24, READ_COMMITTED, 1) + string(topic) + \
        struct.pack(">iiqi", 1, partition, offset, 1 << 22)
    r = broker.request(FETCH, 4, body)
    r.take("i")
    r.take("i")
    r.string()
    r.take("i")
    r.take("i")
    fail("fetch of " + topic, r.take("h"))
    r.take("q")
    r.take("q")
    aborted = [(r.take("q"), r.take("q")) for _ in range(max(r.take("i"), 0))]
    return r.raw(max(r.take("i"), 0)), aborted


def records_of(r, count, base, first_time):
    """The records of one batch: (offset, timestamp, key, value)."""
    for _ in range(count):
        end = r.varint() + r.at
        r.take("b")
        time = first_time + r.varint()
        offset = base + r.varint()
        key = r.raw(r.varint())
        value = r.raw(r.varint())
        r.at = end
        yield offset, time, key, value


def batches(data, aborted):
    """Each batch: (next offset, records), without control records and aborted ones."""
    pending = sorted((first, producer) for producer, first in aborted)
    open_aborted = set()
    r = Reader(data)
    while len(data) - r.at >= 61:
        base, length = r.take("q"), r.take("i")
        start = r.at
        if len(data) - start < length:
            return
        r.take("i")
        if r.take("b") != 2:
            raise SystemExit("topic_read.py: unknown batch version")
        r.take("i")
        flags = r.take("h")
        last = base + r.take("i")
        first_time = r.take("q")
        r.take("q")
        producer = r.take("q")
        r.take("h")
        r.take("i")
        count = r.take("i")
        body = data[r.at:start + length]
        r.at = start + length
        while pending and pending[0][0] <= last:
            open_aborted.add(pending.pop(0)[1])
        if flags & 0x20:
            # a control record: after an abort the producer may begin anew
            for _, _, key, _ in records_of(Reader(body), count, base, first_time):
                if struct.unpack(">hh", key)[1] == 0:
                    open_aborted.discard(producer)
            yield last + 1, []
        elif flags & 0x10 and producer in open_aborted:
            yield last + 1, []
        else:
            if flags & 7 == 1:
                body = zlib.decompress(body, 47)
            elif flags & 7:
                raise SystemExit("topic_read.py: compressed with something else than gzip")
            yield last + 1, list(records_of(Reader(body), count, base, first_time))


def text(data):
    """Bytes as Postgres reads them; nothing for none."""
    return "" if data is None else "\\x" + data.hex()


def read_partition(broker, topic, partition, out):
    """Writes the records of one partition up to the end it has now."""
    position = list_offset(broker, topic, partition, EARLIEST)
    end = list_offset(broker, topic, partition, LATEST)
    while position < end:
        data, aborted = fetch(broker, topic, partition, position)
        for after, records in batches(data, aborted):
            for offset, time, key, value in records:
                if position <= offset < end:
                    out.write("%d,%d,%d,%s,%s\n" % (partition, offset, time, text(key), text(value)))
            position = max(position, after)


def main():
    """See the head of this file."""
    address, topic = sys.argv[1], sys.argv[2]
    leaders, brokers = partitions(Broker(address.split(",")[0]), topic)
    connections = {node: Broker(brokers[node]) for node in set(leaders.values())}
    out = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False), 1 << 20), write_through=False)
    for partition in sorted(leaders):
        broker = connections[leaders[partition]]
        if sys.argv[3:] == ["ends"]:
            out.write("%d,%d,%d\n" % (partition, list_offset(broker, topic, partition, EARLIEST),
                                      list_offset(broker, topic, partition, LATEST)))
        else:
            read_partition(broker, topic, partition, out)
    out.flush()


if __name__ == "__main__":
    main()
