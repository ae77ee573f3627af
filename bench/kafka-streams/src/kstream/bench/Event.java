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
}
