//! Limits the progress events per second and group. The next event that passes tells how many were dropped. If none
//! passes until the next tick, the last of the dropped events is delivered then. All other events, such as failures and
//! the end of a playbook, pass at once.
use edgerelay::{config_int, config_list, emit_at, kv_incr, EmitError, Event, Verdict};
use std::collections::BTreeMap;

edgerelay::on_init!(init);
edgerelay::on_event!(event);
edgerelay::on_tick!(tick);

struct Settings {
    per_second: i64,
    progress: Vec<String>,
}

/// The dropped events of a group since the last one that passed.
struct Dropped {
    count: u64,
    last: String,
    /// Of the last one, in the history of the group; empty if there is none.
    position: String,
}

/// Events that are kept take this many bytes at most. Beyond, events pass.
const KEPT_MAX: usize = 4 << 20;

static mut SETTINGS: Settings = Settings { per_second: 10, progress: Vec::new() };
/// By group: all events of a group are processed by the same instance.
static mut DROPPED: Option<BTreeMap<String, Dropped>> = None;

fn init() -> Result<(), String> {
    let per_second = config_int("per_second").unwrap_or(10);
    if per_second < 1 {
        return Err("config: per_second must be 1 or more".into());
    }
    let mut progress = config_list("progress");
    if progress.is_empty() {
        let usual = ["runner_on_ok", "runner_on_skipped", "runner_on_start", "runner_item_on_ok", "runner_item_on_skipped", "verbose"];
        progress = usual.map(String::from).to_vec();
    }
    // Safe: a single thread, before the first event.
    unsafe {
        SETTINGS = Settings { per_second, progress };
        DROPPED = None;
    }
    Ok(())
}

fn event(e: &mut Event) -> Verdict {
    if e.is_replay() {
        return Verdict::Pass; // has counted when it was live
    }
    let (settings, dropped) = (unsafe { &*std::ptr::addr_of!(SETTINGS) }, dropped());
    let kind = e.text("event").unwrap_or_default();
    // The counter of a second begins with the first event and expires after the second. With a full store, events pass.
    if settings.progress.contains(&kind)
        && kv_incr(&format!("sent:{}", e.group), 1, 1000).map_or(false, |n| n > settings.per_second)
        && dropped.values().map(|d| d.last.len()).sum::<usize>() + e.payload.len() <= KEPT_MAX
    {
        let d = dropped.entry(e.group.to_string()).or_insert(Dropped { count: 0, last: String::new(), position: String::new() });
        d.count += 1;
        d.last = String::from_utf8_lossy(e.payload).into_owned();
        d.position = e.position().unwrap_or_default();
        return Verdict::Drop;
    }
    match dropped.remove(e.group) {
        Some(d) => e.insert(&format!("\"coalesced\":{}", d.count)),
        None => Verdict::Pass,
    }
}

fn dropped() -> &'static mut BTreeMap<String, Dropped> {
    // Safe: a single thread, and one call at a time.
    unsafe { (*std::ptr::addr_of_mut!(DROPPED)).get_or_insert_with(BTreeMap::new) }
}

/// Delivers the last dropped event of each group.
fn tick() -> Result<(), String> {
    let dropped = dropped();
    while let Some((group, d)) = dropped.iter().next() {
        let group = group.clone();
        match emit_at(&group, with_count(&d.last, d.count - 1).as_bytes(), &d.position) {
            Err(EmitError::TooMany) => return Ok(()), // the next tick goes on
            Err(e) => return Err(format!("deliver the last event of {}: {:?}", group, e)),
            Ok(()) => {}
        }
        dropped.remove(&group);
    }
    Ok(())
}

/// Returns an event with the number of other dropped events.
fn with_count(payload: &str, others: u64) -> String {
    match payload.rfind('}') {
        Some(end) if others > 0 => format!("{},\"coalesced\":{}{}", &payload[..end], others, &payload[end..]),
        _ => payload.into(),
    }
}

#[cfg(test)]
mod tests;
