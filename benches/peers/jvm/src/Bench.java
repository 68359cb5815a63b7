import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;

/** The workloads that a peer inside this process can do. */
final class Bench {
    private static final int STORE_BATCH = 1000;
    private static final int TAKE_BATCH = 1000;
    private static final long STALL_NS = 30_000_000_000L;

    private final Options options;
    private final Peer peer;
    private final AtomicLong stored = new AtomicLong();
    private final AtomicLong taken = new AtomicLong();
    private volatile boolean roundIsOver;

    Bench(Options options, Peer peer) {
        this.options = options;
        this.peer = peer;
    }

    Result run() throws Exception {
        switch (options.workload) {
            case "put": return put(false);
            case "both": return put(true);
            case "take": return take();
            case "fill": return fill();
            case "reopen": return reopen();
            default: throw new Refused("no workload " + options.workload + "; there are put, take, both, fill, reopen");
        }
    }

    private Result put(boolean both) throws Exception {
        peer.open();
        long bytesBefore = 0;
        if (options.warmup > 0) {
            round(options.warmup, both, new Histogram());
            bytesBefore = Usage.bytesWritten();
        }
        long before = stored.get();
        Histogram calls = new Histogram();
        Result result = new Result(options, options.producers, peer.note(), bytesBefore);
        double seconds = round(options.seconds, both, calls);
        return result.end(stored.get() - before, seconds, calls);
    }

    /** Puts for so long, with the reader of `both` or the drain of `put` beside; returns what it took in seconds. */
    private double round(double seconds, boolean both, Histogram calls) throws Exception {
        roundIsOver = false;
        CyclicBarrier start = new CyclicBarrier(options.producers + 1);
        List<Thread> producers = new ArrayList<>();
        for (int i = 0; i < options.producers; i++) {
            producers.add(Main.thread("producer-" + i, () -> produce(start, seconds, calls)));
        }
        Thread reader = Main.thread("reader", both ? this::readAll : this::drain);
        start.await();
        long begin = System.nanoTime();
        for (Thread producer : producers) {
            producer.join();
        }
        if (both) {
            awaitEmpty();
        }
        long end = System.nanoTime();
        // Not an interrupt: it would close the file that a file channel just reads.
        roundIsOver = true;
        reader.join();
        return (end - begin) / 1e9;
    }

    private void produce(CyclicBarrier start, double seconds, Histogram calls) throws Exception {
        Peer.Producer producer = peer.producer();
        Histogram own = new Histogram();
        start.await();
        long now = System.nanoTime();
        long end = now + (long) (seconds * 1e9);
        while (now < end) {
            producer.put(options.batch, true);
            long after = System.nanoTime();
            own.add(after - now);
            now = after;
            stored.addAndGet(options.batch);
        }
        synchronized (calls) {
            calls.add(own);
        }
    }

    /** Takes all there is until the round is over. */
    private void readAll() throws Exception {
        Peer.Reader reader = peer.reader();
        while (!roundIsOver) {
            if (takeSome(reader, TAKE_BATCH) == 0) {
                LockSupport.parkNanos(100_000);
            }
        }
    }

    /** A channel has a capacity: without a reader a long `put` would fill it and then measure the wait for room. */
    private void drain() throws Exception {
        if (peer.room() == Long.MAX_VALUE) {
            return;
        }
        Peer.Reader reader = peer.reader();
        while (!roundIsOver) {
            if (stored.get() - taken.get() > peer.room() / 2) {
                takeSome(reader, TAKE_BATCH);
            } else {
                LockSupport.parkNanos(1_000_000);
            }
        }
    }

    /** Takes no more than was stored, since a channel makes a reader of an empty one wait for seconds. */
    private int takeSome(Peer.Reader reader, int most) throws Exception {
        int n = (int) Math.min(most, stored.get() - taken.get());
        if (n > 0) {
            n = reader.take(n);
            taken.addAndGet(n);
        }
        return n;
    }

    private void awaitEmpty() {
        long seen = -1;
        long since = System.nanoTime();
        while (taken.get() < stored.get()) {
            if (taken.get() > seen) {
                seen = taken.get();
                since = System.nanoTime();
            } else if (System.nanoTime() - since > STALL_NS) {
                throw stalled();
            }
            LockSupport.parkNanos(100_000);
        }
    }

    private Refused stalled() {
        return new Refused("the reader has " + taken + " of " + stored + " events and gets no more");
    }

    private Result take() throws Exception {
        peer.open();
        store();
        Peer.Reader reader = peer.reader();
        Histogram calls = new Histogram();
        Result result = new Result(options, 1, peer.note(), 0);
        long begin = System.nanoTime();
        long now = begin;
        while (taken.get() < options.events) {
            if (takeSome(reader, options.batch) == 0) {
                throw stalled();
            }
            long after = System.nanoTime();
            calls.add(after - now);
            now = after;
        }
        return result.end(options.events, (now - begin) / 1e9, calls);
    }

    private Result fill() throws Exception {
        refuseMemory();
        peer.open();
        Result result = new Result(options, 1, peer.note(), 0);
        store();
        return result.untimed(options.events);
    }

    private void store() throws Exception {
        if (options.events > peer.room()) {
            throw new Refused(options.peer + " has room for " + peer.room() + " events, not for " + options.events);
        }
        Peer.Producer producer = peer.producer();
        for (long left = options.events; left > 0; ) {
            int n = (int) Math.min(STORE_BATCH, left);
            left -= n;
            producer.put(n, left == 0);
            stored.addAndGet(n);
        }
    }

    private Result reopen() throws Exception {
        refuseMemory();
        Result result = new Result(options, 1, peer.note(), 0);
        long begin = System.nanoTime();
        peer.open();
        int n = peer.reader().take(1);
        double seconds = (System.nanoTime() - begin) / 1e9;
        if (n == 0) {
            throw new Refused("no event in " + options.dir + "; run fill there first");
        }
        return result.end(n, seconds, new Histogram());
    }

    private void refuseMemory() {
        if (options.peer.equals("flume-memory")) {
            throw new Refused("flume-memory has nothing to " + options.workload + ", it keeps no files");
        }
    }
}
