//! The border between the engine and the disk: two small traits, and the real files behind them.
//!
//! Everything the engine does to a disk goes through [`Storage`] and [`StorageFile`], so that faults
//! and simulated crashes can stand behind them. Names are relative to the log's directory.
//! All `unsafe` of the crate is here: the read-only mapping of segments, and a call to the system
//! that no crate wraps.

pub mod memory;

use bytes::Bytes;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// A directory of files.
pub trait Storage: Send + Sync {
    /// Where it is, for messages.
    fn describe(&self) -> String;

    /// Creates the directory `dir` (with what lies above it) if it is not there.
    fn create_dir(&self, dir: &str) -> io::Result<()>;

    /// Creates the file `name` with `len` bytes of zeros, written and synced. The name is durable
    /// only after [`Storage::sync_dir`]. An existing file is replaced.
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens a file that exists; for reading only unless `write`.
    fn open(&self, name: &str, write: bool) -> io::Result<Arc<dyn StorageFile>>;

    /// Names and lengths of the files in `dir`, in any order; none if `dir` is not there.
    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>>;

    /// Renames a file; durable only after [`Storage::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; durable only after [`Storage::sync_dir`]. Open handles and mappings stay good.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Takes the lock `name` until the guard is dropped; `Ok(Err(owner))` if somebody has it.
    fn lock(&self, name: &str, owner: &str) -> io::Result<Result<Box<dyn Send + Sync>, String>>;

    /// Bytes that can still be allocated.
    fn free_bytes(&self) -> io::Result<u64>;

    /// The boot of the machine: what was written but not synced is still there within one boot.
    /// `None` if nobody knows, or nothing outlives the process.
    fn boot_id(&self) -> Option<[u8; 16]>;

    /// What time it is: nanoseconds since 1970.
    fn now_ns(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// A number that no other segment or log is likely to have drawn.
    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}

/// An open file of a [`Storage`].
pub trait StorageFile: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads up to `buffer.len()` bytes at `position`; fewer only at the end of the file.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `buffers`, one behind the other, from `position` on, inside the file's length.
    ///
    /// # Errors
    /// Any part may have been written: the caller must not go on as if nothing had happened.
    fn write_at(&self, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()>;

    /// Has the disk begin with a range that was written, for a [`StorageFile::sync`] that follows
    /// soon and says what became of it. Where that can't be asked for, nothing happens.
    fn begin_sync(&self, _position: u64, _len: u64) {}

    /// Makes everything written so far durable (data and length).
    ///
    /// # Errors
    /// What was written since the last success may be lost, and a retry proves nothing.
    fn sync(&self) -> io::Result<()>;

    /// Forgets cached pages from `position` on, so that the next read sees what the disk has.
    fn drop_cache(&self, position: u64) -> io::Result<()>;

    /// A read-only view of the file.
    fn view(&self) -> io::Result<Arc<dyn View>>;

    /// Whether anybody holds a view, or a slice of one: then the file must not be written again.
    fn is_lent(&self) -> bool;
}

/// A read-only view of a file's bytes: a mapping, where there is one.
pub trait View: Send + Sync {
    /// The bytes of the view in all.
    fn len(&self) -> u64;

    /// Whether the view has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes from `position` on; `None` outside the view.
    ///
    /// The caller asks only for ranges that nobody writes to any more (below the visible tail).
    fn bytes(&self, position: u64, len: usize) -> Option<&[u8]>;

    /// Brings a range into memory, so that an unreadable block is an error here and not a signal later.
    fn prefetch(&self, position: u64, len: usize) -> io::Result<()>;

