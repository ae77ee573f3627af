package kstream.bench;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;

/** The fields of a record that the benchmark's query reads. */
@JsonIgnoreProperties(ignoreUnknown = true)
public class Event {
    public double amount;
    public long tus;
}
