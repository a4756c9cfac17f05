//! A table read tuple by tuple, below SQL: no row security, no rights of the caller, and tuples that no snapshot of SQL shows.

use std::ptr;

use pgrx::pg_sys;

/// A table, open and locked; its lock is kept to the end of the transaction.
pub struct Heap(pg_sys::Relation);

impl Heap {
    /// Opens the table with this OID; `None` if it is gone.
    pub fn open(oid: pg_sys::Oid, lock: u32) -> Option<Self> {
        // SAFETY: any OID; waits for the lock, and answers null for what is there no more.
        let relation = unsafe { pg_sys::try_table_open(oid, lock as pg_sys::LOCKMODE) };
        (!relation.is_null()).then_some(Self(relation))
    }

    /// The table, open as long as `self`.
    pub fn relation(&self) -> pg_sys::Relation {
        self.0
    }

    /// Pages of the table now.
    pub fn blocks(&self) -> u32 {
        // SAFETY: an open relation with storage.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.0, pg_sys::ForkNumber::MAIN_FORKNUM) }
    }

    /// Whether its access method is Postgres's own, whose tuples can be read as here.
    pub fn is_heap(&self) -> bool {
        // SAFETY: an open relation has a row of pg_class.
        unsafe { (*(*self.0).rd_rel).relam == pg_sys::HEAP_TABLE_AM_OID }
    }

    /// Role that owns it.
    pub fn owner(&self) -> pg_sys::Oid {
        // SAFETY: as above.
        unsafe { (*(*self.0).rd_rel).relowner }
    }

    /// Shape of its rows.
    pub fn shape(&self) -> pg_sys::TupleDesc {
        // SAFETY: an open relation.
        unsafe { (*self.0).rd_att }
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened by `open`, closed once; when an ERROR is under way, abort closes it instead.
            unsafe { pg_sys::table_close(self.0, pg_sys::NoLock as pg_sys::LOCKMODE) };
        }
    }
}

/// Which tuples a scan shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// Those that somebody might still see or bring to light: live ones, those of transactions under way or prepared, and
    /// dead ones that an old snapshot sees. What no one can ever see again is left out.
    Needed,
    /// Live ones, and those that transactions under way have just written or are about to delete.
    Newest,
}

/// A sequential scan.
pub struct Scan<'a> {
    /// What is read stays open.
    _heap: &'a Heap,
    scan: pg_sys::TableScanDesc,
    slot: Slot,
    snapshot: Box<pg_sys::SnapshotData>,
}

impl<'a> Scan<'a> {
    /// Of the whole table.
    pub fn new(heap: &'a Heap, shows: Shows) -> Self {
        let mut snapshot = Box::new(pg_sys::SnapshotData::default());
        // SAFETY: all-zero is what both kinds start from; the horizon is that of an open relation and lives as long as the
        // backend. A scan with such a snapshot reads tuple by tuple. Synchronised only where the order is free.
        let scan = unsafe {
            match shows {
                Shows::Needed => {
                    snapshot.snapshot_type = pg_sys::SnapshotType::SNAPSHOT_NON_VACUUMABLE;
                    snapshot.vistest = pg_sys::GlobalVisTestFor(heap.0);
                }
                Shows::Newest => snapshot.snapshot_type = pg_sys::SnapshotType::SNAPSHOT_DIRTY,
            }
            let sync = shows == Shows::Needed;
            pg_sys::table_beginscan_strat(heap.0, &mut *snapshot, 0, ptr::null_mut(), true, sync)
        };
        Self { _heap: heap, scan, slot: Slot::new(heap), snapshot }
    }

    /// Of `blocks` pages from `first` on, which are there, in their order.
    pub fn of_blocks(heap: &'a Heap, shows: Shows, first: u32, blocks: u32) -> Self {
        assert!(shows == Shows::Newest, "a synchronised scan has no limits");
        let scan = Self::new(heap, shows);
        // SAFETY: a scan of a heap that has not begun.
        unsafe { pg_sys::heap_setscanlimits(scan.scan, first, blocks) };
        scan
    }

