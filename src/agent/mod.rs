//! The process: the table of components, and logging.

mod build;
mod burials;
mod control;
mod delivery;
mod keeper;
pub mod logging;
mod progress;
pub mod registry;
mod run;
mod sink_task;
mod source_task;

pub use build::{Built, build};
pub use burials::Burials;
pub use delivery::{Delivery, Ending};
pub use keeper::Keeper;
pub use run::{RunError, RunOptions, run};
