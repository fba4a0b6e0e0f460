//! What a command means: no server, no clock, no randomness, no threads and no `unsafe`.
#![forbid(unsafe_code)]

pub mod codec;
pub mod offload;
