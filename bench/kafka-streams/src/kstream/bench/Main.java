package kstream.bench;

import java.time.Duration;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BiConsumer;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Initializer;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.ReadOnlyKeyValueStore;

/**
 * The benchmark's queries in the Kafka Streams DSL: count and sum by key, in a RocksDB store, also by
 * window; joins with a table and of two streams; and a stream that is written as it came.
 *
 * <pre>
 *   Main throughput TOPIC RECORDS    reads the topic from its beginning, then checks the store
 *   Main tumble TOPIC RECORDS        the same, by windows of a minute
 *   Main hop TOPIC RECORDS           the same, by a window of a minute every ten seconds
 *   Main join LEFT RIGHT OUTPUT RECORDS   joins two topics from their beginning, RECORDS in both
 *   Main latency TOPIC OUTPUT        follows the topic and writes every change to OUTPUT until
 *                                    standard input ends
 *   Main enrich TOPIC USERS OUTPUT     after a line of standard input: joins the topic, from its
 *                                    beginning, with the table, until standard input ends
 *   Main echo TOPIC OUTPUT             follows the topic and writes its fields to OUTPUT until
 *                                    standard input ends
 * </pre>
 *
 * System properties: bootstrap, state (directory), threads, guarantee. Prints one line of JSON.
 */
public final class Main {
    private static final String STORE = "totals";

    private final String bootstrap = System.getProperty("bootstrap");
    private final String application = "bench-" + ProcessHandle.current().pid() + "-" + System.currentTimeMillis();

    public static void main(String[] args) throws Exception {
        if (args.length == 3 && args[0].equals("throughput")) {
            Main main = new Main();
            main.drain(Long.parseLong(args[2]), (builder, seen) -> main.query(builder, args[1], Event.class, Total.class,
                    Total::new, seen), main::contents, args[1]);
        } else if (args.length == 3 && args[0].equals("tumble")) {
            new Main().windows(args[1], Long.parseLong(args[2]), Windows.minutes(Duration.ofMinutes(1)));
        } else if (args.length == 3 && args[0].equals("hop")) {
            new Main().windows(args[1], Long.parseLong(args[2]), Windows.minutes(Duration.ofSeconds(10)));
        } else if (args.length == 5 && args[0].equals("join")) {
            new Main().join(args[1], args[2], args[3], Long.parseLong(args[4]));
        } else if (args.length == 3 && args[0].equals("latency")) {
            new Main().latency(args[1], args[2]);
        } else if (args.length == 3 && args[0].equals("echo")) {
            new Main().echo(args[1], args[2]);
        } else if (args.length == 4 && args[0].equals("enrich")) {
            new Main().enrich(args[1], args[2], args[3]);
        } else {
            throw new IllegalArgumentException("arguments: see Main.java");
        }
        System.exit(0);
    }

