//! Which distance an operator class stands for.
//!
//! An operator class has one operator, for ORDER BY, and one support function, which says what the operator
//! measures: the index must know the distance itself, to rank rows that it has not opened.

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::metric::Metric;

use crate::error::SqlError;

/// Operators of an operator class.
pub const STRATEGIES: u16 = 1;
/// Number of the ordering operator.
pub const ORDERING: i16 = 1;
/// Support functions of an operator class.
pub const SUPPORT_FUNCTIONS: u16 = 1;
/// Number of the function that returns the metric.
pub const METRIC_FUNCTION: u16 = 1;

/// `sealvec_l2_ops`.
#[pg_extern(sql = false, immutable, parallel_safe)]
fn sealed_ivf_l2() -> i32 {
    Metric::L2 as i32
}

/// `sealvec_cosine_ops`.
#[pg_extern(sql = false, immutable, parallel_safe)]
fn sealed_ivf_cosine() -> i32 {
    Metric::Cosine as i32
}

/// `sealvec_ip_ops`.
#[pg_extern(sql = false, immutable, parallel_safe)]
fn sealed_ivf_inner_product() -> i32 {
    Metric::InnerProduct as i32
}

/// The metric of an index.
///
/// # Safety
/// `index` is an open `sealed_ivf` index.
pub unsafe fn metric(index: pg_sys::Relation) -> Result<Metric, SqlError> {
    // SAFETY: the access method has this support function, without which an index is not made.
    let number = unsafe {
        let function = pg_sys::index_getprocinfo(index, 1, METRIC_FUNCTION);
        pg_sys::FunctionCall0Coll(function, pg_sys::InvalidOid).value() as i32
    };
    metric_by_number(number).ok_or_else(|| {
        SqlError::new(
            ERRCODE_INVALID_OBJECT_DEFINITION,
            format!("the operator class names distance {number}, which sealed_ivf does not know"),
        )
        .hint("Use sealvec_l2_ops, sealvec_cosine_ops or sealvec_ip_ops.")
    })
}

/// The metric that a support function returned.
pub fn metric_by_number(number: i32) -> Option<Metric> {
    u8::try_from(number).ok().and_then(Metric::from_byte)
}
