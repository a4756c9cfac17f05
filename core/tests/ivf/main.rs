//! The whole index over pages in memory: what goes in comes out, in order, whatever happened between.

mod lifecycle;
mod recall;
mod support;
