//! Rules between keys, and between components: by the names of the keys, not by their components.

use super::address::bind_address;
use super::key::{Key, Problem, Settings, same_word};

/// The keys that say how many events a source or a sink moves in one transaction.
const BATCH_KEYS: [&str; 6] = [
    "batchSize",
    "batch-size",
    "hdfs.batchSize",
    "sink.batchSize",
    "flumeBatchSize",
    "maxBatchSize",
];
const CAPACITY: &str = "capacity";
const TRANSACTION_CAPACITY: &str = "transactionCapacity";
const REPLICATING: [&str; 2] =
    ["replicating", "org.apache.flume.channel.ReplicatingChannelSelector"];

/// Flume's other selectors come later.
pub(super) fn check_selector(common: &Settings) -> Result<(), Problem> {
    let kind = common.text("selector.type")?;
    if REPLICATING.iter().any(|word| same_word(word, kind)) {
        return Ok(());
    }
    let message = format!("the selector '{kind}' is not supported yet by this version");
    Err(common.problem("selector.type", message))
}

/// A transaction must fit into the channel.
pub(super) fn check_capacity(settings: &Settings) -> Result<(), Problem> {
    let capacity = declared_number(settings, &[CAPACITY]);
    let transaction = declared_number(settings, &[TRANSACTION_CAPACITY]);
    if let (Some((_, capacity)), Some((_, transaction))) = (capacity, transaction)
        && transaction > capacity
    {
        let key = if settings.has(TRANSACTION_CAPACITY) { TRANSACTION_CAPACITY } else { CAPACITY };
        let message = format!("a transaction of {transaction} does not fit into {capacity} events");
        return Err(settings.problem(key, message));
    }
    Ok(())
}

/// Flume leaves out what moves more in a transaction than its channel takes.
pub(super) fn check_batch(settings: &Settings, channel: &Settings) -> Result<(), Problem> {
    let limit = declared_number(channel, &[TRANSACTION_CAPACITY]);
    let batch = declared_number(settings, &BATCH_KEYS);
    match (batch, limit) {
        (Some((key, batch)), Some((_, limit))) if batch > limit => {
            let path = channel.component();
            let message = format!("{batch} is more than {path}.{TRANSACTION_CAPACITY}, {limit}");
            Err(settings.problem(key, message))
        }
        _ => Ok(()),
    }
}

/// A source that listens must know where.
pub(super) fn check_address(source: &Settings) -> Result<(), Problem> {
    let declares = |name: &str| source.keys().iter().any(|key| key.name == name);
    if declares("bind") && declares("port") { bind_address(source).map(|_| ()) } else { Ok(()) }
}

/// The first of `names` that the component declares, with its number (given or default).
fn declared_number(settings: &Settings, names: &[&'static str]) -> Option<(&'static str, i64)> {
    let is_declared = |name: &&&str| settings.keys().iter().any(|key: &Key| key.name == **name);
    let name = names.iter().find(is_declared)?;
    let number = settings.opt_int(name).ok()??;
    Some((name, number))
}
