//! `dek_usage`: what each version of a ring's data key still seals. Needs no key: every header says its version.
//!
//! Counted is what anybody might still read: rows that the caller's row security hides, rows of transactions that have
//! not ended or are prepared, dead rows that an old snapshot sees. Not counted is what lies in no place of ours: WAL,
//! backups, and sealed text in columns of other types. A place that can't be looked at, whatever the reason, is a row of its
//! own and ends nothing: it may be a stranger's.

use std::collections::BTreeMap;

use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};
use sealvec_core::format::value::ValueHeader;
use sealvec_core::item::{self, ItemHeader};

use super::attempt::{Attempts, Failed};
use super::heap::{Heap, Scan, Scratch, Shows};
use super::places::{self, Column, Holds, Place};
use crate::collections::registry;
use crate::collections::rows::Rows;
use crate::datatype::ddl::constants;
use crate::datatype::reseal;
use crate::error::{OrRaise, SqlError};
use crate::index;
use crate::keys::{self, RingInfo};
use crate::tell::warning;

/// What kind of place something sealed lies in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Values of a column.
    Value,
    /// Items of a collection.
    Item,
    /// An index, as a whole.
    Index,
    /// Column values that wait in an index for a merge.
    Waiting,
    /// Users of a ring, whose newest copy is of this version.
    User,
    /// Constants in stored expressions.
    Expression,
    /// What can't be counted from here.
    Unknown,
}

impl Kind {
    /// As `dek_usage` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Item => "item",
            Self::Index => "index",
            Self::Waiting => "value in index",
            Self::User => "user",
            Self::Expression => "expression",
            Self::Unknown => "not countable",
        }
    }

    /// What brings its count to zero.
    fn remedy(self) -> &'static str {
        match self {
            Self::Value => {
                "CALL sealvec.reseal(table); REFRESH MATERIALIZED VIEW for one. Rows that were resealed count as long as an older transaction sees them."
            }
            Self::Item => "CALL sealvec.reseal_index(name).",
            Self::Index => "REINDEX INDEX CONCURRENTLY.",
            Self::Waiting => "VACUUM the table, or REINDEX INDEX CONCURRENTLY.",
            Self::User => {
                "Make the user anew, or delete it: sealvec.create_user() and delete_user() of an index, grant_user() and revoke_user() of a key ring."
            }
            Self::Expression => "Define the object anew with a sealed value of the newest version.",
            Self::Unknown => {
                "Wait for the session that has the temporary table or the lock, or end it; move what another access method stores; mend what is damaged. \
                 What others have of it and you can do without is given up with force => true."
            }
        }
    }
}

/// Something that one version seals.
#[derive(Clone, Debug)]
pub struct Use {
    /// The version; `None` if it can't be told.
    pub version: Option<u32>,
    /// In what.
    pub kind: Kind,
    /// Its name.
    pub object: String,
    /// Of which column.
    pub column: Option<String>,
    /// How often; `None` if it can't be told.
    pub uses: Option<u64>,
    /// Why it can't be told.
    pub why: Option<&'static str>,
}

impl Use {
    fn new(version: u32, kind: Kind, object: &str, uses: u64) -> Self {
        Self { version: Some(version), kind, object: object.to_owned(), column: None, uses: Some(uses), why: None }
    }

    fn unknown(object: &str, why: &'static str) -> Self {
        Self { version: None, kind: Kind::Unknown, object: object.to_owned(), column: None, uses: None, why: Some(why) }
    }

    /// Whether it may be there, and nobody could look.
    pub fn is_unknown(&self) -> bool {
        self.kind == Kind::Unknown
    }

    /// In one line, for messages.
    pub fn told(&self) -> String {
        let place = match &self.column {
            Some(column) => format!("{} ({column})", self.object),
            None => self.object.clone(),
        };
        match (self.uses, self.why) {
            (Some(uses), _) => format!("{} {place}: {uses}", self.kind.name()),
            (None, Some(why)) => format!("{} {place} ({why})", self.kind.name()),
            (None, None) => format!("{} {place}", self.kind.name()),
        }
    }

