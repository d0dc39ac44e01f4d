use crate::{event, init, tick};
use edgerelay::testing::{Hooks, Host};

/// A host that lets two progress events pass a second.
fn host() -> Host {
    let mut host = Host::new(r#"{"per_second": 2}"#);
    host.grants = Some(["emit", "kv", "tick"].map(String::from).to_vec());
    host.now = Some(1_767_323_045_000);
    host.init(init).unwrap();
    host
}

#[test]
fn samples() {
    let hooks = Hooks { on_event: Some(event), on_tick: Some(tick), ..Hooks::default() };
    host().check(&hooks, "events.ndjson").unwrap_or_else(|e| panic!("{}", e));
}

#[test]
fn a_wrong_setting_is_refused() {
    let error = Host::new(r#"{"per_second": 0}"#).init(init).unwrap_err();
    assert!(error.contains("1 or more"), "{}", error);
}

#[test]
fn each_group_has_its_own_second() {
    let mut host = host();
    for group in ["job_events-1", "job_events-2"] {
        for verdict in ["pass", "pass", "drop", "drop"] {
            assert_eq!(host.event(event, group, r#"{"event":"runner_on_ok"}"#).unwrap().verdict, verdict);
        }
        assert_eq!(host.event(event, group, r#"{"event":"runner_on_failed"}"#).unwrap().verdict, "replace");
    }
    host.advance(1000);
    assert_eq!(host.event(event, "job_events-1", r#"{"event":"runner_on_ok"}"#).unwrap().verdict, "pass");
}

/// With a full store, events pass.
#[test]
fn a_full_store_drops_nothing() {
    let mut host = host();
    host.store_limit = 1;
    for _ in 0..5 {
        assert_eq!(host.event(event, "job_events-1", r#"{"event":"runner_on_ok"}"#).unwrap().verdict, "pass");
    }
}

/// A tick delivers what a call may emit; the next tick goes on.
#[test]
fn ticks_deliver_all_groups() {
    let mut host = host();
    for n in 0..20 {
        for _ in 0..4 {
            host.event(event, &format!("job_events-{}", n), r#"{"event":"verbose"}"#).unwrap();
        }
    }
    for want in [16, 4, 0] {
        assert_eq!(host.tick(tick).unwrap().emitted.len(), want);
    }
}
