//! Where key bytes lie: in memory that the program has set aside for them, or on the heap.
//!
//! Whoever links this crate into a process whose memory may be dumped or written to swap gives it such memory once, with
//! [`keep_keys_in`]. A key is written where it stays: moving its owner moves a pointer.

use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use zeroize::{Zeroize, Zeroizing};

use super::KEY_LEN;

/// Lends places for keys.
pub trait Keeper: Sync {
    /// A place that nobody else has; `None` if there is no more memory of that kind.
    fn take(&self) -> Option<&'static mut [u8; KEY_LEN]>;

    /// Takes it back. It is wiped already.
    fn give_back(&self, place: &'static mut [u8; KEY_LEN]);
}

static KEEPER: OnceLock<&'static dyn Keeper> = OnceLock::new();

/// From now on keys lie where `keeper` says. Only the first call counts.
pub fn keep_keys_in(keeper: &'static dyn Keeper) {
    let _ = KEEPER.set(keeper);
}

/// 32 key bytes. Not Clone; wiped on drop.
pub struct KeyPlace(Place);

enum Place {
    Kept(&'static dyn Keeper, Option<&'static mut [u8; KEY_LEN]>),
    Heap(Box<Zeroizing<[u8; KEY_LEN]>>),
}

impl KeyPlace {
    /// All zero, to be filled where it lies.
    pub fn zeroed() -> Self {
        let kept = KEEPER.get().and_then(|keeper| keeper.take().map(|place| (*keeper, place)));
        Self(match kept {
            Some((keeper, place)) => {
                place.zeroize();
                Place::Kept(keeper, Some(place))
            }
            None => Place::Heap(Box::new(Zeroizing::new([0; KEY_LEN]))),
        })
    }

    /// A copy of `key`.
    pub fn copy_of(key: &[u8; KEY_LEN]) -> Self {
        let mut place = Self::zeroed();
        place.copy_from_slice(key);
        place
    }
}

impl Deref for KeyPlace {
    type Target = [u8; KEY_LEN];

    fn deref(&self) -> &[u8; KEY_LEN] {
        match &self.0 {
            Place::Kept(_, place) => place.as_ref().expect("given back on drop only"),
            Place::Heap(place) => place,
        }
    }
}

impl DerefMut for KeyPlace {
    fn deref_mut(&mut self) -> &mut [u8; KEY_LEN] {
        match &mut self.0 {
            Place::Kept(_, place) => place.as_mut().expect("given back on drop only"),
            Place::Heap(place) => place,
        }
    }
}

impl Drop for KeyPlace {
    fn drop(&mut self) {
        if let Place::Kept(keeper, place) = &mut self.0
            && let Some(place) = place.take()
        {
            place.zeroize();
            keeper.give_back(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Two(Mutex<Vec<&'static mut [u8; KEY_LEN]>>);

    impl Keeper for Two {
        fn take(&self) -> Option<&'static mut [u8; KEY_LEN]> {
            self.0.lock().unwrap().pop()
        }

        fn give_back(&self, place: &'static mut [u8; KEY_LEN]) {
            assert_eq!(*place, [0; KEY_LEN], "wiped");
            self.0.lock().unwrap().push(place);
        }
    }

    #[test]
    fn keys_lie_where_the_keeper_says_and_on_the_heap_when_it_has_no_more() {
        let keeper: &'static Two = Box::leak(Box::new(Two(Mutex::default())));
        for _ in 0..2 {
            keeper.give_back(Box::leak(Box::new([0; KEY_LEN])));
        }
        keep_keys_in(keeper); // for this process: other tests of it may hold the two, which changes nothing for them
        let keys: Vec<KeyPlace> = (0..4).map(|byte| KeyPlace::copy_of(&[byte; KEY_LEN])).collect();
        for (key, byte) in keys.iter().zip(0..) {
            assert_eq!(**key, [byte; KEY_LEN]);
        }
        assert!(keys.iter().any(|key| matches!(key.0, Place::Heap(_))), "four do not fit into two");
        drop(keys);
    }
}
