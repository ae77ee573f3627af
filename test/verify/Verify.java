/*
 * Verify.java
 *		Reads topics with Apache Kafka's own client and says what is wrong in them.
 *
 * An independent witness of exactly-once output: it shares no code with the client
 * library that the extension uses.  Each topic is read once, read_committed, from
 * its beginning to the end it has when the program starts; then all checks look at
 * the records in memory.  How to call it and what each check means is in README.md.
 *
 * Violations have the names that Jepsen's tests of Kafka use, where these fit.
 */
import java.io.IOException;
import java.io.PrintStream;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.TransactionListing;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.Utils;

/** The program. */
public final class Verify {
	/** So many violations of a kind are shown by each check; the rest is counted. */
	private static final int SHOWN = 10;

	/** What does not look at the records of topics, and comes before they are read. */
	private static final Set<String> NO_READING = Set.of("settled", "transactions", "group", "fence");

	private static final ObjectMapper JSON = new ObjectMapper().enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS);

	private final String bootstrap;
	private final Map<String, Topic> topics = new LinkedHashMap<>();
	private Path live;
	private boolean failed;

	private Verify(String bootstrap) {
		this.bootstrap = bootstrap;
	}

	/** A record as the consumer gives it. */
	private static final class Rec {
		final ConsumerRecord<byte[], byte[]> raw;
		private JsonNode document;

		Rec(ConsumerRecord<byte[], byte[]> raw) {
			this.raw = raw;
		}

		/** Where it is, for messages. */
		String place() {
			return "partition=" + raw.partition() + " offset=" + raw.offset();
		}

		/** The value as a JSON document; a missing node where it is none. */
		JsonNode json() {
			if (document == null) {
				try {
					document = raw.value() == null ? JSON.missingNode() : JSON.readTree(raw.value());
				} catch (IOException e) {
					document = JSON.missingNode();
				}
			}
			return document;
		}

		/** A header's last value as text, or null. */
		String header(String name) {
			Header header = raw.headers().lastHeader(name);
			return header == null ? null : text(header.value());
		}
	}

	/** A topic and what is in it. */
	private static final class Topic {
		final String name;
		final List<Rec> records = new ArrayList<>();
		final Map<TopicPartition, Long> ends = new HashMap<>();
		final List<String> unordered = new ArrayList<>();

		Topic(String name) {
			this.name = name;
		}
	}

	/** One check: what was asked for and what has come out of it. */
	private final class Check {
		final String mode;
		final Map<String, String> options = new LinkedHashMap<>();
		final Map<String, Integer> violations = new TreeMap<>();
		String figures = "";

		Check(String mode) {
			this.mode = mode;
		}

		/** An option that must be given. */
		String need(String name) {
			String value = options.get(name);
			if (value == null)
				throw new IllegalArgumentException(mode + " needs " + name + "=");
			return value;
		}

		/** An option, or what holds without it. */
		String option(String name, String otherwise) {
			return options.getOrDefault(name, otherwise);
		}

		/** The topic's name, or those of several, separated by commas. */
		String[] topicNames() {
			return need("topic").split(",");
		}

		/** The topic that is checked. */
		Topic topic() {
			return topics.get(need("topic"));
		}

		/**
		 * The records to look at.  With dedup=HEADER those are left out of which a header says
		 * that they were there before, as a consumer of an at-least-once topic would do; they
		 * must be what they were then.
		 */
		List<Rec> records(Topic topic) {
			String name = options.get("dedup");
			if (name == null)
				return topic.records;
			Map<String, Rec> seen = new HashMap<>();
			List<Rec> kept = new ArrayList<>();
			for (Rec record : topic.records) {
				String number = record.header(name);
				Rec before = number == null ? null : seen.putIfAbsent(number, record);
				if (before == null)
					kept.add(record);
				else if (record.raw.partition() != before.raw.partition() || !Arrays.equals(record.raw.key(), before.raw.key())
					|| !Arrays.equals(record.raw.value(), before.raw.value()))
					violation("differing-duplicate", record.place() + " " + name + "=" + number + " first " + before.place());
			}
			figures += " left-out=" + (topic.records.size() - kept.size());
			return kept;
		}

		/** What it is called in what is printed. */
		String name() {
			return option("name", mode);
		}

		/** Says that something is wrong. */
		void violation(String name, String detail) {
			int count = violations.merge(name, 1, Integer::sum);
			failed = true;
			if (count <= SHOWN)
				System.out.println("violation " + name() + " " + name + " topic=" + need("topic") + " " + detail);
		}

		/** The last word about this check. */
		void summary() {
			StringBuilder line = new StringBuilder(violations.isEmpty() ? "ok " : "FAILED ");
			line.append(name()).append(options.containsKey("topic") ? " topic=" + need("topic") : "").append(figures);
			violations.forEach((name, count) -> line.append(' ').append(name).append('=').append(count));
			System.out.println(line);
		}
	}

	/** Bytes as text; hexadecimal after \x where they are not UTF-8; null for none. */
	private static String text(byte[] bytes) {
		if (bytes == null)
			return null;
		try {
			return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
		} catch (CharacterCodingException e) {
			return hex(bytes);
		}
	}

	/** Bytes in hexadecimal after \x, as Postgres reads bytea. */
	private static String hex(byte[] bytes) {
		StringBuilder out = new StringBuilder("\\x");
		for (byte b : bytes)
			out.append(Character.forDigit((b >> 4) & 15, 16)).append(Character.forDigit(b & 15, 16));
		return out.toString();
	}

	/** A field as COPY's text format wants it. */
	private static String copyField(String value) {
		return value == null ? "\\N" : value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r");
	}

	/** A scalar of JSON in one spelling: 1.50 and 15e-1 are 1.5; null is null. */
	private static String canonical(JsonNode node) {
		if (node.isMissingNode() || node.isNull())
			return null;
		if (node.isNumber())
			return plain(node.decimalValue());
		return node.isValueNode() ? node.asText() : node.toString();
	}

	/** A number without an exponent and without zeros at its end. */
	private static String plain(BigDecimal number) {
		return number.signum() == 0 ? "0" : number.stripTrailingZeros().toPlainString();
	}

	/**
	 * What is compared of a record: "key", "value", "header:NAME", else a field of the
	 * JSON value; several, separated by commas, are joined by tabs.
	 */
	private static String picked(Rec record, String what) {
		if (what.indexOf(',') >= 0) {
			StringBuilder joined = new StringBuilder();
			for (String part : what.split(","))
				joined.append(joined.length() > 0 ? "\t" : "").append(copyField(picked(record, part)));
			return joined.toString();
		}
		if (what.equals("key"))
			return text(record.raw.key());
		if (what.equals("value"))
			return text(record.raw.value());
		if (what.startsWith("header:"))
			return record.header(what.substring(7));
		return canonical(record.json().path(what));
	}

	// --- reading ----------------------------------------------------------------

	/** A consumer that belongs to no group. */
	private KafkaConsumer<byte[], byte[]> consumer(boolean committed) {
		Properties properties = new Properties();
		properties.put("bootstrap.servers", bootstrap);
		properties.put("isolation.level", committed ? "read_committed" : "read_uncommitted");
		properties.put("enable.auto.commit", "false");
		properties.put("auto.offset.reset", "none");
		properties.put("max.poll.records", "10000");
		properties.put("fetch.max.wait.ms", "100");
		properties.put("default.api.timeout.ms", "30000");
		properties.put("reconnect.backoff.max.ms", "200");
		return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
	}

	/** The partitions of a topic, which must be there. */
	private static List<TopicPartition> partitions(KafkaConsumer<byte[], byte[]> consumer, String topic) {
		List<TopicPartition> found = new ArrayList<>();
		List<PartitionInfo> known = consumer.partitionsFor(topic);
		if (known == null || known.isEmpty())
			throw new IllegalStateException("there is no topic " + topic);
		for (PartitionInfo partition : known)
			found.add(new TopicPartition(topic, partition.partition()));
		return found;
	}

	/** True when every partition has been read up to its end. */
	private static boolean atEnds(KafkaConsumer<byte[], byte[]> consumer, Map<TopicPartition, Long> ends) {
		for (Map.Entry<TopicPartition, Long> end : ends.entrySet()) {
			if (consumer.position(end.getKey()) < end.getValue())
				return false;
		}
		return true;
	}

	/**
	 * Reads topics from their beginning to the ends they have now; with live=FILE, as a reader
	 * that is there all the time, until there is such a file, and then to the ends.
	 */
	private void read(Collection<String> names, double seconds) {
		Map<TopicPartition, Long> last = new HashMap<>();
		Map<TopicPartition, Long> ends = new HashMap<>();
		long limit = System.nanoTime() + (long) (seconds * 1e9);

		try (KafkaConsumer<byte[], byte[]> consumer = consumer(true)) {
			List<TopicPartition> all = new ArrayList<>();
			for (String name : names) {
				all.addAll(partitions(consumer, name));
				topics.put(name, new Topic(name));
			}
			consumer.assign(all);
			consumer.seekToBeginning(all);
			while (live != null && !Files.exists(live)) {
				for (ConsumerRecord<byte[], byte[]> raw : consumer.poll(Duration.ofMillis(200)))
					take(raw, last);
				limit = System.nanoTime() + (long) (seconds * 1e9);
			}
			ends.putAll(consumer.endOffsets(all));
			ends.forEach((partition, end) -> topics.get(partition.topic()).ends.put(partition, end));
			while (!atEnds(consumer, ends)) {
				for (ConsumerRecord<byte[], byte[]> raw : consumer.poll(Duration.ofMillis(200)))
					take(raw, last);
				if (System.nanoTime() > limit)
					throw new IllegalStateException("the ends of " + names + " are not reached in time");
			}
		}
		for (Topic topic : topics.values())
			topic.records.sort((a, b) -> a.raw.partition() != b.raw.partition()
				? Integer.compare(a.raw.partition(), b.raw.partition()) : Long.compare(a.raw.offset(), b.raw.offset()));
	}

	/** Puts a record that has come to its topic; the place of the one before tells whether it comes in order. */
	private void take(ConsumerRecord<byte[], byte[]> raw, Map<TopicPartition, Long> last) {
		TopicPartition partition = new TopicPartition(raw.topic(), raw.partition());
		Topic topic = topics.get(raw.topic());
		if (raw.offset() >= topic.ends.getOrDefault(partition, Long.MAX_VALUE))
			return;
		Long before = last.put(partition, raw.offset());
		if (before != null && before >= raw.offset())
			topic.unordered.add("partition=" + raw.partition() + " offset=" + raw.offset() + " after=" + before);
		topic.records.add(new Rec(raw));
	}

	// --- the checks -------------------------------------------------------------

	/** Offsets as they came: read_committed, too, must give them in order. */
	private void checkOffsets(Check check) {
		for (String detail : check.topic().unordered)
			check.violation("nonmonotonic-offset", detail);
		check.figures = " records=" + check.topic().records.size() + check.figures;
	}

	/** print: the records, one a line. */
	private void print(Check check) throws IOException {
		boolean json = check.option("format", "tsv").equals("json");
		boolean binary = check.options.containsKey("binary");

		try (PrintStream out = output(check)) {
			for (Rec record : check.topic().records)
				out.print((json ? jsonLine(record) : tsvLine(record, binary)) + "\n");
		}
	}

	/** Where a check writes what it finds: the file given by out=, else what standard output is. */
	private static PrintStream output(Check check) throws IOException {
		String file = check.options.get("out");
		return new PrintStream(file == null ? new java.io.FileOutputStream(java.io.FileDescriptor.out) {
			@Override
			public void close() {
			}
		} : Files.newOutputStream(Path.of(file)), false, StandardCharsets.UTF_8);
	}

	/** Headers as a JSON object; the last of repeated names. */
	private static ObjectNode headers(Rec record) {
		ObjectNode object = JSON.createObjectNode();
		for (Header header : record.raw.headers())
			object.put(header.key(), text(header.value()));
		return object;
	}

	/** A record in COPY's text format; with binary, key and value are for columns of type bytea. */
	private static String tsvLine(Rec record, boolean binary) {
		ConsumerRecord<byte[], byte[]> raw = record.raw;
		String key = binary && raw.key() != null ? hex(raw.key()) : text(raw.key());
		String value = binary && raw.value() != null ? hex(raw.value()) : text(raw.value());
		return raw.topic() + "\t" + raw.partition() + "\t" + raw.offset() + "\t" + raw.timestamp() + "\t" + copyField(key)
			+ "\t" + copyField(value) + "\t" + copyField(headers(record).toString());
	}

	/** A record as a JSON object. */
	private static String jsonLine(Rec record) {
		ConsumerRecord<byte[], byte[]> raw = record.raw;
		ObjectNode object = JSON.createObjectNode();
		object.put("topic", raw.topic()).put("partition", raw.partition()).put("offset", raw.offset());
		object.put("timestamp", raw.timestamp()).put("key", text(raw.key())).put("value", text(raw.value()));
		object.set("headers", headers(record));
		return object.toString();
	}

	/** dense: the numbers in a header are dense, unique, and rise in each partition. */
	private void dense(Check check) {
		String name = check.option("header", "kstream_seq");
		String by = check.options.get("by");
		Map<String, TreeMap<Long, Rec>> groups = new TreeMap<>();
		Map<String, Long> greatest = new HashMap<>();

		for (Rec record : check.records(check.topic())) {
			String group = by == null ? "" : String.valueOf(record.header(by));
			Long seq = number(record.header(name));
			if (seq == null) {
				check.violation("no-header", record.place() + " header=" + name);
				continue;
			}
			Rec other = groups.computeIfAbsent(group, g -> new TreeMap<>()).putIfAbsent(seq, record);
			if (other != null)
				check.violation("duplicate", record.place() + " seq=" + seq + " first " + other.place());
			Long before = greatest.merge(group + "\t" + record.raw.partition(), seq, Math::max);
			if (other == null && before > seq)
				check.violation("reorder", record.place() + " seq=" + seq + " after=" + before);
		}
		if (groups.isEmpty() && check.options.containsKey("end"))
			groups.put("", new TreeMap<>());
		groups.forEach((group, seen) -> gaps(check, group, seen));
	}

	/** Numbers that are missing between the first and the last, or those that are wanted. */
	private static void gaps(Check check, String group, TreeMap<Long, Rec> seen) {
		String in = group.isEmpty() ? "" : " of " + group;
		String start = check.options.get("start");
		String end = check.options.get("end");
		long next = start != null ? Long.parseLong(start) : seen.isEmpty() ? 1 : seen.firstKey();
		long last = end != null ? Long.parseLong(end) : seen.isEmpty() ? next - 1 : seen.lastKey();

		for (long seq : seen.keySet()) {
			if (seq < next || seq > last)
				check.violation("phantom", "seq=" + seq + in + " is outside of " + start + " to " + end);
			for (; next < seq && next <= last; next++)
				check.violation("lost-write", "seq=" + next + in);
			next = Math.max(next, seq + 1);
		}
		for (; next <= last; next++)
			check.violation("lost-write", "seq=" + next + in);
		check.figures += " last" + in + "=" + last;
	}

	/** An integer written in decimal, or null. */
	private static Long number(String text) {
		try {
			return text == null ? null : Long.valueOf(text);
		} catch (NumberFormatException e) {
			return null;
		}
	}

	/** A number, or null. */
	private static BigDecimal decimal(String text) {
		try {
			return text == null ? null : new BigDecimal(text);
		} catch (NumberFormatException e) {
			return null;
		}
	}

	/** How often each value is in a topic, and where it was seen first. */
	private static Map<String, List<Rec>> occurrences(Check check, Topic topic) {
		String what = check.need("field");
		Map<String, List<Rec>> seen = new LinkedHashMap<>();
		for (Rec record : check.records(topic)) {
			String value = picked(record, what);
			if (value == null)
				check.violation("no-field", record.place() + " field=" + what);
			else
				seen.computeIfAbsent(value, v -> new ArrayList<>(1)).add(record);
		}
		return seen;
	}

	/** set: the values of a field are those of a file, or those a generator says it has committed. */
	private void set(Check check) throws IOException {
		if (check.options.containsKey("log")) {
			checkLog(check);
			return;
		}
		Map<String, Integer> wanted = new LinkedHashMap<>();
		for (String line : Files.readAllLines(Path.of(check.need("file"))))
			wanted.merge(line, 1, Integer::sum);
		Set<String> aborted = new HashSet<>();
		if (check.options.containsKey("aborted"))
			aborted.addAll(Files.readAllLines(Path.of(check.need("aborted"))));
		compareCounts(check, wanted, occurrences(check, check.topic()), aborted);
	}

	/** same: two topics hold the same values, equally often. */
	private void same(Check check) {
		Map<String, Integer> wanted = new LinkedHashMap<>();
		occurrences(check, topics.get(check.need("with"))).forEach((value, where) -> wanted.put(value, where.size()));
		compareCounts(check, wanted, occurrences(check, check.topic()), Set.of());
	}

	/** Values that are missing, too many, or should not be there. */
	private static void compareCounts(Check check, Map<String, Integer> wanted, Map<String, List<Rec>> seen, Set<String> aborted) {
		seen.forEach((value, where) -> {
			int right = wanted.getOrDefault(value, 0);
			Rec last = where.get(where.size() - 1);
			if (right == 0)
				check.violation(aborted.contains(value) ? "aborted-read" : "phantom", last.place() + " value=" + value);
			else if (where.size() > right)
				check.violation("duplicate", last.place() + " value=" + value + " times=" + where.size() + " wanted=" + right);
		});
		wanted.forEach((value, right) -> {
			int have = seen.getOrDefault(value, List.of()).size();
			if (have < right)
				check.violation("lost-write", "value=" + value + " times=" + have + " wanted=" + right);
		});
		check.figures += " wanted=" + wanted.values().stream().mapToInt(Integer::intValue).sum();
	}

	/** A transaction in the log of a generator: its numbers and how it ended. */
	private static final class Intent {
		long first;
		long count;
		String end = "aborted";
	}

	/** Reads the log of test/chaos/generator.c, whose last line may be cut. */
	private static Collection<Intent> readLog(String file) throws IOException {
		Map<String, Intent> intents = new LinkedHashMap<>();
		for (String line : Files.readAllLines(Path.of(file))) {
			String[] word = line.split(" ");
			if (word[0].equals("begin") && word.length == 5 && word[4].equals(".")) {
				Intent intent = intents.computeIfAbsent(word[1], w -> new Intent());
				intent.first = Long.parseLong(word[2]);
				intent.count = Long.parseLong(word[3]);
			} else if (word.length == 3 && word[2].equals(".") && intents.containsKey(word[1])) {
				switch (word[0]) {
					case "committing" -> intents.get(word[1]).end = "unknown";
					case "committed", "aborted", "unknown" -> intents.get(word[1]).end = word[0];
					default -> { }
				}
			}
		}
		return intents.values();
	}

	/** Holds a topic against the log of the generator that filled it, or that filled its source. */
	private void checkLog(Check check) throws IOException {
		Map<String, List<Rec>> seen = occurrences(check, check.topic());
		long committed = 0;
		long aborted = 0;
		long unknown = 0;

		for (Intent intent : readLog(check.need("log"))) {
			committed += intent.end.equals("committed") ? intent.count : 0;
			aborted += intent.end.equals("aborted") ? intent.count : 0;
			unknown += intent.end.equals("unknown") ? intent.count : 0;
			checkIntent(check, intent, seen);
		}
		seen.forEach((value, where) ->
			check.violation("phantom", where.get(0).place() + " value=" + value));
		check.figures += " committed=" + committed + " aborted=" + aborted + " unknown=" + unknown;
	}

	/** Holds the records of one transaction against its end; takes them from those seen. */
	private static void checkIntent(Check check, Intent intent, Map<String, List<Rec>> seen) {
		List<Long> missing = new ArrayList<>();
		for (long id = intent.first; id < intent.first + intent.count; id++) {
			List<Rec> where = seen.remove(Long.toString(id));
			if (where == null) {
				missing.add(id);
				continue;
			}
			if (intent.end.equals("aborted"))
				check.violation("aborted-read", where.get(0).place() + " value=" + id);
			if (where.size() > 1)
				check.violation("duplicate", where.get(1).place() + " value=" + id + " times=" + where.size());
		}
		if (intent.end.equals("aborted") || missing.isEmpty())
			return;
		if (missing.size() < intent.count)
			check.violation("torn-txn", "values=" + intent.first + ".." + (intent.first + intent.count - 1)
				+ " missing=" + missing.size() + " of " + intent.count);
		if (intent.end.equals("committed")) {
			for (long id : missing)
				check.violation("lost-write", "value=" + id);
		}
	}

	/** order: for each key a number does not fall, in the order of offsets. */
	private void order(Check check) {
		String key = check.option("key", "key");
		String field = check.need("field");
		boolean strict = check.options.containsKey("strict");
		Map<String, BigDecimal> last = new HashMap<>();
		Map<String, Integer> home = new HashMap<>();

		for (Rec record : check.records(check.topic())) {
			String name = String.valueOf(picked(record, key));
			BigDecimal value = decimal(picked(record, field));
			if (value == null) {
				if (record.raw.value() != null)
					check.violation("no-field", record.place() + " field=" + field);
				continue;
			}
			Integer partition = home.putIfAbsent(name, record.raw.partition());
			if (partition != null && partition != record.raw.partition())
				check.violation("split-key", record.place() + " key=" + name + " also in partition=" + partition);
			BigDecimal before = last.put(name, value);
			if (before != null && partition == record.raw.partition()
				&& (before.compareTo(value) > 0 || (strict && before.compareTo(value) == 0)))
				check.violation("reorder", record.place() + " key=" + name + " " + field + "=" + plain(value) + " after=" + plain(before));
		}
		check.figures += " keys=" + last.size();
	}

	/** fold: the last value of each key, sorted by key; compared with a file where one is given. */
	private void fold(Check check) throws IOException {
		TreeMap<String, String> table = new TreeMap<>();
		Map<String, Integer> home = new HashMap<>();
		String field = check.option("field", "value");

		for (Rec record : check.records(check.topic())) {
			String key = String.valueOf(text(record.raw.key()));
			Integer partition = home.putIfAbsent(key, record.raw.partition());
			if (partition != null && partition != record.raw.partition())
				check.violation("split-key", record.place() + " key=" + key + " also in partition=" + partition);
			if (record.raw.value() == null)
				table.remove(key);
			else
				table.put(key, field.equals("value") ? copyField(text(record.raw.value())) : picked(record, field));
		}
		check.figures += " keys=" + table.size();
		if (check.options.containsKey("file"))
			compareFold(check, table);
		else {
			try (PrintStream out = output(check)) {
				table.forEach((key, value) -> out.print(copyField(key) + "\t" + value + "\n"));
			}
		}
	}

	/** Holds the folded topic against a file of lines key, tab, value. */
	private static void compareFold(Check check, TreeMap<String, String> table) throws IOException {
		Map<String, String> have = new TreeMap<>();
		table.forEach((key, value) -> have.put(copyField(key), value));
		for (String line : Files.readAllLines(Path.of(check.need("file")))) {
			String key = line.substring(0, line.indexOf('\t'));
			String wanted = line.substring(key.length() + 1);
			String value = have.remove(key);
			if (value == null)
				check.violation("lost-write", "key=" + key + " wanted=" + wanted);
			else if (!value.equals(wanted))
				check.violation("fold-differs", "key=" + key + " value=" + value + " wanted=" + wanted);
		}
		have.forEach((key, value) -> check.violation("phantom", "key=" + key + " value=" + value));
	}

	/** partitioned: each record is where Kafka's own producer would have put its key. */
	private void partitioned(Check check) {
		int total = check.topic().ends.size();
		for (Rec record : check.topic().records) {
			if (record.raw.key() == null)
				continue;
			int right = Utils.toPositive(Utils.murmur2(record.raw.key())) % total;
			if (right != record.raw.partition())
				check.violation("wrong-partition", record.place() + " key=" + text(record.raw.key()) + " wanted=" + right);
		}
	}

	/** settled: no transaction stays open: the last stable offset reaches the end in time. */
	private void settled(Check check) throws InterruptedException {
		long limit = System.nanoTime() + (long) (Double.parseDouble(check.option("for", "15")) * 1e9);
		try (KafkaConsumer<byte[], byte[]> stable = consumer(true); KafkaConsumer<byte[], byte[]> all = consumer(false)) {
			List<TopicPartition> partitions = partitions(all, check.need("topic"));
			for (;;) {
				Map<TopicPartition, Long> ends = all.endOffsets(partitions);
				Map<TopicPartition, Long> reached = stable.endOffsets(partitions);
				if (reached.entrySet().stream().allMatch(e -> e.getValue() >= ends.get(e.getKey())))
					return;
				if (System.nanoTime() > limit) {
					reached.forEach((partition, offset) -> {
						if (offset < ends.get(partition))
							check.violation("stuck", "partition=" + partition.partition() + " stable=" + offset + " end=" + ends.get(partition));
					});
					return;
				}
				Thread.sleep(100);
			}
		}
	}

	/** nothing-extra: after the end that was read, nothing more arrives for a while. */
	private void nothingExtra(Check check) {
		double seconds = Double.parseDouble(check.option("for", "5"));
		long limit = System.nanoTime() + (long) (seconds * 1e9);
		int checked = 0;

		try (KafkaConsumer<byte[], byte[]> consumer = consumer(true)) {
			Map<TopicPartition, Long> ends = new HashMap<>();
			for (String name : check.topicNames()) {
				ends.putAll(topics.get(name).ends);
				checked += topics.get(name).records.size();
			}
			consumer.assign(ends.keySet());
			ends.forEach(consumer::seek);
			do {
				for (ConsumerRecord<byte[], byte[]> raw : consumer.poll(Duration.ofMillis(100)))
					check.violation("extra-write", "in=" + raw.topic() + " " + new Rec(raw).place() + " value=" + text(raw.value()));
			} while (check.violations.isEmpty() && System.nanoTime() < limit);
		}
		check.figures = " records=" + checked + " for=" + seconds;
	}

	// --- what the broker knows about writers --------------------------------------

	/** A client for the broker's own books. */
	private Admin admin() {
		return Admin.create(Map.of("bootstrap.servers", bootstrap, "default.api.timeout.ms", "30000"));
	}

	/** transactions: the transactional ids the broker knows, and their states. */
	private void transactions(Check check) throws Exception {
		int count = 0;
		try (Admin admin = admin(); PrintStream out = output(check)) {
			for (TransactionListing listing : new TreeMap<>(admin.listTransactions().all().get().stream()
				.collect(Collectors.toMap(TransactionListing::transactionalId, l -> l))).values()) {
				out.print(copyField(listing.transactionalId()) + "\t" + listing.producerId() + "\t" + listing.state() + "\n");
				count++;
			}
		}
		check.figures = " count=" + count;
	}

	/** group: the positions that a group has committed, with their metadata. */
	private void group(Check check) throws Exception {
		TreeMap<String, String> lines = new TreeMap<>();
		try (Admin admin = admin(); PrintStream out = output(check)) {
			admin.listConsumerGroupOffsets(check.need("group")).partitionsToOffsetAndMetadata().get().forEach((partition, position) -> {
				if (position != null)
					lines.put(partition.topic() + "\t" + partition.partition(), position.offset() + "\t" + copyField(position.metadata()));
			});
			lines.forEach((where, what) -> out.print(where + "\t" + what + "\n"));
		}
		check.figures = " positions=" + lines.size();
	}

	/** fence: another producer takes a transactional id, so that the one who has it is shut out. */
	private void fence(Check check) {
		Properties properties = new Properties();
		properties.put("bootstrap.servers", bootstrap);
		properties.put("transactional.id", check.need("id"));
		properties.put("max.block.ms", "30000");
		try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
			producer.initTransactions();
		}
	}

	// --- the program ------------------------------------------------------------

	/** Runs one check. */
	private void run(Check check) throws Exception {
		if (!check.mode.equals("nothing-extra") && !NO_READING.contains(check.mode))
			checkOffsets(check);
		switch (check.mode) {
			case "print" -> print(check);
			case "dense" -> dense(check);
			case "set" -> set(check);
			case "same" -> same(check);
			case "order" -> order(check);
			case "fold" -> fold(check);
			case "partitioned" -> partitioned(check);
			case "settled" -> settled(check);
			case "transactions" -> transactions(check);
			case "group" -> group(check);
			case "fence" -> fence(check);
			case "nothing-extra" -> nothingExtra(check);
			default -> throw new IllegalArgumentException("unknown check " + check.mode);
		}
		check.summary();
	}

	/** The checks that the arguments ask for: a word without "=" begins one. */
	private List<Check> parse(String[] args) {
		List<Check> checks = new ArrayList<>();
		for (int i = 1; i < args.length; i++) {
			int equals = args[i].indexOf('=');
			if (equals < 0)
				checks.add(new Check(args[i]));
			else if (checks.isEmpty() && args[i].startsWith("live="))
				live = Path.of(args[i].substring(equals + 1));
			else if (checks.isEmpty())
				throw new IllegalArgumentException("a check must come before " + args[i]);
			else
				checks.get(checks.size() - 1).options.put(args[i].substring(0, equals), args[i].substring(equals + 1));
		}
		return checks;
	}

	/** Reads what the checks look at: open transactions first get their time to end. */
	private void work(List<Check> checks) throws Exception {
		for (Check check : checks) {
			if (NO_READING.contains(check.mode))
				run(check);
		}
		Set<String> names = new LinkedHashSet<>();
		for (Check check : checks) {
			if (NO_READING.contains(check.mode))
				continue;
			names.addAll(List.of(check.topicNames()));
			if (check.options.containsKey("with"))
				names.add(check.need("with"));
		}
		if (!names.isEmpty())
			read(names, 120);
		for (Check check : checks) {
			if (!NO_READING.contains(check.mode))
				run(check);
		}
	}

	/** See the head of this file. */
	public static void main(String[] args) {
		int code;
		try {
			Verify verify = new Verify(args[0]);
			verify.work(verify.parse(args));
			code = verify.failed ? 1 : 0;
		} catch (Exception e) {
			System.err.println("verify: " + e);
			code = 2;
		}
		System.out.flush();
		System.exit(code);
	}
}
