use crate::{event, init};
use edgerelay::testing::{Hooks, Host};

#[test]
fn samples() {
    let mut host = Host::new("null");
    host.init(init).unwrap();
    host.check(&Hooks { on_event: Some(event), ..Hooks::default() }, "events.ndjson").unwrap_or_else(|e| panic!("{}", e));
}

#[test]
fn settings() {
    let mut host = Host::new(r#"{"events": ["verbose"], "keep_changed": false}"#);
    host.init(init).unwrap();
    for (payload, verdict) in [
        (r#"{"event":"verbose"}"#, "drop"),
        (r#"{"event":"verbose","changed":true}"#, "drop"),
        (r#"{"event":"runner_on_ok"}"#, "pass"),
        ("no JSON", "pass"),
    ] {
        assert_eq!(host.event(event, "job_events-1", payload).unwrap().verdict, verdict, "{}", payload);
    }
}

#[test]
fn changes_are_kept_by_default() {
    let mut host = Host::new(r#"{"events": ["verbose"]}"#);
    host.init(init).unwrap();
    assert_eq!(host.event(event, "g", r#"{"event":"verbose","changed":true}"#).unwrap().verdict, "pass");
    assert_eq!(host.event(event, "g", r#"{"event":"verbose","changed":false}"#).unwrap().verdict, "drop");
}

#[test]
fn a_wrong_setting_is_refused() {
    let error = Host::new(r#"{"keep_changed": 1}"#).init(init).unwrap_err();
    assert!(error.contains("use true or false"), "{}", error);
}
