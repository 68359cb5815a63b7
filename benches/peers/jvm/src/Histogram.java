/** Counts of nanoseconds, in buckets no wider than 1/128 of their value. */
final class Histogram {
    private static final int BITS = 7;
    private final long[] counts = new long[64 << BITS];
    private long total;
    private long max;

    void add(long ns) {
        counts[bucket(ns)]++;
        total++;
        max = Math.max(max, ns);
    }

    void add(Histogram other) {
        for (int i = 0; i < counts.length; i++) {
            counts[i] += other.counts[i];
        }
        total += other.total;
        max = Math.max(max, other.max);
    }

    boolean isEmpty() {
        return total == 0;
    }

    long maxMicros() {
        return Math.round(max / 1e3);
    }

    long micros(double part) {
        long rank = (long) Math.ceil(part * total);
        int i = 0;
        for (long seen = counts[0]; seen < rank; seen += counts[i]) {
            i++;
        }
        return Math.round(Math.min(top(i), max) / 1e3);
    }

    private static int bucket(long ns) {
        int shift = Math.max(0, 63 - BITS - Long.numberOfLeadingZeros(ns));
        return (shift << BITS) + (int) (ns >>> shift);
    }

    private static long top(int bucket) {
        int shift = Math.max(0, (bucket >> BITS) - 1);
        long lead = bucket - ((long) shift << BITS);
        return (lead + 1 << shift) - 1;
    }
}
