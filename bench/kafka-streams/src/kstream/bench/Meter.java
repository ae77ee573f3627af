package kstream.bench;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.Locale;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/** Counts processed records; notes time and CPU of the process at the first and at the last one. */
final class Meter {
    private static final OperatingSystemMXBean OS =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private final long records;
    private final AtomicLong seen = new AtomicLong();
    private final CountDownLatch done = new CountDownLatch(1);
    private volatile boolean announced;
    private volatile long firstNanos;
    private volatile long lastNanos;
    private volatile long firstCpu;

    Meter(long records) {
        this.records = records;
    }

    /** Called for every record. */
    void count() {
        long n = seen.incrementAndGet();
        if (n == 1) {
            firstCpu = OS.getProcessCpuTime();
            firstNanos = System.nanoTime();
        } else if (n == records) {
            lastNanos = System.nanoTime();
            done.countDown();
        }
    }

    /** Called for every record: writes when the first came, in microseconds since 1970, and the CPU used until then. */
    void announce() {
        if (!announced) {
            synchronized (this) {
                if (!announced) {
                    Instant now = Instant.now();
                    System.out.printf(Locale.ROOT, "first %d %.3f%n",
                            now.getEpochSecond() * 1_000_000L + now.getNano() / 1000, OS.getProcessCpuTime() / 1e9);
                    announced = true;
                }
            }
        }
    }

    /** Waits until all records are processed. */
    void await(long seconds) throws InterruptedException {
        if (!done.await(seconds, TimeUnit.SECONDS)) {
            throw new IllegalStateException("only " + seen.get() + " records were processed in time");
        }
    }

    /** Seconds from the first record to the last. */
    double processingSeconds() {
        return (lastNanos - firstNanos) / 1e9;
    }

    /** Seconds from the first record until now. */
    double secondsSoFar() {
        return (System.nanoTime() - firstNanos) / 1e9;
    }

    /** CPU seconds of the process from the first record until now. */
    double cpuSoFar() {
        return (OS.getProcessCpuTime() - firstCpu) / 1e9;
    }

    /** The greatest resident size of the process so far, in MB. */
    static long peakMegabytes() throws IOException {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM:")) {
                return Long.parseLong(line.replaceAll("[^0-9]", "")) / 1024;
            }
        }
        return 0;
    }
}
