//! The benchmark's plugin for edits, see edit-go.
use edgerelay::{Event, Verdict};

edgerelay::on_event!(edit);

fn edit(e: &mut Event) -> Verdict {
    e.set_string("status", "canceled");
    if e.group == "three" {
        e.remove("uuid");
        e.rename("event", "kind");
    }
    e.edited()
}
