//! The engine alone: put, read, remember how far one is, and go on after a restart.
//!
//! `cargo run --example log`

use levada::event::Records;
use levada::log::{BatchBuilder, Log, LogOptions, Opened};
use levada::offset::Offset;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path().join("my-log");
    for run in 1..=3 {
        println!("run {run}");
        one_run(&dir, run)?;
    }
    Ok(())
}

fn one_run(dir: &Path, run: u32) -> Result<(), Box<dyn Error>> {
    // small segments for a small log; everything else as it comes
    let options = LogOptions { segment_bytes: 1 << 20, ..LogOptions::default() };
    let (log, Opened { report, cursors }) = Log::open_dir(dir, options)?;

    // the cursor is bytes of one's own: here, the offset up to which all is done
    let mut done = match &cursors {
        Some(bytes) => Offset(u64::from_le_bytes(bytes[..].try_into()?)),
        None => report.first,
    };
    println!(
        "  opened: {} records wait, the next gets offset {}",
        report.tail.since(done),
        report.tail
    );

    // a put is one batch: whole or absent after any crash; when it returns, it is on the disk
    let mut batch = BatchBuilder::new();
    for n in 1..=3 {
        batch.push(format!("record {n} of run {run}").as_bytes());
    }
    let offsets = log.put(batch)?;
    println!("  put offsets {}..{}", offsets.start, offsets.end);

    // read what waits, but leave one for the next run
    let mut reader = log.reader();
    let read = reader.read(done..reader.visible_tail(), 100)?;
    for part in read.batch.parts() {
        for (record, n) in Records::new(&part.records).zip(0..) {
            let offset = part.first.plus(n);
            if offset.plus(1) == reader.visible_tail() {
                continue;
            }
            println!("  {offset}: {}", String::from_utf8_lossy(record));
            done = offset.plus(1);
        }
    }

    // written here, the cursor survives this process; synced, a power cut too
    log.save_cursors(&done.0.to_le_bytes(), read.next, done)?;
    log.sync_cursors()?;
    log.reclaim(done); // whole segments below it, if there are any
    log.close()?;
    Ok(())
}
