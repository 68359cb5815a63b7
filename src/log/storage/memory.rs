//! Files in anonymous memory: the log of a memory channel. Nothing survives the process.

use super::*;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A directory of files in memory.
#[derive(Default)]
pub struct MemoryStorage {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
}

impl MemoryStorage {
    fn files(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<MemoryFile>>> {
        self.files.lock().expect("no holder panics")
    }
}

/// A file in memory: an anonymous mapping, so that untouched pages cost nothing.
pub struct MemoryFile {
    map: memmap2::MmapRaw,
}

impl MemoryFile {
    fn new(len: u64) -> io::Result<MemoryFile> {
        let map = memmap2::MmapOptions::new().len(len as usize).map_anon()?;
        Ok(MemoryFile { map: map.into() })
    }

    fn range(&self, position: u64, len: usize) -> io::Result<usize> {
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        let end = position.checked_add(len).filter(|end| *end <= self.map.len());
        end.map(|_| position).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// The view of a memory file is the file.
struct MemoryView(Arc<MemoryFile>);

impl View for MemoryView {
    fn len(&self) -> u64 {
        self.0.map.len() as u64
    }

    #[allow(unsafe_code)]
    fn bytes(&self, position: u64, len: usize) -> Option<&[u8]> {
        let position = self.0.range(position, len).ok()?;
        // SAFETY: inside the mapping, which lives as long as `self`; see `Mapping::bytes` for
        // why nobody writes to a range that is asked for.
        Some(unsafe { std::slice::from_raw_parts(self.0.map.as_ptr().add(position), len) })
    }

    fn prefetch(&self, _: u64, _: usize) -> io::Result<()> {
        Ok(())
    }
}

struct Handle(Arc<MemoryFile>);

impl StorageFile for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.map.len() as u64)
    }

    #[allow(unsafe_code)]
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let Ok(from) = self.0.range(position, 0) else { return Ok(0) };
        let len = buffer.len().min(self.0.map.len() - from);
        // SAFETY: `from..from + len` lies inside the mapping; the buffer is another object.
        unsafe {
            let source = self.0.map.as_ptr().add(from);
            std::ptr::copy_nonoverlapping(source, buffer.as_mut_ptr(), len);
        }
        Ok(len)
    }

    #[allow(unsafe_code)]
    fn write_at(&self, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        let mut at = self.0.range(position, buffers.iter().map(|b| b.len()).sum())?;
        for buffer in buffers {
            // SAFETY: the range was checked as a whole; the engine has one writer, and readers
            // hold no slice of what is written (it lies above the visible tail).
            unsafe {
                let target = self.0.map.as_mut_ptr().add(at);
                std::ptr::copy_nonoverlapping(buffer.as_ptr(), target, buffer.len());
            }
            at += buffer.len();
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn view(&self) -> io::Result<Arc<dyn View>> {
        Ok(Arc::new(MemoryView(Arc::clone(&self.0))))
    }

    fn is_lent(&self) -> bool {
        Arc::strong_count(&self.0) > 2 // the directory's and this handle's
    }
}

impl Storage for MemoryStorage {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn create_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        let file = Arc::new(MemoryFile::new(len)?);
        self.files().insert(name.to_owned(), Arc::clone(&file));
        Ok(Arc::new(Handle(file)))
    }

    fn open(&self, name: &str, _: bool) -> io::Result<Arc<dyn StorageFile>> {
        let files = self.files();
        let file = files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(Handle(Arc::clone(file))))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        let prefix = format!("{dir}/");
        let files = self.files();
        let below = files.iter().filter_map(|(name, file)| {
            Some((name.strip_prefix(&prefix)?.to_owned(), file.map.len() as u64))
        });
        Ok(below.collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.files().remove(name);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &str, _: &str) -> io::Result<Result<Box<dyn Send + Sync>, String>> {
        Ok(Ok(Box::new(())))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        None
    }
}
