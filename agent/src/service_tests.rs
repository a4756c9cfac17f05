//! The service over a provider that does as it is told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// What the service does to the next request; none: it wraps with XOR.
enum Turn {
    Refuse(Class),
    Hang,
    Lie,
}

#[derive(Default)]
struct Script {
    turns: Mutex<VecDeque<Turn>>,
    asked: AtomicU32,
    rewrapped: AtomicU32,
}

struct Scripted(Arc<Script>);

impl Script {
    fn then(&self, turns: impl IntoIterator<Item = Turn>) {
        self.turns.lock().unwrap().extend(turns);
    }

    fn asked(&self) -> u32 {
        self.asked.swap(0, Ordering::SeqCst)
    }

    async fn turn(&self) -> Result<bool> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let turn = self.turns.lock().unwrap().pop_front();
        match turn {
            None => Ok(false),
            Some(Turn::Lie) => Ok(true),
            Some(Turn::Refuse(class)) => Err(Refusal::new(class, "scripted")),
            Some(Turn::Hang) => std::future::pending().await,
        }
    }
}

fn xor(bytes: &[u8], context: &KeyContext) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ context.ring.as_bytes()[0]).collect()
}

impl Provider for Scripted {
    fn wrap<'a>(&'a self, context: &'a KeyContext, kek: &'a Kek) -> Later<'a, WrappedKey> {
        Box::pin(async {
            let lie = self.0.turn().await?;
            let wrapped = if lie { vec![1; 32] } else { xor(kek.expose(), context) };
            Ok(WrappedKey { key_reference: "key".into(), wrapped })
        })
    }

    fn unwrap<'a>(&'a self, context: &'a KeyContext, _: &'a str, wrapped: &'a [u8]) -> Later<'a, Kek> {
        Box::pin(async {
            self.0.turn().await?;
            Ok(Kek::from_slice(&xor(wrapped, context)).unwrap())
        })
    }

    fn realm(&self) -> Option<String> {
        Some("one".into())
    }

    fn rewrap<'a>(&'a self, _: &'a KeyContext, _: &'a str, wrapped: &'a [u8]) -> Later<'a, WrappedKey> {
        Box::pin(async {
            self.0.rewrapped.fetch_add(1, Ordering::SeqCst);
            Ok(WrappedKey { key_reference: "new".into(), wrapped: wrapped.to_vec() })
        })
    }
}

fn service(limits: Limits) -> (Arc<Script>, Arc<Service>) {
    let script = Arc::new(Script::default());
    let inside = Arc::clone(&script);
    let opener: Opener = Box::new(move |_, settings| match settings.provider {
        ProviderName::Local => open(&Registry::default(), settings),
        _ => Ok(Box::new(Scripted(Arc::clone(&inside)))),
    });
    (script, Arc::new(Service::with_opener(Registry::default(), limits, opener)))
}

fn slot(name: &str) -> Slot {
    Slot { name: name.into(), provider: "vault".into(), options: "{}".into() }
}

fn context(ring: u8) -> KeyContext {
    KeyContext::kek(Uuid::from_bytes([ring; 16]))
}

async fn ask(service: &Service, request: Request) -> Answer {
    service.answer(&Call { id: 1, time_max: Duration::from_secs(5), request }).await
}

fn unwrap_request(ring: u8) -> Request {
    Request::Unwrap { slot: slot("s"), context: context(ring), key_reference: "key".into(), wrapped: vec![7; 32] }
}

