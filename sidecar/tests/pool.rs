//! The pool against a server that speaks just enough of Postgres' protocol to hang, die and be cancelled at will.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sealvec_sidecar::db::{DbError, Pool, PoolSettings};
use sealvec_sidecar::error::{ApiError, Call};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const CANCEL: i32 = 80_877_102;
const STARTUP: i32 = 196_608;

/// Statements: `SELECT 1` answers a row, `HANG` waits until it is cancelled, `DIE` ends the connection, `RETYPE`
/// fails as a statement that was prepared before the extension was made anew.
#[derive(Default)]
struct Fake {
    connections: AtomicI32,
    prepared: AtomicUsize,
    hanging: Mutex<HashMap<i32, Arc<Notify>>>,
    cancelled: AtomicUsize,
    startup: Mutex<Vec<u8>>,
}

async fn start() -> (Arc<Fake>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let fake = Arc::new(Fake::default());
    let served = Arc::clone(&fake);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let fake = Arc::clone(&served);
            tokio::spawn(async move {
                let _ = fake.serve(socket).await;
            });
        }
    });
    (fake, port)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as i32 + 4).to_be_bytes(), body].concat()
}

fn error(sqlstate: &str, routine: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{sqlstate}\0Mno\0R{routine}\0\0").as_bytes())
}

impl Fake {
    async fn serve(&self, mut socket: TcpStream) -> std::io::Result<()> {
        let length = socket.read_i32().await?;
        let kind = socket.read_i32().await?;
        let mut body = vec![0; length as usize - 8];
        socket.read_exact(&mut body).await?;
        if kind == CANCEL {
            let number = i32::from_be_bytes(body[..4].try_into().unwrap());
            self.cancelled.fetch_add(1, Ordering::SeqCst);
            if let Some(hanging) = self.hanging.lock().unwrap().get(&number) {
                hanging.notify_one();
            }
            return Ok(());
        }
        assert_eq!(kind, STARTUP);
        *self.startup.lock().unwrap() = body;
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        let key = [number.to_be_bytes(), [0; 4]].concat();
        let ready = message(b'Z', b"I");
        socket.write_all(&[message(b'R', &[0; 4]), message(b'K', &key), ready.clone()].concat()).await?;

        let (mut statements, mut bound) = (HashMap::new(), String::new());
        let mut answer = Vec::new();
        loop {
            let kind = socket.read_u8().await?;
            let mut body = vec![0; socket.read_i32().await? as usize - 4];
            socket.read_exact(&mut body).await?;
            let texts: Vec<String> =
                body.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
            match kind {
                b'P' => {
                    self.prepared.fetch_add(1, Ordering::SeqCst);
                    statements.insert(texts[0].clone(), texts[1].clone());
                    answer.extend(message(b'1', &[]));
                }
                b'D' => {
                    let int4 = [
                        &[0, 1, b'n', 0, 0, 0, 0, 0, 0, 0][..],
                        &23i32.to_be_bytes(),
                        &[0, 4, 255, 255, 255, 255, 0, 0],
                    ];
                    answer.extend([message(b't', &[0, 0]), message(b'T', &int4.concat())].concat());
                }
                b'B' => {
                    bound = statements[&texts[1]].clone();
                    answer.extend(message(b'2', &[]));
                }
                b'E' => match bound.as_str() {
                    "DIE" => return Ok(()),
                    "RETYPE" => answer.extend(error("0A000", "RevalidateCachedQuery")),
                    "HANG" => {
                        let hanging = Arc::new(Notify::new());
                        self.hanging.lock().unwrap().insert(number, Arc::clone(&hanging));
                        hanging.notified().await;
                        answer.extend(error("57014", "ProcessInterrupts"));
                    }
                    _ => answer.extend(
                        [message(b'D', &[0, 1, 0, 0, 0, 4, 0, 0, 0, 1]), message(b'C', b"SELECT 1\0")].concat(),
                    ),
                },
                b'C' => answer.extend(message(b'3', &[])),
                b'S' => {
                    answer.extend(&ready);
                    socket.write_all(&std::mem::take(&mut answer)).await?;
                }
                _ => return Ok(()),
            }
        }
    }
}

