//! Makes a message in Slack of each job of AWX that fails. One of all nodes sends it, whether browsers are open or not.
use edgerelay::{config_text, fetch, object, Event, HttpRequest, Verdict};

edgerelay::on_event!(event);

fn event(e: &mut Event) -> Verdict {
    let job = match e.int("unified_job_id") {
        Some(job) if !e.is_replay() && (e.is("status", "failed") || e.is("status", "error")) => job,
        _ => return Verdict::Pass,
    };
    let what = format!("job {} ended: {}", job, e.text("status").unwrap_or_default());
    let site = config_text("site").unwrap_or_default();
    let request = HttpRequest {
        url: &config_text("webhook").unwrap_or_default(),
        header: &[("Content-Type", "application/json")],
        body: &object(&[("text", &format!("{} {}/#/jobs/playbook/{}", what, site, job))]),
        once: &what,
        ..HttpRequest::default()
    };
    match fetch(&request, None) {
        Ok(()) => Verdict::Pass,
        Err(e) => Verdict::Error(e.into()),
    }
}

#[cfg(test)]
mod tests;
