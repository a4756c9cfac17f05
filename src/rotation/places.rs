//! Where sealed things can lie: columns of tables, items of collections, indexes. From the catalog, as it is now.

use std::collections::BTreeMap;

use pgrx::{IntoDatum, pg_sys};

use crate::collections::registry::{self, Collection};
use crate::collections::{names, spi};
use crate::datatype::reseal::Lies;
use crate::error::SqlError;

/// A column that may hold sealed things.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its number in the table.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: pg_sys::Oid,
    /// What is in it.
    pub holds: Holds,
}

impl Column {
    fn new(relation: pg_sys::Oid, number: i16, name: String, holds: Holds) -> Self {
        Self { number, name, kind: type_of(relation, number), holds }
    }

    /// The ring that sealed it, if the column tells.
    pub fn ring(&self) -> Option<u32> {
        match self.holds {
            Holds::Values { ring, .. } => ring,
            Holds::Items { ring, .. } => Some(ring),
        }
    }

    /// Whether the column of this number in `relation` is still of the type that it was.
    pub fn stands(&self, relation: pg_sys::Oid) -> bool {
        type_of(relation, self.number) == self.kind
    }
}

/// The type of a column; invalid for one that was dropped.
fn type_of(relation: pg_sys::Oid, number: i16) -> pg_sys::Oid {
    // SAFETY: a catalog look-up.
    unsafe { pg_sys::get_atttype(relation, number) }
}

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holds {
    /// Values of the type; of one ring, if its modifier says so.
    Values {
        /// How they lie in it.
        lies: Lies,
        /// Number of the ring.
        ring: Option<u32>,
    },
    /// Items of a collection.
    Items {
        /// Number of its ring.
        ring: u32,
        /// The column with the tokens of their ids.
        token: i16,
    },
}

impl Holds {
    /// Whether something of the ring can be in it.
    pub fn may_hold(self, number: u32) -> bool {
        match self {
            Self::Values { ring, .. } => ring.is_none_or(|ring| ring == number),
            Self::Items { ring, .. } => ring == number,
        }
    }
}

/// A table with such columns.
#[derive(Clone, Debug)]
pub struct Place {
    /// The table.
    pub relation: pg_sys::Oid,
    /// Its name, qualified and quoted.
    pub name: String,
    /// Whether it is a temporary table of another session, which nobody else can read.
    pub is_anothers: bool,
    /// The columns.
    pub columns: Vec<Column>,
}

/// Every table with columns of the type, materialized views too; or of those only that `below` leads: the table itself, its
/// partitions and other children.
pub fn places(below: Option<pg_sys::Oid>) -> Result<Vec<Place>, SqlError> {
    const ALL: &str = "SELECT relation, relation_name, is_anothers, number, column_name, lies_inside, ring \
        FROM sealvec.sealed_columns($1)";
    let parameter = below.unwrap_or(pg_sys::InvalidOid);
    let mut found: BTreeMap<u32, Place> = BTreeMap::new();
    spi::connect(|spi| {
        let rows = spi.select(ALL, (pg_sys::OIDOID, parameter.into()), 0)?;
        for row in rows.rows() {
            let relation: pg_sys::Oid = row.get(1).unwrap_or(pg_sys::InvalidOid);
            let place = found.entry(relation.to_u32()).or_insert_with(|| Place {
                relation,
                name: row.get(2).unwrap_or_default(),
                is_anothers: row.get(3).unwrap_or_default(),
                columns: Vec::new(),
            });
            let lies = if row.get(6).unwrap_or_default() { Lies::Inside } else { Lies::Itself };
            let ring = row.get::<i32>(7).and_then(|ring| u32::try_from(ring).ok());
            let (number, name) = (row.get::<i32>(4).unwrap_or_default() as i16, row.get(5).unwrap_or_default());
            place.columns.push(Column::new(relation, number, name, Holds::Values { lies, ring }));
        }
        Ok(())
    })?;
    for collection in registry::all()? {
        let Some(table) = names::table_oid(collection.uuid) else { continue };
        if below.is_some_and(|below| below != table) {
            continue;
        }
        let Some(column) = items_of(&collection, table) else { continue };
        let place = found.entry(table.to_u32()).or_insert_with(|| Place {
            relation: table,
            name: names::table(collection.uuid),
            is_anothers: false,
            columns: Vec::new(),
        });
        place.columns.push(column);
    }
    Ok(found.into_values().collect())
}

/// The column of items of a collection's table.
fn items_of(collection: &Collection, table: pg_sys::Oid) -> Option<Column> {
    // SAFETY: look-ups by OID and name; 0 for a column that does not exist.
    let number = |name: &std::ffi::CStr| unsafe { pg_sys::get_attnum(table, name.as_ptr()) };
    let (number, token) = (number(c"item"), number(c"id_token"));
    let is_there = number > 0 && token > 0;
    is_there.then(|| Column::new(table, number, "item".to_owned(), Holds::Items { ring: collection.ring, token }))
}

/// Every index of ours with its name, but those of other sessions' temporary tables.
pub fn indexes() -> Result<Vec<(pg_sys::Oid, String)>, SqlError> {
    const ALL: &str = "SELECT index, index_name FROM sealvec.sealed_indexes($1)";
    spi::connect(|spi| {
        let rows = spi.select(ALL, (pg_sys::BOOLOID, true.into()), 0)?;
        Ok(rows.rows().filter_map(|row| Some((row.get(1)?, row.get(2)?))).collect())
    })
}

/// Stored expressions that hold constants of the ring, with how many of which version.
pub fn expressions(ring: u32) -> Result<Vec<(String, u32, u64)>, SqlError> {
    const ALL: &str = "SELECT place, version, uses FROM sealvec.sealed_constants($1)";
    let parameter = (ring as i32).into_datum().expect("an integer is a Datum");
    spi::connect(|spi| {
        let rows = spi.select(ALL, (pg_sys::INT4OID, parameter), 0)?;
        let read = |row: spi::Row<'_>| {
            let (version, uses) = (row.get::<i32>(2)?, row.get::<i64>(3)?);
            Some((row.get(1)?, version as u32, uses as u64))
        };
        Ok(rows.rows().filter_map(read).collect())
    })
}
