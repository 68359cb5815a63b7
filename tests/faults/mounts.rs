//! File systems of a test's own. A test that mounts runs as a process of its own in a mount
//! namespace of its own: whatever becomes of it, the kernel takes its mounts away with it.
#![allow(dead_code)] // each test uses a part

use crate::support::{report, skip};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Set in the process that has a mount namespace of its own.
const INSIDE: &str = "LEVADA_TEST_OWN_MOUNTS";

/// Runs the body of the test `name` (its path) in a process that may mount as it likes; skips it
/// where that, or one of the `tools`, is not to be had.
pub fn in_own_mounts(name: &str, tools: &[&str], body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let missing = tools.iter().find(|tool| !is_there(tool));
    if let Some(device) = missing.filter(|tool| tool.starts_with('/')) {
        // nobody can install it: no reason to fail where all is required
        return report(&format!("SKIPPED: {name}: this machine's kernel has no {device}"));
    }
    if let Some(tool) = missing {
        return skip(name, &format!("no {tool} (tests/faults/install installs the programs)"));
    }
    let mounts = ["-m", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /tmp"];
    let tried = Command::new("unshare").args(mounts).stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        return skip(name, "needs root, and a mount namespace of its own");
    }
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
    let output = command.args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    let output = output.stderr(Stdio::inherit()).output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{name}, in a process of its own: {}", output.status);
}

/// Whether a program is installed, or a device is there.
pub fn is_there(tool: &str) -> bool {
    if tool.starts_with('/') {
        return Path::new(tool).exists();
    }
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(sbin).any(|dir| dir.join(tool).exists())
}

/// Runs a program that must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {errors}", output.status);
}

/// A file system in memory of `kib` KiB at `at`.
pub fn mount_tmpfs(at: &Path, kib: u64) {
    std::fs::create_dir_all(at).unwrap();
    let size = format!("size={kib}k");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at));
}

/// A journaled ext4 of `mib` MiB at `at`, in the file `image`.
pub fn mount_ext4(at: &Path, image: &Path, mib: u64) {
    std::fs::create_dir_all(at).unwrap();
    File::create(image).unwrap().set_len(mib << 20).unwrap();
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let mut mkfs = Command::new("mkfs.ext4");
    run(mkfs.env("PATH", path).args(["-q", "-F", "-m", "0", "-O", "has_journal"]).arg(image));
    run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at));
}

/// A sink's disk: a tmpfs that can be made full and roomy again at once.
pub struct SinkDisk(pub PathBuf);

impl SinkDisk {
    /// Mounts it, with room.
    pub fn mount(at: PathBuf) -> SinkDisk {
        mount_tmpfs(&at, 256 << 10);
        SinkDisk(at)
    }

    /// No byte goes in any more: the sink fails, and tries again.
    pub fn fill(&self) {
        // while the sink writes, a size can be too small before it is set
        for _ in 0..1000 {
            let stat = rustix::fs::statvfs(&self.0).unwrap();
            let used = (stat.f_blocks - stat.f_bfree).max(1) * stat.f_frsize / 1024;
            if self.resize(used) {
                return;
            }
        }
        panic!("{} can't be made full", self.0.display());
    }

    /// There is room again.
    pub fn free(&self) {
        assert!(self.resize(256 << 10), "{} can't be made larger", self.0.display());
    }

    fn resize(&self, kib: u64) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={kib}k")]).arg(&self.0);
        mount.stderr(Stdio::null()).status().unwrap().success()
    }
}

/// A file that eats the space of a disk.
pub struct Eater(PathBuf);

impl Eater {
    /// Eats all but some MiB at once, and those in bites of 16 KiB, beside whoever else wants them.
    pub fn eat(path: PathBuf) -> Eater {
        const LEAVE: u64 = 3 << 20;
        const BITE: usize = 16 << 10;
        let stat = rustix::fs::statvfs(path.parent().unwrap()).unwrap();
        let mut file = File::create(&path).unwrap();
        if let Some(bytes) = (stat.f_bavail * stat.f_frsize).checked_sub(LEAVE) {
            let flags = rustix::fs::FallocateFlags::empty();
            let allocated = rustix::fs::fallocate(&file, flags, 0, bytes.max(1));
            allocated.or_else(is_full).unwrap();
            std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
        }
        while file.write(&[7; BITE]).is_ok_and(|written| written > 0) {}
        Eater(path)
    }

    /// Whether more than some MiB come back when it leaves.
    pub fn has_mib(&self, mib: u64) -> bool {
        std::fs::metadata(&self.0).unwrap().len() > mib << 20
    }

    /// Gives the space back.
    pub fn leave(self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn is_full(error: rustix::io::Errno) -> Result<(), rustix::io::Errno> {
    if error == rustix::io::Errno::NOSPC { Ok(()) } else { Err(error) }
}
