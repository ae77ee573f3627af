#!/usr/bin/env python3
"""draw.py [DIRECTORY]: the pictures of docs/time.md and docs/joins.md.

Each shows a few made-up records; what becomes of them (windows, partition time,
what is late, what closes when, what matches) is computed here by the rules that
the guides state, so that a picture cannot say something else than its text.
Times are seconds after 12:00:00 of event time, unless a picture says otherwise.
"""
import html
import os
import sys

INK, GREY, PALE = "#24292f", "#8c959f", "#eaeef2"
BLUE, GREEN, RED, ORANGE, VIOLET = "#0969da", "#1a7f37", "#cf222e", "#bc4c00", "#8250df"


class Picture:
    """An SVG drawing; x and y are in its pixels."""

    def __init__(self, title, width, height):
        self.title, self.width, self.height, self.parts = title, width, height, []

    def add(self, element, **attributes):
        text = attributes.pop("text", None)
        given = " ".join('%s="%s"' % (name.replace("_", "-"), value if isinstance(value, str) else "%g" % round(value, 1))
                         for name, value in attributes.items())
        self.parts.append("<%s %s%s" % (element, given, "/>" if text is None else ">%s</%s>" % (html.escape(text, False), element)))

    def line(self, x1, y1, x2, y2, colour=INK, width=1.0, dash=None):
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=colour, stroke_width=width, **({"stroke_dasharray": dash} if dash else {}))

    def path(self, points, colour, width=2.0, dash=None):
        self.add("polyline", points=" ".join("%g,%g" % (round(x, 1), round(y, 1)) for x, y in points), fill="none", stroke=colour,
                 stroke_width=width, **({"stroke_dasharray": dash} if dash else {}))

    def box(self, x1, y1, x2, y2, colour, opacity=0.15, edge=True):
        self.add("rect", x=x1, y=y1, width=x2 - x1, height=y2 - y1, rx=3, fill=colour, fill_opacity=opacity,
                 stroke=colour if edge else "none")

    def dot(self, x, y, colour, hollow=False):
        self.add("circle", cx=x, cy=y, r=5, fill="#ffffff" if hollow else colour, stroke=colour, stroke_width=2)

    def text(self, x, y, text, colour=INK, anchor="start", size=13, weight="normal"):
        self.add("text", x=x, y=y, fill=colour, text_anchor=anchor, font_size=size, font_weight=weight, text=text)

    def svg(self):
        return ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" '
                'font-family="Helvetica, Arial, sans-serif">\n<title>%s</title>\n<rect width="100%%" height="100%%" fill="#ffffff"/>\n%s\n</svg>\n'
                % (self.width, self.height, self.width, self.height, html.escape(self.title), "\n".join(self.parts)))


def clock(seconds):
    """Seconds after 12:00:00 as a time of day."""
    return "12:%02d:%02d" % divmod(seconds, 60)


# ---------------------------------------------------------------- the rules

