use crate::event;
use edgerelay::testing::{Hooks, Host};
use std::sync::{Arc, Mutex};

const CONFIG: &str = r#"{"webhook": "https://hooks.slack.com/services/x", "site": "https://awx.example.com"}"#;

#[test]
fn samples() {
    let mut host = Host::new(CONFIG);
    host.check(&Hooks { on_event: Some(event), ..Hooks::default() }, "events.ndjson").unwrap_or_else(|e| panic!("{}", e));
}

/// A failed job is one request, which names the job for all nodes; a replay and any other event are none.
#[test]
fn alerts() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = sent.clone();
    let mut host = Host::new(CONFIG);
    host.fetch = Some(Box::new(move |r| {
        log.lock().unwrap().push(r.clone());
        (200, String::new())
    }));
    for (payload, source, want) in [
        (r#"{"status":"failed","unified_job_id":7}"#, "layer", 1),
        (r#"{"status":"failed","unified_job_id":7}"#, "history", 0),
        (r#"{"status":"error","unified_job_id":8}"#, "peer", 1),
        (r#"{"status":"running","unified_job_id":7}"#, "layer", 0),
        (r#"{"status":"failed"}"#, "layer", 0),
    ] {
        sent.lock().unwrap().clear();
        host.source = source.into();
        assert_eq!(host.event(event, "jobs-status_changed", payload).unwrap().verdict, "pass", "{}", payload);
        let list = sent.lock().unwrap();
        assert_eq!(list.len(), want, "{} from {}", payload, source);
        if payload.contains("7") && want == 1 {
            let r = &list[0];
            assert_eq!((&r.method[..], &r.url[..]), ("POST", "https://hooks.slack.com/services/x"));
            assert_eq!(r.body, r#"{"text":"job 7 ended: failed https://awx.example.com/#/jobs/playbook/7"}"#);
            assert_eq!(r.once, "job 7 ended: failed");
        }
    }
}
