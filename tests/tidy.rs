//! The rules of the source tree that the compiler can't check: layers, what a layer must not know,
//! sizes, and heads of files. ARCHITECTURE.md gives the reasons.

#![allow(clippy::unwrap_used)] // a failed check is a panic

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The modules of `src`, lowest layer first. A module may use its own layer's and lower ones.
const LAYERS: [&[&str]; 8] = [
    &["event", "offset", "cursor", "fate"],
    &["codec", "config", "log", "rpc"],
    &["channel", "client", "control", "sim", "sink"],
    &["dispatch", "ingest"],
    &["source"],
    &["agent", "bench", "harness", "inspect"],
    &["cli"],
    &["bin"],
];

/// Modules of layer 1 know nothing of each other; what a module may use all the same.
const SIDEWAYS: [(&str, &str); 0] = [];

/// Words that must not stand in a module's code.
const BANNED: [(&str, &[&str]); 5] = [
    ("log", &["tokio", "async_trait", "headers()", "crate::sink"]),
    ("dispatch", &["tokio", "std::fs", "std::thread", "async fn", "Instant::now", "SystemTime"]),
    ("config", &["tokio", "std::net::Tcp", "std::thread", "async fn", "Instant::now"]),
    ("rpc", &["tokio", "std::fs", "std::thread", "async fn", "Instant::now", "SystemTime"]),
    ("codec", &["tokio", "std::fs", "std::thread", "async fn", "Instant::now"]),
];

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 500;

struct SourceFile {
    path: PathBuf,
    module: String,
    /// The text before the tests at its foot.
    code: String,
    text: String,
}

fn sources() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut dirs = vec![root.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
                let relative = path.strip_prefix(&root).unwrap();
                let first = relative.components().next().unwrap();
                let module = first.as_os_str().to_str().unwrap().trim_end_matches(".rs");
                let module = module.to_owned();
                files.push(SourceFile { path: relative.to_owned(), module, code, text });
            }
        }
    }
    assert!(files.len() > 40, "the tree was found");
    files
}

fn is_test(file: &SourceFile) -> bool {
    let path = file.path.to_str().unwrap();
    path.contains("/tests/") || path.ends_with("tests.rs") || path.ends_with("model.rs")
}

fn code_lines(code: &str) -> impl Iterator<Item = &str> {
    code.lines().filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn imports_go_down_only() {
    let layer: BTreeMap<_, _> =
        LAYERS.iter().zip(0..).flat_map(|(names, n)| names.iter().map(move |m| (*m, n))).collect();
    let mut wrong = Vec::new();
    for file in sources().iter().filter(|file| file.module != "lib" && !is_test(file)) {
        let own = layer.get(file.module.as_str());
        let own = *own.unwrap_or_else(|| panic!("{} has no layer", file.module));
        for line in code_lines(&file.code) {
            for used in line.split("crate::").skip(1) {
                let name: String =
                    used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let Some(&of) = layer.get(name.as_str()) else { continue };
                let sideways = SIDEWAYS.contains(&(file.module.as_str(), name.as_str()));
                if of > own || (own == 1 && of == 1 && name != file.module && !sideways) {
                    wrong.push(format!("{}: {}", file.path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that go up or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn modules_do_not_know_what_they_must_not() {
    let mut wrong = Vec::new();
    for file in sources().iter().filter(|file| !is_test(file)) {
        let banned = BANNED.iter().filter(|(module, _)| *module == file.module);
        for word in banned.flat_map(|(_, words)| words.iter()) {
            for line in code_lines(&file.code).filter(|line| line.contains(word)) {
                wrong.push(format!("{}: {}", file.path.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "words that do not belong there:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_in_the_storage_alone_and_says_why() {
    for file in sources() {
        let path = file.path.to_str().unwrap();
        let blocks: Vec<_> = file.code.match_indices("unsafe {").collect();
        assert!(blocks.is_empty() || path.starts_with("log/storage"), "unsafe in {path}");
        for (at, _) in blocks {
            let before = &file.code[at.saturating_sub(700)..at];
            assert!(before.contains("SAFETY:"), "{path}: an unsafe block without its reason");
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_none_is_too_long() {
    for file in sources() {
        let path = file.path.display();
        assert!(file.text.starts_with("//!"), "{path} does not begin with //!");
        let lines = file.code.lines().count();
        assert!(is_test(&file) || lines <= FILE_LINES_MAX, "{path}: {lines} lines");
    }
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    for file in sources().iter().filter(|file| !is_test(file)) {
        for line in code_lines(&file.code) {
            let unwraps = line.contains(".unwrap()");
            assert!(!unwraps, "{}: {}", file.path.display(), line.trim());
        }
    }
}
