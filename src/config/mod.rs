//! Text to plan: Flume's `.properties` in, components with typed settings out.

pub mod key;
pub mod nearest;
pub mod properties;

pub use key::{Component, Key, Kind, Origin, Problem, Role, Settings, Severity, Value};