    /// Lets the memory of a range go; it comes back when it is touched.
    fn forget(&self, _position: u64, _len: usize) {}
}

/// A part of a view that keeps the view alive.
struct ViewSlice {
    view: Arc<dyn View>,
    position: u64,
    len: usize,
}

impl AsRef<[u8]> for ViewSlice {
    fn as_ref(&self) -> &[u8] {
        self.view.bytes(self.position, self.len).unwrap_or_default()
    }
}

/// A part of `view` as [`Bytes`], without a copy; empty outside the view.
pub fn slice(view: &Arc<dyn View>, position: u64, len: usize) -> Bytes {
    Bytes::from_owner(ViewSlice { view: Arc::clone(view), position, len })
}

/// Reads exactly `len` bytes.
///
/// # Errors
/// The file ends before.
pub fn read_exact(file: &dyn StorageFile, position: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    let read = file.read_at(position, &mut buffer)?;
    if read < len {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("file ends at byte {}", position + read as u64),
        ));
    }
    Ok(buffer)
}

/// Opens a file of `len` bytes for writing, or makes it; one of another length is made anew.
///
/// # Errors
/// It can't be opened though it is there: then it is left as it is, for it may hold what counts.
pub fn open_or_create(
    storage: &dyn Storage,
    name: &str,
    len: u64,
) -> io::Result<Arc<dyn StorageFile>> {
    match storage.open(name, true) {
        Ok(file) if file.len()? == len => Ok(file),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(_) | Err(_) => storage.create(name, len),
    }
}

/// Real files below a directory.
pub struct FileStorage {
    root: PathBuf,
}

impl FileStorage {
    /// The storage below `root`, which is created when the first directory is.
    pub fn new(root: impl Into<PathBuf>) -> FileStorage {
        FileStorage { root: root.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

impl Storage for FileStorage {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let path = self.path(dir);
        if path.is_dir() {
            return Ok(());
        }
        // each new name must be durable in its parent
        let mut made = Vec::new();
        let mut at: &Path = &path;
        while !at.as_os_str().is_empty() && !at.is_dir() {
            made.push(at);
            let Some(parent) = at.parent() else { break };
            at = parent;
        }
        fs::create_dir_all(&path)?;
        for new in made {
            let parent = new.parent().filter(|p| !p.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        let path = self.path(name);
        // a new file, never the old one cut to nothing: somebody may have that mapped
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let filled = zero_fill(&file, len);
        if let Err(error) = filled {
            let _ = fs::remove_file(&path); // a half-made file is of no use; the error counts
            return Err(error);
        }
        Ok(Arc::new(DiskFile::new(file)))
    }

    fn open(&self, name: &str, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(write).open(self.path(name))?;
        Ok(Arc::new(DiskFile::new(file)))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        let entries = match fs::read_dir(self.path(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let meta = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // just removed
                meta => meta?,
            };
            if meta.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                files.push((name, meta.len()));
            }
        }
        Ok(files)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.path(dir))?.sync_all()
    }

    fn lock(&self, name: &str, owner: &str) -> io::Result<Result<Box<dyn Send + Sync>, String>> {
        let path = self.path(name);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                // never shorter than it becomes: on a full disk a block that was freed does not come back
                file.rewind()?;
                let named = file.write_all(owner.as_bytes());
                let named = named.and_then(|()| file.set_len(owner.len() as u64));
                match named {
                    // the name is for messages alone
                    Err(error) if !is_full(&error) => Err(error),
                    _ => Ok(Ok(Box::new(file))),
                }
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.take(256).read_to_string(&mut text); // only for the message
                Ok(Err(text.trim().to_owned()))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        uuid::Uuid::try_parse(text.trim()).ok().map(uuid::Uuid::into_bytes)
    }
}

/// Whether there is no room: on the disk, or for this user.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Writes `len` zeros and syncs. Written extents, unlike bare `fallocate`: no sync of a later put
/// has to change the file system's metadata. With one sync, and so quickly: with one every 2 MiB it
/// took so long beside puts that these ran out of spares, and each event was written twice.
fn zero_fill(file: &File, len: u64) -> io::Result<()> {
    const CHUNK: usize = 1 << 20;
    let zeros = vec![0; CHUNK.min(len as usize)];
    let mut at = 0;
    while at < len {
        let chunk = &zeros[..zeros.len().min((len - at) as usize)];
        file.write_all_at(chunk, at)?;
        at += chunk.len() as u64;
    }
    file.sync_all()?;
    // drop the large folios that the fill made: a later read maps what it needs
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    Ok(())
}

/// A real file.
struct DiskFile {
    file: File,
    view: OnceLock<Arc<dyn View>>,
}

impl DiskFile {
    fn new(file: File) -> DiskFile {
        DiskFile { file, view: OnceLock::new() }
    }
}

impl StorageFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], position + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        const VECTOR_MAX: usize = 1024; // IOV_MAX
        let mut at = position;
        for some in buffers.chunks(VECTOR_MAX) {
            let mut some = some.to_vec();
            let mut rest = &mut some[..];
            IoSlice::advance_slices(&mut rest, 0); // empty ones: of them nothing can be written
            while !rest.is_empty() {
                let written = match rustix::io::pwritev(&self.file, rest, at) {
                    Err(rustix::io::Errno::INTR) => continue,
                    result => result?,
                };
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                at += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
        }
        Ok(())
    }

