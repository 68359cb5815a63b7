//! Tables and plots of `docs/performance.md`: medians of all rounds.

use crate::Failure;
use crate::measure::Measured;
use crate::plan::{Cell, PUT_CELLS, Section, cells};
use crate::plot;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// What stands between these lines of the page is made here.
const BEGIN: &str = "<!-- made by `compare report`: do not edit -->";
const END: &str = "<!-- end -->";

#[derive(clap::Args)]
pub struct Args {
    /// What `compare run` wrote
    #[arg(long)]
    results: PathBuf,
    /// The page
    #[arg(long, default_value = "docs/performance.md")]
    page: PathBuf,
    /// Directory of the plots
    #[arg(long, default_value = "docs/performance")]
    plots: PathBuf,
}

/// What was measured, by disk, cell and peer.
struct Results(BTreeMap<(String, String, String), Vec<Measured>>);

impl Results {
    /// The median of a figure, if there is one.
    fn median(
        &self,
        disk: &str,
        cell: &str,
        peer: &str,
        figure: impl Fn(&Measured) -> Option<f64>,
    ) -> Option<f64> {
        let lines = self.0.get(&(disk.to_owned(), cell.to_owned(), peer.to_owned()))?;
        let mut values: Vec<_> = lines.iter().filter_map(figure).collect();
        values.sort_by(f64::total_cmp);
        let mid = values.len() / 2;
        match values.len() {
            0 => None,
            n if n % 2 == 1 => Some(values[mid]),
            _ => Some(f64::midpoint(values[mid - 1], values[mid])),
        }
    }

    fn rate(&self, disk: &str, cell: &str, peer: &str) -> Option<f64> {
        self.median(disk, cell, peer, |line| Some(line.events_per_s))
    }

    fn disks(&self) -> Vec<String> {
        let mut disks: Vec<_> = self.0.keys().map(|(disk, _, _)| disk.clone()).collect();
        disks.dedup();
        disks.reverse(); // root before ext4
        disks
    }

    /// Cells of a section that were measured, in the plan's order.
    fn measured(&self, disk: &str, section: Section) -> impl Iterator<Item = Cell> {
        let key = |cell: &Cell| (disk.to_owned(), cell.name.clone(), cell.shown.to_owned());
        cells(section, 1.0).into_iter().filter(move |cell| self.0.contains_key(&key(cell)))
    }

    /// Their peers, each once.
    fn peers(&self, disk: &str, section: Section) -> Vec<&'static str> {
        each_once(self.measured(disk, section).map(|cell| cell.shown))
    }

    /// Their names, each once.
    fn names(&self, disk: &str, section: Section) -> Vec<String> {
        each_once(self.measured(disk, section).map(|cell| cell.name))
    }
}

fn each_once<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut once = Vec::new();
    for one in all {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    once
}

pub fn report(args: &Args) -> Result<(), Failure> {
    let mut results = Results(BTreeMap::new());
    for line in std::fs::read_to_string(&args.results)?.lines() {
        let line: Measured = serde_json::from_str(line)?;
        let key = (line.disk.clone(), line.cell.clone(), line.peer.clone());
        results.0.entry(key).or_default().push(line);
    }
    std::fs::create_dir_all(&args.plots)?;
    let mut text = String::new();
    for disk in results.disks() {
        puts(&results, &disk, &mut text)?;
        for section in [Section::Take, Section::Both, Section::Rpc] {
            rates(&results, &disk, section, &mut text)?;
        }
        latencies(&results, &disk, &mut text)?;
        reopens(&results, &disk, &mut text)?;
        costs(&results, &disk, &mut text)?;
        for section in [Section::Growth, Section::Sinks] {
            grown(&results, &disk, section, &mut text)?;
        }
        sizes(&results, &disk, &mut text)?;
        draw(&results, &disk, args)?;
    }
    let page = std::fs::read_to_string(&args.page)?;
    let (head, rest) = page.split_once(BEGIN).ok_or("the page has no place for tables")?;
    let (_, foot) = rest.split_once(END).ok_or("the tables' place has no end")?;
    std::fs::write(&args.page, format!("{head}{BEGIN}\n{text}{END}{foot}"))?;
    Ok(())
}

fn count(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(v) if v >= 1e6 => format!("{:.2} M", v / 1e6),
        Some(v) if v >= 1e4 => format!("{:.0} k", v / 1e3),
        Some(v) if v >= 1e3 => format!("{:.1} k", v / 1e3),
        Some(v) => format!("{v:.0}"),
    }
}

fn time(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(us) if us >= 1e6 => format!("{:.1} s", us / 1e6),
        Some(us) if us >= 1e4 => format!("{:.0} ms", us / 1e3),
        Some(us) if us >= 1e3 => format!("{:.1} ms", us / 1e3),
        Some(us) => format!("{us:.0} µs"),
    }
}

fn ratio(over: Option<f64>, under: Option<f64>) -> String {
    over.zip(under).map_or("–".to_owned(), |(over, under)| format!("{:.2}", over / under))
}

fn row(text: &mut String, cells: &[String]) {
    let _ = writeln!(text, "| {} |", cells.join(" | ")); // a string takes everything
}

