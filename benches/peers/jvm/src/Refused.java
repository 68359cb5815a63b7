/** What the caller asked for cannot be done; the message is the whole story. */
final class Refused extends RuntimeException {
    Refused(String message) {
        super(message);
    }
}
