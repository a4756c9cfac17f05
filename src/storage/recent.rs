//! Where blocks were last found in shared buffers: a look there spares the look-up in the buffer table, which costs more
//! than the pin.
//!
//! A hint, nothing more: Postgres compares the buffer's tag before it pins. A pin by a hint does not tell the clock sweep
//! that the page is in use (`ReadRecentBuffer` leaves the usage count alone), so one read in seventeen takes the long way.

use std::cell::RefCell;

use pgrx::pg_sys;

/// Blocks remembered; 12 bytes each, of which memory is taken as they come.
const SEATS: usize = 1 << 16;

/// Every so many reads go through the buffer table. Odd, so that it is not the same kind of page each time: a scan reads
/// eight pages of slots and then eight of records.
const LONG_WAY: u32 = 17;

#[derive(Clone, Copy, Default)]
struct Seat {
    relation: u32,
    block: u32,
    /// 0: nobody sits here.
    buffer: pg_sys::Buffer,
}

#[derive(Default)]
struct Recent {
    seats: Vec<Seat>,
    reads: u32,
}

thread_local! {
    static RECENT: RefCell<Recent> = const { RefCell::new(Recent { seats: Vec::new(), reads: 0 }) };
}

impl Recent {
    /// The one place for a block; none if there is no memory for any.
    fn seat(&mut self, relation: u32, block: u32) -> Option<&mut Seat> {
        if self.seats.is_empty() && self.seats.try_reserve_exact(SEATS).is_ok() {
            self.seats.resize(SEATS, Seat::default());
        }
        self.seats.get_mut(Self::place(relation, block))
    }

    /// Blocks of one relation sit side by side, those of another elsewhere.
    fn place(relation: u32, block: u32) -> usize {
        relation.wrapping_mul(0x9E37_79B9).wrapping_add(block) as usize % SEATS
    }

    /// The buffer where the block was last, unless this is a read that goes the long way.
    fn known(&mut self, relation: u32, block: u32) -> Option<pg_sys::Buffer> {
        self.reads = self.reads.wrapping_add(1);
        if self.reads.is_multiple_of(LONG_WAY) {
            return None;
        }
        let seat = self.seat(relation, block)?;
        (seat.buffer > 0 && (seat.relation, seat.block) == (relation, block)).then_some(seat.buffer)
    }
}

/// Lines of the cache that a prefetch asks for: the first rows of a list page, most of a record.
const LINES: usize = 6;
const LINE: usize = 64;
/// Bytes of a page before its body: Postgres's own header.
const PAGE_HEADER: usize = 24;

/// Asks the processor for `block`, from `offset` of its body on, where it was last, with what Postgres looks at before it pins it.
///
/// # Safety
/// `relation` is open.
pub(super) unsafe fn prefetch(relation: pg_sys::Relation, block: u32, offset: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's duty. A prefetch reads nothing that a program sees, and an address that is none is no fault: these are
    // computed and not followed.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[cfg(feature = "pg15")]
        let number = (*relation).rd_node.relNode.to_u32();
        #[cfg(not(feature = "pg15"))]
        let number = (*relation).rd_locator.relNumber.to_u32();
        let seat = RECENT.with_borrow(|recent| recent.seats.get(Recent::place(number, block)).copied());
        let Some(seat) = seat.filter(|seat| seat.buffer > 0 && (seat.relation, seat.block) == (number, block)) else {
            return;
        };
        let index = seat.buffer as usize - 1;
        _mm_prefetch::<_MM_HINT_T0>(pg_sys::BufferDescriptors.wrapping_add(index).cast());
        let page = pg_sys::BufferBlocks.wrapping_add(index * pg_sys::BLCKSZ as usize).cast_const();
        _mm_prefetch::<_MM_HINT_T0>(page);
        for line in 0..LINES {
            _mm_prefetch::<_MM_HINT_T0>(page.wrapping_add(PAGE_HEADER + offset + line * LINE));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (relation, block, offset);
}

/// Pins `block` by way of where it was last, or as `ReadBufferExtended` does.
///
/// # Safety
/// `relation` is open and has the block.
pub(super) unsafe fn read(
    relation: pg_sys::Relation,
    fork: pg_sys::ForkNumber::Type,
    block: u32,
    strategy: pg_sys::BufferAccessStrategy,
) -> pg_sys::Buffer {
    // SAFETY: the caller's duty, here and below; `rd_backend` tells a temporary relation, whose buffers are local.
    unsafe {
        let shared = (*relation).rd_backend == -1 && fork == pg_sys::ForkNumber::MAIN_FORKNUM && strategy.is_null();
        #[cfg(feature = "pg15")]
        let (locator, number) = ((*relation).rd_node, (*relation).rd_node.relNode.to_u32());
        #[cfg(not(feature = "pg15"))]
        let (locator, number) = ((*relation).rd_locator, (*relation).rd_locator.relNumber.to_u32());
        let known = if shared { RECENT.with_borrow_mut(|recent| recent.known(number, block)) } else { None };
        if let Some(buffer) = known
            && pg_sys::ReadRecentBuffer(locator, fork, block, buffer)
        {
            return buffer;
        }
        let buffer = pg_sys::ReadBufferExtended(relation, fork, block, pg_sys::ReadBufferMode::RBM_NORMAL, strategy);
        if shared {
            RECENT.with_borrow_mut(|recent| {
                if let Some(seat) = recent.seat(number, block) {
                    *seat = Seat { relation: number, block, buffer };
                }
            });
        }
        buffer
    }
}