def tumble(ts, size):
    return [(ts // size * size, ts // size * size + size)]


def hop(ts, slide, size):
    last = ts // slide * slide
    return [(start, start + size) for start in range(last - size + slide, last + slide, slide) if start <= ts < start + size]


def sessions(times, gap):
    found = []
    for ts in sorted(times):
        if found and ts <= found[-1][1]:
            found[-1] = (found[-1][0], ts + gap)
        else:
            found.append((ts, ts + gap))
    return found


def stream_times(times):
    """The partition's time as each record sees it."""
    return [max(times[:i + 1]) for i in range(len(times))]


# ---------------------------------------------------------------- the pictures

def windows():
    """The same records in windows of three kinds."""
    records, length = [8, 22, 40, 65, 78, 130, 145, 165], 200
    p = Picture("Records in tumbling, hopping and session windows", 820, 360)

    def x(ts):
        return 160 + ts * 3.15

    def lane(y, spans, colour):
        for start, end in spans:
            p.box(x(max(start, -8)), y, x(min(end, length)), y + 24, colour)
            n = sum(start <= ts < end for ts in records)
            p.text((x(max(start, -8)) + x(min(end, length))) / 2, y + 17, str(n), colour, "middle", weight="bold")

    for minute in range(0, length, 60):
        p.line(x(minute), 40, x(minute), 320, PALE)
        p.text(x(minute), 342, clock(minute), GREY, "middle")
    p.text(10, 36, "records", weight="bold")
    for ts in records:
        p.line(x(ts), 32, x(ts), 320, PALE, dash="2 4")
        p.dot(x(ts), 32, INK)
    p.text(10, 80, "tumble", BLUE, weight="bold")
    p.text(10, 96, "1 min", BLUE)
    lane(68, sorted({w for ts in records for w in tumble(ts, 60)}), BLUE)
    p.text(10, 142, "hop", GREEN, weight="bold")
    p.text(10, 158, "1 min, every 30 s", GREEN)
    opened = sorted({w for ts in records for w in hop(ts, 30, 60)})
    lane(128, opened[0::2], GREEN)
    lane(158, opened[1::2], GREEN)
    p.text(10, 236, "session", VIOLET, weight="bold")
    p.text(10, 252, "gap 20 s", VIOLET)
    lane(224, sessions(records, 20), VIOLET)
    p.text(160, 286, "The number in a window is its count. A record is in one tumbling window and two of these hopping", GREY, size=12)
    p.text(160, 304, "ones; a session ends a gap after its last record, and what comes within the gap makes it longer.", GREY, size=12)
    return p


def late():
    """Event time over the order of arrival; what is late, and why."""
    times, end, grace = [10, 28, 22, 50, 65, 44, 58, 80, 52, 95], 60, 10
    seen = stream_times(times)
    p = Picture("When a record is late", 820, 420)

    def x(offset):
        return 120 + offset * 60

    def y(ts):
        return 370 - ts * 3.2

    p.box(x(-0.5), y(end), x(9.6), y(0), BLUE, 0.08, False)
    p.text(x(-0.4), y(end) + 17, "window [12:00:00, 12:01:00)", BLUE)
    p.line(x(-0.5), y(end + grace), x(9.6), y(end + grace), ORANGE, 1, "5 4")
    p.text(x(-0.4), y(end + grace) - 6, "end + grace: 12:01:10", ORANGE)
    for ts in (0, 30, 60, 90):
        p.text(x(-0.7), y(ts) + 4, clock(ts), GREY, "end")
    steps = []
    for offset, time in enumerate(seen):
        steps += [(x(offset - 0.5), y(time)), (x(offset + 0.5), y(time))]
    p.path(steps, INK)
    p.text(x(9.62), y(seen[-1]) - 8, "partition time", INK, "end")
    closed = next(i for i, time in enumerate(seen) if end + grace <= time)
    p.line(x(closed - 0.5), y(100), x(closed - 0.5), y(0), ORANGE, 1, "5 4")
    for offset, ts in enumerate(times):
        is_late = ts < end and end + grace <= seen[offset]
        p.dot(x(offset), y(ts), RED if is_late else GREEN if ts < end else GREY)
        if is_late:
            p.text(x(offset), y(ts) + 22, "late", RED, "middle", weight="bold")
        elif ts < end < seen[offset]:
            p.text(x(offset), y(ts) + 22, "in time", GREEN, "middle")
        p.text(x(offset), 388, str(offset), GREY, "middle")
    p.text(x(4.5), 410, "offset in the partition: the order in which records come", GREY, "middle")
    return p


def watermark():
    """Partition times over the clock, the watermark, an idle partition, and silence."""
    idle, end, length = 40, 60, 150
    fast, slow = [(2, 12), (14, 30), (30, 48), (46, 62), (60, 74), (74, 84)], [(4, 8), (20, 22), (34, 30)]
    p = Picture("How the watermark moves and closes windows", 820, 420)

    def x(now):
        return 110 + now * 4.5

    def y(ts):
        return 360 - ts * 1.9

    def value(records, now):
        return max([ts for at, ts in records if at <= now], default=0)

    def is_idle(records, now):
        return now - max(at for at, _ in records if at <= now or at == records[0][0]) >= idle

    marks = []
    for now in range(4, length):
        busy = [r for r in (fast, slow) if not is_idle(r, now)]
        least = min((value(r, now) for r in busy), default=None)
        if least is None:
            last = max(at for at, _ in fast + slow)
            least = value(fast, now) + now - last
        marks.append((now, max([least] + [m for _, m in marks[-1:]])))
    for ts in (0, 30, 60, 90, 120, 150):
        p.line(x(0), y(ts), x(length), y(ts), PALE)
        p.text(x(0) - 8, y(ts) + 4, clock(ts), GREY, "end")
    for records, colour, name, above in ((fast, GREEN, "partition 0", -10), (slow, VIOLET, "partition 1", 20)):
        steps = []
        for at, ts in records:
            steps += [(x(at), y(value(records, at - 1))), (x(at), y(ts))]
            p.dot(x(at), y(ts), colour)
        quiet = records[-1][0] + idle
        p.path(steps + [(x(quiet), y(records[-1][1]))], colour)
        p.path([(x(quiet), y(records[-1][1])), (x(length), y(records[-1][1]))], colour, 1.5, "3 5")
        p.text(x(length), y(records[-1][1]) + above, name + ("" if above < 0 else ", idle"), colour, "end")
    p.path([q for i, (now, m) in enumerate(marks) for q in ([(x(now), y(marks[i - 1][1] if i else m))] + [(x(now), y(m))])], RED, 3)
    p.text(x(marks[-1][0]), y(marks[-1][1]) - 10, "watermark", RED, "end", weight="bold")
    closes = next(now for now, m in marks if m >= end)
    p.line(x(0), y(end), x(length), y(end), ORANGE, 1, "5 4")
    p.text(x(1), y(end) - 6, "end of the window", ORANGE)
    p.line(x(closes), y(150), x(closes), y(0), ORANGE, 1, "5 4")
    p.text(x(closes) + 6, y(118), "partition 1 is idle: it", ORANGE)
    p.text(x(closes) + 6, y(110), "holds nothing back,", ORANGE)
    p.text(x(closes) + 6, y(102), "the window closes", ORANGE)
    silent = fast[-1][0] + idle
    p.line(x(silent), y(105), x(silent), y(0), GREY, 1, "5 4")
    p.text(x(silent) + 6, y(48), "all are idle:", GREY)
    p.text(x(silent) + 6, y(40), "the clock goes on", GREY)
    p.text(x(length / 2), 384, "the clock on the wall (idle_timeout is 40 s here)", GREY, "middle")
    p.text(12, 24, "event time", GREY)
    return p


def join():
    """One record's reach, its close, its matches, and the null row of another."""
    before, after, grace = 20, 40, 10
    left, right = [30, 110], [20, 45, 68, 80]
    p = Picture("A join of two streams: reach, close and buffer", 820, 380)

    def x(ts):
        return 110 + ts * 3.7

    p.text(12, 104, "stream a", BLUE, weight="bold")
    p.text(12, 234, "stream b", VIOLET, weight="bold")
    for ts in range(0, 181, 30):
        p.line(x(ts), 60, x(ts), 330, PALE)
        p.text(x(ts), 350, clock(ts), GREY, "middle")
    for ts in left:
        close = ts + after + grace
        partners = [b for b in right if -before <= b - ts <= after]
        p.add("polygon", points="%g,104 %g,226 %g,226" % (x(ts), x(ts - before), x(min(ts + after, 180))), fill=BLUE, fill_opacity=0.08)
        p.line(x(ts - before), 226, x(min(ts + after, 180)), 226, BLUE, 3)
        p.box(x(ts), 60, x(close), 84, ORANGE)
        p.text((x(ts) + x(close)) / 2, 77, "waits in the buffer", ORANGE, "middle")
        for b in partners:
            p.line(x(ts), 100, x(b), 230, GREEN, 2)
        p.text(x(close), 52, "close: null row" if not partners else "close: leaves the buffer", RED if not partners else ORANGE, "middle")
        p.line(x(close), 58, x(close), 110, RED if not partners else ORANGE, 1, "4 3")
    for ts in left:
        p.dot(x(ts), 100, BLUE)
    for ts in right:
        p.dot(x(ts), 230, VIOLET, not any(-before <= ts - a <= after for a in left))
    p.text(110, 280, "a LEFT JOIN b ON b.ts BETWEEN a.ts - interval '20 s' AND a.ts + interval '40 s', grace => '10 s'", INK, size=13)
    p.text(110, 302, "Green: a match, made when the later one comes. close(a) = a.ts + 40 s + 10 s. When the watermark is greater,", GREY, size=12)
    p.text(110, 318, "a record of a that has met none gets its null row, and the buffer is given back. Hollow: matches nothing.", GREY, size=12)
    return p


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for picture in (windows, late, watermark, join):
        with open(os.path.join(directory, picture.__name__ + ".svg"), "w", encoding="utf-8") as file:
            file.write(picture().svg())


main()
