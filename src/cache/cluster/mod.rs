//! What the primaries of a cluster pass on to one another.

pub mod bus;
