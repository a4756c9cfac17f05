//! Requests about an index's users.

use std::borrow::Cow;

use sealvec_core::json::Json;
use utoipa::ToSchema;

use super::Body;
use crate::cyborgdb::validate::Checker;

/// A new user of one index.
#[derive(ToSchema)]
pub struct CreateUserRequest<'a> {
    /// `read`, `write` or both.
    #[schema(value_type = Vec<String>, example = json!(["read"]))]
    pub permissions: Vec<Cow<'a, str>>,
    /// The index key, 64 hex digits, where the client holds it.
    #[schema(value_type = Option<String>)]
    pub index_key: Option<Cow<'a, str>>,
}

impl<'a> Body<'a> for CreateUserRequest<'a> {
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let f = c.fields(value)?;
        let permissions = f.required(c, "permissions", Checker::strings);
        let index_key = f.optional(c, "index_key", Checker::string);
        Some(Self { permissions: permissions?, index_key })
    }
}
