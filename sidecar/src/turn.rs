//! A request's turn: its place among those that are worked on, and room for its body.
//!
//! A body comes at its sender's pace. While it does, the request holds no place, so that slow senders keep nobody out;
//! it is one of many bodies that may come in at once, and takes room for its bytes as they come.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;
use crate::limits::Limits;

/// Bytes of a body that take no room: enough for a query, which is answered even if long bodies fill all the room.
const SHORT: usize = 64 << 10;
/// Room is taken in units of so many bytes.
const UNIT: usize = 64 << 10;
/// Bodies that may come in at once, for each request that may be worked on.
const BODIES_PER_PLACE: usize = 16;

/// What requests share.
#[derive(Clone, Debug)]
pub struct Places {
    requests: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// One request's part of them, given back when the last clone of it is dropped. In the request's extensions.
#[derive(Clone, Debug)]
pub struct Turn {
    places: Places,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    place: Option<OwnedSemaphorePermit>,
    room: Option<OwnedSemaphorePermit>,
}

/// A body that comes in.
#[derive(Debug)]
pub struct Incoming {
    turn: Turn,
    _body: OwnedSemaphorePermit,
    units: usize,
}

fn busy() -> ApiError {
    ApiError::unavailable("The server is busy")
}

impl Places {
    /// All of them free.
    pub fn new(limits: &Limits) -> Self {
        let semaphore = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        let requests = limits.requests_max as usize;
        // A body of the greatest length must be able to come, if only one at a time.
        let room = limits.bodies_bytes_max.max(limits.body_bytes_max) / UNIT;
        Self {
            requests: semaphore(requests),
            bodies: semaphore(requests.saturating_mul(BODIES_PER_PLACE)),
            room: semaphore(room),
        }
    }

    /// A turn with a place; `always` takes it where there is none, too.
    ///
    /// # Errors
    /// 503.
    pub fn enter(&self, always: bool) -> Result<Turn, ApiError> {
        let place = Arc::clone(&self.requests).try_acquire_owned().ok();
        if place.is_none() && !always {
            return Err(busy());
        }
        Ok(Turn { places: self.clone(), held: Arc::new(Mutex::new(Held { place, room: None })) })
    }
}

impl Turn {
    /// Gives the place back until the body is there.
    ///
    /// # Errors
    /// 503 if too many bodies come in already.
    pub fn receive(self) -> Result<Incoming, ApiError> {
        let body = Arc::clone(&self.places.bodies).try_acquire_owned().map_err(|_| busy())?;
        self.with(|held| held.place = None);
        Ok(Incoming { turn: self, _body: body, units: 0 })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        change(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Incoming {
    /// Takes room for `bytes` of it, all that came so far counted. It is held until the request is answered.
    ///
    /// # Errors
    /// 503 if there is none.
    pub fn make_room(&mut self, bytes: usize) -> Result<(), ApiError> {
        let units = bytes.saturating_sub(SHORT).div_ceil(UNIT);
        let more = u32::try_from(units.saturating_sub(self.units)).map_err(|_| busy())?;
        if more > 0 {
            let room = Arc::clone(&self.turn.places.room).try_acquire_many_owned(more).map_err(|_| busy())?;
            self.turn.with(|held| match &mut held.room {
                Some(all) => all.merge(room),
                none => *none = Some(room),
            });
            self.units = units;
        }
        Ok(())
    }

    /// The body is there: takes a place again.
    ///
    /// # Errors
    /// 503 if there is none.
    pub fn end(self) -> Result<(), ApiError> {
        let place = Arc::clone(&self.turn.places.requests).try_acquire_owned().map_err(|_| busy())?;
        self.turn.with(|held| held.place = Some(place));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_given_back() {
        let limits = Limits { requests_max: 1, body_bytes_max: UNIT, bodies_bytes_max: 10 * UNIT, ..Limits::default() };
        let places = Places::new(&limits);
        let free = || [&places.requests, &places.bodies, &places.room].map(|all| all.available_permits());
        let all = [1, BODIES_PER_PLACE, 10];
        assert_eq!(free(), all);
        let turn = places.enter(false).unwrap();
        assert_eq!(free(), [0, BODIES_PER_PLACE, 10]);
        assert!(places.enter(false).is_err() && places.enter(true).is_ok());
        let mut body = turn.clone().receive().unwrap();
        assert_eq!(free(), [1, BODIES_PER_PLACE - 1, 10]);
        for (bytes, left) in
            [(0, 10), (SHORT, 10), (SHORT + 1, 9), (SHORT + UNIT, 9), (SHORT + UNIT + 1, 8), (SHORT + 10 * UNIT, 0)]
        {
            body.make_room(bytes).unwrap();
            assert_eq!(free()[2], left, "{bytes}");
        }
        assert_eq!(body.make_room(SHORT + 10 * UNIT + 1), Err(busy()));
        body.end().unwrap();
        assert_eq!(free(), [0, BODIES_PER_PLACE, 0]); // worked on, the body still there
        drop(turn);
        assert_eq!(free(), all);
    }

    #[test]
    fn who_finds_no_place_after_the_body_leaves_nothing_behind() {
        let places = Places::new(&Limits { requests_max: 1, ..Limits::default() });
        let turn = places.enter(false).unwrap();
        let body = turn.clone().receive().unwrap();
        let other = places.enter(false).unwrap();
        assert_eq!(body.end(), Err(busy()));
        drop((turn, other));
        assert_eq!(places.requests.available_permits(), 1);
        assert_eq!(places.bodies.available_permits(), BODIES_PER_PLACE);
    }

    #[test]
    fn a_body_of_the_greatest_length_fits_alone() {
        for length in [1, UNIT - 1, UNIT, UNIT + 1, 10 * UNIT - 1, 10 * UNIT] {
            let places = Places::new(&Limits { body_bytes_max: length, bodies_bytes_max: 0, ..Limits::default() });
            let mut body = places.enter(false).unwrap().receive().unwrap();
            assert_eq!(body.make_room(length), Ok(()), "{length}");
        }
    }
}
