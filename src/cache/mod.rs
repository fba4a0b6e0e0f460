//! What the commands mean. No server, no clock, no randomness, no threads and no `unsafe` in here.
#![forbid(unsafe_code)]

pub mod codec;
pub mod glob;
pub mod rules;
pub mod units;
