//! One measurement: what a driver's line holds, and what this process and its disk used.

use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;

/// A driver's line. What does not apply is left out.
#[derive(Clone, Default, Serialize, Deserialize, Debug)]
#[serde(default)]
pub struct Measured {
    pub peer: String,
    pub workload: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub producers: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub batch: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub body: u32,
    pub events: u64,
    pub seconds: f64,
    pub events_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p999_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_mb: Option<f64>,
    /// What the disk wrote meanwhile, whoever asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_mb: Option<f64>,
    /// What the log wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_mb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Which measurement of the plan it belongs to, and on which file system.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cell: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub disk: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub round: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What was used since it was made.
pub struct Usage {
    cpu_s: f64,
    sectors: Option<u64>,
    began: Instant,
}

impl Usage {
    /// Starts to count; `dir` lies on the disk that counts.
    pub fn start(dir: &Path) -> Usage {
        Usage { cpu_s: cpu_s("self"), sectors: sectors(dir), began: Instant::now() }
    }

    /// Fills in what was used.
    pub fn note(&self, dir: &Path, line: &mut Measured) {
        line.seconds = self.began.elapsed().as_secs_f64();
        line.cpu_s = Some(cpu_s("self") - self.cpu_s);
        line.rss_mb = peak_mb("self");
        let written = self.sectors.zip(sectors(dir)).map(|(before, now)| now - before);
        line.disk_mb = written.map(|sectors| sectors as f64 * 512.0 / 1e6);
    }
}

/// A number behind a name in a file of /proc.
fn field(file: &str, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The most memory that a process ever had resident.
pub fn peak_mb(pid: &str) -> Option<f64> {
    field(&format!("/proc/{pid}/status"), "VmHWM:").map(|kb| kb / 1024.0)
}

/// User and system time of a process, all threads.
pub fn cpu_s(pid: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // behind the command's name, which may hold spaces
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// Sectors of 512 bytes that the disk below `dir` has written.
fn sectors(dir: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(dir).ok()?.dev();
    let (major, minor) = ((device >> 8) & 0xfff, device & 0xff);
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    text.split_whitespace().nth(6)?.parse().ok()
}
