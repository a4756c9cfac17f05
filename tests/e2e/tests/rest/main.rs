//! The REST routes against what CyborgDB answered, and the order in which a request's faults are found.

mod audit;
mod exchange;
mod made;
mod precedence;
mod recorded;
mod same;
mod strangers;
mod wire;
