//! One more page at the end of a relation.

use pgrx::pg_sys;

use super::buffer::ExclusiveBuffer;

/// A new zero page, locked exclusively before anybody else can find it.
///
/// Were the lock taken after the extension lock is given up, a sweep could see the zero page, call it free,
/// and hand it to a second owner.
///
/// # Safety
/// `relation` is open.
pub unsafe fn extend(relation: pg_sys::Relation, fork: pg_sys::ForkNumber::Type) -> ExclusiveBuffer {
    #[cfg(feature = "pg15")]
    // SAFETY: the caller's duty. P_NEW adds a page at the end, which the extension lock keeps to one backend.
    unsafe {
        const P_NEW: pg_sys::BlockNumber = pg_sys::InvalidBlockNumber;
        let lock = pg_sys::ExclusiveLock as i32;
        pg_sys::LockRelationForExtension(relation, lock);
        let buffer =
            pg_sys::ReadBufferExtended(relation, fork, P_NEW, pg_sys::ReadBufferMode::RBM_NORMAL, std::ptr::null_mut());
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
        pg_sys::UnlockRelationForExtension(relation, lock);
        ExclusiveBuffer::adopt(buffer)
    }
    #[cfg(not(feature = "pg15"))]
    // SAFETY: the caller's duty; the flag has the page locked while it is still unknown to others.
    unsafe {
        let target = pg_sys::BufferManagerRelation { rel: relation, ..Default::default() };
        let flags = pg_sys::ExtendBufferedFlags::EB_LOCK_FIRST as u32;
        ExclusiveBuffer::adopt(pg_sys::ExtendBufferedRel(target, fork, std::ptr::null_mut(), flags))
    }
}
