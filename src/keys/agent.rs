//! The key agent's client: one request on a Unix socket, waited for so that a cancel is obeyed at once.
//!
//! A backend never speaks to a key service itself. The socket's other end must be a process of a user that the
//! administrator trusts with keys, by the kernel's word. Nobody is asked while a lock of the server is held: who
//! waits for a network then makes others wait who need no key.

use std::cell::{Cell, OnceCell};
use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode::{self, *};
use pgrx::pg_sys;
use sealvec_core::Error;
use sealvec_core::keys::{Kek, KekProvider, KeyContext};
use sealvec_kms::agent::{Answer, Call, Class, LENGTH_LEN, Refusal, Reply, Request, Slot, Wrapped, frame_len};
use zeroize::Zeroizing;

use super::kms_slot::KmsSlot;
use crate::audit::{self, Operation};
use crate::error::SqlError;
use crate::guc;

/// How long a full queue of connections is left alone.
const QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// A slot whose service is asked through the agent.
///
/// Core's errors have no class, so what the agent said stays here: see [`AgentProvider::into_failure`].
pub struct AgentProvider {
    slot: Slot,
    key_reference: OnceCell<String>,
    failure: Cell<Option<SqlError>>,
}

impl AgentProvider {
    /// For `slot`; asks nobody yet.
    pub fn new(slot: &KmsSlot) -> Self {
        Self { slot: slot_of(slot), key_reference: OnceCell::new(), failure: Cell::new(None) }
    }

    /// Why it failed, if it did: better than the error that came through core.
    pub fn into_failure(self) -> Option<SqlError> {
        self.failure.into_inner()
    }

