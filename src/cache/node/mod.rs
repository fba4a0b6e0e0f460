//! What one node does with its state and its keys.

pub mod aux;
pub mod read;
pub mod store;
