//! Drops uninteresting events: in a large inventory, most events of a job report that a host needs no change.
use edgerelay::{config_list, config_text, Event, Verdict};

edgerelay::on_init!(init);
edgerelay::on_event!(event);

/// The kinds of events to drop, and whether events with a change are kept.
struct Settings {
    events: Vec<String>,
    keep_changed: bool,
}

static mut SETTINGS: Settings = Settings { events: Vec::new(), keep_changed: true };

fn init() -> Result<(), String> {
    let mut events = config_list("events");
    if events.is_empty() {
        events = ["runner_on_ok", "runner_on_skipped", "runner_on_start"].map(String::from).to_vec();
    }
    let keep_changed = match config_text("keep_changed").as_deref() {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => return Err(format!("config: keep_changed is {other}: use true or false")),
    };
    // Safe: a single thread, before the first event.
    unsafe { SETTINGS = Settings { events, keep_changed } };
    Ok(())
}

fn event(e: &mut Event) -> Verdict {
    let settings = unsafe { &*std::ptr::addr_of!(SETTINGS) };
    match e.text("event") {
        Some(kind) if settings.events.contains(&kind) && !(settings.keep_changed && e.is("changed", "true")) => Verdict::Drop,
        _ => Verdict::Pass,
    }
}

#[cfg(test)]
mod tests;