fn refusal(answer: Answer) -> Refusal {
    match answer {
        Answer::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_kek_is_fetched_once_a_minute_however_many_ask() {
    let (script, service) = service(Limits::default());
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let service = Arc::clone(&service);
            tokio::spawn(async move { ask(&service, unwrap_request(1)).await })
        })
        .collect();
    for task in asking {
        assert!(matches!(task.await.unwrap(), Answer::Key(kek) if kek.expose() == &[6; 32]));
    }
    assert_eq!(script.asked(), 1);
    ask(&service, unwrap_request(2)).await;
    assert_eq!(script.asked(), 1);
    tokio::time::advance(Duration::from_secs(61)).await;
    service.sweep();
    assert!(service.cache.is_empty());
    ask(&service, unwrap_request(1)).await;
    assert_eq!(script.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn failures_are_not_kept() {
    let (script, service) = service(Limits::default());
    script.then([Turn::Refuse(Class::Denied)]);
    let refused = refusal(ask(&service, unwrap_request(1)).await);
    assert_eq!((refused.class, refused.text.as_str()), (Class::Denied, "key slot \"s\" (vault): scripted"));
    assert!(matches!(ask(&service, unwrap_request(1)).await, Answer::Key(_)));
    assert_eq!(script.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_followed_by_another_try_within_the_callers_time() {
    let (script, service) = service(Limits::default());
    script.then([Turn::Hang]);
    let begun = Instant::now();
    assert!(matches!(ask(&service, unwrap_request(1)).await, Answer::Key(_)));
    assert!(begun.elapsed() < Duration::from_secs(4) && script.asked() == 2);
    script.then((0..20).map(|_| Turn::Hang));
    let begun = Instant::now();
    let refused = refusal(ask(&service, unwrap_request(2)).await);
    assert_eq!(refused.class, Class::Unavailable);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_dead_service_is_told_at_once_after_a_while_and_comes_back() {
    let (script, service) = service(Limits::default());
    script.then((0..100).map(|_| Turn::Refuse(Class::Unavailable)));
    refusal(ask(&service, unwrap_request(1)).await);
    script.asked();
    let begun = Instant::now();
    let refused = refusal(ask(&service, unwrap_request(1)).await);
    assert!(refused.text.contains("left alone") && refused.retry_after.is_some(), "{refused}");
    assert!(begun.elapsed() < Duration::from_millis(10) && script.asked() == 0);
    // Another slot has a breaker of its own.
    script.turns.lock().unwrap().clear();
    let other = Request::Check { slot: slot("t") };
    assert!(matches!(ask(&service, other).await, Answer::Ok));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(matches!(ask(&service, unwrap_request(1)).await, Answer::Key(_)));
}

#[tokio::test(start_paused = true)]
async fn a_caller_in_a_hurry_does_not_shut_the_others_out() {
    let (script, service) = service(Limits::default());
    let hurry = |time_max| {
        let call = Call { id: 1, time_max: Duration::from_millis(time_max), request: unwrap_request(1) };
        let service = &service;
        async move { refusal(service.answer(&call).await) }
    };
    for time_max in [1, 4, 20, 100, 1_800] {
        script.then((0..100).map(|_| Turn::Hang));
        for _ in 0..10 {
            let refused = hurry(time_max).await;
            assert!(refused.class == Class::Unavailable && !refused.text.contains("left alone"), "{refused}");
        }
        script.turns.lock().unwrap().clear();
        assert!(matches!(ask(&service, Request::Check { slot: slot("s") }).await, Answer::Ok), "{time_max}");
    }
    // Nor does one keep it open: his probe is none.
    script.then((0..100).map(|_| Turn::Refuse(Class::Unavailable)));
    refusal(ask(&service, unwrap_request(1)).await);
    script.turns.lock().unwrap().clear();
    tokio::time::advance(Duration::from_secs(2)).await;
    script.then([Turn::Hang]);
    hurry(20).await;
    script.turns.lock().unwrap().clear();
    assert!(matches!(ask(&service, unwrap_request(1)).await, Answer::Key(_)));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_is_left_alone_too() {
    let (script, service) = service(Limits::default());
    script.then((0..100).map(|_| Turn::Hang));
    for _ in 0..5 {
        refusal(ask(&service, unwrap_request(1)).await);
    }
    script.asked();
    assert!(refusal(ask(&service, unwrap_request(1)).await).text.contains("left alone"));
    assert_eq!(script.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wrapped_key_is_proved_before_it_is_given() {
    let (script, service) = service(Limits::default());
    let kek = || Kek::from_slice(&[9; 32]).unwrap();
    let wrap = || Request::Wrap { slot: slot("s"), context: context(1), kek: kek() };
    assert!(matches!(ask(&service, wrap()).await, Answer::Wrapped(wrapped) if wrapped.provider == "vault"));
    for request in
        [wrap(), Request::Generate { slot: slot("s"), context: context(1) }, Request::Check { slot: slot("s") }]
    {
        script.then([Turn::Lie]);
        let refused = refusal(ask(&service, request).await);
        assert!(refused.text.contains("unwraps to another"), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_move_inside_the_service_where_they_can() {
    let (script, service) = service(Limits::default());
    let rewrap = |to: Slot| Request::Rewrap {
        from: slot("s"),
        to,
        context: context(1),
        key_reference: "key".into(),
        wrapped: vec![7; 32],
    };
    assert!(matches!(ask(&service, rewrap(slot("t"))).await, Answer::Wrapped(moved) if moved.key_reference == "new"));
    assert_eq!((script.rewrapped.load(Ordering::SeqCst), script.asked()), (1, 0));
    let elsewhere = Slot { provider: "pkcs11".into(), ..slot("u") };
    assert!(matches!(ask(&service, rewrap(elsewhere)).await, Answer::Wrapped(moved) if moved.provider == "pkcs11"));
    assert_eq!((script.rewrapped.load(Ordering::SeqCst), script.asked()), (1, 3)); // unwrap, wrap, proof
}

#[tokio::test(start_paused = true)]
async fn the_cache_and_breakers_belong_to_one_meaning_of_a_slot() {
    let (script, service) = service(Limits::default());
    ask(&service, unwrap_request(1)).await;
    let mut altered = slot("s");
    altered.options = r#"{"key": "other"}"#.into();
    let request =
        Request::Unwrap { slot: altered, context: context(1), key_reference: "key".into(), wrapped: vec![7; 32] };
    ask(&service, request).await;
    assert_eq!(script.asked(), 2);
    for n in 0..SLOTS_MAX + 10 {
        service.reach(&slot(&n.to_string())).unwrap();
    }
    assert_eq!(service.slots().len(), SLOTS_MAX);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_agents_is_misconfigured() {
    let (_, service) = service(Limits::default());
    for (provider, expected) in [("local", "database server's own"), ("gcp", "does not know")] {
        let refused =
            refusal(ask(&service, Request::Check { slot: Slot { provider: provider.into(), ..slot("a\nb\"") } }).await);
        assert_eq!(refused.class, Class::Misconfigured);
        assert!(!refused.text.contains('\n'), "{refused}");
        let refused =
            refusal(ask(&service, Request::Check { slot: Slot { provider: provider.into(), ..slot("s") } }).await);
        assert!(refused.text.contains(expected), "{refused}");
    }
}