    fn ask(&self, request: Request) -> sealvec_core::Result<Answer> {
        let is_about_wrapped = matches!(request, Request::Unwrap { .. } | Request::Rewrap { .. });
        let (operation, ring) = audited(&request);
        let answer = audit::kms_request(
            operation,
            &self.slot.name,
            &ring,
            || converse(&self.slot.name, request),
            |answer| match answer {
                Ok(Answer::Refused(refusal)) => Some(state_of(refusal.class)),
                Ok(_) => None,
                Err(error) => Some(error.sqlstate),
            },
        );
        match answer {
            Ok(Answer::Refused(refusal)) if refusal.class == Class::WrongKey && is_about_wrapped => {
                Err(Error::WrongKey)
            }
            Ok(Answer::Refused(refusal)) => Err(self.fail(refused(&self.slot.name, &refusal))),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Moves a wrapped KEK from the slot `from` to this one, inside the service where it can, and returns its key reference
    /// and bytes. That it unwraps is for the caller to see.
    ///
    /// # Errors
    /// As the other requests.
    pub fn rewrap(
        &self,
        from: &KmsSlot,
        context: &KeyContext,
        key_reference: &str,
        wrapped: &[u8],
    ) -> sealvec_core::Result<(String, Vec<u8>)> {
        let request = Request::Rewrap {
            from: slot_of(from),
            to: self.slot.clone(),
            context: *context,
            key_reference: key_reference.to_owned(),
            wrapped: wrapped.to_vec(),
        };
        match self.ask(request)? {
            Answer::Wrapped(moved) => {
                let key_reference = moved.key_reference.clone();
                Ok((key_reference, self.take(moved)?))
            }
            _ => self.unexpected(),
        }
    }

    fn fail(&self, error: SqlError) -> Error {
        let text = error.message.clone().into_owned();
        self.failure.set(Some(error));
        Error::Provider(text)
    }

    /// What the ring's envelope will say, if it is of the provider that the catalog names.
    fn take(&self, wrapped: Wrapped) -> sealvec_core::Result<Vec<u8>> {
        let Wrapped { provider, key_reference, wrapped } = wrapped;
        if provider != self.slot.provider {
            return Err(self.fail(
                SqlError::new(
                    ERRCODE_CONFIG_FILE_ERROR,
                    format!("key service \"{}\" is not of the provider that its slot names", self.slot.name),
                )
                .detail(format!(
                    "The key agent's configuration has provider \"{}\", sealvec.kms_slots has \"{}\".",
                    plain(&provider),
                    self.slot.provider
                ))
                .hint("Drop the slot and make it anew with the provider of the configuration."),
            ));
        }
        let _ = self.key_reference.set(key_reference); // one provider object makes one key
        Ok(wrapped)
    }

    fn unexpected<T>(&self) -> sealvec_core::Result<T> {
        Err(self.fail(other_language("the answer to another request")))
    }
}

impl KekProvider for AgentProvider {
    #[allow(clippy::misnamed_getters)] // an envelope calls who wraps by the provider's name, not the slot's
    fn name(&self) -> &str {
        &self.slot.provider
    }

    fn key_reference(&self) -> &str {
        self.key_reference.get().map_or("", String::as_str)
    }

    fn wrap(&self, context: &KeyContext, kek: &Kek) -> sealvec_core::Result<Vec<u8>> {
        let kek = Kek::from_slice(kek.expose())?;
        match self.ask(Request::Wrap { slot: self.slot.clone(), context: *context, kek })? {
            Answer::Wrapped(wrapped) => self.take(wrapped),
            _ => self.unexpected(),
        }
    }

    fn unwrap(&self, context: &KeyContext, key_reference: &str, wrapped: &[u8]) -> sealvec_core::Result<Kek> {
        let request = Request::Unwrap {
            slot: self.slot.clone(),
            context: *context,
            key_reference: key_reference.to_owned(),
            wrapped: wrapped.to_vec(),
        };
        match self.ask(request)? {
            Answer::Key(kek) => Ok(kek),
            _ => self.unexpected(),
        }
    }

    fn generate(&self, context: &KeyContext) -> sealvec_core::Result<(Kek, Vec<u8>)> {
        match self.ask(Request::Generate { slot: self.slot.clone(), context: *context })? {
            Answer::Generated(kek, wrapped) => Ok((kek, self.take(wrapped)?)),
            _ => self.unexpected(),
        }
    }
}

/// What a request is called in the audit log, and the UUID of the ring that it is about.
fn audited(request: &Request) -> (Operation, String) {
    let (operation, context) = match request {
        Request::Wrap { context, .. } => (Operation::KmsWrap, Some(context)),
        Request::Unwrap { context, .. } => (Operation::KmsUnwrap, Some(context)),
        Request::Rewrap { context, .. } => (Operation::KmsRewrap, Some(context)),
        Request::Generate { context, .. } => (Operation::KmsGenerate, Some(context)),
        Request::Check { .. } => (Operation::KmsCheck, None),
    };
    (operation, context.map(|context| context.ring.to_string()).unwrap_or_default())
}

/// The SQLSTATE of what the agent refuses, as [`refused`] reports it.
fn state_of(class: Class) -> PgSqlErrorCode {
    match class {
        Class::Unavailable | Class::Throttled => ERRCODE_IO_ERROR,
        Class::WrongKey => ERRCODE_INVALID_PASSWORD,
        Class::Misconfigured => ERRCODE_CONFIG_FILE_ERROR,
        Class::Denied | Class::Protocol => ERRCODE_SYSTEM_ERROR,
    }
}

/// As the agent is told of it.
fn slot_of(slot: &KmsSlot) -> Slot {
    let options = serde_json::to_string(&slot.options).expect("a map of texts is JSON");
    Slot { name: slot.name.clone(), provider: slot.provider.clone(), options }
}

/// One request, one answer, one connection. `slot` is for messages.
fn converse(slot: &str, request: Request) -> Result<Answer, SqlError> {
    check_no_lock()?;
    let path = guc::agent_socket();
    if path.is_empty() {
        return Err(SqlError::new(
            ERRCODE_CONFIG_FILE_ERROR,
            format!("key service \"{slot}\" needs a key agent, and this server has none"),
        )
        .hint("Start sealvec-sidecar agent, and set sealvec.agent_socket in postgresql.conf to its socket."));
    }
    let time_max = guc::kms_timeout();
    let until = Instant::now() + time_max;
    let wait = |error: Failure| {
        match error {
        Failure::Sql(error) => error,
        Failure::TooLate => SqlError::new(ERRCODE_IO_ERROR, format!("key service \"{slot}\" is unavailable"))
            .detail(format!("The key agent did not answer within {} ms.", time_max.as_millis()))
            .hint("Nothing is lost. sealvec.kms_timeout is how long a session waits."),
        Failure::Io(error) => SqlError::new(ERRCODE_IO_ERROR, format!("key service \"{slot}\" is unavailable"))
            .detail(format!("The key agent on \"{}\" cannot be reached: {error}.", path.to_string_lossy()))
            .hint("Nothing is lost. Start the key agent, or correct sealvec.agent_socket in postgresql.conf. An agent of another user than the server's needs --agent-allow-user and the server's user."),
    }
    };
    let stream = Stream::connect(&path, until).map_err(wait)?;
    stream.check_peer(&path)?;
    // The agent's share of the time ends a little before ours, so that its words come and not our silence.
    let call = Call { id: 1, time_max: time_max.saturating_sub(time_max / 10), request };
    let frame = call.encode().map_err(|error| other_language(&error.to_string()))?;
    // An agent that does not serve us says so and closes: its word counts, not the broken pipe.
    let sent = stream.send(&frame, until);
    if let Err(Failure::TooLate | Failure::Sql(_)) = sent {
        sent.map_err(wait)?;
    }
    let reply = stream.receive(until).map_err(wait)?;
    match (reply.id, reply.answer) {
        (1, answer) | (0, answer @ Answer::Refused(_)) => Ok(answer),
        _ => Err(other_language("the answer to another request")),
    }
}

/// LWLocks, and with them locks on pages, hold interrupts off as long as they are held.
fn check_no_lock() -> Result<(), SqlError> {
    // SAFETY: reads two variables of this backend.
    if unsafe { pg_sys::InterruptHoldoffCount == 0 && pg_sys::CritSectionCount == 0 } {
        return Ok(());
    }
    Err(SqlError::new(ERRCODE_INTERNAL_ERROR, "a key was asked for where the server cannot wait for one")
        .hint("This is a bug in sealvec; please report it."))
}

fn refused(slot: &str, refusal: &Refusal) -> SqlError {
    let (sqlstate, what, hint) = match refusal.class {
        Class::Unavailable => {
            (ERRCODE_IO_ERROR, "is unavailable", "Nothing is lost. Try again once the service answers.".to_owned())
        }
        Class::Throttled => (
            ERRCODE_IO_ERROR,
            "is unavailable",
            match refusal.retry_after {
                Some(wait) => format!("It asks for fewer requests. Try again in {} s.", wait.as_secs().max(1)),
                None => "It asks for fewer requests. Try again a little later.".to_owned(),
            },
        ),
        Class::Denied => (
            ERRCODE_SYSTEM_ERROR,
            "refuses the key",
            "Look at the key and its policy there: it may be disabled, or the key agent may have lost its right to it."
                .to_owned(),
        ),
        Class::Misconfigured => (
            ERRCODE_CONFIG_FILE_ERROR,
            "is not set up as it should",
            "Correct the slot with sealvec.alter_kms(), or the key agent's configuration.".to_owned(),
        ),
        Class::WrongKey | Class::Protocol => return other_language(&refusal.text),
    };
    SqlError::new(sqlstate, format!("key service \"{slot}\" {what}")).detail(sentence(&refusal.text)).hint(hint)
}

fn other_language(what: &str) -> SqlError {
    SqlError::new(ERRCODE_SYSTEM_ERROR, "key agent and database server do not understand each other")
        .detail(sentence(what))
        .hint("Update both to the same release; see that nothing else listens on sealvec.agent_socket.")
}

/// What came over the socket, as a sentence of one line.
fn sentence(text: &str) -> String {
    let mut text = plain(text);
    if let Some(first) = text.get(..1) {
        text.replace_range(..1, &first.to_ascii_uppercase());
    }
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(1_000).collect()
}

/// Why a connection gave nothing.
enum Failure {
    Io(io::Error),
    TooLate,
    Sql(SqlError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A place among the files that Postgres keeps open; given back on drop.
struct Place;

impl Place {
    fn take() -> io::Result<Self> {
        // SAFETY: counts one more file, and closes others of Postgres's where needed; false if there is no room.
        match unsafe { pg_sys::AcquireExternalFD() } {
            true => Ok(Self),
            false => Err(io::Error::from_raw_os_error(libc::EMFILE)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // SAFETY: gives back what `take` took; only counts, so that it may run while an ERROR unwinds.
        unsafe { unguarded::ReleaseExternalFD() };
    }
}

/// Without pgrx's guard, which must not run in a drop while an ERROR is on its way.
mod unguarded {
    unsafe extern "C" {
        pub fn ReleaseExternalFD();
    }
}

/// A connection; closed when dropped, also by an ERROR.
struct Stream {
    socket: OwnedFd,
    _place: Place,
}

impl Stream {
    fn connect(path: &CStr, until: Instant) -> Result<Self, Failure> {
        let place = Place::take()?;
        // SAFETY: all-zero is a valid address before it is filled.
        let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        let bytes = path.to_bytes();
        if bytes.len() >= address.sun_path.len() || bytes[0] != b'/' {
            return Err(Failure::Sql(
                SqlError::new(ERRCODE_CONFIG_FILE_ERROR, "sealvec.agent_socket names no socket")
                    .detail(format!("It is an absolute path of at most {} bytes.", address.sun_path.len() - 1)),
            ));
        }
        for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
            *place = *byte as libc::c_char;
        }
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: makes a descriptor that nobody else has, or answers -1.
        let socket = unsafe {
            match libc::socket(libc::AF_UNIX, kind, 0) {
                -1 => return Err(io::Error::last_os_error().into()),
                socket => OwnedFd::from_raw_fd(socket),
            }
        };
        let stream = Self { socket, _place: place };
        loop {
            let len = mem::size_of_val(&address) as libc::socklen_t;
            // SAFETY: an open socket and an address of that length.
            if unsafe { libc::connect(stream.socket.as_raw_fd(), (&raw const address).cast(), len) } == 0 {
                return Ok(stream);
            }
            match io::Error::last_os_error() {
                // The agent's queue is full: Unix sockets have no "in progress" to wait for.
                error if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.wait(0, until.min(Instant::now() + QUEUE_PAUSE))?
                }
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error.into()),
            }
            if Instant::now() >= until {
                return Err(Failure::TooLate);
            }
        }
    }

    /// Keys come from, and go to, a process of a trusted user only.
    fn check_peer(&self, path: &CStr) -> Result<(), SqlError> {
        // SAFETY: the kernel fills one ucred of the length told.
        let (status, peer) = unsafe {
            let mut peer: libc::ucred = mem::zeroed();
            let mut len = mem::size_of::<libc::ucred>() as libc::socklen_t;
            let socket = self.socket.as_raw_fd();
            let status =
                libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &mut len);
            (status, peer)
        };
        // SAFETY: cannot fail.
        let own = unsafe { libc::geteuid() };
        let named = guc::agent_user();
        let trusted = match named.is_empty() {
            true => None,
            false => Some(uid_of(&named)?),
        };
        if status == 0 && [Some(own), Some(0), trusted].contains(&Some(peer.uid)) {
            return Ok(());
        }
        Err(SqlError::new(
            ERRCODE_SYSTEM_ERROR,
            format!("the key agent on \"{}\" runs as a user that is not trusted with keys", path.to_string_lossy()),
        )
        .detail(format!(
            "It is user id {}. Trusted are the server's own ({own}), root, and who sealvec.agent_user names.",
            peer.uid
        ))
        .hint("See who listens there before you set sealvec.agent_user in postgresql.conf."))
    }

    fn send(&self, mut bytes: &[u8], until: Instant) -> Result<(), Failure> {
        while !bytes.is_empty() {
            // SAFETY: reads no more than the slice. A closed connection gives an error and no signal.
            let sent =
                unsafe { libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
            match usize::try_from(sent) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(_) => self.wait_after_error(pg_sys::WL_SOCKET_WRITEABLE, until)?,
            }
        }
        Ok(())
    }

    fn receive(&self, until: Instant) -> Result<Reply, Failure> {
        let mut length = [0; LENGTH_LEN];
        self.read(&mut length, until)?;
        let strange = |error: sealvec_kms::agent::ProtocolError| Failure::Sql(other_language(&error.to_string()));
        let len = frame_len(length).map_err(strange)?;
        let mut frame = Zeroizing::new(vec![0; len]); // a KEK may be in it
        self.read(&mut frame, until)?;
        Reply::decode(&frame).map_err(strange)
    }

    fn read(&self, mut out: &mut [u8], until: Instant) -> Result<(), Failure> {
        while !out.is_empty() {
            // SAFETY: writes no more than the slice.
            let read = unsafe { libc::recv(self.socket.as_raw_fd(), out.as_mut_ptr().cast(), out.len(), 0) };
            match usize::try_from(read) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection").into()),
                Ok(read) => out = &mut out[read..],
                Err(_) => self.wait_after_error(pg_sys::WL_SOCKET_READABLE, until)?,
            }
        }
        Ok(())
    }

    fn wait_after_error(&self, event: u32, until: Instant) -> Result<(), Failure> {
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= until {
                    return Err(Failure::TooLate);
                }
                self.wait(event, until)
            }
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error.into()),
        }
    }

    /// Until `event` of the socket, the latch, or `until`; a cancel, a timeout of the statement and a termination
    /// are obeyed here.
    fn wait(&self, event: u32, until: Instant) -> Result<(), Failure> {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up, or the last millisecond would be spent asking again and again.
        let timeout_ms = (left.as_millis() as i64 + 1).min(i64::from(i32::MAX));
        let events = event | pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        let socket = if event == 0 { PGINVALID_SOCKET } else { self.socket.as_raw_fd() };
        // SAFETY: this backend's own latch, and a socket that is open as long as `self`.
        unsafe {
            pg_sys::WaitLatchOrSocket(pg_sys::MyLatch, events as i32, socket, timeout_ms, pg_sys::PG_WAIT_EXTENSION);
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        pgrx::check_for_interrupts!(); // an ERROR unwinds through us, and closes the socket
        Ok(())
    }
}

const PGINVALID_SOCKET: pg_sys::pgsocket = -1;

/// Of a user of this system, by name or number.
fn uid_of(user: &CString) -> Result<libc::uid_t, SqlError> {
    if let Some(uid) = user.to_str().ok().and_then(|text| text.parse().ok()) {
        return Ok(uid);
    }
    // SAFETY: a C string; null, or a record that stays valid until the next such call in this one thread.
    let found = unsafe { libc::getpwnam(user.as_ptr()).as_ref().map(|user| user.pw_uid) };
    found.ok_or_else(|| {
        SqlError::new(
            ERRCODE_CONFIG_FILE_ERROR,
            format!("sealvec.agent_user names no user of this system: \"{}\"", user.to_string_lossy()),
        )
    })
}
