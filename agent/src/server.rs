//! The Unix socket: who may ask, frames in, frames out.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sealvec_kms::agent::{Answer, Class, Refusal, Reply};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::Service;
use crate::inbox::Inbox;

/// Connections at once; a backend holds one.
const CONNECTIONS_MAX: usize = 2_048;
/// For an answer to be taken.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// How often old keys are looked for.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);
/// After a failed accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which users' processes may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    uids: Vec<u32>,
}

impl Access {
    /// This process's own user, and these.
    ///
    /// # Errors
    /// If this system has no user of such a name.
    pub fn of_users(names: &[impl AsRef<str>]) -> Result<Self, String> {
        let mut uids = vec![rustix::process::geteuid().as_raw()];
        for name in names {
            let name = name.as_ref();
            uids.push(match name.parse() {
                Ok(uid) => uid,
                Err(_) => uid_of(name).ok_or_else(|| format!("this system has no user \"{name}\""))?,
            });
        }
        uids.sort_unstable();
        uids.dedup();
        Ok(Self { uids })
    }

    /// These user ids alone.
    pub fn of_uids(uids: impl Into<Vec<u32>>) -> Self {
        Self { uids: uids.into() }
    }

    fn allows(&self, uid: u32) -> bool {
        self.uids.contains(&uid)
    }

    fn only(&self, uid: u32) -> bool {
        self.uids == [uid]
    }
}

/// Of this machine's own users; one from a directory service is given by number.
fn uid_of(name: &str) -> Option<u32> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.into_iter().find(|fields| fields.first() == Some(&name))?.get(2)?.parse().ok()
}

/// A bound socket. Dropping it removes the file.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    access: Access,
}

impl Server {
    /// Binds `path`, where nothing or a dead agent's socket is. Its permissions let others than this user only
    /// knock: who is let in, the kernel's word on the other process decides.
    ///
    /// # Errors
    /// A text for the operator.
    pub fn bind(path: &Path, access: Access) -> Result<Self, String> {
        let refuse = |what: &str, error: io::Error| format!("cannot {what} the socket {}: {error}", path.display());
        remove_dead(path)?;
        let listener = UnixListener::bind(path).map_err(|error| refuse("bind", error))?;
        let mode = if access.only(rustix::process::geteuid().as_raw()) { 0o600 } else { 0o666 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(|error| refuse("open up", error))?;
        Ok(Self { listener, path: path.to_owned(), access })
    }

    /// Serves until `stop` is done; calls that run then are given up.
    pub async fn serve(self, service: Arc<Service>, stop: impl Future<Output = ()>) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut tasks = tokio::task::JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP_PERIOD);
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => return, // the set's drop ends its tasks
                _ = sweep.tick() => { service.sweep(); continue }
                Some(_) = tasks.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::error!("cannot take a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
                tracing::warn!("more than {CONNECTIONS_MAX} connections; one is refused");
                continue;
            };
            let (access, service) = (self.access.clone(), Arc::clone(&service));
            tasks.spawn(async move {
                let _place = place;
                if let Err(error) = converse(stream, &access, &service).await {
                    tracing::debug!("a connection ended: {error}");
                }
            });
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes a socket that nobody listens on. Anything else stays.
fn remove_dead(path: &Path) -> Result<(), String> {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(format!("{} is there and is no socket", path.display()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| format!("cannot remove {}: {error}", path.display()))
        }
        _ => Err(format!("another process listens on {}", path.display())),
    }
}

async fn converse(stream: UnixStream, access: &Access, service: &Service) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let (reader, mut writer) = stream.into_split();
    if !access.allows(peer.uid()) {
        tracing::warn!(uid = peer.uid(), pid = peer.pid(), "a process of this user may not ask for keys");
        let refusal = Refusal::new(Class::Denied, format!("this key agent does not serve user id {}", peer.uid()));
        return send(&mut writer, about_connection(refusal)).await;
    }
    let mut inbox = Inbox::new(reader);
    while let Some(call) = inbox.next().await? {
        let call = match call {
            Ok(call) => call,
            Err(error) => return send(&mut writer, about_connection(error.into())).await,
        };
        let answer = tokio::select! {
            answer = service.answer(&call) => answer,
            () = inbox.closed() => return Ok(()), // the caller was cancelled
        };
        send(&mut writer, Reply { id: call.id, answer }).await?;
    }
    Ok(())
}

/// Id 0: it is about no call.
fn about_connection(refusal: Refusal) -> Reply {
    Reply { id: 0, answer: Answer::Refused(refusal) }
}

async fn send(writer: &mut OwnedWriteHalf, reply: Reply) -> io::Result<()> {
    let frame = reply.encode().map_err(io::Error::other)?;
    timeout(ANSWER_TIME_MAX, writer.write_all(&frame)).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_names_or_numbers() {
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(Access::of_users(&[] as &[&str]), Ok(Access { uids: vec![own] }));
        assert!(Access::of_users(&["root", "4711"]).is_ok_and(|access| access.allows(0) && access.allows(4711)));
        assert!(Access::of_users(&["no such user"]).unwrap_err().contains("no such user"));
    }

    #[tokio::test]
    async fn only_a_dead_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let bind = || Server::bind(&path, Access::of_uids([0]));
        let first = bind().unwrap();
        assert!(bind().unwrap_err().contains("another process listens"));
        drop(first);
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // leaves its file
        assert!(path.exists());
        drop(bind().unwrap());
        std::fs::write(&path, "").unwrap();
        assert!(bind().unwrap_err().contains("no socket"));
        assert!(path.exists());
    }
}