    /** Settings of both measurements; everything not named here is Kafka Streams' default. */
    private Properties settings() {
        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        p.put(StreamsConfig.STATE_DIR_CONFIG, System.getProperty("state"));
        p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, System.getProperty("threads", "2"));
        p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, System.getProperty("guarantee", StreamsConfig.AT_LEAST_ONCE));
        p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "100");
        p.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, "1");
        return p;
    }

    /** Count and sum by key. */
    private <E extends Event, T extends Total> KTable<String, T> query(
            StreamsBuilder builder, String topic, Class<E> event, Class<T> total, Initializer<T> empty, Runnable seen) {
        JsonSerde<E> events = new JsonSerde<>(event);
        return builder.stream(topic, Consumed.with(Serdes.String(), events))
                .groupByKey(Grouped.with(Serdes.String(), events))
                .aggregate(empty,
                        (key, record, state) -> {
                            seen.run();
                            state.add(record);
                            return state;
                        },
                        Materialized.<String, T, KeyValueStore<Bytes, byte[]>>as(STORE)
                                .withKeySerde(Serdes.String())
                                .withValueSerde(new JsonSerde<>(total)));
    }

    /** Starts a topology; any failure ends the program. */
    private KafkaStreams start(StreamsBuilder builder, Properties p) {
        KafkaStreams streams = new KafkaStreams(builder.build(p), p);
        streams.setUncaughtExceptionHandler(e -> {
            e.printStackTrace();
            Runtime.getRuntime().halt(3);
            return null;
        });
        streams.start();
        return streams;
    }

    /** Sums by key and window. */
    private void windows(String topic, long records, TimeWindows windows) throws Exception {
        drain(records, (builder, seen) -> Windows.sum(builder, topic, windows, seen), Windows::contents, topic);
    }

    /** Joins two topics. */
    private void join(String left, String right, String output, long records) throws Exception {
        AtomicLong matches = new AtomicLong();
        drain(records, (builder, seen) -> Windows.join(builder, left, right, output, seen, matches),
                streams -> "\"matches\":" + matches.get(), left, right);
    }

    /** Reads whole topics once; then says what it took and what is there. */
    private void drain(long records, BiConsumer<StreamsBuilder, Runnable> topology, Function<KafkaStreams, String> result,
            String... topics) throws Exception {
        Properties p = settings();
        p.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        StreamsBuilder builder = new StreamsBuilder();
        Meter meter = new Meter(records);
        topology.accept(builder, meter::count);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            KafkaStreams streams = start(builder, p);
            meter.await(600);
            while (committed(admin, Set.of(topics)) < records) {
                Thread.sleep(5);
            }
            double cpu = meter.cpuSoFar();
            double seconds = meter.secondsSoFar();
            System.out.printf(Locale.ROOT,
                    "{\"records\":%d,\"seconds\":%.3f,\"rate\":%.0f,\"committed_seconds\":%.3f,\"cpu_us\":%.3f,"
                            + "\"peak_mb\":%d,\"state_mb\":%.0f,%s}%n",
                    records, meter.processingSeconds(), records / meter.processingSeconds(), seconds,
                    cpu / records * 1e6, Meter.peakMegabytes(), Windows.megabytes(System.getProperty("state")),
                    result.apply(streams));
            finish(admin, streams);
        }
    }

    /** Follows the topic, writing changes at once: no cache, no lingering. */
    private void latency(String topic, String output) throws Exception {
        Properties p = settings();
        p.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "latest");
        p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, "0");
        p.put(StreamsConfig.producerPrefix("linger.ms"), "0");
        StreamsBuilder builder = new StreamsBuilder();
        query(builder, topic, Event.Timed.class, Total.Timed.class, Total.Timed::new, () -> { })
                .toStream()
                .to(output, Produced.with(Serdes.String(), new JsonSerde<>(Total.Timed.class)));
        runToEnd(builder, p, true);
    }

    /** Joins the topic with the table of users; says when the first record has come. */
    private void enrich(String topic, String users, String output) throws Exception {
        Properties p = settings();
        p.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        StreamsBuilder builder = new StreamsBuilder();
        Meter meter = new Meter(Long.MAX_VALUE);
        JsonSerde<Event.Full> events = new JsonSerde<>(Event.Full.class);
        JsonSerde<Event.User> rows = new JsonSerde<>(Event.User.class);
        KTable<String, Event.User> table = builder.table(users, Consumed.with(Serdes.String(), rows),
                Materialized.<String, Event.User, KeyValueStore<Bytes, byte[]>>as("users")
                        .withKeySerde(Serdes.String())
                        .withValueSerde(rows));
        builder.stream(topic, Consumed.with(Serdes.String(), events))
                .join(table,
                        (event, user) -> {
                            meter.announce();
                            return Event.Enriched.of(event, user);
                        },
                        Joined.with(Serdes.String(), events, rows))
                .to(output, Produced.with(Serdes.String(), new JsonSerde<>(Event.Enriched.class)));
        System.out.println("running");
        if (System.in.read() < 0) {
            return;
        }
        runToEnd(builder, p, false);
    }

    /** Follows the topic, writing records at once. */
    private void echo(String topic, String output) throws Exception {
        Properties p = settings();
        p.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "latest");
        p.put(StreamsConfig.producerPrefix("linger.ms"), "0");
        StreamsBuilder builder = new StreamsBuilder();
        JsonSerde<Event.Full> events = new JsonSerde<>(Event.Full.class);
        builder.stream(topic, Consumed.with(Serdes.String(), events))
                .to(output, Produced.with(Serdes.String(), events));
        runToEnd(builder, p, true);
    }

    /** Runs until standard input ends. */
    private void runToEnd(StreamsBuilder builder, Properties p, boolean tell) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            KafkaStreams streams = start(builder, p);
            while (tell && streams.state() != KafkaStreams.State.RUNNING) {
                Thread.sleep(50);
            }
            if (tell) {
                System.out.println("running");
            }
            while (System.in.read() >= 0) {
                continue;
            }
            finish(admin, streams);
        }
    }

    /** How many records of the topics are committed as read. */
    private long committed(Admin admin, Set<String> topics) throws Exception {
        return admin.listConsumerGroupOffsets(application).partitionsToOffsetAndMetadata().get().entrySet().stream()
                .filter(e -> topics.contains(e.getKey().topic()) && e.getValue() != null)
                .mapToLong(e -> e.getValue().offset())
                .sum();
    }

    /** What the store holds. */
    private String contents(KafkaStreams streams) {
        ReadOnlyKeyValueStore<String, Total> store =
                streams.store(StoreQueryParameters.fromNameAndType(STORE, QueryableStoreTypes.keyValueStore()));
        try (KeyValueIterator<String, Total> all = store.all()) {
            return Total.contents(all);
        }
    }

    /** Stops and removes what would burden the next run: changelogs and local state. */
    private void finish(Admin admin, KafkaStreams streams) throws Exception {
        streams.close(Duration.ofSeconds(20));
        streams.cleanUp();
        Set<String> topics = admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get().stream()
                .filter(name -> name.startsWith(application))
                .collect(Collectors.toSet());
        admin.deleteTopics(topics).all().get();
    }
}
