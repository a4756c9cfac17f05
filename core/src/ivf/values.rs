//! Column values that lie verbatim in the index, because the ring was locked when they came.
//!
//! Without a key nobody can tell a sealed value from bytes in its shape, so whoever may INSERT can store a forged
//! one. It must deny the index to nobody: a value that does not open under the ring's keys, all of which are
//! here, is a row that can't be indexed, as a NULL is, and [`Unopened`] remembers which. That a key is not
//! to be had is another matter, and an error before a [`ColumnKeys`] exists.

use std::collections::BTreeSet;

use crate::{
    crypto::XaesKey,
    format::{
        Tid,
        value::{ValueHeader, ValueKind, open_value},
    },
    keys::{Dek, Uuid},
};

/// The keys of one ring's column values, one for each version of its DEK. Wiped on drop.
pub struct ColumnKeys {
    ring: Uuid,
    keys: Vec<(u32, XaesKey)>,
}

impl ColumnKeys {
    /// Those of `ring`, which opens nothing until [`ColumnKeys::add`].
    pub fn new(ring: Uuid) -> Self {
        Self { ring, keys: Vec::new() }
    }

    /// Adds the key under one of the ring's DEKs.
    pub fn add(&mut self, dek: &Dek<'_>) {
        self.keys.push((dek.version(), dek.value_key(&self.ring)));
    }

    /// Opens `sealed` into `out`, whose length is the column's dimension; `false` if it is no value that this ring
    /// sealed for such a column: damaged, forged, of another ring, of a DEK that the ring does not have here, or
    /// with an element that is no number. `out` says nothing then.
    pub fn open(&self, sealed: &[u8], out: &mut [f32]) -> bool {
        let Ok(header) = ValueHeader::decode(sealed) else { return false };
        // The AAD binds the ring's whole UUID; a session's value must not get as far as a key.
        if header.kind() != ValueKind::Column || header.dims() != out.len() {
            return false;
        }
        let Some((_, key)) = self.keys.iter().rfind(|(version, _)| *version == header.dek_version()) else {
            return false;
        };
        open_value(key, &self.ring, sealed, out).is_ok() && out.iter().all(|element| element.is_finite())
    }
}

impl std::fmt::Debug for ColumnKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ColumnKeys({}, {} versions, [redacted])", self.ring, self.keys.len())
    }
}

/// Heap rows whose values did not open, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unopened {
    tids: BTreeSet<Tid>,
    more: bool,
}

impl Unopened {
    /// Rows remembered at most: who may INSERT must not fill the memory of others.
    pub const MOST: usize = 1_000;

    /// Remembers a row.
    pub fn add(&mut self, tid: Tid) {
        if self.tids.len() < Self::MOST {
            self.tids.insert(tid);
        } else {
            self.more |= !self.tids.contains(&tid);
        }
    }

    /// Remembers every row of `other`.
    pub fn merge(&mut self, other: Self) {
        other.tids.into_iter().for_each(|tid| self.add(tid));
        self.more |= other.more;
    }

    /// The first of them, by place.
    pub fn first(&self) -> Option<Tid> {
        self.tids.first().copied()
    }

    /// Those remembered, by place.
    pub fn tids(&self) -> impl Iterator<Item = Tid> + '_ {
        self.tids.iter().copied()
    }

    /// How many, at least.
    pub fn len(&self) -> usize {
        self.tids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tids.is_empty()
    }

    /// Whether there are more than [`Unopened::MOST`].
    pub fn has_more(&self) -> bool {
        self.more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::value::seal_value;

    const RING: Uuid = Uuid::from_bytes([0x5a; 16]);

    fn keys() -> ColumnKeys {
        let mut keys = ColumnKeys::new(RING);
        [1, 2].into_iter().for_each(|version| keys.add(&Dek::new(version, &[version as u8; 32])));
        keys
    }

    fn sealed(ring: Uuid, version: u32, dek: u8, values: &[f32]) -> Vec<u8> {
        let key = Dek::new(version, &[dek; 32]).value_key(&ring);
        let header = ValueHeader::column(&ring, version, values.len()).unwrap();
        seal_value(&key, &header, &ring, values).unwrap()
    }

    #[test]
    fn every_version_of_the_ring_opens_and_nothing_else() {
        let (keys, values, mut out) = (keys(), [1.0, -2.0], [0.0; 2]);
        for version in [1, 2] {
            assert!(keys.open(&sealed(RING, version, version as u8, &values), &mut out));
            assert_eq!(out, values);
        }
        let mut damaged = sealed(RING, 1, 1, &values);
        *damaged.last_mut().unwrap() ^= 1;
        let other = Uuid::from_bytes([0x5b; 16]);
        let (session, id) = (ValueHeader::session(2).unwrap(), Uuid::random().unwrap());
        let of_session = seal_value(&XaesKey::new(&[1; 32]), &session, &id, &values).unwrap();
        for forged in [
            damaged,
            sealed(RING, 1, 9, &values),          // another key
            sealed(RING, 3, 3, &values),          // a DEK that is not here
            sealed(other, 1, 1, &values),         // another ring
            sealed(RING, 1, 1, &[1.0, 2.0, 3.0]), // other dimensions
            of_session,
            vec![1, 1],
            Vec::new(),
        ] {
            assert!(!keys.open(&forged, &mut out));
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_counted_once() {
        let mut unopened = Unopened::default();
        let tid = |number: u32| Tid { block: number / 10, offset: (number % 10 + 1) as u16 };
        for number in (0..Unopened::MOST as u32).rev().chain(0..500) {
            unopened.add(tid(number));
        }
        assert_eq!((unopened.len(), unopened.first(), unopened.has_more()), (Unopened::MOST, Some(tid(0)), false));
        unopened.add(tid(5_000));
        assert_eq!((unopened.len(), unopened.has_more()), (Unopened::MOST, true));
    }
}
