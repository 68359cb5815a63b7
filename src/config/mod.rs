//! Text to plan: Flume's `.properties` in, components with typed settings out.
//!
//! ```text
//! bytes ─ properties ─▶ values with lines ─ merge, substitute ─▶ tree of one agent ─ build ─▶ Plan
//! ```
//! Nothing is opened here, and no component is known: texts, environment and the table of
//! components come in, and every [`Problem`] comes out at once.

pub mod address;
mod build;
mod common;
mod exec;
mod groups;
pub mod key;
mod nearest;
mod plan;
mod properties;
mod rules;
mod settings;
mod substitute;
mod tree;

pub use address::bind_address;
pub use common::{AGENT_KEYS, GROUP_KEYS, SINK_GROUP_KEYS, common_keys};
pub use exec::{BalancerKind, Exhausted, PolicyKind, PolicySettings, RateSettings};
pub use groups::{DEFAULT_GROUP, GroupPlan};
pub use key::{Component, Key, Kind, Origin, Problem, Role, Settings, Severity, Status, Value};
pub use nearest::{did_you_mean, nearest};
pub use plan::{ChannelPlan, ConfigText, Plan, Request, SinkPlan, SourcePlan, plan};
pub use properties::Properties;
pub use substitute::{Lookup, substitute};
