import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flume.node.Application;

/** A Flume agent in this process: Avro source, one channel, null sink. */
final class Agent {
    static void run(Options options) throws Exception {
        if (!options.workload.equals("agent")) {
            throw new Refused("no workload " + options.workload + "; flume-agent has agent");
        }
        if (options.dir == null || options.port == 0) {
            throw new Refused("--dir and --port are needed");
        }
        if (!options.channel.equals("file") && !options.channel.equals("memory")) {
            throw new Refused("--channel is file or memory, not " + options.channel);
        }
        Path dir = Files.createDirectories(Path.of(options.dir)).toAbsolutePath();
        Path file = dir.resolve("agent.properties");
        Files.writeString(file, properties(options, dir));
        Application.main(new String[] {"-n", "a", "-f", file.toString(), "--no-reload-conf"});
    }

    private static String properties(Options options, Path dir) {
        String common = String.join("\n",
            "a.sources = s", "a.channels = c", "a.sinks = k",
            "a.sources.s.type = avro",
            "a.sources.s.bind = 127.0.0.1",
            "a.sources.s.port = " + options.port,
            "a.sources.s.channels = c",
            "a.channels.c.type = " + options.channel,
            "a.channels.c.capacity = " + (options.channel.equals("memory") ? 100000 : 4000000),
            "a.channels.c.transactionCapacity = 10000",
            "a.sinks.k.type = null",
            "a.sinks.k.batchSize = 1000",
            "a.sinks.k.channel = c", "");
        if (options.channel.equals("memory")) {
            return common;
        }
        return common + "a.channels.c.checkpointDir = " + dir + "/checkpoint\na.channels.c.dataDirs = " + dir + "/data\n";
    }
}
