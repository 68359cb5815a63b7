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
    private static final int CAPACITY = 4_000_000;
    private static final long HEAP_FOR_EVENTS = 2L << 30;

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
        context.put("capacity", Integer.toString(CAPACITY));
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

    /** The memory channel's events lie in the heap: object, headers and body, about 300 bytes and the body. */
    @Override
    public long room() {
        return inMemory ? Math.min(CAPACITY, HEAP_FOR_EVENTS / (300 + options.body)) : CAPACITY;
    }

    /** Less in memory: with a heap full of events a put would measure the garbage collector. */
    @Override
    public long backlog() {
        return inMemory ? room() / 20 : CAPACITY / 2;
    }

    /** An event with a body and headers of its own, as a source makes them. */
    static Event event(byte[] body) {
        Map<String, String> headers = new HashMap<>();
        headers.put("host", "bench");
        headers.put("n", "1");
        return EventBuilder.withBody(body.clone(), headers);
    }
}
