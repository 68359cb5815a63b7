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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SinkLoad {
    /// Its place in config order.
    pub index: usize,
    /// Events lent to it and not yet answered for.
    pub leased_events: u64,
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

    /// The index of the sink that gets the next lease; `None` if nobody can take it.
    ///
    /// `loads` is in config order. Each call is one turn.
    pub fn pick(&mut self, loads: &[SinkLoad]) -> Option<usize> {
        let from_next = loads.iter().find(|load| load.index >= self.next);
        let picked = from_next.or(loads.first())?.index;
        self.next = picked + 1;
        Some(picked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(loads: &[usize], turns: usize, expect: &[usize]) {
        let load = |&index| SinkLoad { index, leased_events: 0 };
        let loads: Vec<_> = loads.iter().map(load).collect();
        let mut balancer = Balancer::new(Balance::RoundRobin);
        let picked: Vec<_> = (0..turns).filter_map(|_| balancer.pick(&loads)).collect();
        assert_eq!(picked, expect);
    }

    #[test]
    fn round_robin_goes_through_the_ready_sinks_in_config_order() {
        check(&[0, 1, 2], 7, &[0, 1, 2, 0, 1, 2, 0]);
        check(&[1, 3], 4, &[1, 3, 1, 3]);
        check(&[2], 2, &[2, 2]);
        check(&[], 2, &[]);
    }
}
