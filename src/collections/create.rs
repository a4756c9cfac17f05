//! `create_index`, `delete_index`, and the vector column that the first upsert adds when nobody told the dimension.

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::filter::Schema;
use sealvec_core::format::typmod::DIMS_MAX;
use sealvec_core::keys::Uuid;
use sealvec_core::text::Bm25;
use sealvec_core::transport::Argument;

use super::call::{self, Need, Shown, required};
use super::describe;
use super::names::{self, Extension};
use super::payload;
use super::registry::{self, Collection, Metric, Part};
use super::spi::{self, Spi};
use crate::audit::{self, Operation};
use crate::error::{OrRaise, SqlError};
use crate::keys::{self, kms_slot};

/// Most characters of a name.
const NAME_MAX: usize = 255;

/// `create_index(name, dimension, metric, index_key, kms_name, storage_precision, …) → regclass`
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // those of the SQL function
fn sealvec_create_index(
    name: Option<&str>,
    dimension: Option<i32>,
    metric: Option<&str>,
    index_key: Option<&[u8]>,
    kms_name: Option<&str>,
    storage_precision: Option<&str>,
    embedding_model: Option<&str>,
    metadata_schema: Option<&str>,
    bm25_k1: Option<f64>,
    bm25_b: Option<f64>,
) -> pg_sys::Oid {
    audit::call(Operation::CreateIndex, None, || {
        let name = check_name(required(name, "name")?)?;
        let metadata_schema = check_schema(metadata_schema, (bm25_k1, bm25_b))?;
        let mut collection = Collection {
            name: name.to_owned(),
            uuid: Uuid::random()?,
            ring: 0,
            dimension: check_dimension(dimension)?,
            metric: check_metric(metric)?,
            storage_precision: check_precision(storage_precision)?.to_owned(),
            embedding_model: embedding_model.map(str::to_owned),
            kms_name: kms_name.map(str::to_owned),
            metadata_schema,
            bm25: (bm25_k1, bm25_b),
        };
        match (index_key, kms_name) {
            (Some(_), None) => {}
            (None, Some(slot)) => drop(kms_slot::hold(slot)?),
            _ => {
                return Err(SqlError::new(
                    ERRCODE_INVALID_PARAMETER_VALUE,
                    "exactly one of kms_name or index_key must be supplied",
                )
                .hint("index_key => $1 with 32 bytes that only the client keeps, or kms_name => 'local'."));
            }
        }
        registry::lock(name, Part::Shape)?;
        if registry::try_find(name)?.is_some() {
            return Err(SqlError::new(ERRCODE_DUPLICATE_OBJECT, format!("index \"{name}\" already exists")));
        }
        collection.audit();
        let kek = index_key.map(|key| keys::shown(key, Argument::IndexKey, name)).transpose()?;
        let ring_name = format!("index {}", collection.uuid);
        collection.ring = keys::create_ring(&ring_name, kek.as_ref(), kms_name)?.number();
        let shown = Shown { index_key, ..Shown::default() };
        let _scope = call::open(&collection, &shown, Need::Own)?;
        registry::insert(&collection)?;
        spi::connect(|spi| make_table(spi, &collection))?;
        names::table_oid(collection.uuid)
            .ok_or_else(|| SqlError::new(ERRCODE_INTERNAL_ERROR, "the table of an index is not there once it is made"))
    })
    .or_raise()
}

/// `delete_index(name, …)`: table, index, keys and users, all or nothing.
#[pg_extern(sql = false)]
fn sealvec_delete_index(
    name: Option<&str>,
    index_key: Option<&[u8]>,
    user_id: Option<&[u8]>,
    user_token: Option<&[u8]>,
) {
    audit::call(Operation::DeleteIndex, None, || {
        let name = required(name, "name")?;
        let found = registry::find(name)?;
        found.audit();
        check_owner(&found)?; // nobody else makes others wait
        registry::lock(name, Part::Shape)?;
        let collection = registry::find(name)?;
        let shown = Shown { index_key, user_id, user_token };
        let shows_any = index_key.or(user_id).or(user_token).is_some();
        // Nothing opens what is sealed under a ring that was dropped by force: the table goes with its owner's rights alone.
        let has_ring = keys::ring_exists(collection.ring)?;
        // Who may drop the table need not reach the key service, which may be gone for good.
        let _scope = match has_ring && (collection.is_client_held() || shows_any) {
            true => call::open(&collection, &shown, Need::Own)?,
            false => None,
        };
        check_owner(&collection)?;
        spi::connect(|spi| spi.run(&format!("DROP TABLE IF EXISTS {}", names::table(collection.uuid))))?;
        registry::delete(&collection)?;
        if has_ring { keys::drop_ring(collection.ring) } else { Ok(()) }
    })
    .or_raise()
}

/// 42501 unless the current user may remove the collection: its ring, if that is there yet, and its table.
fn check_owner(collection: &Collection) -> Result<(), SqlError> {
    if keys::ring_exists(collection.ring)? {
        check_ring_owner(collection)?;
    }
    if describe::owns(collection) { Ok(()) } else { Err(not_owner(&collection.name)) }
}

/// 42501 unless the current user has the rights of the owner of a collection's ring.
pub fn check_ring_owner(collection: &Collection) -> Result<(), SqlError> {
    keys::check_owner(collection.ring).map_err(|error| match error.sqlstate {
        ERRCODE_INSUFFICIENT_PRIVILEGE => not_owner(&collection.name),
        _ => error,
    })
}

