//! What happened, who did it, and how it ended: of a fixed size, for shared memory and for the end of a transaction.

use std::cell::RefCell;
use std::ffi::{CStr, c_char};

use pgrx::{PgSqlErrorCode, pg_sys};

/// What is written down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// `unlock`.
    Unlock,
    /// A statement opened a ring by itself, or with the credential that it showed.
    Open,
    /// `lock` in every session.
    LockEverywhere,
    /// `create_key_ring`.
    CreateRing,
    /// `drop_key_ring`.
    DropRing,
    /// `export_ring`: wrapped keys were handed out.
    ExportRing,
    /// `import_ring`.
    ImportRing,
    /// `set_ring_owner`.
    SetRingOwner,
    /// `grant_ring`.
    Grant,
    /// `revoke_ring`.
    Revoke,
    /// `rotate_kek`.
    RotateKek,
    /// `rekey`.
    Rekey,
    /// `retire_dek`: each of its steps that changes something.
    RetireDek,
    /// `shred`.
    Shred,
    /// `reseal` and `reseal_index` begin.
    ResealStart,
    /// They are done.
    ResealEnd,
    /// `create_index`, with its ring.
    CreateIndex,
    /// `delete_index`, with its ring.
    DeleteIndex,
    /// `create_user`.
    CreateUser,
    /// `delete_user`.
    DeleteUser,
    /// A user of a ring was made.
    GrantUser,
    /// One was taken away.
    RevokeUser,
    /// `create_kms`.
    CreateKms,
    /// `alter_kms`.
    AlterKms,
    /// `drop_kms`.
    DropKms,
    /// `init_root_key`.
    InitRootKey,
    /// A key service was asked to wrap a KEK.
    KmsWrap,
    /// To unwrap one.
    KmsUnwrap,
    /// To wrap one anew.
    KmsRewrap,
    /// To make one.
    KmsGenerate,
    /// Whether it is there.
    KmsCheck,
    /// Old rows of the log were deleted.
    Prune,
}

impl Operation {
    /// As the log has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unlock => "unlock",
            Self::Open => "open",
            Self::LockEverywhere => "lock_everywhere",
            Self::CreateRing => "create_ring",
            Self::DropRing => "drop_ring",
            Self::ExportRing => "export_ring",
            Self::ImportRing => "import_ring",
            Self::SetRingOwner => "set_ring_owner",
            Self::Grant => "grant",
            Self::Revoke => "revoke",
            Self::RotateKek => "rotate_kek",
            Self::Rekey => "rekey",
            Self::RetireDek => "retire_dek",
            Self::Shred => "shred",
            Self::ResealStart => "reseal_start",
            Self::ResealEnd => "reseal_end",
            Self::CreateIndex => "create_index",
            Self::DeleteIndex => "delete_index",
            Self::CreateUser => "create_user",
            Self::DeleteUser => "delete_user",
            Self::GrantUser => "grant_user",
            Self::RevokeUser => "revoke_user",
            Self::CreateKms => "create_kms",
            Self::AlterKms => "alter_kms",
            Self::DropKms => "drop_kms",
            Self::InitRootKey => "init_root_key",
            Self::KmsWrap => "kms_wrap",
            Self::KmsUnwrap => "kms_unwrap",
            Self::KmsRewrap => "kms_rewrap",
            Self::KmsGenerate => "kms_generate",
            Self::KmsCheck => "kms_check",
            Self::Prune => "prune",
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused, or failed.
    Failed,
    /// It was done, and its transaction was rolled back later.
    RolledBack,
    /// It was done, and its transaction was prepared: whether its row is there, another session decides.
    Prepared,
}

impl Outcome {
    /// As the log has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Failed => "failed",
            Self::RolledBack => "rolled back",
            Self::Prepared => "prepared",
        }
    }
}

/// A text of at most `N` bytes; what is longer is cut at a character.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// No text.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; N] };

    /// `text`, or its front.
    pub fn new(text: &str) -> Self {
        const { assert!(N <= u8::MAX as usize) };
        let front = &text[..text.floor_char_boundary(N)];
        let mut bytes = [0; N];
        bytes[..front.len()].copy_from_slice(front.as_bytes());
        Self { len: front.len() as u8, bytes }
    }

    /// The text; of shared memory, too, where another release may have written something else.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.bytes.get(..usize::from(self.len)).unwrap_or_default()).unwrap_or_default()
    }

    /// `None` for no text: NULL in a row.
    pub fn some(&self) -> Option<&str> {
        Some(self.as_str()).filter(|text| !text.is_empty())
    }
}

/// Who does something, from where.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Actor {
    /// Who logged in.
    pub session_user: Text<63>,
    /// Whose rights count.
    pub role: Text<63>,
    /// The client's address; none on a Unix socket.
    pub client: Text<45>,
    /// Its port.
    pub port: u16,
    /// What it calls itself.
    pub application: Text<40>,
    /// This process.
    pub pid: i32,
}

