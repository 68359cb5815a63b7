//! What the fuzzers found and where they set out from, run by the same code as in `fuzz/`: a short
//! replay, always the same, so that what was found once stays found.

#![allow(clippy::unwrap_used)] // a failed check is a panic

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

/// Runs a target on each of its committed inputs.
fn replay(target: &str, run: fn(&[u8])) {
    let mut count = 0;
    for kind in ["corpus", "regressions"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(target);
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let input = std::fs::read(&path).unwrap();
            let survived = std::panic::catch_unwind(|| run(&input));
            if let Err(panic) = survived {
                let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display();
                eprintln!("reproduce: see fuzz/README.md, with {target} {path}");
                std::panic::resume_unwind(panic);
            }
            count += 1;
        }
    }
    assert!(count > 0, "{target} has inputs");
    println!("{target}: {count} inputs");
}

#[test]
fn edited_logs_open_or_are_refused_and_nothing_is_made_up() {
    replay("segment", targets::segment::run);
}

#[test]
fn any_cursor_journal_is_read_and_written_on() {
    replay("cursor_journal", targets::cursor_journal::run);
}

#[test]
fn any_batch_is_walked_inside_its_bytes() {
    replay("batch_payload", targets::batch_payload::run);
}

#[test]
fn avro_streams_mean_the_same_however_they_are_cut() {
    replay("avro_rpc", targets::avro_rpc::run);
}

#[test]
fn any_config_text_is_planned_the_same_twice() {
    replay("properties", targets::properties::run);
}

#[test]
fn log_keeps_what_it_acknowledged_while_its_disk_fails_and_stops() {
    replay("log_ops", targets::log_ops::run);
}
