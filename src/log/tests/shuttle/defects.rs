//! The tests' own test: with one wake-up left out, or an acknowledgement before its sync, the
//! scenarios fail within their schedules.

use super::*;
use crate::log::sync::model::{Signal, leave_out};

/// The schedules within which each defect must be found. The rarest is met once in some 200: with
/// a few hundred, any change to the log's order of steps could miss it.
const RUNS_MAX: usize = 10_000;

/// Runs a scenario that has a defect; what it failed with.
fn fails(scenario: fn()) -> String {
    let start = Instant::now();
    let scheduler = RandomScheduler::new_from_seed(1, RUNS_MAX);
    let found = catch_unwind(AssertUnwindSafe(|| explore_with(scheduler, scenario)));
    leave_out(None);
    let panic = found.expect_err("the defect is found");
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let text = text.unwrap_or_default();
    println!("found in {:.1} s: {text}", start.elapsed().as_secs_f64());
    text
}

#[track_caller]
fn hangs_without(signal: Signal, scenario: fn()) {
    leave_out(Some(signal));
    let text = fails(scenario);
    assert!(text.contains("deadlock"), "{signal:?}: {text}");
}

#[test]
fn log_thread_that_is_not_woken_is_found() {
    hangs_without(Signal::NotifyOne, scenarios::producers_and_a_reader);
    hangs_without(Signal::NotifyOne, scenarios::tickets_beside_leaders);
}

#[test]
fn producer_that_is_not_woken_is_found() {
    hangs_without(Signal::NotifyAll, scenarios::producers_and_a_reader);
    hangs_without(Signal::NotifyAll, scenarios::a_close);
    // one that waits for room
    hangs_without(Signal::Unpark, scenarios::a_full_log);
}

#[test]
fn maker_or_writer_that_is_not_woken_is_found() {
    hangs_without(Signal::NotifyAll, scenarios::two_tickets);
}

#[test]
fn acknowledgement_before_its_sync_is_found() {
    let text = fails(|| {
        let disk = Disk::default();
        disk.sync_late();
        scenarios::producers_and_a_reader_with(disk);
    });
    assert!(text.contains("before its sync"), "{text}");
}
