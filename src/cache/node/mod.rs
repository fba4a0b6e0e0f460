//! The layer that works on a node as a whole: on [`State`](super::State), and on keys through the ports.
//!
//! Subjects below this layer know no `State`. Each file here is one subject's part of it.

pub mod acquire;
pub mod aux_data;
mod compression;
pub mod context;
pub mod driver;
pub mod fill;
pub mod health;
pub mod import;
pub mod invalidate;
pub mod lifecycle;
pub mod load_beside;
pub mod marks;
pub mod native_commands;
pub mod read;
mod settings;
pub mod slots;
pub mod snapshot;
pub mod store;
mod structures;
pub mod sweep;
pub mod unmodified;
pub mod unmodified_get;
