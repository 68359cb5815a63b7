//! The sink `file_roll` on a real directory.

use super::*;
use crate::event::Event;
use crate::offset::Offset;

fn sink(dir: &Path, pairs: &[(&str, &str)]) -> Box<dyn Sink> {
    let mut all = vec![("sink.directory", dir.to_str().unwrap())];
    all.extend(pairs);
    let settings = Settings::of_pairs("a.sinks.k", COMPONENT.keys, &all);
    build(&settings, &SinkEnv::default()).unwrap()
}

fn batch(from: u64, to: u64) -> EventBatch {
    let events: Vec<_> = (from..to).map(|n| Event::of_body(n.to_string())).collect();
    EventBatch::of_events(Offset(from), 0, &events)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn lines(dir: &Path) -> Vec<u64> {
    let texts = files(dir).into_iter().map(|file| std::fs::read_to_string(file).unwrap());
    let text = texts.collect::<String>();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Events of an Avro container.
fn events_of(file: &Path) -> usize {
    let bytes = std::fs::read(file).unwrap();
    apache_avro::Reader::new(&bytes[..]).unwrap().map(Result::unwrap).count()
}

#[tokio::test]
async fn batches_are_in_one_file_and_the_next_interval_has_another() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a/b");
    let mut sink = sink(&out, &[("sink.rollInterval", "1")]);
    sink.open().await.unwrap();
    assert_eq!(files(&out).len(), 0, "no file without an event");
    assert_eq!(sink.deadline(), None);
    assert_eq!(sink.deliver(&batch(0, 10)).await, Outcome::Delivered);
    assert_eq!(sink.deliver(&batch(10, 20)).await, Outcome::Delivered);
    assert_eq!(files(&out).len(), 1);
    let due = sink.deadline().expect("a file is open");
    tokio::time::sleep_until(due.into()).await;
    sink.tick().await.unwrap();
    assert_eq!(sink.deadline(), None, "an interval without events makes no file");
    assert_eq!(sink.deliver(&batch(20, 30)).await, Outcome::Delivered);
    sink.close().await.unwrap();
    assert_eq!(files(&out).len(), 2);
    assert_eq!(lines(&out), (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn full_disk_fails_the_batch_and_what_was_delivered_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "levada-test"])
        .arg(dir.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: a full disk needs the right to mount a tmpfs");
        return;
    }
    let mut sink = sink(dir.path(), &[("sink.rollInterval", "0")]);
    sink.open().await.unwrap();
    let mut delivered = 0;
    let failure = loop {
        match sink.deliver(&batch(delivered, delivered + 1000)).await {
            Outcome::Delivered => delivered += 1000,
            Outcome::Failed(failure) => break failure,
        }
        assert!(delivered < 100_000, "64 KiB are never full");
    };
    let seen = lines(dir.path());
    let filler = files(dir.path());
    let mut still_full = Vec::new();
    for _ in 0..3 {
        still_full.push(sink.deliver(&batch(delivered, delivered + 1000)).await);
    }
    let left = files(dir.path());
    sink.close().await.unwrap();
    let moved = tempfile::tempdir().unwrap();
    for file in &filler {
        std::fs::copy(file, moved.path().join(file.file_name().unwrap())).unwrap();
        std::fs::remove_file(file).unwrap();
    }
    let again = sink.deliver(&batch(delivered, delivered + 1000)).await;
    let healed = lines(dir.path());
    drop(sink);
    let unmounted = std::process::Command::new("umount").arg(dir.path()).status().unwrap();
    assert!(unmounted.success());
    assert!(delivered > 0, "something fits");
    assert!(failure.retryable, "{failure:?}");
    assert!(failure.reason.contains("No space left"), "{failure:?}");
    assert_eq!(seen, (0..delivered).collect::<Vec<_>>(), "the failed batch left no part");
    assert!(!still_full.contains(&Outcome::Delivered), "{still_full:?}");
    assert_eq!(left, filler, "an attempt without success leaves no empty file");
    assert_eq!(again, Outcome::Delivered);
    assert_eq!(healed, (delivered..delivered + 1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn directory_that_goes_away_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut sink = sink(&out, &[("sink.rollInterval", "0")]);
    sink.open().await.unwrap();
    std::fs::remove_dir(&out).unwrap();
    assert_eq!(sink.deliver(&batch(0, 3)).await, Outcome::Delivered);
    assert_eq!(lines(&out), [0, 1, 2]);
}

/// A file's name may go while the file is open (`rm -r out`): what is then written to it would be
/// gone at its close, acknowledged.
#[tokio::test]
async fn batch_for_a_removed_file_fails_and_goes_to_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut sink = sink(&out, &[("sink.serializer", "avro_event")]);
    sink.open().await.unwrap();
    assert_eq!(sink.deliver(&batch(0, 3)).await, Outcome::Delivered);
    std::fs::remove_dir_all(&out).unwrap();
    let Outcome::Failed(failure) = sink.deliver(&batch(3, 5)).await else {
        panic!("delivered into a file that is not there")
    };
    assert!(failure.retryable, "{failure:?}");
    assert!(failure.reason.ends_with("the file was removed by someone else"), "{failure:?}");
    assert_eq!(sink.deliver(&batch(3, 5)).await, Outcome::Delivered);
    sink.close().await.unwrap();
    let [file] = &files(&out)[..] else { panic!("{:?}", files(&out)) };
    assert_eq!(events_of(file), 2, "the new file has the batch, and a head of its own");
}

#[tokio::test]
async fn path_that_is_a_file_is_told_and_nothing_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    std::fs::write(&out, "here before").unwrap();
    let mut sink = sink(&out, &[]);
    let error = sink.open().await.unwrap_err().to_string();
    assert!(error.contains(out.to_str().unwrap()), "{error}");
    assert!(matches!(sink.deliver(&batch(0, 3)).await, Outcome::Failed(_)));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "here before");
}

