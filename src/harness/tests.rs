//! What the tests of the parts share.

/// Runs `part` for each seed below the number in the environment variable `runs`, or below
/// `default`; a panic says how to see it again. `LEVADA_SEED` takes one seed alone.
pub(super) fn each_seed(runs: &str, default: u64, mut part: impl FnMut(u64)) -> u64 {
    let number = |name| std::env::var(name).ok().map(|n| n.parse().unwrap());
    let runs = number(runs).unwrap_or(default);
    let seeds = number("LEVADA_SEED").map_or(0..runs, |seed| seed..seed + 1);
    for seed in seeds.clone() {
        let survived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| part(seed)));
        if let Err(panic) = survived {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or_default();
            eprintln!("reproduce: LEVADA_SEED={seed} cargo test --lib {test}");
            std::panic::resume_unwind(panic);
        }
    }
    seeds.end - seeds.start
}