fn head(text: &mut String, title: &str, columns: &[String]) {
    let _ = writeln!(text, "\n### {title}\n");
    row(text, columns);
    row(text, &vec!["---".to_owned(); columns.len()]);
}

fn puts(results: &Results, disk: &str, text: &mut String) -> Result<(), Failure> {
    let names = PUT_CELLS.map(|(producers, batch)| format!("put {producers}×{batch}"));
    let peers = results.peers(disk, Section::Put);
    if peers.is_empty() {
        return Ok(());
    }
    let short = names.iter().map(|name| name.trim_start_matches("put ").to_owned());
    let columns: Vec<_> = std::iter::once(String::new()).chain(short).collect();
    head(text, &format!("Durable puts of 512 B, events/s ({disk})"), &columns);
    let rate = |name: &String, peer: &str| results.rate(disk, name, peer);
    for peer in &peers {
        let rates = names.iter().map(|name| count(rate(name, peer)));
        row(text, &std::iter::once((*peer).to_owned()).chain(rates).collect::<Vec<_>>());
    }
    let rivals: Vec<_> =
        peers.iter().filter(|p| !p.starts_with("levada") && !p.starts_with("bare")).collect();
    let best = |name: &String| rivals.iter().filter_map(|p| rate(name, p)).reduce(f64::max);
    let mut ratios = |title: &str, of: &dyn Fn(&String) -> String| {
        let cells = names.iter().map(of);
        row(text, &std::iter::once(title.to_owned()).chain(cells).collect::<Vec<_>>());
    };
    ratios("**levada / bare**", &|name| ratio(rate(name, "levada"), rate(name, "bare")));
    ratios("**levada-tasks / bare-tasks**", &|name| {
        ratio(rate(name, "levada-tasks"), rate(name, "bare-tasks"))
    });
    if !rivals.is_empty() {
        ratios("**levada / best peer**", &|name| ratio(rate(name, "levada"), best(name)));
    }
    Ok(())
}

/// One row a peer: rate, and how far ahead levada is.
fn rates(
    results: &Results,
    disk: &str,
    section: Section,
    text: &mut String,
) -> Result<(), Failure> {
    for name in results.names(disk, section) {
        let columns = ["", "events/s", "levada's ×", "p50", "p99", "CPU s per million", "peak MB"];
        head(text, &format!("{name} ({disk})"), &columns.map(str::to_owned));
        let own = results.rate(disk, &name, "levada");
        for peer in results.peers(disk, section) {
            let rate = results.rate(disk, &name, peer);
            if rate.is_none() {
                continue;
            }
            let of = |figure: &dyn Fn(&Measured) -> Option<f64>| {
                results.median(disk, &name, peer, figure)
            };
            let cpu = of(&|line| Some(line.cpu_s? / (line.events as f64 / 1e6)));
            let of_peer = |value: Option<f64>, text: fn(f64) -> String| match value {
                Some(value) => text(value),
                None => "–".to_owned(),
            };
            row(
                text,
                &[
                    peer.to_owned(),
                    count(rate),
                    ratio(own, rate),
                    time(of(&|line| line.p50_us)),
                    time(of(&|line| line.p99_us)),
                    of_peer(cpu, |cpu| format!("{cpu:.2}")),
                    of_peer(of(&|line| line.rss_mb), |mb| format!("{mb:.0}")),
                ],
            );
        }
    }
    Ok(())
}

fn latencies(results: &Results, disk: &str, text: &mut String) -> Result<(), Failure> {
    for (section, title) in
        [(Section::Put, "How long a put takes"), (Section::Tail, "The same over a minute")]
    {
        let names = results.names(disk, section);
        if names.is_empty() {
            continue;
        }
        let columns = ["", "", "p50", "p99", "p99.9", "max", "p99.9 / p50"];
        head(text, &format!("{title} ({disk})"), &columns.map(str::to_owned));
        for name in names {
            for peer in results.peers(disk, section) {
                let of = |figure: &dyn Fn(&Measured) -> Option<f64>| {
                    results.median(disk, &name, peer, figure)
                };
                let (p50, p999) = (of(&|line| line.p50_us), of(&|line| line.p999_us));
                if p50.is_none() {
                    continue;
                }
                let p99 = of(&|line| line.p99_us);
                let max = of(&|line| line.max_us);
                let (name, peer) = (name.trim_start_matches("put ").to_owned(), peer.to_owned());
                let cells =
                    [name, peer, time(p50), time(p99), time(p999), time(max), ratio(p999, p50)];
                row(text, &cells);
            }
        }
    }
    Ok(())
}

fn reopens(results: &Results, disk: &str, text: &mut String) -> Result<(), Failure> {
    let names = results.names(disk, Section::Reopen);
    if names.is_empty() {
        return Ok(());
    }
    let columns = ["", "events", "to the first event", "peak MB"].map(str::to_owned);
    head(text, &format!("Reopened after `kill -9` ({disk})"), &columns);
    for peer in results.peers(disk, Section::Reopen) {
        for name in &names {
            let took = results.median(disk, name, peer, |l| l.p50_us.or(Some(l.seconds * 1e6)));
            if took.is_none() {
                continue;
            }
            let memory = results.median(disk, name, peer, |line| line.rss_mb);
            let memory = memory.map_or("–".to_owned(), |mb| format!("{mb:.0}"));
            let events = name.trim_start_matches("reopen ").to_owned();
            row(text, &[peer.to_owned(), events, time(took), memory]);
        }
    }
    Ok(())
}

