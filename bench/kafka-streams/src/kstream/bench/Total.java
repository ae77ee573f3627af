package kstream.bench;

/** The state of one key: count, sum, and the newest producer's time. */
public class Total {
    public long n;
    public double total;
    public long tus;

    /** Takes one more record in. */
    public Total add(Event event) {
        n++;
        total += event.amount;
        tus = Math.max(tus, event.tus);
        return this;
    }
}
