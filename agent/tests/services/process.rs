//! The socket and the process: who may ask, what a lost connection and a killed agent do.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use sealvec_e2e::eventually;
use sealvec_e2e::kms::{Fault, FaultProxy, Vault};
use sealvec_kms::agent::{Answer, Class, Request, Slot};
use serde_json::json;

use crate::agent::{Agent, How, PLAIN, TIME_MAX, context, expect, refused, slot};

struct Setting {
    vault: Vault,
    proxy: FaultProxy,
    agent: Agent,
}

impl Setting {
    fn new(how: How) -> Self {
        let vault = Vault::start();
        vault.create_key("k");
        let token = vault.create_token("k", &["encrypt", "decrypt"]);
        let proxy = FaultProxy::start(vault.address());
        let credential = json!({"address": proxy.url(), "token_env": "TOKEN"});
        let registered = json!({"provider": "vault", "key": "k", "mount": vault.mount(), "credentials": "v"});
        let kms = json!({"credentials": {"v": credential}, "registry": {"registered": registered}});
        let agent = Agent::start_as(kms, &[("TOKEN", token)], how);
        Self { vault, proxy, agent }
    }

    fn slot(&self) -> Slot {
        slot("s", "vault", json!({"key": "k", "mount": self.vault.mount(), "credentials": "v"}))
    }
}

#[test]
fn a_killed_agent_comes_back_on_its_socket() {
    let mut setting = Setting::new(PLAIN);
    let (slot, context) = (setting.slot(), context());
    let (kek, wrapped) = setting.agent.generate(&slot, context).unwrap();
    let mut connection = setting.agent.connect();
    setting.agent.kill();
    assert!(connection.call(TIME_MAX, Request::Check { slot: slot.clone() }).is_err(), "the connection ends");
    assert!(UnixStream::connect(setting.agent.socket()).is_err(), "nobody listens");
    setting.agent.start_again();
    assert_eq!(setting.agent.unwrap(&slot, context, &wrapped).unwrap().expose(), kek.expose());
}

#[test]
fn a_process_of_another_user_gets_nothing() {
    let setting = Setting::new(How { uids: Some(4_711), ..PLAIN });
    let mut connection = setting.agent.connect();
    let reply = connection.receive().unwrap(); // before it asks anything
    assert_eq!(reply.id, 0);
    expect(Err::<(), _>(refused(reply.answer)), Class::Denied, "does not serve user id");
    assert!(connection.receive().is_err(), "and the connection is closed");
    assert!(setting.proxy.take_seen().is_empty());
    assert!(setting.agent.log().contains("may not ask for keys"));
}

#[test]
fn a_cancelled_call_is_given_up_and_holds_nobody_up() {
    let setting = Setting::new(PLAIN);
    setting.proxy.set_times(1, Fault::Hang);
    let mut cancelled = setting.agent.connect();
    cancelled.send(Duration::from_secs(60), Request::Check { slot: setting.slot() }).unwrap();
    eventually("it is asked", 10, || (!setting.proxy.take_seen().is_empty()).then_some(()));
    let begun = Instant::now();
    setting.agent.check(&setting.slot()).unwrap();
    drop(cancelled);
    setting.agent.check(&setting.slot()).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(!setting.agent.log().contains("did not answer"), "nobody is told of what nobody waits for");
}

#[test]
fn many_calls_share_a_connection_and_many_connections_the_agent() {
    let setting = Setting::new(PLAIN);
    let mut connection = setting.agent.connect();
    for _ in 0..5 {
        assert!(matches!(connection.call(TIME_MAX, Request::Check { slot: setting.slot() }).unwrap(), Answer::Ok));
    }
    setting.proxy.set(Some(Fault::Slow(Duration::from_millis(300))));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| setting.agent.check(&setting.slot()).unwrap());
        }
    });
    assert!(begun.elapsed() < TIME_MAX, "one after the other they would take 12 s");
}

#[test]
fn what_is_no_frame_ends_the_connection_and_nothing_else() {
    let setting = Setting::new(PLAIN);
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[255; 14], &[10, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let mut connection = setting.agent.connect();
        connection.send_raw(bytes).unwrap();
        let reply = connection.receive().unwrap();
        assert_eq!((reply.id, refused(reply.answer).class), (0, Class::Protocol));
        assert!(connection.receive().is_err());
    }
    setting.agent.check(&setting.slot()).unwrap();
}

#[test]
fn a_cached_kek_outlives_its_token_by_no_more_than_its_age() {
    let setting = Setting::new(How { cache: Duration::from_secs(2), ..PLAIN });
    let (slot, context) = (setting.slot(), context());
    let (kek, wrapped) = setting.agent.generate(&slot, context).unwrap();
    setting.agent.unwrap(&slot, context, &wrapped).unwrap();
    setting.proxy.set(Some(Fault::Status(403, None)));
    let begun = Instant::now();
    assert_eq!(setting.agent.unwrap(&slot, context, &wrapped).unwrap().expose(), kek.expose());
    eventually("the key is asked for again", 10, || setting.agent.unwrap(&slot, context, &wrapped).err());
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn the_operators_registry_wins_over_sql() {
    let setting = Setting::new(PLAIN);
    setting.agent.check(&slot("registered", "aws-kms", json!({"key_id": "of SQL"}))).unwrap();
    expect(
        setting.agent.check(&slot("other", "gcp", json!({}))),
        Class::Misconfigured,
        "does not know the slot's provider",
    );
    expect(setting.agent.check(&slot("other", "local", json!({}))), Class::Misconfigured, "database server's own");
}
