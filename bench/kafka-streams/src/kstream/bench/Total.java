package kstream.bench;

/** The state of one key: count and sum. */
public class Total {
    public long n;
    public double total;

    /** Takes one more record in. */
    void add(Event event) {
        n++;
        total += event.amount;
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
