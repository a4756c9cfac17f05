//! What auditing needs that is no server: the text of a line, and how long a failed unlock waits.

mod delay;
mod line;

pub use delay::{FREE_FAILURES, delay_ms};
pub use line::Line;
