//! The lossy disk as a file system that any process can use: FUSE, served by the test itself.
//!
//! The kernel writes through: every `pwrite`, sync and change of a name comes here before the call
//! returns, and what a killed process leaves behind is here too.

use super::lossy::{Disk, Place, ROOT, Refusal};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nobody else changes anything: the kernel may remember what it has asked.
const FOREVER: Duration = Duration::from_secs(3600);
const BLOCK: u32 = 4096;
/// Blocks of the disk, as far as `statfs` says: 1 GiB.
const BLOCKS: u64 = 1 << 18;

/// A disk that can be mounted again and again.
#[derive(Clone)]
pub struct LossyFs(Arc<Mutex<Disk>>);

impl LossyFs {
    /// An empty disk.
    pub fn new(seed: u64) -> LossyFs {
        LossyFs(Arc::new(Mutex::new(Disk::new(seed))))
    }

    /// The disk itself.
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// Mounts it until the session is unmounted or dropped.
    pub fn mount(&self, at: &Path) -> BackgroundSession {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("lossy".to_owned()), MountOption::NoAtime];
        fuser::spawn_mount(self.clone(), at, &config).unwrap()
    }

    fn attr(&self, inode: u64) -> Result<FileAttr, Refusal> {
        let disk = self.disk();
        let bytes = disk.bytes(inode)?;
        let size = bytes.map_or(0, |bytes| bytes.len() as u64);
        let (kind, perm) = match bytes {
            Some(_) => (FileType::RegularFile, 0o644),
            None => (FileType::Directory, 0o755),
        };
        let time = UNIX_EPOCH;
        let (ino, blocks, nlink) = (INodeNo(inode), size.div_ceil(512), 1);
        let (uid, gid, rdev, flags, blksize) = (0, 0, 0, 0, BLOCK);
        let (atime, mtime, ctime, crtime) = (time, time, time, time);
        Ok(FileAttr {
            ino,
            size,
            blocks,
            atime,
            mtime,
            ctime,
            crtime,
            kind,
            perm,
            nlink,
            uid,
            gid,
            rdev,
            blksize,
            flags,
        })
    }

    fn create_at(&self, place: Place, is_dir: bool) -> Result<FileAttr, Refusal> {
        let inode = self.disk().create(place, is_dir)?;
        self.attr(inode)
    }
}

/// Unmounts a disk; whoever used it is dead.
pub fn unmount(session: BackgroundSession) {
    let ended = session.umount_and_join();
    // what the server is told when it reads at the very moment
    let aborted = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionAborted;
    assert!(ended.as_ref().err().is_none_or(aborted), "{ended:?}");
}

fn errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::NotThere => Errno::ENOENT,
        Refusal::Exists => Errno::EEXIST,
        Refusal::NotEmpty => Errno::ENOTEMPTY,
        Refusal::Off => Errno::EIO,
    }
}

fn place(dir: INodeNo, name: &OsStr) -> Place {
    (dir.0, name.to_owned())
}

fn entry(result: Result<FileAttr, Refusal>, reply: ReplyEntry) {
    match result {
        Ok(attr) => reply.entry(&FOREVER, &attr, Generation(0)),
        Err(refusal) => reply.error(errno(refusal)),
    }
}

fn empty(result: Result<(), Refusal>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(refusal) => reply.error(errno(refusal)),
    }
}

impl Filesystem for LossyFs {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let inode = self.disk().lookup(parent.0, name);
        entry(inode.and_then(|inode| self.attr(inode)), reply);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(inode.0) {
            Ok(attr) => reply.attr(&FOREVER, &attr),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = size.map_or(Ok(()), |size| self.disk().set_len(inode.0, size as usize));
        match set.and_then(|()| self.attr(inode.0)) {
            Ok(attr) => reply.attr(&FOREVER, &attr),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn mkdir(&self, _: &Request, dir: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        entry(self.create_at(place(dir, name), true), reply);
    }

    fn unlink(&self, _: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.disk().remove(place(dir, name)), reply);
    }

    fn rmdir(&self, _: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.disk().remove(place(dir, name)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        dir: INodeNo,
        name: &OsStr,
        new_dir: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        empty(self.disk().rename(place(dir, name), place(new_dir, new_name)), reply);
    }

    fn create(
        &self,
        _: &Request,
        dir: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let (fh, flags) = (FileHandle(0), FopenFlags::empty());
        match self.create_at(place(dir, name), false) {
            Ok(attr) => reply.created(&FOREVER, &attr, Generation(0), fh, flags),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let disk = self.disk();
        match disk.bytes(inode.0) {
            Ok(bytes) => {
                let bytes = bytes.unwrap_or_default();
                let from = bytes.len().min(offset as usize);
                reply.data(&bytes[from..bytes.len().min(from + size as usize)]);
            }
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk().write(inode.0, offset as usize, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.disk().sync(inode.0), reply);
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.disk().sync_dir(inode.0), reply);
    }

    fn readdir(
        &self,
        _: &Request,
        dir: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let disk = self.disk();
        let own = [(OsStr::new("."), dir.0), (OsStr::new(".."), ROOT)];
        for ((name, inode), at) in own.into_iter().chain(disk.entries(dir.0)).zip(1..) {
            let kind = match disk.bytes(inode) {
                Ok(Some(_)) => FileType::RegularFile,
                _ => FileType::Directory,
            };
            if at > offset && reply.add(INodeNo(inode), at, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS / 2, BLOCKS / 2, BLOCKS, BLOCKS / 2, BLOCK, 255, BLOCK);
    }
}
