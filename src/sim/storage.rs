//! The simulated disk as the engine sees it.

use super::disk::{DirChange, FileData, dir_of};
use super::{Call, Disk, Fate, PAGE, Sim, error_of};
use crate::log::{Storage, StorageFile, View};
use std::io::{self, IoSlice};
use std::sync::Arc;

struct SimFile {
    sim: Sim,
    file: usize,
}

impl SimFile {
    fn look<T>(&self, f: impl FnOnce(&FileData) -> T) -> io::Result<T> {
        let mut disk = self.sim.disk();
        let name = disk.name_of(self.file);
        let fate = disk.begin(Call::Read, &name)?;
        error_of(fate)?;
        Ok(f(&disk.content.files[self.file]))
    }
}

impl StorageFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.look(|file| file.len as u64)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.look(|file| file.read(position as usize, buffer))
    }

    fn write_at(&self, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        let time = self.sim.disk().write_time;
        if !time.is_zero() {
            std::thread::sleep(time);
        }
        let mut disk = self.sim.disk();
        let name = disk.name_of(self.file);
        let fate = disk.begin(Call::Write, &name)?;
        let mut bytes = Vec::new();
        buffers.iter().for_each(|buffer| bytes.extend_from_slice(buffer));
        if fate != Fate::Done {
            let len = disk.rng.usize(..=bytes.len());
            bytes.truncate(len);
        }
        Arc::make_mut(&mut disk.content.files[self.file]).write(position as usize, &bytes);
        disk.end();
        error_of(fate)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.sim.disk();
        let name = disk.name_of(self.file);
        let fate = disk.begin(Call::Sync, &name)?;
        let Disk { content, rng, .. } = &mut *disk;
        let file = Arc::make_mut(&mut content.files[self.file]);
        match fate {
            Fate::Done => file.sync(),
            Fate::Fails(_) => file.fail_sync(rng),
            Fate::Crashes => {}
        }
        disk.end();
        error_of(fate)
    }

    fn drop_cache(&self, position: u64) -> io::Result<()> {
        let mut disk = self.sim.disk();
        Arc::make_mut(&mut disk.content.files[self.file]).drop_cache(position as usize);
        Ok(())
    }

    fn view(&self) -> io::Result<Arc<dyn View>> {
        let bytes = self.look(FileData::bytes)?;
        Ok(Arc::new(Snapshot { bytes, sim: self.sim.clone(), file: self.file }))
    }

    fn is_lent(&self) -> bool {
        false // a view is a copy here
    }
}

/// A view that insists on what mappings need: no page is touched that was not asked for, since one
/// that can't be read would be a signal.
struct Snapshot {
    bytes: Vec<u8>,
    sim: Sim,
    file: usize,
}

impl View for Snapshot {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn bytes(&self, position: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(position).ok()?;
        let bytes = self.bytes.get(from..from.checked_add(len)?)?;
        let disk = self.sim.disk();
        let mut pages = from / PAGE..(from + len).div_ceil(PAGE);
        let missing = pages.find(|page| !disk.resident.contains(&(self.file, *page)));
        drop(disk); // a failed check must not fail those that come after it
        assert_eq!(missing, None, "a page is touched that was not asked for");
        Some(bytes)
    }

    fn prefetch(&self, position: u64, len: usize) -> io::Result<()> {
        let mut disk = self.sim.disk();
        let name = disk.name_of(self.file);
        let fate = disk.begin(Call::Read, &name)?;
        error_of(fate)?;
        let from = position as usize;
        let end = from.saturating_add(len).min(self.bytes.len());
        disk.resident.extend((from / PAGE..end.div_ceil(PAGE)).map(|page| (self.file, page)));
        Ok(())
    }
}

impl Storage for Sim {
    fn describe(&self) -> String {
        "sim".to_owned()
    }

    fn create_dir(&self, _: &str) -> io::Result<()> {
        Ok(()) // directories are there from the start; `FileStorage` syncs the names of new ones
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        let time = self.disk().create_time;
        if !time.is_zero() {
            std::thread::sleep(time);
        }
        let mut disk = self.disk();
        if disk.content.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let fate = disk.begin(Call::Create, name)?;
        if let Fate::Fails(_) = fate {
            return Err(error_of(fate).expect_err("it fails"));
        }
        let len = match fate {
            Fate::Crashes => disk.rng.usize(..=len as usize),
            _ => len as usize,
        };
        let file = disk.content.files.len();
        let data = FileData::zeros(len, &disk.zero);
        disk.content.files.push(Arc::new(data));
        disk.change(DirChange::Create(name.to_owned(), file));
        disk.end();
        error_of(fate)?;
        Ok(Arc::new(SimFile { sim: self.clone(), file }))
    }

    fn open(&self, name: &str, _: bool) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.disk();
        let fate = disk.begin(Call::Open, name)?;
        error_of(fate)?;
        let file = *disk.content.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { sim: self.clone(), file }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        let mut disk = self.disk();
        let fate = disk.begin(Call::List, dir)?;
        error_of(fate)?;
        let content = &disk.content;
        let files = content.names.iter().filter(|(name, _)| dir_of(name) == dir);
        let file = |(name, file): (&String, &usize)| {
            let short = name.rsplit('/').next().unwrap_or_default();
            (short.to_owned(), content.files[*file].len as u64)
        };
        Ok(files.map(file).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = disk.begin(Call::Rename, from)?;
        // one that fails was done all the same, or was not
        if matches!(fate, Fate::Fails(_)) && disk.rng.bool() {
            return error_of(fate);
        }
        if !disk.content.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change(DirChange::Rename(from.to_owned(), to.to_owned()));
        disk.end();
        error_of(fate)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = disk.begin(Call::Remove, name)?;
        if matches!(fate, Fate::Fails(_)) && disk.rng.bool() {
            return error_of(fate);
        }
        if !disk.content.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change(DirChange::Remove(name.to_owned()));
        disk.end();
        error_of(fate)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = disk.begin(Call::SyncDir, dir)?;
        if fate == Fate::Done {
            let content = &mut disk.content;
            for change in std::mem::take(&mut content.pending) {
                if change.dir() == dir {
                    change.apply(&mut content.durable_names);
                } else {
                    content.pending.push(change);
                }
            }
        }
        disk.end();
        error_of(fate)
    }

    fn lock(&self, _: &str, _: &str) -> io::Result<Result<Box<dyn Send + Sync>, String>> {
        Ok(Ok(Box::new(())))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        if self.disk().content.full { Ok(0) } else { Ok(u64::MAX) }
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        Some([self.disk().content.boot; 16])
    }

    fn now_ns(&self) -> u64 {
        let content = &mut self.disk().content;
        content.time_ns += content.tick_ns;
        content.time_ns
    }

    fn random(&self) -> u64 {
        self.disk().rng.u64(..)
    }
}
