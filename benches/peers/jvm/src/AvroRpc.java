import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.flume.Event;
import org.apache.flume.api.RpcClient;
import org.apache.flume.api.RpcClientFactory;

/** Flume's own Avro client as the load on an agent that listens on 127.0.0.1. */
final class AvroRpc {
    private static final String NOTE = "as durable as the agent's channel";

    static Result run(Options options) throws Exception {
        if (!options.workload.equals("rpc")) {
            throw new Refused("no workload " + options.workload + "; avro-rpc has rpc");
        }
        if (options.port == 0) {
            throw new Refused("--port is missing");
        }
        CyclicBarrier start = new CyclicBarrier(options.connections + 1);
        CyclicBarrier counted = new CyclicBarrier(options.connections + 1);
        AtomicLong events = new AtomicLong();
        Histogram calls = new Histogram();
        List<Thread> senders = new ArrayList<>();
        for (int i = 0; i < options.connections; i++) {
            senders.add(Main.thread("sender-" + i, () -> {
                RpcClient client = connect(options);
                start.await();
                send(client, options, options.warmup, new Histogram());
                counted.await();
                Histogram own = new Histogram();
                long sent = send(client, options, options.seconds, own);
                synchronized (calls) {
                    calls.add(own);
                }
                events.addAndGet(sent);
            }));
        }
        start.await();
        counted.await();
        Result result = new Result(options, options.connections, NOTE, Usage.bytesWritten());
        long begin = System.nanoTime();
        for (Thread sender : senders) {
            sender.join();
        }
        return result.end(events.get(), (System.nanoTime() - begin) / 1e9, calls);
    }

    private static long send(RpcClient client, Options options, double seconds, Histogram calls) throws Exception {
        byte[] body = new byte[options.body];
        long sent = 0;
        long now = System.nanoTime();
        long end = now + (long) (seconds * 1e9);
        while (now < end) {
            List<Event> batch = new ArrayList<>(options.batch);
            for (int i = 0; i < options.batch; i++) {
                batch.add(Flume.event(body));
            }
            now = System.nanoTime();
            client.appendBatch(batch);
            long after = System.nanoTime();
            calls.add(after - now);
            now = after;
            sent += options.batch;
        }
        return sent;
    }

    private static RpcClient connect(Options options) {
        Properties properties = new Properties();
        properties.put("client.type", "default");
        properties.put("hosts", "agent");
        properties.put("hosts.agent", "127.0.0.1:" + options.port);
        // A larger batch would be cut into calls of this size.
        properties.put("batch-size", Integer.toString(options.batch));
        return RpcClientFactory.getInstance(properties);
    }
}
