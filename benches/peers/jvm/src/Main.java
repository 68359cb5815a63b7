import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;

/** {@code driver PEER WORKLOAD --dir DIR ...}: one measurement, one line of JSON. */
public final class Main {
    private static final String PEERS = "flume-file, flume-memory, chronicle, avro-rpc, flume-agent";

    public static void main(String[] args) {
        // The line is all that may go to standard output; libraries print there too.
        PrintStream out = System.out;
        System.setOut(System.err);
        try {
            Options options = Options.parse(args);
            switch (options.peer) {
                case "flume-agent":
                    Agent.run(options);
                    return; // its threads live on
                case "avro-rpc":
                    print(out, AvroRpc.run(options));
                    break;
                case "flume-file":
                case "flume-memory":
                    print(out, bench(options, new Flume(options)));
                    break;
                case "chronicle":
                    print(out, bench(options, new Chronicle(options)));
                    break;
                default:
                    throw new Refused("no peer " + options.peer + "; there are " + PEERS);
            }
            if (options.workload.equals("fill")) {
                Process kill = new ProcessBuilder("kill", "-9", Long.toString(ProcessHandle.current().pid())).start();
                kill.waitFor();
            }
            System.exit(0);
        } catch (Throwable e) {
            fail(e);
        }
    }

    interface Task {
        void run() throws Exception;
    }

    /** Starts a thread whose failure ends the process: a measurement without it is worth nothing. */
    static Thread thread(String name, Task task) {
        Thread thread = new Thread(() -> {
            try {
                task.run();
            } catch (Throwable e) {
                fail(e);
            }
        }, name);
        thread.start();
        return thread;
    }

    private static void fail(Throwable e) {
        if (e instanceof Refused) {
            System.err.println("driver: " + e.getMessage());
        } else {
            String cause = e.getCause() == null ? "" : ": " + e.getCause();
            System.err.println("driver: " + e + cause);
        }
        // Not exit: its hooks may wait for the very thread that failed.
        Runtime.getRuntime().halt(1);
    }

    private static Result bench(Options options, Peer peer) throws Exception {
        if (options.dir == null) {
            throw new Refused("--dir is missing");
        }
        Files.createDirectories(Path.of(options.dir));
        return new Bench(options, peer).run();
    }

    private static void print(PrintStream out, Result result) {
        out.println(result.json());
        out.flush();
    }
}
