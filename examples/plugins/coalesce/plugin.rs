//! Limits the progress events per second and group. The next event that passes tells how many were dropped. All other
//! events, such as failures and the end of a playbook, pass at once.
use edgerelay::{config_int, config_list, kv_get, kv_incr, kv_set, Event, Verdict};

edgerelay::on_init!(init);
edgerelay::on_event!(event);

struct Settings {
    per_second: i64,
    progress: Vec<String>,
}

static mut SETTINGS: Settings = Settings { per_second: 10, progress: Vec::new() };

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
    unsafe { SETTINGS = Settings { per_second, progress } };
    Ok(())
}

fn event(e: &mut Event) -> Verdict {
    let settings = unsafe { &*std::ptr::addr_of!(SETTINGS) };
    let kind = e.text("event").unwrap_or_default();
    let left_out = format!("left_out:{}", e.group);
    // The counter of a second begins with the first event and expires after the second. With a full store, events pass.
    if settings.progress.contains(&kind)
        && kv_incr(&format!("sent:{}", e.group), 1, 1000).map_or(false, |n| n > settings.per_second)
        && kv_incr(&left_out, 1, 60_000).is_some()
    {
        return Verdict::Drop;
    }
    match kv_get(&left_out) {
        Some(n) => {
            kv_set(&left_out, "", 0);
            e.insert(&format!("\"coalesced\":{n}"))
        }
        None => Verdict::Pass,
    }
}

#[cfg(test)]
mod tests;
