//! The benchmark's plugin: what passes has failed.
use edgerelay::{Event, Verdict};

edgerelay::on_event!(filter);

fn filter(e: &mut Event) -> Verdict {
    if e.is("status", "failed") { Verdict::Pass } else { Verdict::Drop }
}
