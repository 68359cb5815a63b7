//! A short run of the whole bench: figures are there, and the directory is left as it was.

use super::*;

#[test]
fn bench_measures_everything_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        dir: dir.path().join("new"),
        producers: 2,
        batch: 3,
        body: 10,
        fsync: Durability::Always,
        seconds: 0.02,
        rounds: 2,
    };
    let report = run(&options).unwrap();
    for figures in [report.put, report.take, report.single_put, report.limits.group_commit] {
        assert!(figures.events_per_s > 0.0, "{report}");
        assert!(figures.latency.p50_us > 0.0, "{report}");
        assert!(figures.latency.p50_us <= figures.latency.p999_us, "{report}");
    }
    assert!(report.limits.sequential_mb_per_s > 0.0);
    assert!(report.ratios.put_to_group_commit > 0.0);
    assert_eq!(std::fs::read_dir(&options.dir).unwrap().count(), 0, "the scratch is gone");
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["put"]["p50_us"].is_number() && json["limits"]["fdatasync"].is_object(), "{json}");
}

#[test]
fn bench_in_a_place_that_cannot_be_made_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(fsync("interval:0").unwrap_err(), "it is always, interval:MS or os");
    let mut options = Options {
        dir: file.join("x"),
        producers: 1,
        batch: 1,
        body: 1,
        fsync: fsync("interval:5").unwrap(),
        seconds: seconds("0.01").unwrap(),
        rounds: 1,
    };
    let error = run(&options).unwrap_err().to_string();
    assert!(error.starts_with("make ") && error.contains("file/x"), "{error}");
    options.dir = dir.path().to_owned();
    assert!(run(&options).is_ok());
}
