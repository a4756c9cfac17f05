//! The rules of the page protocol as switches.

/// One rule, or one part of a rule with several. The number is the rule's in `src/index/README.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rule {
    /// 0: slot numbers are never reused.
    SlotsNeverReused,
    /// 1: epoch, `merged_upto` and the place of L0 change in one record.
    PublishOnce,
    /// 1: a scan skips chunks born after the epoch that it read.
    UnbornIgnored,
    /// 1: `work_epoch` is recorded before the first unborn thing.
    WorkEpochFirst,
    /// 1: publishing changes its own fields of the meta page under the lock.
    PublishInPlace,
    /// 2: epoch and `merged_upto` come from one read of the meta page.
    OneMetaRead,
    /// 2: a cached directory serves only its own epoch.
    DirectoryByEpoch,
    /// 2, 15: a cached directory serves only its own build.
    DirectoryByUuid,
    /// 2: a slot is queued once.
    SlotSet,
    /// 2: list entries from `m0` on are ignored.
    MergedOnly,
    /// 2: the end of the tail is looked up after the snapshot.
    TailEndAfterSnapshot,
    /// 2: an empty list in the cached directory is looked up in the map.
    EmptyHeadReadsMap,
    /// 3: list page headers are checked.
    ListHeader,
    /// 3: slot leaf headers are checked.
    LeafHeader,
    /// 3: vector records are found by their slot.
    VectorSlot,
    /// 3: overflow pages are checked by the record's name.
    OverflowName,
    /// 3: directory headers are checked.
    DirectoryHeader,
    /// 3: a mismatch is looked up again before it is called corruption.
    LookAgain,
    /// 3: it is damage only when found three times over, with nothing changed in between.
    ThriceIsDamage,
    /// 3: after a directory reload every list is probed from the first.
    FromTheFirst,
    /// 4: a list that loses a row gets a new uid.
    NewUid,
    /// 4: the map entry goes before its pages.
    MapBeforePages,
    /// 4: a page is unlinked before it is freed.
    UnlinkBeforeFree,
    /// 5: the leaf decides the number of a slot, under its lock.
    LeafDecidesNumber,
    /// 5: an extender checks again that its leaf is the last.
    ExtendRechecks,
    /// 5: directory node and new leaf are one record.
    ExtendOnce,
    /// 5: slot and vector record are one record.
    InsertOnce,
    /// 6: the parts come first, the head makes the row exist.
    PartsFirst,
    /// 6: orphans are collected before links are read.
    CollectThenWalk,
    /// 6: only parts of ended transactions are orphans.
    OrphanXid,
    /// 6: a part is freed only if it still has its record's name.
    FreeRechecksName,
    /// 7: only VACUUM marks slots dead: no kill_prior_tuple.
    NoKillPriorTuple,
    /// 7: only VACUUM marks slots dead: no private vacuum.
    NoPrivateVacuum,
    /// 7: only a full leaf is freed.
    FreeFullLeaf,
    /// 7: a leaf is unlinked and freed in one record.
    FreeLeafOnce,
    /// 7: the sweep reads a page's records before the states of their slots.
    RecordsThenStates,
    /// 7: a record moves in one record.
    MoveOnce,
    /// 7: who moves a record checks the leaf again under its lock.
    MoveRechecks,
    /// 8: the TID is read from the slot at output.
    TidAtOutput,
    /// 9: a page is opened under its lock.
    OpenUnderLock,
    /// 10: the lock's holder recovers first.
    RecoverFirst,
    /// 10: recovery resets `died` above the epoch.
    ResetDied,
    /// 10: the sweep holds the maintenance lock.
    SweepLocked,
    /// 10: the sweep frees what cannot be reached, whatever its uid or epoch.
    SweepByReach,
    /// 11: one maintainer at a time.
    MaintenanceLock,
    /// 11: the meta page is read after the lock is taken.
    MetaAfterLock,
    /// 14: a page from the free space map is checked again.
    FreeRechecked,
    /// 16: a cleanup without a key does not advance `merged_upto`.
    CleanupKeepsTail,
}

/// Every rule.
pub const ALL: &[Rule] = &[
    Rule::SlotsNeverReused,
    Rule::PublishOnce,
    Rule::UnbornIgnored,
    Rule::WorkEpochFirst,
    Rule::PublishInPlace,
    Rule::OneMetaRead,
    Rule::DirectoryByEpoch,
    Rule::DirectoryByUuid,
    Rule::SlotSet,
    Rule::MergedOnly,
    Rule::TailEndAfterSnapshot,
    Rule::EmptyHeadReadsMap,
    Rule::ListHeader,
    Rule::LeafHeader,
    Rule::VectorSlot,
    Rule::OverflowName,
    Rule::DirectoryHeader,
    Rule::LookAgain,
    Rule::ThriceIsDamage,
    Rule::FromTheFirst,
    Rule::NewUid,
    Rule::MapBeforePages,
    Rule::UnlinkBeforeFree,
    Rule::LeafDecidesNumber,
    Rule::ExtendRechecks,
    Rule::ExtendOnce,
    Rule::InsertOnce,
    Rule::PartsFirst,
    Rule::CollectThenWalk,
    Rule::OrphanXid,
    Rule::FreeRechecksName,
    Rule::NoKillPriorTuple,
    Rule::NoPrivateVacuum,
    Rule::FreeFullLeaf,
    Rule::FreeLeafOnce,
    Rule::RecordsThenStates,
    Rule::MoveOnce,
    Rule::MoveRechecks,
    Rule::TidAtOutput,
    Rule::OpenUnderLock,
    Rule::RecoverFirst,
    Rule::ResetDied,
    Rule::SweepLocked,
    Rule::SweepByReach,
    Rule::MaintenanceLock,
    Rule::MetaAfterLock,
    Rule::FreeRechecked,
    Rule::CleanupKeepsTail,
];

/// The rules that hold in one exploration.
#[derive(Clone, Copy, Debug)]
pub struct Rules(u64);

impl Rules {
    pub fn all() -> Self {
        Self(u64::MAX)
    }

    pub fn without(rules: &[Rule]) -> Self {
        Self(rules.iter().fold(u64::MAX, |bits, rule| bits & !(1 << *rule as u8)))
    }

    pub fn on(self, rule: Rule) -> bool {
        self.0 >> rule as u8 & 1 == 1
    }

    pub fn off(self, rule: Rule) -> bool {
        !self.on(rule)
    }
}