    /// What brings it to zero.
    pub fn remedy(&self) -> &'static str {
        self.kind.remedy()
    }
}

/// Uses that a message names.
const NAMED: usize = 5;

/// The first of them and how many more, for messages.
pub fn told(uses: &[&Use]) -> String {
    let mut told: Vec<String> = uses.iter().take(NAMED).map(|found| found.told()).collect();
    if uses.len() > NAMED {
        told.push(format!("{} more", uses.len() - NAMED));
    }
    told.join("; ")
}

/// `dek_usage(ring)`: for its owner.
#[pg_extern(sql = false)]
fn sealvec_dek_usage(ring: Option<&str>, call: pg_sys::FunctionCallInfo) -> Option<i32> {
    (|| {
        let ring = keys::owned_ring(ring)?;
        let mut found = uses(&ring)?;
        for version in ring.versions.iter() {
            if !found.iter().any(|found| found.version == Some(*version)) {
                found.push(Use::new(*version, Kind::Value, "", 0));
            }
        }
        found.sort_by(|a, b| (a.version, a.kind, &a.object, &a.column).cmp(&(b.version, b.kind, &b.object, &b.column)));
        // SAFETY: the call of this very function, which returns a set.
        let mut rows = unsafe { Rows::new(call)? };
        for found in &found {
            let is_nothing = found.object.is_empty();
            rows.push(|| {
                [
                    found.version.map(|version| version as i32).into_datum(),
                    (!is_nothing).then(|| found.kind.name()).into_datum(),
                    (!is_nothing).then_some(found.object.as_str()).into_datum(),
                    found.column.as_deref().into_datum(),
                    found.uses.map(|uses| uses as i64).into_datum(),
                ]
            })?;
        }
        Ok::<_, SqlError>(None)
    })()
    .or_raise()
}

/// `constant_versions(tree, ring) → integer[]`: the version of each constant of the ring in a stored expression.
#[pg_extern(sql = false)]
fn sealvec_constant_versions(tree: &[u8], ring: i32) -> Vec<i32> {
    let mut versions = Vec::new();
    for (_, bytes) in constants(tree) {
        pgrx::check_for_interrupts!();
        versions.extend(of_ring(reseal::places(&bytes), ring as u32).map(|header| header.dek_version() as i32));
    }
    versions
}

fn of_ring(all: impl Iterator<Item = (usize, ValueHeader)>, ring: u32) -> impl Iterator<Item = ValueHeader> {
    all.map(|(_, header)| header).filter(move |header| header.ring() == ring)
}

/// Everything that some version of the ring seals.
pub fn uses(ring: &RingInfo) -> Result<Vec<Use>, SqlError> {
    let mut found = sealed(ring.number)?;
    found.extend(users(ring)?);
    Ok(found)
}

/// What lies in tables, indexes and expressions. Asks nothing of the ring itself, which may be gone.
pub fn sealed(ring: u32) -> Result<Vec<Use>, SqlError> {
    let mut count = Count { found: Vec::new(), attempts: Attempts::new() };
    let places = count.attempt("tables with sealed columns", || places::places(None))?.unwrap_or_default();
    for mut place in places {
        place.columns.retain(|column| column.holds.may_hold(ring));
        if !place.columns.is_empty() {
            let uses = count.attempt(&place.name, || count_rows(&place, ring))?;
            count.found.extend(uses.unwrap_or_default());
        }
    }
    for (index, name) in count.attempt("sealed indexes", places::indexes)?.unwrap_or_default() {
        let uses = count.attempt(&name, || index::dek_uses(index))?.flatten();
        let Some(uses) = uses.filter(|uses| uses.ring == ring) else { continue };
        if uses.dek_version != 0 {
            count.found.push(Use::new(uses.dek_version, Kind::Index, &name, 1));
        }
        for (version, waiting) in uses.waiting.into_iter().filter(|(version, _)| *version != 0) {
            count.found.push(Use::new(version, Kind::Waiting, &name, waiting));
        }
    }
    let expressions = count.attempt("stored expressions", || places::expressions(ring))?.unwrap_or_default();
    let expressions =
        expressions.iter().map(|(object, version, uses)| Use::new(*version, Kind::Expression, object, *uses));
    count.found.extend(expressions);
    Ok(count.found)
}

