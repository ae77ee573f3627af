package kstream.bench;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;

/** The fields of a record that the queries read; the others are skipped. */
@JsonIgnoreProperties(ignoreUnknown = true)
public class Event {
    public double amount;

    /** With the producer's time, for the measurement of latency. */
    public static final class Timed extends Event {
        public long tus;
    }

    /** All fields, for the join and the echo. */
    public static class Full extends Event {
        public String user_id;
        public String item;
        public long ts;
        public long tus;
    }

    /** What the join makes of a record and the row of its user. */
    public static final class Enriched extends Full {
        public String name;
        public String country;
        public String tier;

        static Enriched of(Full event, User user) {
            Enriched e = new Enriched();
            e.user_id = event.user_id;
            e.item = event.item;
            e.amount = event.amount;
            e.ts = event.ts;
            e.tus = event.tus;
            e.name = user.name;
            e.country = user.country;
            e.tier = user.tier;
            return e;
        }
    }

    /** What the join of two streams makes of a record of each. */
    public static final class Pair {
        public String user_id;
        public String item;
        public double amount;
        public String item2;
        public double amount2;

        static Pair of(Full a, Full b) {
            Pair p = new Pair();
            p.user_id = a.user_id;
            p.item = a.item;
            p.amount = a.amount;
            p.item2 = b.item;
            p.amount2 = b.amount;
            return p;
        }
    }

    /** A row of the table of users. */
    public static final class User {
        public String user_id;
        public String name;
        public String country;
        public String tier;
    }
}
