//! What is measured: sections of cells, each cell by several peers.

use clap::ValueEnum;

/// A part of the run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Section {
    /// Durable puts, every peer.
    Put,
    /// Durable puts in every size, levada and the bare loop.
    Sizes,
    /// Taking a backlog of two million.
    Take,
    /// Puts and takes at the same time.
    Both,
    /// From `kill -9` to the first event.
    Reopen,
    /// Through agents, by Avro RPC.
    Rpc,
    /// Rates against the backlog.
    Growth,
    /// Rates against the number of sinks and groups.
    Sinks,
    /// A minute of puts.
    Tail,
}

/// Who runs a measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Driver {
    /// This program.
    Own,
    /// `rust/driver`, `jvm/driver`, `go/driver` of the lab.
    Lab(&'static str),
}

/// What a measurement needs before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Before {
    Nothing,
    /// The same driver's `fill` with these arguments.
    Fill(Vec<String>),
    /// An agent: levada with a file channel, or Flume with `file` or `memory`.
    Levada,
    Flume(&'static str),
    /// Nothing; `walctl verify` looks at the log meanwhile, again and again.
    Verify,
}

/// One measurement, to be repeated.
#[derive(Clone, Debug)]
pub struct Cell {
    /// What is measured: the row of a table.
    pub name: String,
    pub driver: Driver,
    pub peer: &'static str,
    /// As its column is called.
    pub shown: &'static str,
    pub args: Vec<String>,
    pub before: Before,
}

const OWN: [&str; 4] = ["levada", "levada-tasks", "bare", "bare-tasks"];
/// Peers that put, and by which driver.
const PEERS: [(&str, &str); 8] = [
    ("rust", "okaywal"),
    ("rust", "raft-engine"),
    ("rust", "fjall"),
    ("rust", "walrus"),
    ("go", "etcd-wal"),
    ("go", "nats"),
    ("jvm", "chronicle"),
    ("jvm", "flume-file"),
];
/// Those that can take as well.
const TAKERS: [(&str, &str); 6] = [
    ("rust", "raft-engine"),
    ("rust", "fjall"),
    ("rust", "walrus"),
    ("go", "nats"),
    ("jvm", "chronicle"),
    ("jvm", "flume-file"),
];

pub const PUT_CELLS: [(u32, u32); 5] = [(1, 1), (1, 100), (8, 100), (64, 1), (64, 100)];
/// How long an agent is used before it is measured, s.
pub const RPC_WARMUP: u64 = 8;
const BACKLOG: u64 = 2_000_000;

fn args(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

fn cell(name: String, driver: Driver, peer: &'static str, words: &str) -> Cell {
    Cell { name, driver, peer, shown: peer, args: args(words), before: Before::Nothing }
}

/// The cells of a section, in the order of a round.
pub fn cells(section: Section, seconds: f64) -> Vec<Cell> {
    match section {
        Section::Put => puts(seconds),
        Section::Sizes => sizes(seconds),
        Section::Take => {
            let words = format!("take --events {BACKLOG} --batch 1000 --body 512");
            takers("take", &words)
        }
        Section::Both => {
            let words = format!("both --producers 8 --batch 100 --body 512 --seconds {seconds}");
            let mut cells = takers("both 8×100", &words);
            cells.push(cell("both 8×100".into(), Driver::Own, "levada-tasks", &words));
            cells
        }
        Section::Reopen => reopens(),
        Section::Rpc => rpcs(seconds),
        Section::Growth => growth(seconds),
        Section::Sinks => sinks(),
        Section::Tail => tails(),
    }
}

fn tails() -> Vec<Cell> {
    let of = |(producers, batch), peer, beside: &str| {
        let words = format!("put --producers {producers} --batch {batch} --seconds 60");
        cell(format!("60 s of {producers}×{batch}{beside}"), Driver::Own, peer, &words)
    };
    let mut cells = Vec::new();
    for load in [(8, 100), (64, 100)] {
        cells.extend(["levada", "levada-tasks", "bare"].map(|peer| of(load, peer, "")));
    }
    cells.push(Cell {
        before: Before::Verify,
        ..of((8, 100), "levada-tasks", ", verified meanwhile")
    });
    cells
}

fn puts(seconds: f64) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (producers, batch) in PUT_CELLS {
        let name = format!("put {producers}×{batch}");
        let words =
            format!("put --producers {producers} --batch {batch} --body 512 --seconds {seconds}");
        cells.extend(OWN.map(|peer| cell(name.clone(), Driver::Own, peer, &words)));
        cells.extend(PEERS.map(|(lab, peer)| cell(name.clone(), Driver::Lab(lab), peer, &words)));
        if batch == 1 {
            // larger ones wait for half a minute
            cells.push(cell(name.clone(), Driver::Lab("rust"), "rsyslog", &words));
        }
    }
    cells
}

