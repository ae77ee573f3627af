package kstream.bench;

import java.util.Iterator;
import java.util.Locale;
import org.apache.kafka.streams.KeyValue;

/** The state of one key: count and sum. */
public class Total {
    public long n;
    public double total;

    /** Takes one more record in. */
    void add(Event event) {
        n++;
        total += event.amount;
    }

    /** What a store holds: records, their sum in hundredths, and rows. */
    static <K> String contents(Iterator<KeyValue<K, Total>> all) {
        long rows = 0;
        long count = 0;
        long cents = 0;
        while (all.hasNext()) {
            Total row = all.next().value;
            rows++;
            count += row.n;
            cents += Math.round(row.total * 100);
        }
        return String.format(Locale.ROOT, "\"count\":%d,\"cents\":%d,\"keys\":%d", count, cents, rows);
    }

    /** With the newest producer's time, for the measurement of latency. */
    public static final class Timed extends Total {
        public long tus;

        @Override
        void add(Event event) {
            super.add(event);
            tus = Math.max(tus, ((Event.Timed) event).tus);
        }
    }
}
