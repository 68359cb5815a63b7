import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.flume.Event;
import org.apache.flume.EventDeliveryException;
import org.apache.flume.FlumeException;
import org.apache.flume.api.RpcClient;
import org.apache.flume.api.RpcClientFactory;
import org.apache.flume.event.EventBuilder;

/**
 * Sends numbered events by Flume's own RPC client and keeps a record of what was acknowledged.
 *
 * Arguments are key=value: host, port, connections (4), batch (100; with 1 it calls append, else
 * appendBatch), body (bytes, 512), headers (0), compression (none or deflate), prefix (e),
 * events (in all, shared out evenly; 0: no end), seconds (0: no end), warmup (seconds that are not
 * counted), acked (a file that gets the id of each acknowledged event, a line each, before the next
 * batch of that connection is sent), reconnect (false: a failure ends the program with code 1; true: the
 * connection is made again, the failed batch is given up, and the numbers go on).
 *
 * With neither events nor seconds it ends when standard input does. A body is the id
 * `prefix-connection-number`, filled up with `.` after a space. The last line of its output:
 * `events=… seconds=… rate=… p50_ms=… p99_ms=… failed=… connects=…`
 */
public class FlumeLoad {
  static final Map<String, String> options = new HashMap<>();
  static final AtomicLong acknowledged = new AtomicLong(), failed = new AtomicLong(), connects = new AtomicLong();
  static final List<Long> nanos = new ArrayList<>();
  static volatile boolean stop, counting;
  static BufferedWriter record;

  static int number(String key, int otherwise) {
    return Integer.parseInt(options.getOrDefault(key, "" + otherwise));
  }

  public static void main(String[] args) throws Exception {
    for (String arg : args) {
      String[] pair = arg.split("=", 2);
      options.put(pair[0], pair[1]);
    }
    if (options.containsKey("acked")) record = Files.newBufferedWriter(Path.of(options.get("acked")));
    int connections = number("connections", 4), events = number("events", 0);
    int seconds = number("seconds", 0), warmup = number("warmup", 0);
    counting = warmup == 0;
    Thread[] threads = new Thread[connections];
    long[] begin = {System.nanoTime()};
    for (int i = 0; i < connections; i++) {
      int connection = i;
      int share = events / connections + (i < events % connections ? 1 : 0);
      threads[i] = new Thread(() -> send(connection, events == 0 ? Integer.MAX_VALUE : share));
      threads[i].start();
    }
    if (warmup > 0) {
      Thread.sleep(warmup * 1000L);
      synchronized (nanos) {
        counting = true;
        begin[0] = System.nanoTime();
      }
    }
    if (seconds > 0) {
      Thread.sleep(seconds * 1000L);
      stop = true;
    } else if (events == 0) {
      while (System.in.read() >= 0) {}
      stop = true;
    }
    double taken = -1;
    if (seconds > 0) taken = (System.nanoTime() - begin[0]) / 1e9; // before the last batches return
    long total = acknowledged.get();
    for (Thread thread : threads) thread.join();
    if (taken < 0) {
      taken = (System.nanoTime() - begin[0]) / 1e9;
      total = acknowledged.get();
    }
    if (record != null) record.close();
    long[] sorted = nanos.stream().mapToLong(Long::longValue).sorted().toArray();
    System.out.printf("events=%d seconds=%.3f rate=%.0f p50_ms=%.2f p99_ms=%.2f failed=%d connects=%d%n",
        total, taken, total / taken, percentile(sorted, 0.5), percentile(sorted, 0.99), failed.get(), connects.get());
    System.exit(failed.get() > 0 && !reconnects() ? 1 : 0);
  }

  static boolean reconnects() {
    return Boolean.parseBoolean(options.get("reconnect"));
  }

  static double percentile(long[] sorted, double part) {
    return sorted.length == 0 ? 0 : sorted[(int) ((sorted.length - 1) * part)] / 1e6;
  }

  static RpcClient connect() {
    Properties properties = new Properties();
    properties.setProperty("client.type", "default");
    properties.setProperty("hosts", "h");
    properties.setProperty("hosts.h", options.getOrDefault("host", "127.0.0.1") + ":" + options.get("port"));
    properties.setProperty("batch-size", "" + number("batch", 100));
    if ("deflate".equals(options.get("compression"))) properties.setProperty("compression-type", "deflate");
    RpcClient client = RpcClientFactory.getInstance(properties);
    connects.incrementAndGet();
    return client;
  }

  static void send(int connection, int share) {
    String prefix = options.getOrDefault("prefix", "e") + "-" + connection + "-";
    byte[] filling = new byte[number("body", 512)];
    Arrays.fill(filling, (byte) '.');
    Map<String, String> headers = new HashMap<>();
    for (int i = 0; i < number("headers", 0); i++) headers.put("header" + i, "value " + i);
    int batch = number("batch", 100);
    RpcClient client = null;
    for (int next = 0; next < share && !stop; ) {
      List<String> ids = new ArrayList<>(batch);
      List<Event> events = new ArrayList<>(batch);
      for (; ids.size() < batch && next < share; next++) {
        ids.add(prefix + next);
        byte[] body = (prefix + next + " ").getBytes(StandardCharsets.UTF_8);
        if (body.length < filling.length) {
          byte[] filled = filling.clone();
          System.arraycopy(body, 0, filled, 0, body.length);
          body = filled;
        }
        events.add(EventBuilder.withBody(body, headers));
      }
      try {
        if (client == null) client = connect();
        long begin = System.nanoTime();
        if (batch == 1) client.append(events.get(0)); else client.appendBatch(events);
        note(ids, System.nanoTime() - begin);
      } catch (EventDeliveryException | FlumeException e) {
        failed.incrementAndGet();
        if (!reconnects()) {
          e.printStackTrace();
          return;
        }
        if (client != null) close(client);
        client = null;
        pause();
      }
    }
    if (client != null) close(client);
  }

  static void note(List<String> ids, long took) {
    synchronized (nanos) {
      if (counting) {
        acknowledged.addAndGet(ids.size());
        nanos.add(took);
      }
      if (record == null) return;
      try {
        for (String id : ids) {
          record.write(id);
          record.write('\n');
        }
        record.flush();
      } catch (IOException e) {
        throw new RuntimeException(e);
      }
    }
  }

  static void close(RpcClient client) {
    try {
      client.close();
    } catch (FlumeException e) {
      // a broken connection
    }
  }

  static void pause() {
    try {
      Thread.sleep(20);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
