//! Bodies of requests and answers, one file per resource. Requests borrow from the text they came in.

pub mod answers;
pub mod indexes;
pub mod query;
pub mod query_schema;
pub mod users;
pub mod vectors;

use sealvec_core::json::Json;

use super::validate::{Checker, Refusal};

/// A request's body.
pub trait Body<'a>: Sized {
    /// Reads it, noting what is wrong.
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self>;

    /// Reads a whole body.
    ///
    /// # Errors
    /// The 422.
    fn parse(value: Json<'a>) -> Result<Self, Refusal> {
        let mut checker = Checker::of_body();
        let body = Self::read(&mut checker, value);
        checker.finish(body)
    }
}

#[cfg(test)]
mod tests;
