import java.io.File;
import java.nio.file.Files;
import net.openhft.chronicle.bytes.Bytes;
import net.openhft.chronicle.bytes.SyncMode;
import net.openhft.chronicle.queue.ExcerptAppender;
import net.openhft.chronicle.queue.ExcerptTailer;
import net.openhft.chronicle.queue.impl.StoreFileListener;
import net.openhft.chronicle.queue.impl.single.SingleChronicleQueue;
import net.openhft.chronicle.queue.impl.single.SingleChronicleQueueBuilder;
import net.openhft.chronicle.queue.rollcycles.LegacyRollCycles;

/** Chronicle Queue: each event one document of headers and body. */
final class Chronicle implements Peer {
    private static final int HEADERS = 14;
    private static final String PUT = "a put ends with ExcerptAppender.sync, an msync(MS_SYNC) of the mapped file";
    private static final String PLACE = "the reader's place is in a mapped file and not synced";

    private final Options options;
    private SingleChronicleQueue queue;

    Chronicle(Options options) {
        this.options = options;
    }

    @Override
    public void open() {
        SingleChronicleQueueBuilder builder = SingleChronicleQueueBuilder.binary(options.dir).syncMode(SyncMode.SYNC);
        if (options.workload.equals("put")) {
            // The queue deletes nothing itself; a file that is rolled away and released is its user's to delete.
            builder.rollCycle(LegacyRollCycles.MINUTELY).storeFileListener(new StoreFileListener() {
                @Override
                public void onReleased(int cycle, File file) {
                    delete(file);
                }
            });
        }
        queue = builder.build();
    }

    @Override
    public Producer producer() {
        ExcerptAppender appender = queue.createAppender();
        Bytes<byte[]> record = Bytes.wrapForRead(new byte[options.body + HEADERS]);
        return (events, durable) -> {
            for (int i = 0; i < events; i++) {
                appender.writeBytes(record);
            }
            if (durable) {
                appender.sync();
            }
        };
    }

    @Override
    public Reader reader() {
        // A tailer with a name keeps its place in the queue's metadata.
        ExcerptTailer tailer = queue.createTailer("bench");
        Bytes<?> record = Bytes.allocateElasticDirect(options.body + HEADERS);
        return most -> {
            int n = 0;
            while (n < most && tailer.readBytes(record.clear())) {
                n++;
            }
            return n;
        };
    }

    @Override
    public String note() {
        switch (options.workload) {
            case "reopen": return null;
            case "take": return PLACE;
            case "both": return PUT + "; " + PLACE;
            default: return PUT;
        }
    }

    private static void delete(File file) {
        try {
            Files.deleteIfExists(file.toPath());
        } catch (java.io.IOException e) {
            System.err.println("driver: " + file + " stays: " + e);
        }
    }
}