/// One event. Every pattern of bytes is a value of it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Event {
    /// When.
    pub time: pg_sys::TimestampTz,
    /// In which database.
    pub database: pg_sys::Oid,
    /// Who, from where.
    pub actor: Actor,
    /// What, by name: another release of the library, which shares the page, may know others.
    pub operation: Text<15>,
    /// How it ended, by name.
    pub outcome: Text<11>,
    /// The SQLSTATE of a failure; NULs where there is none.
    pub sqlstate: [u8; 5],
    /// The ring that it is about.
    pub ring: Text<63>,
    /// The key service.
    pub kms: Text<63>,
    /// What else is worth knowing: never a key, never what the user typed but names of objects.
    pub detail: Text<120>,
}

impl Event {
    /// Something that begins now; done, until something else turns out. Looks into catalogs.
    pub fn now(operation: Operation) -> Self {
        // SAFETY: reads the clock and a variable of the backend.
        let (time, database) = unsafe { (pg_sys::GetCurrentTimestamp(), pg_sys::MyDatabaseId) };
        Self {
            time,
            database,
            actor: Actor::now(),
            operation: Text::new(operation.name()),
            outcome: Text::new(Outcome::Done.name()),
            sqlstate: [0; 5],
            ring: Text::EMPTY,
            kms: Text::EMPTY,
            detail: Text::EMPTY,
        }
    }

    /// The same, failed.
    pub fn failed(mut self, state: PgSqlErrorCode) -> Self {
        // MAKE_SQLSTATE: six bits a character.
        let code = state as i32;
        self.sqlstate = std::array::from_fn(|i| ((code >> (6 * i)) & 0x3f) as u8 + b'0');
        self.outcome = Text::new(Outcome::Failed.name());
        self
    }

    /// The same, with what became of it later.
    pub fn turned(mut self, outcome: Outcome) -> Self {
        self.outcome = Text::new(outcome.name());
        self
    }

    /// The SQLSTATE, if it failed.
    pub fn state(&self) -> Option<&str> {
        std::str::from_utf8(&self.sqlstate).ok().filter(|_| self.sqlstate[0] != 0)
    }
}

thread_local! {
    /// The process that it was asked for, and address and port of its client.
    static CLIENT: RefCell<(i32, Text<45>, u16)> = const { RefCell::new((0, Text::EMPTY, 0)) };
    /// The name of this database.
    static DATABASE: RefCell<Text<63>> = const { RefCell::new(Text::EMPTY) };
}

/// The name of this database, once an event was begun.
pub fn database() -> Text<63> {
    DATABASE.with_borrow(|name| *name)
}

impl Actor {
    /// Looks into catalogs, and on its first call asks for the client's address.
    fn now() -> Self {
        // SAFETY: reads variables of the backend; the last is a C string that lives as long as this call.
        let (pid, session, current, application) = unsafe {
            let name = pg_sys::application_name;
            let application = if name.is_null() { Text::EMPTY } else { text_of(name) };
            (pg_sys::MyProcPid, pg_sys::GetSessionUserId(), pg_sys::GetUserId(), application)
        };
        let known = CLIENT.with_borrow(|client| *client);
        let (_, client, port) = if known.0 == pid { known } else { client(pid) };
        Self { session_user: name_of(session), role: name_of(current), client, port, application, pid }
    }
}

fn client(pid: i32) -> (i32, Text<45>, u16) {
    // SAFETY: a missing database gives null, else a palloc'd C string.
    let name = unsafe { pg_sys::get_database_name(pg_sys::MyDatabaseId) };
    if !name.is_null() {
        DATABASE.set(text_of(name));
    }
    // SAFETY: both take no argument, read what the postmaster left for this backend, and give NULL where there is no
    // client or no address.
    let (address, port) = unsafe {
        (
            pgrx::direct_function_call::<pgrx::Inet>(pg_sys::inet_client_addr, &[]),
            pgrx::direct_function_call::<i32>(pg_sys::inet_client_port, &[]),
        )
    };
    let address = address.map_or(Text::EMPTY, |address| Text::new(&address));
    let client = (pid, address, port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0));
    CLIENT.set(client);
    client
}

fn name_of<const N: usize>(role: pg_sys::Oid) -> Text<N> {
    // SAFETY: a missing role gives null, else a palloc'd C string.
    let name = unsafe { pg_sys::GetUserNameFromId(role, true) };
    match name.is_null() {
        true => Text::new(&role.to_u32().to_string()), // dropped meanwhile
        false => text_of(name),
    }
}

fn text_of<const N: usize>(text: *const c_char) -> Text<N> {
    // SAFETY: the callers' C strings.
    Text::new(&unsafe { CStr::from_ptr(text) }.to_string_lossy())
}