#[tokio::test]
async fn two_sinks_in_one_directory_have_files_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut sinks = [sink(dir.path(), &[]), sink(dir.path(), &[])];
    for (n, sink) in sinks.iter_mut().enumerate() {
        sink.open().await.unwrap();
        let from = n as u64 * 10;
        assert_eq!(sink.deliver(&batch(from, from + 10)).await, Outcome::Delivered);
        sink.close().await.unwrap();
    }
    assert_eq!(files(dir.path()).len(), 2);
    let mut seen = lines(dir.path());
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn avro_files_are_whole_containers_after_each_roll() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = sink(
        dir.path(),
        &[("sink.serializer", "avro_event"), ("sink.pathManager.extension", "avro")],
    );
    sink.open().await.unwrap();
    for from in [0, 10, 20] {
        assert_eq!(sink.deliver(&batch(from, from + 10)).await, Outcome::Delivered);
        if from == 10 {
            sink.tick().await.unwrap();
        }
    }
    sink.close().await.unwrap();
    let files = files(dir.path());
    assert_eq!(files.len(), 2);
    assert!(files.iter().all(|file| file.extension().is_some_and(|e| e == "avro")));
    assert_eq!(files.iter().map(|file| events_of(file)).collect::<Vec<_>>(), [20, 10]);
}

#[test]
fn name_that_is_taken_is_passed_over_and_its_file_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::of_pairs("a.sinks.k", COMPONENT.keys, &[]);
    let mut names = Names::of(&settings).unwrap();
    let first = names.next(SystemTime::now());
    std::fs::write(dir.path().join(&first), "another sink's").unwrap();
    names.number = 0; // as a sink that began in the same millisecond
    let (_, path) = create(dir.path(), &mut names).unwrap();
    assert!(path.to_str().unwrap().ends_with("-2"), "{path:?}");
    assert_eq!(std::fs::read_to_string(dir.path().join(first)).unwrap(), "another sink's");
}

#[test]
fn names_count_from_the_start_or_have_their_own_time() {
    let names = |pairs: &[(&str, &str)]| {
        let settings = Settings::of_pairs("a.sinks.k", COMPONENT.keys, pairs);
        Names::of(&settings).map_err(|problem| problem.message)
    };
    let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
    let mut default = names(&[]).unwrap();
    assert_eq!(default.next(at(1234)), "1234-1");
    assert_eq!(default.next(at(5678)), "1234-2");
    let pairs = [
        ("sink.pathManager", "org.apache.flume.formatter.output.RollTimePathManager$Builder"),
        ("sink.pathManager.prefix", "p"),
        ("sink.pathManager.extension", "log"),
    ];
    let mut by_time = names(&pairs).unwrap();
    let (first, second, third) =
        (by_time.next(at(0)), by_time.next(at(500)), by_time.next(at(86_400_000)));
    assert!(first.starts_with('p') && first.ends_with("00-1.log"), "{first}");
    assert!(second.ends_with("00-2.log"), "{second}");
    assert!(third.ends_with("00-1.log") && third[..9] != first[..9], "{third}");
    assert_eq!(
        names(&[("sink.pathManager", "other")]).unwrap_err(),
        "a.sinks.k.sink.pathManager: no path manager 'other'; there is: DEFAULT, ROLLTIME"
    );
    assert!(names(&[("sink.pathManager.prefix", "../x")]).is_err());
}
