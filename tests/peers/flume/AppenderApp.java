import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;

/**
 * An application that logs through Log4j 2's Flume appender (log4j2-appender.xml).
 *
 * AppenderApp COUNT: logs `log-0` to `log-COUNT-1`. The appender passes its failures on, so a call
 * that returns was acknowledged; the program ends with a failure at the first that was not, and
 * prints `events=COUNT` at the end.
 */
public class AppenderApp {
  public static void main(String[] args) {
    Logger logger = LogManager.getLogger("application");
    int count = Integer.parseInt(args[0]);
    for (int i = 0; i < count; i++) logger.info("log-{}", i);
    LogManager.shutdown(); // sends what a batch still holds
    System.out.println("events=" + count);
  }
}