/// 42501: only who made an index, or has the rights of that role, may.
fn not_owner(name: &str) -> SqlError {
    SqlError::new(ERRCODE_INSUFFICIENT_PRIVILEGE, format!("must be owner of index \"{name}\""))
}

fn make_table(spi: &mut Spi, collection: &Collection) -> Result<(), SqlError> {
    let table = names::table(collection.uuid);
    let extension = Extension::look(spi)?;
    let embedding = match collection.dimension {
        Some(dimension) => format!(", {}", columns(&extension, collection, dimension).join(", ")),
        None => String::new(),
    };
    // Rows stay in one piece up to 8 kB: what does not, costs a second look-up for each row of a query's result.
    spi.run(&format!(
        "CREATE TABLE {table} (id_token pg_catalog.bytea PRIMARY KEY, item pg_catalog.bytea NOT NULL{embedding}) \
         WITH (toast_tuple_target = 8160)"
    ))?;
    spi.run(&format!("ALTER TABLE {table} ALTER COLUMN item SET STORAGE EXTERNAL"))?; // sealed bytes do not compress
    match collection.dimension {
        Some(_) => make_index(spi, &extension, collection),
        None => Ok(()),
    }
}

/// The column of vectors; and under cosine, where the index leaves out a vector that is zero, one that says so.
fn columns(extension: &Extension, collection: &Collection, dimension: usize) -> Vec<String> {
    let mut columns =
        vec![format!("embedding {}.sealvec({dimension}, {}) NOT NULL", extension.schema, collection.ring)];
    if collection.metric == Metric::Cosine {
        columns.push("is_zero pg_catalog.bool NOT NULL".to_owned());
    }
    columns
}

fn make_index(spi: &mut Spi, extension: &Extension, collection: &Collection) -> Result<(), SqlError> {
    let table = names::table(collection.uuid);
    spi.run(&format!(
        "CREATE INDEX \"{}\" ON {table} USING sealed_ivf (embedding {}) WITH (storage_precision = '{}')",
        names::index(collection.uuid),
        extension.opclass(collection.metric),
        collection.storage_precision,
    ))?;
    match collection.metric {
        Metric::Cosine => spi.run(&format!("CREATE INDEX ON {table} (is_zero) WHERE is_zero")),
        _ => Ok(()),
    }
}

/// Gives a collection the dimension of its first vector. The call holds the lock on its shape.
pub fn learn_dimension(collection: &mut Collection, dimension: usize) -> Result<(), SqlError> {
    check_dimension(Some(dimension as i32))?;
    collection.dimension = Some(dimension);
    registry::set_dimension(&collection.name, dimension)?;
    spi::connect(|spi| {
        let extension = Extension::look(spi)?;
        let columns = columns(&extension, collection, dimension).join(", ADD COLUMN ");
        spi.run(&format!("ALTER TABLE {} ADD COLUMN {columns}", names::table(collection.uuid)))?;
        make_index(spi, &extension, collection)
    })
}

fn check_name(name: &str) -> Result<&str, SqlError> {
    let invalid = |message: &'static str| Err(SqlError::new(ERRCODE_INVALID_NAME, message));
    match name {
        "" => invalid("index_name cannot be empty."),
        "default" => invalid("Cannot provision index with reserved name 'default'"),
        _ if name.chars().count() > NAME_MAX => invalid("Index name cannot be longer than 255 characters."),
        _ => Ok(name),
    }
}

/// 0 is as none: the first vector tells.
fn check_dimension(dimension: Option<i32>) -> Result<Option<usize>, SqlError> {
    match dimension {
        None | Some(0) => Ok(None),
        Some(negative @ ..0) => {
            Err(SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, format!("dimension cannot be negative, got {negative}")))
        }
        Some(dimension) if dimension as usize <= DIMS_MAX => Ok(Some(dimension as usize)),
        Some(_) => Err(SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, format!("dimension must be <= {DIMS_MAX}."))),
    }
}

fn check_metric(metric: Option<&str>) -> Result<Metric, SqlError> {
    Metric::of_name(metric.unwrap_or("euclidean")).ok_or_else(|| {
        SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, "Invalid distance metric")
            .hint("Metrics are euclidean, squared_euclidean and cosine.")
    })
}

fn check_precision(precision: Option<&str>) -> Result<&str, SqlError> {
    match precision.unwrap_or("float32") {
        known @ ("float32" | "float16") => Ok(known),
        _ => Err(SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, "Invalid storage precision")
            .hint("Precisions are float32 and float16.")),
    }
}

/// The schema as it came, if it is one and the parameters of BM25 fit it.
fn check_schema(schema: Option<&str>, bm25: (Option<f64>, Option<f64>)) -> Result<Option<String>, SqlError> {
    let invalid = |message: String| SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, message);
    let parsed = match payload::json_of(schema.map(str::as_bytes), "metadata_schema")? {
        Some(json) => Schema::parse(&json).map_err(|error| invalid(error.to_string()))?,
        None => Schema::default(),
    };
    Bm25::parse(bm25.0, bm25.1, &parsed).map_err(|error| invalid(error.to_string()))?;
    Ok(schema.map(str::to_owned))
}
