//! Whether all is well, and if not, what is wrong and what to do about it: sentences for an operator at three in the morning.
//!
//! ```text
//!  counters of the last five minutes ─┐
//!  what is out, kept, given up        ├─▶ Facts ─▶ judge ─▶ reasons: a code, and a sentence
//!  the server's account of itself     ┘
//! ```
//!
//! [`judge`] is told facts and looks nothing up, so that every sentence can be tried. A fact makes a reason only where it is
//! more than a slip: the thresholds stand below. Times are those of the monotonic clock. What is told of rules is told of the
//! worst of each code, and the others are counted: a thousand rules do not make a thousand sentences.
//!
//! To add a reason: a row in [`REASONS`], from which the documentation is made, and a function in [`judge`].

mod backlog;
mod diagnose;
mod facts;
mod phrases;
mod reasons;

pub use backlog::{Backlog, Growth};
pub use diagnose::diagnose;
pub use facts::{Facts, HEALTH_WINDOW, Health, RuleFacts};
pub use reasons::{REASONS, Reason};

#[cfg(test)]
mod tests;
