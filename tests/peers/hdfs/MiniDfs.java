import java.io.BufferedReader;
import java.io.File;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.util.HashMap;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.hdfs.HdfsConfiguration;
import org.apache.hadoop.hdfs.MiniDFSCluster;
import org.apache.hadoop.hdfs.server.datanode.DataNode;

/**
 * An HDFS on the loopback: a namenode and datanodes in this process, on free ports.
 *
 * MiniDfs DIR DATANODES. State is in DIR/data, a client's core-site.xml in DIR/conf. It prints
 * `ready URL DIR/conf`, then takes commands, a line each, and answers each by a line `ok …` or
 * `error …`: `stop-dn N`, `start-dn N` (the same one back), `holder PATH` (a datanode
 * that has the file's last block), `ls DIR`, `read sequence|text DIR OUT` (ReadBack), `quit`. The
 * end of its input ends it too.
 */
public class MiniDfs {
  private static final Map<String, MiniDFSCluster.DataNodeProperties> stopped = new HashMap<>();

  public static void main(String[] args) throws Exception {
    File dir = new File(args[0]).getAbsoluteFile();
    Configuration conf = new HdfsConfiguration();
    conf.set(MiniDFSCluster.HDFS_MINIDFS_BASEDIR, new File(dir, "data").getPath());
    conf.set("dfs.blocksize", "16777216");
    conf.set("dfs.permissions.enabled", "false");
    // a datanode that stopped is passed over after seconds: by default it is given out for 10 minutes
    conf.set("dfs.heartbeat.interval", "1");
    conf.set("dfs.namenode.heartbeat.recheck-interval", "5000");
    conf.set("dfs.namenode.stale.datanode.interval", "5000");
    conf.set("dfs.namenode.avoid.read.stale.datanode", "true");
    conf.set("dfs.namenode.avoid.write.stale.datanode", "true");
    MiniDFSCluster cluster = new MiniDFSCluster.Builder(conf)
        .numDataNodes(Integer.parseInt(args[1])).nameNodePort(0).nameNodeHttpPort(0).build();
    cluster.waitActive();
    String[] nodes = cluster.getDataNodes().stream()
        .map(DataNode::getDatanodeId).map(id -> id.getXferAddr()).toArray(String[]::new);
    Configuration client = new Configuration(false);
    String url = "hdfs://127.0.0.1:" + cluster.getNameNodePort();
    client.set("fs.defaultFS", url);
    File site = new File(dir, "conf/core-site.xml");
    site.getParentFile().mkdirs();
    try (OutputStream out = new FileOutputStream(site)) {
      client.writeXml(out);
    }
    say("ready " + url + " " + site.getParent());
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = lines.readLine()) != null && !line.equals("quit"); ) {
      try {
        say("ok " + obey(cluster, nodes, line.trim().split(" +")));
      } catch (Exception e) {
        say("error " + e.toString().replace('\n', ' '));
      }
    }
    cluster.shutdown();
    System.exit(0);
  }

  private static void say(String line) {
    System.out.println(line);
    System.out.flush();
  }

  private static String obey(MiniDFSCluster cluster, String[] nodes, String[] words) throws Exception {
    FileSystem fs = cluster.getFileSystem();
    switch (words[0]) {
      case "stop-dn":
        stopped.put(words[1], cluster.stopDataNode(nodes[Integer.parseInt(words[1])]));
        return words[1];
      case "start-dn":
        cluster.restartDataNode(stopped.remove(words[1]), true);
        return words[1];
      case "holder": {
        var blocks = fs.getFileBlockLocations(new Path(words[1]), 0, Long.MAX_VALUE);
        String name = blocks[blocks.length - 1].getNames()[0];
        return "" + java.util.Arrays.asList(nodes).indexOf(name);
      }
      case "ls": {
        StringBuilder answer = new StringBuilder();
        for (var file : ReadBack.filesBelow(fs, new Path(words[1]))) answer.append(file.getPath().toUri().getPath()).append(' ');
        return answer.toString().trim();
      }
      case "read":
        return ReadBack.all(fs, words[1], new Path(words[2]), words[3]);
      default:
        throw new IllegalArgumentException("no command '" + words[0] + "'");
    }
  }
}
