//! Who gets the next batch: a pure choice over the loads of the sinks that may take it.

/// The rule of a group.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Balance {
    /// The next sink in config order; a sink that cannot take anything loses its turn.
    #[default]
    RoundRobin,
    /// The least expected work: (events in its leases + this batch) ÷ its observed rate.
    LeastLoad,
    /// The smallest queue, in events; ties by rotation.
    TargetQueueSize,
    /// The greatest priority among those that are in service (Flume's `failover`).
    Failover,
    /// Any (Flume's `load_balance` with `selector = random`).
    Random,
}

/// A sink that is in service, has room in its queue, and for which there is work.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SinkLoad {
    /// Its place in config order.
    pub index: usize,
    /// Events lent to it and not yet answered for.
    pub leased_events: u64,
    /// Events of the batch that is to be given away.
    pub batch_events: u64,
    /// What it was seen to do.
    pub speed: Speed,
}

/// Events a sink delivered over the time it had any: an average in which the past fades.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Speed {
    events: f64,
    busy_ms: f64,
    measured: bool,
}

/// The past counts half after so much work, ms.
const FADE_MS: f64 = 2_000.0;

impl Speed {
    /// Takes in that `events` arrived after `busy_ms` of work.
    pub fn add(&mut self, events: u64, busy_ms: u64) {
        self.measured = true;
        self.events += events as f64;
        self.busy_ms += busy_ms as f64;
        if self.busy_ms > FADE_MS {
            self.events /= 2.0;
            self.busy_ms /= 2.0;
        }
    }

    /// How long it would need for `events`, ms; `None` as long as nothing is known.
    fn expected_ms(&self, events: u64) -> Option<f64> {
        // the clock ticks in ms: what took less has still taken some
        let busy_ms = self.busy_ms.max(0.5);
        self.measured.then(|| events as f64 * busy_ms / self.events.max(f64::MIN_POSITIVE))
    }
}

/// A rule and its memory.
#[derive(Clone, Debug)]
pub struct Balancer {
    rule: Balance,
    /// Where the next round begins.
    next: usize,
}

impl Balancer {
    /// A balancer that begins with the first sink.
    pub fn new(rule: Balance) -> Balancer {
        Balancer { rule, next: 0 }
    }

    /// Its rule.
    pub fn rule(&self) -> Balance {
        self.rule
    }

    /// The index of the sink that gets the next lease; `None` if nobody can take it.
    ///
    /// `loads` is in config order; for `Failover` it holds only sinks of the priority that is used
    /// now. Each call is one turn.
    pub fn pick(&mut self, loads: &[SinkLoad], random: &mut fastrand::Rng) -> Option<usize> {
        if loads.is_empty() {
            return None;
        }
        let picked = match self.rule {
            Balance::RoundRobin | Balance::Failover => self.lowest(loads, |_| 0.0),
            Balance::LeastLoad => self.lowest(loads, least_load),
            Balance::TargetQueueSize => self.lowest(loads, |load| load.leased_events as f64),
            Balance::Random => loads[random.usize(..loads.len())].index,
        };
        self.next = picked + 1;
        Some(picked)
    }

    /// The sink of the lowest cost; among equals the next one in config order.
    fn lowest(&self, loads: &[SinkLoad], cost: impl Fn(&SinkLoad) -> f64) -> usize {
        let first = loads.iter().position(|load| load.index >= self.next).unwrap_or(0);
        let in_turn = loads[first..].iter().chain(&loads[..first]);
        let lowest = in_turn.min_by(|a, b| cost(a).total_cmp(&cost(b)));
        lowest.map_or(0, |load| load.index)
    }
}

/// When it would be done with the batch, ms. Of whom nothing is known, that is tried first, with
/// one batch.
fn least_load(load: &SinkLoad) -> f64 {
    let expected = load.speed.expected_ms(load.leased_events + load.batch_events);
    let unknown = if load.leased_events == 0 { -1.0 } else { f64::INFINITY };
    expected.unwrap_or(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(index: usize, leased_events: u64) -> SinkLoad {
        SinkLoad { index, leased_events, batch_events: 10, speed: Speed::default() }
    }

    fn picks(rule: Balance, loads: &[SinkLoad], turns: usize) -> Vec<usize> {
        let mut random = fastrand::Rng::with_seed(3);
        let mut balancer = Balancer::new(rule);
        (0..turns).filter_map(|_| balancer.pick(loads, &mut random)).collect()
    }

    #[test]
    fn round_robin_goes_through_the_ready_sinks_in_config_order() {
        let check = |loads: &[usize], turns: usize, expect: &[usize]| {
            let loads: Vec<_> = loads.iter().map(|&index| load(index, 0)).collect();
            for rule in [Balance::RoundRobin, Balance::Failover, Balance::TargetQueueSize] {
                assert_eq!(picks(rule, &loads, turns), expect, "{rule:?}");
            }
        };
        check(&[0, 1, 2], 7, &[0, 1, 2, 0, 1, 2, 0]);
        check(&[1, 3], 4, &[1, 3, 1, 3]);
        check(&[2], 2, &[2, 2]);
        check(&[], 2, &[]);
    }

    #[test]
    fn shortest_queue_is_filled_first() {
        let loads = [load(0, 20), load(1, 10), load(2, 10)];
        assert_eq!(picks(Balance::TargetQueueSize, &loads, 3), [1, 2, 1]);
    }

    #[test]
    fn least_load_gives_to_whom_will_be_done_first() {
        let mut loads = [load(0, 30), load(1, 10)];
        loads[0].speed.add(400, 100);
        loads[1].speed.add(100, 100);
        // 40 events at 4 an ms against 20 at 1 an ms
        assert_eq!(picks(Balance::LeastLoad, &loads, 2), [0, 0]);
        loads[0].leased_events = 90;
        assert_eq!(picks(Balance::LeastLoad, &loads, 1), [1]);
    }

    #[test]
    fn least_load_tries_the_unknown_first_with_one_batch_and_the_useless_last() {
        let mut loads = [load(0, 0), load(1, 0), load(2, 0)];
        loads[0].speed.add(1_000, 10);
        loads[1].speed.add(0, 5); // failed fast
        assert_eq!(picks(Balance::LeastLoad, &loads, 1), [2]);
        loads[2].leased_events = 10;
        assert_eq!(picks(Balance::LeastLoad, &loads, 2), [0, 0]);
        assert_eq!(picks(Balance::LeastLoad, &loads[1..2], 1), [1], "if there is no other");
    }

    #[test]
    fn random_reaches_every_sink_alike() {
        let loads = [load(0, 0), load(2, 0), load(5, 0)];
        let picks = picks(Balance::Random, &loads, 3_000);
        for index in [0, 2, 5] {
            let count = picks.iter().filter(|&&picked| picked == index).count();
            assert!((900..1_100).contains(&count), "{count} times {index}");
        }
    }

    #[test]
    fn speed_fades_so_that_a_change_shows() {
        let mut speed = Speed::default();
        assert_eq!(speed.expected_ms(10), None);
        (0..100).for_each(|_| speed.add(1_000, 100));
        (0..100).for_each(|_| speed.add(10, 100));
        let expected = speed.expected_ms(10).expect("it was measured");
        assert!((90.0..=100.0).contains(&expected), "{expected} ms");
    }
}
