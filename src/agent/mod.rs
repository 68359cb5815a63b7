//! The process: the table of components, and logging.

mod delivery;
mod keeper;
pub mod logging;
mod progress;
pub mod registry;
mod run;
mod sink_task;
mod source_task;

pub use keeper::Keeper;
pub use run::{Built, DEFAULT_GROUP, RunError, RunOptions, build, run};
