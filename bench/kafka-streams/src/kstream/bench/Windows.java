package kstream.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Stream;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.ReadOnlyWindowStore;
import org.apache.kafka.streams.state.WindowStore;

/** The benchmark's queries about event time: sums by key and window, and a join of two streams. */
final class Windows {
    static final Duration GRACE = Duration.ofSeconds(10);

    /** Longer than any run, so that at its end the store holds every window, as the other system's table does. */
    private static final Duration RETENTION = Duration.ofDays(1);
    private static final String STORE = "windows";

    private Windows() { }

    /** Windows of a minute, a new one every so often. */
    static TimeWindows minutes(Duration advance) {
        return TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), GRACE).advanceBy(advance);
    }

    /** Count and sum by key and window. */
    static void sum(StreamsBuilder builder, String topic, TimeWindows windows, Runnable seen) {
        JsonSerde<Event> events = new JsonSerde<>(Event.class);
        builder.stream(topic, Consumed.with(Serdes.String(), events))
                .peek((key, event) -> seen.run())
                .groupByKey(Grouped.with(Serdes.String(), events))
                .windowedBy(windows)
                .aggregate(Total::new,
                        (key, event, state) -> {
                            state.add(event);
                            return state;
                        },
                        Materialized.<String, Total, WindowStore<Bytes, byte[]>>as(STORE)
                                .withKeySerde(Serdes.String())
                                .withValueSerde(new JsonSerde<>(Total.class))
                                .withRetention(RETENTION));
    }

    /** Records of both topics with one key, at most a minute apart, to a third one. */
    static void join(StreamsBuilder builder, String left, String right, String output, Runnable seen, AtomicLong matches) {
        JsonSerde<Event.Full> events = new JsonSerde<>(Event.Full.class);
        Consumed<String, Event.Full> consumed = Consumed.with(Serdes.String(), events);
        KStream<String, Event.Full> lefts = builder.stream(left, consumed).peek((key, event) -> seen.run());
        KStream<String, Event.Full> rights = builder.stream(right, consumed).peek((key, event) -> seen.run());
        lefts.join(rights,
                        (a, b) -> {
                            matches.incrementAndGet();
                            return Event.Pair.of(a, b);
                        },
                        JoinWindows.ofTimeDifferenceAndGrace(Duration.ofMinutes(1), GRACE),
                        StreamJoined.with(Serdes.String(), events, events))
                .to(output, Produced.with(Serdes.String(), new JsonSerde<>(Event.Pair.class)));
    }

    /** What the store holds, over all windows. */
    static String contents(KafkaStreams streams) {
        ReadOnlyWindowStore<String, Total> store =
                streams.store(StoreQueryParameters.fromNameAndType(STORE, QueryableStoreTypes.windowStore()));
        try (KeyValueIterator<Windowed<String>, Total> all = store.all()) {
            return Total.contents(all);
        }
    }

    /** Megabytes of a directory. */
    static double megabytes(String directory) throws IOException {
        try (Stream<Path> files = Files.walk(Path.of(directory))) {
            return files.filter(Files::isRegularFile).mapToLong(file -> file.toFile().length()).sum() / 1048576.0;
        }
    }
}