/// Whose newest copy is of which version.
pub fn users(ring: &RingInfo) -> Result<Vec<Use>, SqlError> {
    let mut users: BTreeMap<u32, u64> = BTreeMap::new();
    for user in registry::users(ring.number)? {
        let newest = *user.versions().last().expect("a user has one at least");
        *users.entry(newest).or_default() += 1;
    }
    let object = registry::all()?.into_iter().find(|collection| collection.ring == ring.number);
    let object = object.map_or_else(|| ring.name.clone(), |collection| collection.name);
    let mut found: Vec<Use> =
        users.into_iter().map(|(version, uses)| Use::new(version, Kind::User, &object, uses)).collect();
    for (role, newest) in keys::newest_of_users(ring.number)? {
        found.push(Use::new(newest, Kind::User, &role, 1));
    }
    Ok(found)
}

struct Count {
    found: Vec<Use>,
    attempts: Attempts,
}

impl Count {
    /// What `f` says, or a row that says that it can't be told.
    fn attempt<T>(&mut self, object: &str, f: impl FnOnce() -> Result<T, SqlError>) -> Result<Option<T>, SqlError> {
        Ok(match self.attempts.run(f)? {
            Ok(told) => Some(told),
            Err(Failed::Locked) => {
                self.found.push(Use::unknown(object, "locked by another session"));
                None
            }
            Err(Failed::Error(message)) => {
                warning!("{object} could not be counted: {message}");
                self.found.push(Use::unknown(object, "cannot be read"));
                None
            }
        })
    }
}

/// Reads every row of a table.
fn count_rows(place: &Place, ring: u32) -> Result<Vec<Use>, SqlError> {
    let mut found = Vec::new();
    if place.is_anothers {
        return Ok(vec![Use::unknown(&place.name, "another session's temporary table")]);
    }
    let Some(heap) = Heap::open(place.relation, pg_sys::AccessShareLock) else { return Ok(found) };
    if !heap.is_heap() {
        return Ok(vec![Use::unknown(&place.name, "of another access method")]);
    }
    let mut counts: Vec<BTreeMap<u32, u64>> = vec![BTreeMap::new(); place.columns.len()];
    let scratch = Scratch::new();
    let mut scan = Scan::new(&heap, Shows::Needed);
    while let Some(tuple) = scan.next() {
        scratch.within(|| {
            for (Column { number, holds, .. }, counts) in place.columns.iter().zip(&mut counts) {
                let Some(datum) = tuple.get(*number) else { continue };
                let mut count = |of: u32, version: u32| {
                    if of == ring {
                        *counts.entry(version).or_default() += 1;
                    }
                };
                // SAFETY: the column's type holds what the catalog says of it; the tuple stays until the next.
                unsafe {
                    match holds {
                        Holds::Values { lies, .. } => {
                            reseal::headers(datum, *lies, |header| count(header.ring(), header.dek_version()));
                        }
                        Holds::Items { .. } => {
                            // What is no item opens nowhere, with or without this DEK.
                            if let Ok(header) = ItemHeader::decode(reseal::slice(datum, item::HEADER_LEN)) {
                                count(header.ring(), header.dek_version());
                            }
                        }
                    }
                }
            }
        });
        scratch.reset();
    }
    for (column, counts) in place.columns.iter().zip(counts) {
        let kind = if matches!(column.holds, Holds::Items { .. }) { Kind::Item } else { Kind::Value };
        found.extend(counts.into_iter().map(|(version, uses)| Use {
            column: Some(column.name.clone()),
            ..Use::new(version, kind, &place.name, uses)
        }));
    }
    Ok(found)
}
