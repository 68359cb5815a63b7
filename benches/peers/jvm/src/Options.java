/** The command line. */
final class Options {
    String peer;
    String workload;
    String dir;
    String channel = "file";
    int producers = 1;
    int batch = 100;
    int body = 512;
    int connections = 1;
    int port;
    long events = 1_000_000;
    double seconds = 3;
    /** Not counted, before the timed part: a JVM's first seconds say more of its compiler than of the peer. */
    double warmup = 2;

    static Options parse(String[] args) {
        if (args.length < 2) {
            throw new Refused("usage: driver PEER WORKLOAD --dir DIR [--producers P] [--batch B] [--body S] [--seconds T]"
                + " [--events N] [--warmup W] [--port PORT] [--connections C] [--channel file|memory]");
        }
        Options options = new Options();
        options.peer = args[0];
        options.workload = args[1];
        if (options.peer.equals("avro-rpc")) {
            options.warmup = 5;
        }
        for (int i = 2; i < args.length; i += 2) {
            if (i + 1 == args.length) {
                throw new Refused(args[i] + " needs a value");
            }
            options.set(args[i], args[i + 1]);
        }
        return options;
    }

    private void set(String name, String value) {
        try {
            switch (name) {
                case "--dir": dir = value; break;
                case "--channel": channel = value; break;
                case "--producers": producers = (int) count(name, value, 1, 10_000); break;
                case "--batch": batch = (int) count(name, value, 1, 1_000_000); break;
                case "--body": body = (int) count(name, value, 0, 1 << 26); break;
                case "--connections": connections = (int) count(name, value, 1, 10_000); break;
                case "--port": port = (int) count(name, value, 1, 65_535); break;
                case "--events": events = count(name, value, 1, Long.MAX_VALUE); break;
                case "--seconds": seconds = seconds(name, value); break;
                case "--warmup": warmup = seconds(name, value); break;
                default: throw new Refused("no option " + name);
            }
        } catch (NumberFormatException e) {
            throw new Refused(name + " is no number: " + value);
        }
    }

    private static long count(String name, String value, long least, long most) {
        long n = Long.parseLong(value);
        if (n < least || n > most) {
            throw new Refused(name + " must be from " + least + " to " + most + ", not " + value);
        }
        return n;
    }

    private static double seconds(String name, String value) {
        double n = Double.parseDouble(value);
        if (!(n >= 0 && n <= 86_400)) {
            throw new Refused(name + " must be from 0 to 86400, not " + value);
        }
        return n;
    }
}
