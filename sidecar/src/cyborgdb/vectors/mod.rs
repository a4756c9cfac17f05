//! Routes under `/v1/vectors`.

pub mod delete;
pub mod get;
pub mod ids;
pub mod query;
pub mod query_metadata;
pub mod upsert;
