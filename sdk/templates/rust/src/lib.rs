//! Marks events with the status failed and drops all other events with a status.
use edgerelay::{Event, Verdict};

edgerelay::on_event!(filter);

fn filter(e: &mut Event) -> Verdict {
    if e.is("status", "failed") {
        e.insert("\"seen\":true")
    } else if e.has("status") {
        Verdict::Drop
    } else {
        Verdict::Pass
    }
}
