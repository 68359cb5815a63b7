import java.io.IOException;
import java.util.Locale;

/** The line of one measurement. */
final class Result {
    private final Options options;
    private final String note;
    private final int producers;
    private final double cpuBefore = Usage.cpuSeconds();
    private final long bytesBefore;
    private final StringBuilder json = new StringBuilder();

    /** Begins the timed part. Bytes are counted from {@code bytesBefore} on, so that a warm-up's can be left out. */
    Result(Options options, int producers, String note, long bytesBefore) {
        this.options = options;
        this.producers = producers;
        this.note = note;
        this.bytesBefore = bytesBefore;
    }

    /** Ends the timed part. */
    Result end(long events, double seconds, Histogram calls) throws IOException {
        double cpu = Usage.cpuSeconds() - cpuBefore;
        begin(events);
        add("\"seconds\":%.3f,\"events_per_s\":%d", seconds, Math.round(events / seconds));
        if (!calls.isEmpty()) {
            add("\"p50_us\":%d,\"p99_us\":%d,\"p999_us\":%d,\"max_us\":%d",
                calls.micros(0.5), calls.micros(0.99), calls.micros(0.999), calls.maxMicros());
        }
        add("\"cpu_s\":%.2f", cpu);
        return finish();
    }

    /** For a workload of which nothing is timed. */
    Result untimed(long events) throws IOException {
        begin(events);
        return finish();
    }

    String json() {
        return "{" + json + "}";
    }

    private void begin(long events) {
        add("\"peer\":\"%s\",\"workload\":\"%s\",\"producers\":%d,\"batch\":%d,\"body\":%d,\"events\":%d",
            options.peer, options.workload, producers, options.batch, options.body, events);
    }

    private Result finish() throws IOException {
        add("\"rss_mb\":%d,\"disk_mb\":%d", Usage.peakResidentMb(), (Usage.bytesWritten() - bytesBefore) >> 20);
        if (note != null) {
            add("\"note\":\"%s\"", note);
        }
        return this;
    }

    private void add(String format, Object... values) {
        if (json.length() > 0) {
            json.append(',');
        }
        json.append(String.format(Locale.ROOT, format, values));
    }
}