    /// The next tuple.
    pub fn next(&mut self) -> Option<Tuple<'_>> {
        pgrx::check_for_interrupts!();
        // SAFETY: the scan and its slot are open.
        unsafe {
            if !pg_sys::table_scan_getnextslot(self.scan, pg_sys::ScanDirection::ForwardScanDirection, self.slot.0) {
                return None;
            }
        }
        Some(self.slot.tuple())
    }

    /// The transaction under way that has inserted the tuple shown last, if it was one.
    pub fn inserter(&self) -> Option<pg_sys::TransactionId> {
        Some(self.snapshot.xmin).filter(|xid| *xid != pg_sys::InvalidTransactionId)
    }
}

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: begun by `new`, ended once; when an ERROR is under way, abort ends it.
            unsafe { pg_sys::table_endscan(self.scan) };
        }
    }
}

/// Room for one tuple of a table.
pub struct Slot(*mut pg_sys::TupleTableSlot);

impl Slot {
    /// For tuples as the table stores them.
    pub fn new(heap: &Heap) -> Self {
        // SAFETY: an open table; no list takes care of the slot but we.
        Self(unsafe { pg_sys::table_slot_create(heap.0, ptr::null_mut()) })
    }

    /// For a row put together from values.
    pub fn of_values(heap: &Heap) -> Self {
        // SAFETY: the shape of an open table, which outlives the slot.
        Self(unsafe { pg_sys::MakeSingleTupleTableSlot(heap.shape(), &raw const pg_sys::TTSOpsVirtual) })
    }

    /// The slot itself.
    pub fn get(&self) -> *mut pg_sys::TupleTableSlot {
        self.0
    }

    /// The tuple in it; there is one.
    pub fn tuple(&self) -> Tuple<'_> {
        // SAFETY: the slot holds a tuple; afterwards every column is in its arrays.
        unsafe { pg_sys::slot_getallattrs(self.0) };
        Tuple(self)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: made by this type, dropped once; what it pins is given back. Abort does both on an ERROR.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.0) };
        }
    }
}

/// A tuple in its slot.
pub struct Tuple<'a>(&'a Slot);

impl Tuple<'_> {
    /// Column `number`, from 1; `None` for NULL.
    pub fn get(&self, number: i16) -> Option<pg_sys::Datum> {
        // SAFETY: deformed by `Slot::tuple`; the column exists.
        unsafe {
            let slot = &*self.0.0;
            assert!(number > 0 && number <= slot.tts_nvalid, "a column of the table");
            let place = number as usize - 1;
            (!*slot.tts_isnull.add(place)).then(|| *slot.tts_values.add(place))
        }
    }

    /// Where it lies.
    pub fn tid(&self) -> pg_sys::ItemPointerData {
        // SAFETY: a slot of a table knows the place of its tuple.
        unsafe { (*self.0.0).tts_tid }
    }
}

/// Memory for what is made of one tuple.
pub struct Scratch(pg_sys::MemoryContext);

impl Scratch {
    /// A child of the current context, which frees it at the latest.
    pub fn new() -> Self {
        // SAFETY: as it says.
        Self(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"sealvec rotation".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }

    /// Runs `f` in it; what `f` allocates lives until [`reset`](Self::reset).
    pub fn within<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: both contexts live; should `f` panic, abort resets the current one itself.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.0);
            let result = f();
            pg_sys::MemoryContextSwitchTo(before);
            result
        }
    }

    /// Frees what was allocated.
    pub fn reset(&self) {
        // SAFETY: nothing in it is used any more, and it is not the current one.
        unsafe { pg_sys::MemoryContextReset(self.0) };
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: made by `new`, current nowhere; when an ERROR is under way, abort frees it.
            unsafe { pg_sys::MemoryContextDelete(self.0) };
        }
    }
}
