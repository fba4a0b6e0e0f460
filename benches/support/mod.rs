//! What the benches share.

#![allow(dead_code)] // each of them uses a part

pub(crate) mod lab;
pub(crate) mod machine;
pub(crate) mod numbers;
pub(crate) mod server;
pub(crate) mod text;
pub(crate) mod wire;