fn pool(port: u16, connections_max: usize) -> Pool {
    let settings = PoolSettings { connections_max, wait_max: Duration::from_millis(100), ..PoolSettings::default() };
    Pool::new(format!("postgres://u@127.0.0.1:{port}/db").parse().unwrap(), None, &settings)
}

fn explain(error: DbError) -> ApiError {
    ApiError::from_sql(&Call { label: "Failed to query", index: "a", by_user: false, with_key: true })(error)
}

async fn select(pool: &Pool) -> i32 {
    pool.query_one("SELECT 1", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_statement_is_prepared_once_per_connection() {
    let (fake, port) = start().await;
    let pool = pool(port, 4);
    for _ in 0..5 {
        assert_eq!(select(&pool).await, 1);
    }
    assert_eq!((fake.connections.load(Ordering::SeqCst), fake.prepared.load(Ordering::SeqCst)), (1, 1));
    let startup = String::from_utf8_lossy(&fake.startup.lock().unwrap()).into_owned();
    assert!(startup.contains("application_name\0sealvec-sidecar\0"), "{startup:?}");
    assert!(startup.contains("statement_timeout=3600000") && !startup.contains("sealvec."), "{startup:?}");
}

/// A backend that has just served has keys derived and directories opened; another would do it again.
#[tokio::test]
async fn the_warmest_connection_is_lent_first() {
    let (fake, port) = start().await;
    let pool = pool(port, 4);
    let lent = (pool.get().await.unwrap(), pool.get().await.unwrap(), pool.get().await.unwrap());
    drop(lent);
    for _ in 0..5 {
        select(&pool).await;
    }
    assert_eq!((fake.connections.load(Ordering::SeqCst), fake.prepared.load(Ordering::SeqCst)), (3, 1));
}

#[tokio::test]
async fn an_exhausted_pool_says_come_back() {
    let (_fake, port) = start().await;
    let pool = pool(port, 2);
    let lent = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let begun = Instant::now();
    let error = explain(pool.get().await.err().unwrap());
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!((error.status.as_u16(), error.retry_after.is_some()), (503, true));
    drop(lent);
    assert_eq!(select(&pool).await, 1);
}

#[tokio::test]
async fn a_caller_who_leaves_cancels_his_statement() {
    let (fake, port) = start().await;
    let pool = pool(port, 1);
    let left = tokio::time::timeout(Duration::from_millis(100), pool.query("HANG", &[])).await;
    assert!(left.is_err());
    // The only place of the pool is free at once, with another connection: the old one is still busy.
    assert_eq!(select(&pool).await, 1);
    assert_eq!(fake.connections.load(Ordering::SeqCst), 2);
    for _ in 0..100 {
        if fake.cancelled.load(Ordering::SeqCst) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the statement was not cancelled");
}

#[tokio::test]
async fn a_broken_connection_is_not_lent_again() {
    let (fake, port) = start().await;
    let pool = pool(port, 1);
    let error = explain(pool.query("DIE", &[]).await.unwrap_err());
    assert_eq!((error.status.as_u16(), error.retry_after.is_some()), (503, true));
    assert_eq!(select(&pool).await, 1);
    assert_eq!(fake.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_that_prepared_for_another_extension_is_not_lent_again() {
    let (fake, port) = start().await;
    let pool = pool(port, 1);
    assert_eq!(explain(pool.query("RETYPE", &[]).await.unwrap_err()).status, 503);
    assert_eq!(select(&pool).await, 1);
    assert_eq!(fake.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn no_database_is_503() {
    let pool = pool(1, 1);
    let error = explain(pool.query("SELECT 1", &[]).await.unwrap_err());
    assert_eq!((error.status.as_u16(), error.retry_after.is_some()), (503, true));
}