/// What levada's puts cost.
fn costs(results: &Results, disk: &str, text: &mut String) -> Result<(), Failure> {
    let names = results.names(disk, Section::Put);
    if names.is_empty() {
        return Ok(());
    }
    let columns = ["", "", "CPU s per million events", "device / log", "peak MB"];
    head(text, &format!("What puts cost ({disk})"), &columns.map(str::to_owned));
    for name in names {
        for peer in ["levada", "levada-tasks", "bare"] {
            let of = |figure: &dyn Fn(&Measured) -> Option<f64>| {
                results.median(disk, &name, peer, figure)
            };
            let cpu = of(&|line| Some(line.cpu_s? / (line.events as f64 / 1e6)));
            let written = of(&|line| Some(line.disk_mb? / line.log_mb?));
            let show =
                |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.2}"));
            let memory = of(&|line| line.rss_mb).map_or("–".into(), |mb| format!("{mb:.0}"));
            let name = name.trim_start_matches("put ").to_owned();
            row(text, &[name, peer.to_owned(), show(cpu), show(written), memory]);
        }
    }
    Ok(())
}

fn grown(
    results: &Results,
    disk: &str,
    section: Section,
    text: &mut String,
) -> Result<(), Failure> {
    let names = results.names(disk, section);
    if names.is_empty() {
        return Ok(());
    }
    let title = match section {
        Section::Growth => "As the backlog grows",
        _ => "As sinks and groups are added: 500,000 events, each group takes all",
    };
    let columns = ["", "events/s", "p50", "p99.9", "CPU s", "peak MB"].map(str::to_owned);
    head(text, &format!("{title} ({disk})"), &columns);
    for name in names {
        let peer = ["levada", "levada-tasks"].into_iter().find(|peer| {
            results.0.contains_key(&(disk.to_owned(), name.clone(), (*peer).to_owned()))
        });
        let peer = peer.unwrap_or("levada");
        let of =
            |figure: &dyn Fn(&Measured) -> Option<f64>| results.median(disk, &name, peer, figure);
        let rate = of(&|line| Some(line.events_per_s).filter(|rate| *rate > 0.0));
        let show = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.1}"));
        row(
            text,
            &[
                name.clone(),
                count(rate),
                time(of(&|line| line.p50_us)),
                time(of(&|line| line.p999_us)),
                show(of(&|line| line.cpu_s)),
                show(of(&|line| line.rss_mb)),
            ],
        );
    }
    Ok(())
}

fn sizes(results: &Results, disk: &str, text: &mut String) -> Result<(), Failure> {
    let names = results.names(disk, Section::Sizes);
    if names.is_empty() {
        return Ok(());
    }
    let columns =
        ["", "levada", "bare", "ratio", "levada-tasks", "bare-tasks", "ratio"].map(str::to_owned);
    head(text, &format!("Every size, events/s ({disk})"), &columns);
    for name in names {
        let rate = |peer: &str| results.rate(disk, &name, peer);
        let (threads, bare) = (rate("levada"), rate("bare"));
        let (tasks, bare_tasks) = (rate("levada-tasks"), rate("bare-tasks"));
        let shown = name.trim_start_matches("put ").to_owned();
        let cells = [
            shown,
            count(threads),
            count(bare),
            ratio(threads, bare),
            count(tasks),
            count(bare_tasks),
            ratio(tasks, bare_tasks),
        ];
        row(text, &cells);
    }
    Ok(())
}

fn draw(results: &Results, disk: &str, args: &Args) -> Result<(), Failure> {
    let sections = [
        (Section::Put, "put", "Durable puts of 512 B"),
        (Section::Take, "take", "Taking two million events of 512 B"),
        (Section::Both, "both", "Puts and takes at the same time"),
        (Section::Rpc, "rpc", "Avro RPC into a durable channel, 4 connections × 1000"),
        (Section::Growth, "growth", "As the backlog grows"),
    ];
    for (section, file, title) in sections {
        let names = results.names(disk, section);
        let series: Vec<_> = results
            .peers(disk, section)
            .into_iter()
            .map(|peer| {
                let rate =
                    |name: &String| results.rate(disk, name, peer).filter(|rate| *rate > 0.0);
                (peer.to_owned(), names.iter().map(rate).collect())
            })
            .filter(|(_, values): &plot::Series| values.iter().any(Option::is_some))
            .collect();
        if series.is_empty() {
            continue;
        }
        let path = args.plots.join(format!("{file}-{disk}.svg"));
        let shown: Vec<_> =
            names.iter().map(|name| name.trim_start_matches("put ").to_owned()).collect();
        plot::bars(&path, &format!("{title} ({disk})"), "events/s", &shown, &series)?;
    }
    Ok(())
}
