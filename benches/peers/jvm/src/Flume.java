import java.util.HashMap;
import java.util.Map;
import org.apache.flume.Channel;
import org.apache.flume.Context;
import org.apache.flume.Event;
import org.apache.flume.Transaction;
import org.apache.flume.channel.MemoryChannel;
import org.apache.flume.channel.file.FileChannel;
import org.apache.flume.conf.Configurables;
import org.apache.flume.event.EventBuilder;

/** Flume's channels, called as a source and a sink would, in this process. */
final class Flume implements Peer {
    private static final int FILE_CAPACITY = 4_000_000;
    private static final int MEMORY_CAPACITY = 100_000;
    private static final long HEAP_FOR_EVENTS = 2L << 30;
    /** The object and its headers. */
    private static final int HEAP_PER_EVENT = 300;

    private final Options options;
    private final boolean inMemory;
    private final byte[] body;
    private Channel channel;

    Flume(Options options) {
        this.options = options;
        this.inMemory = options.peer.equals("flume-memory");
        this.body = new byte[options.body];
    }

    @Override
    public void open() {
        Context context = new Context();
        context.put("capacity", Long.toString(room()));
        context.put("transactionCapacity", Integer.toString(Math.max(10_000, options.batch)));
        if (inMemory) {
            channel = new MemoryChannel();
        } else {
            channel = new FileChannel();
            context.put("checkpointDir", options.dir + "/checkpoint");
            context.put("dataDirs", options.dir + "/data");
        }
        channel.setName("bench");
        Configurables.configure(channel, context);
        channel.start();
    }

    @Override
    public Producer producer() {
        return (events, durable) -> {
            Transaction transaction = channel.getTransaction();
            transaction.begin();
            try {
                for (int i = 0; i < events; i++) {
                    channel.put(event(body));
                }
                transaction.commit();
            } catch (Throwable e) {
                transaction.rollback();
                throw e;
            } finally {
                transaction.close();
            }
        };
    }

    @Override
    public Reader reader() {
        return most -> {
            Transaction transaction = channel.getTransaction();
            transaction.begin();
            try {
                int n = 0;
                while (n < most && channel.take() != null) {
                    n++;
                }
                transaction.commit();
                return n;
            } catch (Throwable e) {
                transaction.rollback();
                throw e;
            } finally {
                transaction.close();
            }
        };
    }

    @Override
    public String note() {
        return inMemory ? "not durable: events are in memory only" : null;
    }

    /**
     * A memory channel that producers can fill faster than one reader empties it would end as a heap full of events,
     * and a put as a wait for the garbage collector; with less room it is the wait for the reader that it is in an agent.
     */
    @Override
    public long room() {
        if (!inMemory) {
            return FILE_CAPACITY;
        }
        long heapHolds = HEAP_FOR_EVENTS / (HEAP_PER_EVENT + options.body);
        return options.workload.equals("take") ? heapHolds : Math.min(MEMORY_CAPACITY, heapHolds);
    }

    /** An event with a body and headers of its own, as a source makes them. */
    static Event event(byte[] body) {
        Map<String, String> headers = new HashMap<>();
        headers.put("host", "bench");
        headers.put("n", "1");
        return EventBuilder.withBody(body.clone(), headers);
    }
}
