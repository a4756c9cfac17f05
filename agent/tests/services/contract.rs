//! What every provider keeps, whatever is behind it.

use std::time::Duration;

use sealvec_core::keys::{Kek, KeyContext, Uuid};
use sealvec_e2e::kms::{Fault, FaultProxy};
use sealvec_kms::agent::{Class, Refusal, Slot, Wrapped};

use crate::agent::{Agent, context, expect};

/// KEKs come back, and nothing but the right question opens them. `name_len`: bytes in front of a wrapped key that name
/// its key, where a test double takes another name for another key.
pub fn keks_come_back_and_are_bound(agent: &Agent, slot: &Slot, name_len: usize) {
    let context = context();
    let kek = Kek::generate().unwrap();
    let wrapped = agent.wrap(slot, context, &kek).unwrap();
    assert_eq!(wrapped.provider, slot.provider);
    assert!(!wrapped.wrapped.windows(8).any(|part| kek.expose().windows(8).any(|key| key == part)));
    assert!(wrapped.wrapped.len() <= 4_096 && wrapped.key_reference.len() <= 2_048);
    assert_eq!(agent.unwrap(slot, context, &wrapped).unwrap().expose(), kek.expose());

    let (generated, of_generated) = agent.generate(slot, context).unwrap();
    assert_ne!(generated.expose(), kek.expose());
    assert_eq!(agent.unwrap(slot, context, &of_generated).unwrap().expose(), generated.expose());
    agent.check(slot).unwrap();

    for other in
        [KeyContext::kek(Uuid::random().unwrap()), KeyContext::dek(context.ring, 1), KeyContext::id_key(context.ring)]
    {
        expect(agent.unwrap(slot, other, &wrapped), Class::WrongKey, "does not open");
    }
    let len = wrapped.wrapped.len();
    for at in [0, 1, (len - name_len) / 2, len - name_len - 20, len - name_len - 4].map(|at| at + name_len) {
        let mut bad = wrapped.clone();
        bad.wrapped[at] ^= 1;
        expect(agent.unwrap(slot, context, &bad), Class::WrongKey, "does not open");
    }
    for bad in [vec![0], wrapped.wrapped[..len - 1].to_vec(), [&wrapped.wrapped[..], b"AAAA"].concat()] {
        expect(
            agent.unwrap(slot, context, &Wrapped { wrapped: bad, ..wrapped.clone() }),
            Class::WrongKey,
            "does not open",
        );
    }
}

/// What a service in trouble gives, and that it recovers. `fresh` gives a slot that no earlier trouble has touched.
pub fn trouble_is_told_in_time(agent: &Agent, proxy: &FaultProxy, mut fresh: impl FnMut() -> Slot) {
    let context = context();
    let (kek, wrapped) = agent.generate(&fresh(), context).unwrap();
    let mut unwrap = |fault: Option<Fault>, times: Option<u32>| -> Result<Kek, Refusal> {
        match (fault, times) {
            (Some(fault), Some(times)) => proxy.set_times(times, fault),
            (fault, _) => proxy.set(fault),
        }
        let opened = agent.unwrap(&fresh(), context, &wrapped);
        proxy.set(None);
        opened
    };
    for passing in [Fault::Status(429, None), Fault::Status(503, None), Fault::Broken, Fault::Malformed] {
        let opened = unwrap(Some(passing.clone()), Some(2));
        assert_eq!(opened.unwrap_or_else(|refusal| panic!("{passing:?}: {refusal}")).expose(), kek.expose());
    }
    assert!(unwrap(Some(Fault::Slow(Duration::from_millis(1_000))), None).is_ok());
    assert!(unwrap(Some(Fault::Hang), Some(1)).is_ok());
    for (lasting, class) in [
        (Fault::Status(429, None), Class::Throttled),
        (Fault::Status(429, Some(60)), Class::Throttled),
        (Fault::Status(500, None), Class::Unavailable),
        (Fault::Status(503, None), Class::Unavailable),
        (Fault::Status(403, None), Class::Denied),
        (Fault::Hang, Class::Unavailable),
        (Fault::Broken, Class::Unavailable),
        (Fault::Malformed, Class::Unavailable),
        (Fault::Empty, Class::Unavailable),
    ] {
        let refusal = unwrap(Some(lasting.clone()), None).map(drop).unwrap_err();
        assert_eq!(refusal.class, class, "{lasting:?}: {refusal}");
        assert!(!refusal.text.contains("made by a test"), "{refusal}");
    }
    assert!(unwrap(None, None).is_ok());
}

/// That the agent's log holds no secret of these, and no key in any usual form.
pub fn log_holds_none_of(agent: &Agent, secrets: &[&str], keks: &[&Kek]) {
    let log = agent.log();
    assert!(log.contains("key call"), "it logs its calls: {log}");
    for secret in secrets {
        assert!(!log.contains(secret), "the log holds a secret");
    }
    for kek in keks {
        let hex: String = kek.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{:?}", &kek.expose()[..8]);
        let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, kek.expose());
        for form in [&hex[..16], list.trim_matches(['[', ']']), &base64[..16]] {
            assert!(!log.contains(form), "the log holds a KEK");
        }
    }
}
