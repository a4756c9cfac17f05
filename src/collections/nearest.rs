//! The items of a collection in the order of their distance from a vector, for as long as somebody wants more.
//!
//! Under cosine the index leaves out a vector that is zero, which is at distance 1 from every other: such rows are
//! known by a column of their own, and come where the distances of the others pass 1.

use std::ffi::CString;

use sealvec_core::item::OpenItem;

use super::items::ItemKeys;
use super::names::{self, Extension};
use super::registry::{Collection, Metric};
use super::spi::{Batch, Settings, Spi, Statement};
use crate::datatype::seal;
use crate::datatype::varlena::SealedDatum;
use crate::error::SqlError;

/// The cosine distance of a vector that is zero.
const ZERO_DISTANCE: f64 = 1.0;

/// What is asked of the search.
#[derive(Clone, Copy)]
pub struct Search {
    /// Lists to visit first; `None` leaves it to the index.
    pub probes: Option<i32>,
    /// Rows that are likely to be wanted.
    pub likely: usize,
    /// Whether the distance is wanted, which costs opening each vector.
    pub distance: bool,
    /// Whether the bounds of the index's codes are not to be trusted: each row that may be near is opened.
    pub is_exact: bool,
}

/// Gives `visit` item after item with its distance, nearest first, until it returns false or there are no more.
pub fn nearest(
    spi: &mut Spi,
    collection: &Collection,
    keys: &mut ItemKeys,
    vector: &[f32],
    search: &Search,
    mut visit: impl FnMut(OpenItem, Option<f64>) -> Result<bool, SqlError>,
) -> Result<(), SqlError> {
    let settings = Settings::new();
    for (name, value) in
        [(c"enable_seqscan", c"off"), (c"enable_sort", c"off"), (c"enable_bitmapscan", c"off"), (c"jit", c"off")]
    {
        settings.set(name, value);
    }
    if let Some(probes) = search.probes {
        settings.set(c"sealvec.probes", &CString::new(probes.to_string()).expect("digits"));
    }
    if search.is_exact {
        settings.set(c"sealvec.target_recall", c"1");
    }
    let mut zeros = zeros(spi, collection, keys)?.into_iter().peekable();
    let with_distance = search.distance || zeros.peek().is_some();
    let told = |distance: f64| search.distance.then(|| collection.metric.told(distance));

    let sealvec = names::sealvec_oid(spi)?;
    let parameter = (sealvec, SealedDatum::new(&seal::for_session(vector)?).datum());
    let statement = if with_distance { Statement::NearestWithDistance } else { Statement::Nearest };
    let sql = |spi: &mut Spi| Ok(select(&Extension::look(spi)?, collection, statement));
    let mut cursor = spi.open(collection.uuid, statement, sql, &[parameter])?;
    let mut batch = Batch::first(search.likely);
    loop {
        pgrx::check_for_interrupts!();
        let fetched = cursor.fetch(batch.len());
        let mut bytes = 0;
        for row in fetched.rows() {
            let distance = if with_distance { row.get(3).unwrap_or(f64::NAN) } else { f64::NAN };
            while let Some(item) = zeros.next_if(|_| distance > ZERO_DISTANCE) {
                if !visit(item, told(ZERO_DISTANCE))? {
                    return Ok(());
                }
            }
            let item = row.bytes(2);
            bytes += item.len();
            if !visit(keys.open(row.bytes(1), item)?, told(distance))? {
                return Ok(());
            }
        }
        if fetched.len() < batch.len() {
            break;
        }
        batch.next(bytes);
    }
    for item in zeros {
        if !visit(item, told(ZERO_DISTANCE))? {
            break;
        }
    }
    Ok(())
}

/// Items whose vector is zero, which only cosine treats apart.
fn zeros(spi: &mut Spi, collection: &Collection, keys: &mut ItemKeys) -> Result<Vec<OpenItem>, SqlError> {
    if collection.metric != Metric::Cosine {
        return Ok(Vec::new());
    }
    let sql = |_: &mut Spi| Ok(format!("SELECT id_token, item FROM {} WHERE is_zero", names::table(collection.uuid)));
    let (fetched, _) = spi.execute(collection.uuid, Statement::Zeros, sql, &[], true)?;
    fetched.rows().map(|row| keys.open(row.bytes(1), row.bytes(2))).collect()
}

fn select(extension: &Extension, collection: &Collection, statement: Statement) -> String {
    let (table, operator) = (names::table(collection.uuid), extension.operator(collection));
    let distance = match statement {
        Statement::NearestWithDistance => format!(", embedding {operator} $1"),
        _ => String::new(),
    };
    format!("SELECT id_token, item{distance} FROM {table} ORDER BY embedding {operator} $1")
}
