//! What one node does with its state and its keys.

pub mod acquire;
pub mod aux;
pub mod context;
pub mod driver;
pub mod fill;
pub mod health;
pub mod invalidate;
pub mod lifecycle;
pub mod native_commands;
pub mod read;
pub mod slots;
pub mod snapshot;
pub mod store;
pub mod sweep;
