import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.LocatedFileStatus;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RemoteIterator;
import org.apache.hadoop.io.BytesWritable;
import org.apache.hadoop.io.SequenceFile;
import org.apache.hadoop.io.Writable;
import org.apache.hadoop.util.ReflectionUtils;

/**
 * Writes what Hadoop reads from the files below a directory: a line an event.
 *
 * ReadBack sequence|text URI OUT. `sequence`: the value of each record of each SequenceFile, by
 * Hadoop's own reader; `text`: the lines. Prints `ok FILES EVENTS`.
 *
 * As in Hadoop's input formats, names that begin with `_` or `.` are hidden. A file without a byte
 * (one is being begun, and nothing in it was synced) holds no events.
 */
public class ReadBack {
  public static void main(String[] args) throws Exception {
    Path dir = new Path(args[1]);
    FileSystem fs = FileSystem.get(dir.toUri(), new Configuration());
    System.out.println("ok " + all(fs, args[0], dir, args[2]));
  }

  /** Returns how many files and events there were. */
  static String all(FileSystem fs, String format, Path dir, String out) throws IOException {
    int files = 0, events = 0;
    try (PrintStream lines = new PrintStream(out, StandardCharsets.UTF_8)) {
      for (LocatedFileStatus file : filesBelow(fs, dir)) {
        Path path = file.getPath();
        if (path.getName().startsWith("_") || path.getName().startsWith(".") || file.getLen() == 0) continue;
        files++;
        events += format.equals("sequence") ? sequence(fs, path, lines) : text(fs, path, lines);
      }
    }
    return files + " " + events;
  }

  static List<LocatedFileStatus> filesBelow(FileSystem fs, Path dir) throws IOException {
    List<LocatedFileStatus> files = new ArrayList<>();
    RemoteIterator<LocatedFileStatus> each = fs.listFiles(dir, true);
    while (each.hasNext()) files.add(each.next());
    files.sort(Comparator.comparing(LocatedFileStatus::getPath));
    return files;
  }

  private static int sequence(FileSystem fs, Path path, PrintStream lines) throws IOException {
    int events = 0;
    Configuration conf = fs.getConf();
    try (SequenceFile.Reader reader = new SequenceFile.Reader(conf, SequenceFile.Reader.file(path))) {
      Writable key = (Writable) ReflectionUtils.newInstance(reader.getKeyClass(), conf);
      Writable value = (Writable) ReflectionUtils.newInstance(reader.getValueClass(), conf);
      for (; reader.next(key, value); events++) {
        byte[] bytes = value instanceof BytesWritable
            ? ((BytesWritable) value).copyBytes()
            : value.toString().getBytes(StandardCharsets.UTF_8);
        lines.write(bytes, 0, bytes.length);
        lines.write('\n');
      }
    }
    return events;
  }

  private static int text(FileSystem fs, Path path, PrintStream lines) throws IOException {
    int events = 0;
    try (BufferedReader reader =
        new BufferedReader(new InputStreamReader(fs.open(path), StandardCharsets.UTF_8))) {
      for (String line; (line = reader.readLine()) != null; events++) lines.print(line + "\n");
    }
    return events;
  }
}
