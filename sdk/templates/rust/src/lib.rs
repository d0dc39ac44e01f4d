//! Marks events with the status failed and drops all other events with a status.
use edgerelay::{Event, Verdict};

edgerelay::manifest!(include_str!("../manifest.json"));
edgerelay::on_event!(filter);

fn filter(e: &mut Event) -> Verdict {
    if e.is("status", "failed") {
        e.set("seen", "true");
        e.edited()
    } else if e.has("status") {
        Verdict::Drop
    } else {
        Verdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::filter;
    use edgerelay::testing::{Hooks, Host};

    /// Runs the golden samples, without WebAssembly.
    #[test]
    fn samples() {
        let hooks = Hooks { on_event: Some(filter), ..Hooks::default() };
        Host::new("null").check(&hooks, "events.ndjson").unwrap_or_else(|e| panic!("{}", e));
    }

    #[test]
    fn failures_are_marked() {
        let outcome = Host::new("null").event(filter, "jobs-status_changed", r#"{"status": "failed"}"#).unwrap();
        assert_eq!(outcome.payload, r#"{"status": "failed","seen":true}"#);
    }
}
