//! An item of a collection: id, contents and metadata, sealed together under the token of its id.
//!
//! The row that holds it has the token as its primary key and the vector in a column of its own. The token is
//! what makes look-up by id possible without an id on disk; it shows that two rows, or one row at two
//! times, have the same id, and nothing of what the id is (`docs/THREAT_MODEL.md`).

mod input;
mod sealed;
mod token;

pub use input::ItemInput;
pub use sealed::{
    HEADER_LEN, ITEM_LEN_MAX, Item, ItemHeader, OpenItem, open_item, reseal_item, seal_item, seal_item_into, sealed_len,
};
pub use token::{IdToken, TOKEN_LEN, TokenKey, id_token};