fn sizes(seconds: f64) -> Vec<Cell> {
    let mut cells = Vec::new();
    for body in [100, 512, 4096] {
        for producers in [1, 8, 64] {
            for batch in [1, 100, 1000] {
                let name = format!("put {producers}×{batch}×{body} B");
                let words = format!(
                    "put --producers {producers} --batch {batch} --body {body} --seconds {seconds}"
                );
                cells.extend(OWN.map(|peer| cell(name.clone(), Driver::Own, peer, &words)));
            }
        }
    }
    cells
}

fn takers(name: &str, words: &str) -> Vec<Cell> {
    let own = cell(name.to_owned(), Driver::Own, "levada", words);
    let peers = TAKERS.map(|(lab, peer)| cell(name.to_owned(), Driver::Lab(lab), peer, words));
    std::iter::once(own).chain(peers).collect()
}

fn reopens() -> Vec<Cell> {
    let of = |events: u64, driver, peer| Cell {
        before: Before::Fill(args(&format!("fill --events {events} --body 512"))),
        ..cell(format!("reopen {events}"), driver, peer, "reopen")
    };
    let mut cells = vec![];
    for events in [10_000, 1_000_000, 10_000_000] {
        cells.push(of(events, Driver::Own, "levada"));
    }
    for (lab, peer) in PEERS {
        cells.push(of(10_000, Driver::Lab(lab), peer));
        cells.push(of(1_000_000, Driver::Lab(lab), peer));
    }
    cells
}

fn rpcs(seconds: f64) -> Vec<Cell> {
    let words = format!(
        "rpc --producers 4 --batch 1000 --body 512 --seconds {seconds} --warmup {RPC_WARMUP}"
    );
    let of = |shown, before| Cell {
        shown,
        before,
        ..cell("rpc 4×1000".into(), Driver::Own, "rpc", &words)
    };
    vec![
        of("levada", Before::Levada),
        of("flume-file", Before::Flume("file")),
        of("flume-memory", Before::Flume("memory")),
    ]
}

/// The backlog grows in segments of 1 MiB: 1,600 of them are as many as 100 GB have in 64 MiB.
fn growth(seconds: f64) -> Vec<Cell> {
    let both = |events: u64, segment: u64, name: &str| {
        let words = format!(
            "both --producers 8 --batch 100 --body 512 --seconds {seconds} --events {events} \
             --segment-bytes {segment}"
        );
        cell(name.to_owned(), Driver::Own, "levada-tasks", &words)
    };
    let reopen = |events: u64, segment: u64, name: &str| {
        let segment = format!("--segment-bytes {segment}");
        let fill = format!("fill --events {events} --body 512 {segment}");
        Cell {
            before: Before::Fill(args(&fill)),
            ..cell(name.to_owned(), Driver::Own, "levada", &format!("reopen {segment}"))
        }
    };
    let (small, usual) = (1 << 20, 64 << 20);
    vec![
        both(40_000, usual, "both, 1 % of 4 million"),
        both(2_000_000, usual, "both, 50 %"),
        both(3_960_000, usual, "both, 99 %"),
        both(40_000, small, "both, 20 segments"),
        both(3_040_000, small, "both, 1,600 segments"),
        reopen(40_000, small, "reopen, 20 segments"),
        reopen(3_040_000, small, "reopen, 1,600 segments"),
    ]
}

fn sinks() -> Vec<Cell> {
    let of = |groups: u32, sinks: u32| {
        let words = format!("take --events 500000 --batch 1000 --groups {groups} --sinks {sinks}");
        cell(format!("take, {groups} groups of {sinks}"), Driver::Own, "levada", &words)
    };
    vec![of(1, 1), of(1, 10), of(1, 100), of(10, 1), of(100, 1)]
}
