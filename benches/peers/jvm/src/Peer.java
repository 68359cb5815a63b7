/** A log or channel inside this process. */
interface Peer {
    void open() throws Exception;

    /** Called by the thread that will use it, and so is {@link #reader}. */
    Producer producer() throws Exception;

    Reader reader() throws Exception;

    /** What its durability lacks, or null. */
    String note();

    /** How many events it holds before its producers have to wait for a reader. */
    default long room() {
        return Long.MAX_VALUE;
    }

    interface Producer {
        /** Stores so many events. Durable: returns when they are; otherwise as fast as the peer can. */
        void put(int events, boolean durable) throws Exception;
    }

    interface Reader {
        /** Takes up to so many events, makes its place durable as the peer does, and says how many there were. */
        int take(int most) throws Exception;
    }
}
