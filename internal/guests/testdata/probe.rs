//! The probe, see probe-go.
use edgerelay::*;

on_init!(init);
on_event!(event);
on_class!(class);
on_subscribe!(subscribe);
on_tick!(tick);

fn init() -> Result<(), String> {
    config_text("refuse").map_or(Ok(()), Err)
}

fn say(s: impl ToString) -> Verdict {
    Verdict::Replace(s.to_string().into_bytes())
}

fn yes(b: bool) -> Verdict {
    say(if b { "yes" } else { "no" })
}

fn or_none<T: ToString>(s: Option<T>) -> Verdict {
    s.map_or(say("none"), say)
}

/// Makes the edits that the event's source names, and emits what each of them returns.
fn edit(e: &mut Event) -> Verdict {
    let mut made = String::new();
    for op in e.source().unwrap_or_default().split('\x03') {
        let p: Vec<&str> = op.split('\x02').collect();
        let ok = match p[0] {
            "set" => e.set(p[1], p[2]),
            "set_string" => e.set_string(p[1], p[2]),
            "remove" => e.remove(p[1]),
            "rename" => e.rename(p[1], p[2]),
            _ => false,
        };
        made.push(if ok { '1' } else { '0' });
    }
    let _ = emit("edits-made", made.as_bytes());
    e.edited()
}

fn code(result: Result<(), EmitError>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(EmitError::TooMany) => -1,
        Err(EmitError::TooLong) => -2,
        Err(EmitError::Hops) => -3,
        Err(EmitError::Name) => -4,
        Err(EmitError::Position) => -5,
    }
}

fn event(e: &mut Event) -> Verdict {
    if e.group == "edits" {
        return edit(e);
    }
    let arg = |name| e.text(name).unwrap_or_default();
    match arg("do").as_str() {
        "drop" => Verdict::Drop,
        "error" => Verdict::Error("it was asked for".into()),
        "replace" => say(arg("with")),
        "insert" => e.insert("\"seen\":true"),
        "group" => say(e.group),
        "payload" => Verdict::Replace(e.payload.to_vec()),
        "text" => or_none(e.text(&arg("path"))),
        "is" => yes(e.is(&arg("path"), &arg("want"))),
        "has" => yes(e.has(&arg("path"))),
        "int" => say(e.int(&arg("path")).unwrap_or(-1)),
        "find" => match e.find(&arg("path")) {
            Some(r) => Verdict::Replace(e.payload[r].to_vec()),
            None => say("none"),
        },
        "emit" => say(code(emit(&arg("to"), arg("with").as_bytes()))),
        "emit_at" => say(code(emit_at(&arg("to"), arg("with").as_bytes(), &arg("at")))),
        "emit_for" => {
            let _ = emit_for("", b"{}", 2);
            Verdict::Pass
        }
        "audience" => {
            audience(6);
            audience(12);
            Verdict::Pass
        }
        "count" => yes(count(&arg("name"), 2)),
        "kv_set" => yes(kv_set(&arg("key"), &arg("value"), 1000)),
        "kv_get" => or_none(kv_get(&arg("key"))),
        "kv_incr" => or_none(kv_incr(&arg("key"), 3, 1000)),
        "now" => say(now()),
        "source" => or_none(e.source()),
        "position" => or_none(e.position()),
        "replay" => yes(e.is_replay()),
        "sent" => say(e.sent().unwrap_or(-1)),
        "config" => say(config()),
        "config_text" => or_none(config_text(&arg("path"))),
        "config_int" => say(config_int(&arg("path")).unwrap_or(-1)),
        "config_list" => say(config_list(&arg("path")).join(",")),
        _ => Verdict::Pass,
    }
}

/// Emits what the store holds for ticks to the group ticks, and fails if it is "error".
fn tick() -> Result<(), String> {
    let text = match kv_get("tick") {
        None => return Ok(()),
        Some(text) if text == "error" => return Err("it was asked for".into()),
        Some(text) => text,
    };
    audience(4);
    if emit("", text.as_bytes()) != Err(EmitError::Name) {
        return Err("a tick has no group".into());
    }
    emit("ticks", text.as_bytes()).map_err(|_| "refused".into())
}

fn class(class: u8, e: &mut Event) -> Verdict {
    match class {
        1 => Verdict::Drop,
        2 => say(e.group),
        _ => Verdict::Pass,
    }
}

fn subscribe(r: &Request) -> Answer {
    match r.text("user.do").unwrap_or_default().as_str() {
        "deny" => Answer::Deny,
        "reason" => Answer::DenyBecause("not yours".into()),
        "class" => Answer::AllowAs(5),
        _ => Answer::Allow,
    }
}

/// The samples that TestFakeHosts recorded on the real host: SAMPLES names the file, CONFIG is the configuration.
#[test]
fn samples() {
    use edgerelay::testing::{Hooks, Host};
    let var = |name| std::env::var(name).unwrap_or_default();
    let mut host = Host::new(&var("CONFIG"));
    host.now = Some(1_767_323_045_000);
    host.init(init).unwrap();
    let hooks = Hooks { on_event: Some(event), on_class: Some(class), on_subscribe: Some(subscribe), on_tick: Some(tick), ..Hooks::NONE };
    host.check(&hooks, var("SAMPLES")).unwrap_or_else(|e| panic!("{}", e));
}
