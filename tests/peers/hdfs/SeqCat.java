import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.io.BytesWritable;
import org.apache.hadoop.io.LongWritable;
import org.apache.hadoop.io.SequenceFile;
import org.apache.hadoop.io.Text;
import org.apache.hadoop.io.Writable;

/** Prints the records of SequenceFiles as Hadoop reads them: key, a tab, the value's bytes in hex. SeqCat URI... */
public class SeqCat {
  public static void main(String[] uris) throws Exception {
    Configuration conf = new Configuration();
    for (String uri : uris) {
      try (SequenceFile.Reader in = new SequenceFile.Reader(conf, SequenceFile.Reader.file(new Path(uri)))) {
        LongWritable key = new LongWritable();
        Writable value = (Writable) in.getValueClass().getDeclaredConstructor().newInstance();
        StringBuilder out = new StringBuilder();
        while (in.next(key, value)) {
          byte[] bytes = value instanceof Text ? ((Text) value).copyBytes() : ((BytesWritable) value).copyBytes();
          out.append(key.get()).append('\t');
          for (byte b : bytes) out.append(String.format("%02x", b));
          out.append('\n');
        }
        System.out.print(out);
      }
    }
  }
}