    #[allow(unsafe_code)]
    fn begin_sync(&self, position: u64, len: u64) {
        // not the last page if it gets more bytes: it would be written twice
        let (from, to) = (position & !4095, (position + len) & !4095);
        let (Ok(from), Ok(len)) = (i64::try_from(from), i64::try_from(to - from)) else { return };
        if len > 0 {
            let fd = self.file.as_raw_fd();
            // what fails is left for the sync to find: a flag to wait would take it away from there
            // SAFETY: it touches no memory of this process.
            unsafe { libc::sync_file_range(fd, from, len, libc::SYNC_FILE_RANGE_WRITE) };
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn drop_cache(&self, position: u64) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.file, position, None, rustix::fs::Advice::DontNeed)?)
    }

    fn view(&self) -> io::Result<Arc<dyn View>> {
        if let Some(view) = self.view.get() {
            return Ok(Arc::clone(view));
        }
        let view: Arc<dyn View> = Arc::new(Mapping::new(&self.file)?);
        Ok(Arc::clone(self.view.get_or_init(|| view)))
    }

    fn is_lent(&self) -> bool {
        self.view.get().is_some_and(|view| Arc::strong_count(view) > 1)
    }
}

/// A file mapped for reading.
struct Mapping {
    map: memmap2::MmapRaw,
}

impl Mapping {
    fn new(file: &File) -> io::Result<Mapping> {
        Ok(Mapping { map: memmap2::MmapOptions::new().map_raw_read_only(file)? })
    }
}

impl View for Mapping {
    fn len(&self) -> u64 {
        self.map.len() as u64
    }

    #[allow(unsafe_code)]
    fn bytes(&self, position: u64, len: usize) -> Option<&[u8]> {
        let position = usize::try_from(position).ok()?;
        if position.checked_add(len)? > self.map.len() {
            return None;
        }
        // SAFETY: the range lies inside the mapping, which lives as long as `self`. The engine
        // never shortens a file that can be mapped, and asks only for bytes below the visible tail,
        // which it never writes again while anybody holds the segment (a held segment is unlinked,
        // not recycled). Another process that truncates the file against the lock would cause
        // SIGBUS: `prefetch` turns what can be foreseen of that into an error.
        Some(unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(position), len) })
    }

    fn prefetch(&self, position: u64, len: usize) -> io::Result<()> {
        let from = position as usize & !4095;
        let to = (position as usize).saturating_add(len).min(self.map.len());
        if from >= to {
            return Ok(());
        }
        match self.map.advise_range(memmap2::Advice::PopulateRead, from, to - from) {
            // a kernel before 5.14 does not know it: then the pages come when they are touched
            Err(error) if error.raw_os_error() == Some(22) => Ok(()),
            result => result,
        }
    }

    #[allow(unsafe_code)]
    fn forget(&self, position: u64, len: usize) {
        let from = position as usize & !4095;
        let to = (position as usize).saturating_add(len).min(self.map.len());
        if from < to {
            let gone = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: a shared, read-only mapping of a file: what is touched again is the file's
            // bytes again, the same ones.
            let _ = unsafe { self.map.unchecked_advise_range(gone, from, to - from) };
        }
    }
}
