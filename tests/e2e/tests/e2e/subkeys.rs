//! Every key that a session with an open ring holds, derived as its holder can: what a test looks for in memory.

use aws_lc_rs::hmac;
use postgres::Client;
use sealvec_core::crypto::kdf::{Deriver, Label};
use sealvec_core::keys::{Kek, RingRecord, Uuid};
use sealvec_e2e::{Cluster, one, page};

/// Offset of the index UUID in the meta page; docs/FORMAT.md.
const INDEX_UUID: usize = 24 + 16;
/// List uids that are tried; a new index counts them from low numbers.
const LISTS: u64 = 4_096;
/// Groups of vector records, and names of long ones.
const GROUPS: u64 = 16;

/// A key and what it is for.
pub struct Key {
    pub name: String,
    pub bytes: [u8; 32],
}

/// The keys of a client-held ring under its KEK: it, the DEK, the id key, and all that is derived from these for the
/// ring and for the index `index`.
pub fn all(client: &mut Client, cluster: &Cluster, ring: &str, index: &str, kek: &[u8; 32]) -> Vec<Key> {
    let record: Vec<u8> = one(client, &format!("SELECT record FROM sealvec.key_ring WHERE name = '{ring}'"));
    let record = RingRecord::decode(&record).expect("a record");
    let open = record.open(&Kek::from_slice(kek).expect("32 bytes")).expect("its KEK");
    let meta = page::read(&cluster.file(client, index));
    let index = Uuid::from_bytes(meta[INDEX_UUID..][..16].try_into().expect("16 bytes"));
    let ring = record.uuid();
    let (dek, id_key) = (open.deks[0].as_dek().expose(), open.id_key.expose());
    let mut keys = Vec::new();
    let mut add = |name: String, bytes: [u8; 32]| keys.push(Key { name, bytes });
    add("DEK".into(), *dek);
    add("id key".into(), *id_key);
    // HKDF-Extract, RFC 5869: from it alone every subkey follows.
    for (name, key) in [("KEK", kek), ("DEK", dek), ("id key", id_key)] {
        let salt = hmac::Key::new(hmac::HMAC_SHA256, b"sealvec v1");
        add(format!("HKDF key of the {name}"), hmac::sign(&salt, key).as_ref().try_into().expect("32 bytes"));
    }
    let (of_kek, of_dek, of_id_key) = (Deriver::new(kek), Deriver::new(dek), Deriver::new(id_key));
    add("wrap key".into(), *of_kek.subkey(Label::Wrap, &ring));
    add("record key".into(), *of_kek.subkey(Label::RingRecord, &ring));
    add("value key".into(), *of_dek.subkey(Label::ColumnValue, &ring));
    add("item key".into(), *of_dek.subkey(Label::Item, &ring));
    add("id-token key".into(), *of_id_key.subkey(Label::IdToken, &ring));
    add("meta key".into(), *of_dek.subkey(Label::IndexMeta, &index));
    add("directory key".into(), *of_dek.subkey(Label::IndexDirectory, &index));
    for (label, name, count) in [
        (Label::IndexList, "list key", LISTS),
        (Label::IndexVectors, "vectors key", GROUPS),
        (Label::IndexParts, "parts key", GROUPS),
    ] {
        for number in 0..count {
            add(format!("{name} {number}"), *of_dek.derive(label, &[index.as_bytes(), &number.to_le_bytes()]));
        }
    }
    keys
}
