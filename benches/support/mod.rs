//! Shared by the benches.

#![allow(dead_code)] // each bench uses a part

pub(crate) mod budgets;
pub(crate) mod corpus;
pub(crate) mod lab;
pub(crate) mod machine;
pub(crate) mod numbers;
pub(crate) mod options;
pub(crate) mod report;
pub(crate) mod server;
pub(crate) mod svg;
pub(crate) mod text;
pub(crate) mod watch;
pub(crate) mod wire;
