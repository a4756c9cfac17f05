//! HKDF-SHA-256 and the one table of labels: every key that sealvec derives is a row of [`Label`].
//!
//! `subkey = HKDF-Expand(HKDF-Extract(salt = "sealvec v1", key), info = label ‖ 0x00 ‖ context, 32)`
//!
//! (RFC 5869.) The salt separates our keys from any other use of the same bytes, such as a KEK that its
//! owner also uses elsewhere. Labels hold no zero byte and each has contexts of one length, so no two
//! (label, context) pairs give the same `info`.

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use zeroize::Zeroizing;

use super::{KEY_LEN, KeyPlace};
use crate::keys::Uuid;

const SALT: &[u8] = b"sealvec v1";

/// What a derived key is for. The text is on disk in effect: changing one changes every key below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// root key → key that wraps a ring's KEK (`local` provider). Context: ring UUID.
    LocalWrap,
    /// root key → its public id, by which an envelope names it. Context: none.
    LocalRootId,
    /// KEK → key that wraps DEKs and the id key. Context: ring UUID.
    Wrap,
    /// KEK → the ring's commitment. Context: ring UUID.
    RingCommitment,
    /// KEK → HMAC key of the ring's record. Context: ring UUID.
    RingRecord,
    /// any wrapped key → its envelope's commitment. Context: ring UUID, purpose, DEK version.
    EnvelopeCommitment,
    /// DEK → XAES key of column values. Context: ring UUID.
    ColumnValue,
    /// DEK → XAES key of a collection's items. Context: ring UUID.
    Item,
    /// id key → HMAC key of the tokens that stand for ids. Context: ring UUID.
    IdToken,
    /// user KEK → key that wraps the user's copies of DEKs and id key. Context: ring UUID, user id.
    UserWrap,
    /// user KEK → its commitment. Context: ring UUID, user id.
    UserCommitment,
    /// user KEK → HMAC key of the user's record. Context: ring UUID, user id.
    UserRecord,
    /// KEK → HMAC key of the vouchers for users' wraps. Context: ring UUID.
    UserVoucher,
    /// DEK → commitment on an index's meta page. Context: index UUID, DEK version.
    IndexCommitment,
    /// DEK → key of the sealed part of the meta page. Context: index UUID.
    IndexMeta,
    /// DEK → key of the directory chunks. Context: index UUID.
    IndexDirectory,
    /// DEK → key of the chunks of 256 lists. Context: index UUID, list uid / 256.
    IndexList,
    /// DEK → key of the vector records of 65,536 slots. Context: index UUID, slot / 65,536.
    IndexVectors,
    /// DEK → key of what one long vector record keeps in overflow pages. Context: index UUID, the record's name.
    IndexParts,
}

impl Label {
    /// Every label, for tests and documents.
    pub const ALL: [Label; 19] = [
        Label::LocalWrap,
        Label::LocalRootId,
        Label::Wrap,
        Label::RingCommitment,
        Label::RingRecord,
        Label::EnvelopeCommitment,
        Label::ColumnValue,
        Label::Item,
        Label::IdToken,
        Label::UserWrap,
        Label::UserCommitment,
        Label::UserRecord,
        Label::UserVoucher,
        Label::IndexCommitment,
        Label::IndexMeta,
        Label::IndexDirectory,
        Label::IndexList,
        Label::IndexVectors,
        Label::IndexParts,
    ];

    /// The bytes in front of the context.
    pub const fn text(self) -> &'static str {
        self.row().0
    }

    /// Bytes of context that this label takes.
    pub const fn context_len(self) -> usize {
        self.row().1
    }

    const fn row(self) -> (&'static str, usize) {
        match self {
            Label::LocalWrap => ("local wrap", 16),
            Label::LocalRootId => ("local root id", 0),
            Label::Wrap => ("wrap", 16),
            Label::RingCommitment => ("ring commitment", 16),
            Label::RingRecord => ("ring record", 16),
            Label::EnvelopeCommitment => ("envelope commitment", 16 + 1 + 4),
            Label::ColumnValue => ("column value", 16),
            Label::Item => ("item", 16),
            Label::IdToken => ("id token", 16),
            Label::UserWrap => ("user wrap", 16 + 16),
            Label::UserCommitment => ("user commitment", 16 + 16),
            Label::UserRecord => ("user record", 16 + 16),
            Label::UserVoucher => ("user voucher", 16),
            Label::IndexCommitment => ("index commitment", 16 + 4),
            Label::IndexMeta => ("index meta", 16),
            Label::IndexDirectory => ("index directory", 16),
            Label::IndexList => ("index list", 16 + 8),
            Label::IndexVectors => ("index vectors", 16 + 8),
            Label::IndexParts => ("index parts", 16 + 8),
        }
    }
}

