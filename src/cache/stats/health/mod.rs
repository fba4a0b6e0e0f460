//! Whether all is well, and if not, what is wrong and what to do: sentences for an operator at three in the morning.
//!
//! ```text
//!  counters of the last five minutes ─┐
//!  leases, entries, sweep backlog     ├─▶ Facts ─▶ diagnose ─▶ reasons: a code and a sentence each
//!  what the server reports            ┘
//! ```
//!
//! [`diagnose()`] gets the facts and looks nothing up, so tests reach every sentence. Small numbers give no reason: the
//! thresholds are constants in `diagnose.rs`. Times are those of the monotonic clock. For each code, only the rules
//! with the largest numbers get a sentence and the others are counted, so a thousand rules do not make a thousand
//! sentences.
//!
//! To add a reason: add a row to [`REASONS`], from which the documentation is generated, and a function that
//! [`diagnose()`] calls.

mod backlog;
mod diagnose;
mod facts;
mod phrases;
mod reasons;

pub use backlog::{Backlog, Growth};
pub use diagnose::diagnose;
pub use facts::{Facts, Guarded, HEALTH_WINDOW, Health, RuleFacts};
pub use reasons::{REASONS, Reason};

#[cfg(test)]
mod tests;
