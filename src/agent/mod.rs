//! The process: the table of components, and logging.

pub mod logging;
pub mod registry;