/// A key from which others are derived. Wiped on drop; Debug shows nothing.
///
/// It keeps the key itself, and extracts anew for each subkey: aws-lc's `Prk` puts off the extraction, too, and keeps
/// its own copy of the key on the heap.
pub struct Deriver(KeyPlace);

impl Deriver {
    /// Takes `key` in; the caller keeps, and wipes, its own copy.
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        Self(KeyPlace::copy_of(key))
    }

    /// The key for `label` in the context of one ring or index.
    pub fn subkey(&self, label: Label, id: &Uuid) -> Zeroizing<[u8; KEY_LEN]> {
        self.derive(label, &[id.as_bytes()])
    }

    /// The key for `label`; `context` is the concatenation of the fields that the label's row names, integers little-endian.
    pub fn derive(&self, label: Label, context: &[&[u8]]) -> Zeroizing<[u8; KEY_LEN]> {
        let length: usize = context.iter().map(|field| field.len()).sum();
        assert_eq!(length, label.context_len(), "context of another label");
        let mut info: [&[u8]; 6] = [b""; 6];
        info[0] = label.text().as_bytes();
        info[1] = &[0];
        info[2..2 + context.len()].copy_from_slice(context);

        let mut out = Zeroizing::new([0; KEY_LEN]);
        expand(&extract(SALT, &self.0[..]), &info, &mut out[..]);
        out
    }
}

impl std::fmt::Debug for Deriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deriver([redacted])")
    }
}

/// HKDF-Extract.
pub(super) fn extract(salt: &[u8], key: &[u8]) -> Prk {
    Salt::new(HKDF_SHA256, salt).extract(key)
}

/// HKDF-Expand, to the length of `out`.
pub(super) fn expand(prk: &Prk, info: &[&[u8]], out: &mut [u8]) {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    prk.expand(info, Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("nothing here asks for more than HKDF's 255 blocks");
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn labels_differ_and_hold_no_zero_byte() {
        let texts: HashSet<_> = Label::ALL.iter().map(|label| label.text()).collect();
        assert_eq!(texts.len(), Label::ALL.len());
        assert!(texts.iter().all(|text| !text.is_empty() && !text.contains('\0')));
    }

    #[test]
    fn each_label_and_context_gives_another_key() {
        let deriver = Deriver::new(&[7; 32]);
        let mut seen = HashSet::new();
        for label in Label::ALL {
            for fill in [0u8, 1] {
                let context = vec![fill; label.context_len()];
                let fresh = seen.insert(*deriver.derive(label, &[&context]));
                assert!(fresh || (fill == 1 && label.context_len() == 0), "{label:?}");
            }
        }
    }

    #[test]
    fn format_document_lists_every_label() {
        let document = include_str!("../../../docs/FORMAT.md");
        let rows = document
            .split("## Labels")
            .nth(1)
            .unwrap()
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect::<Vec<_>>();
        assert_eq!(rows.len(), Label::ALL.len());
        for (label, row) in Label::ALL.iter().zip(rows) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            assert_eq!(cells[1], format!("`{}`", label.text()));
            assert!(cells[4].starts_with(&format!("{} bytes", label.context_len())), "{row}");
        }
    }

    /// Fails if a label, the salt or the composition changes: each would orphan all existing data.
    #[test]
    fn derivation_is_frozen() {
        let id = Uuid::from_bytes([0x11; 16]);
        let key = Deriver::new(&[0x42; 32]).subkey(Label::ColumnValue, &id);
        // Computed with the textbook HMAC below, not by this module.
        let info = [b"column value\0".as_slice(), &[0x11; 16]].concat();
        assert_eq!(*key, hkdf_by_hand(&[0x42; 32], b"sealvec v1", &info));
    }

    #[test]
    #[should_panic(expected = "context of another label")]
    fn a_context_of_the_wrong_length_is_our_bug() {
        Deriver::new(&[0; 32]).derive(Label::IndexList, &[&[0; 16]]);
    }

    /// RFC 5869 2.2 and 2.3 for one block of output, over HMAC alone.
    fn hkdf_by_hand(key: &[u8], salt: &[u8], info: &[u8]) -> [u8; 32] {
        use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
        let prk = sign(&Key::new(HMAC_SHA256, salt), key);
        let block = sign(&Key::new(HMAC_SHA256, prk.as_ref()), &[info, &[1]].concat());
        block.as_ref().try_into().unwrap()
    }
}
