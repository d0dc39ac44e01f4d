//! Conversations with a function, through the test host.
use crate::testing::{Handshake, Hooks, Host, PendingAlarm};
use crate::*;
use std::string::String;

crate::function! {
    on_init: setup,
    on_connect: connect,
    on_message: message,
    on_close: closed,
    on_result: RESULTS,
    on_alarm: alarm,
}

const RESULTS: Results = &[("visited", visited), ("answered", answered)];

fn setup() -> Result<(), String> {
    Ok(auto_response("ping", "pong")?)
}

fn connect(c: &Connect) -> Admission {
    if c.user("username").is_empty() {
        return Admission::RejectBecause("anonymous".into());
    }
    if c.query("v") == "a b" {
        return Admission::RejectWith(426);
    }
    let room = ["game-", &c.param("room")].concat();
    Admission::if_ok(shared::add(&["visits:", &room].concat(), 1, 0, then("visited", &room)).and_then(|()| {
        c.set_attachment(&object(&[("room", &room), ("name", &c.user("username"))]))?;
        c.join(&room)
    }))
}

fn message(c: &Client, m: &mut Message) -> Result<(), String> {
    let room = c.attachment_text("room");
    match m.as_str() {
        "quit" => c.close(3000, "bye")?,
        "fail" => {
            c.send("void")?;
            return Err("no".into());
        }
        "echo" => {
            m.reply("echo");
            c.send("first")?;
        }
        "remind" => alarms::after("remind", &room, 5000, None)?,
        "ask" => fetch(
            &HttpRequest { url: "https://example.org/", body: "?", once: "asked", ..HttpRequest::default() },
            then("answered", ""),
        )?,
        "lost" => shared::get("x", then("nowhere", ""))?,
        text => c.publish_others(&room, &object(&[("from", &c.attachment_text("name")), ("text", text)]))?,
    }
    Ok(())
}

fn closed(c: &Client, _: &Closing) -> Result<(), String> {
    Ok(publish(&c.attachment_text("room"), &[&c.attachment_text("name"), " left"].concat())?)
}

fn visited(c: &Client, r: &Response) -> Result<(), String> {
    Ok(c.send(&[r.context, " ", r.as_str()].concat())?)
}

fn answered(c: &Client, r: &Response) -> Result<(), String> {
    match r.err() {
        Ok(()) => c.send(r.as_str())?,
        Err(e) => c.send(&String::from(e))?,
    }
    Ok(())
}

fn alarm(a: &Alarm) -> Result<(), String> {
    if a.as_str() == "broken" {
        return Err("broken".into());
    }
    Ok(publish(a.as_str(), a.name)?)
}

const ALICE: Handshake = visitor("{\"username\":\"alice\"}");
const BOB: Handshake = visitor("{\"username\":\"bob\"}");

const fn visitor(user: &str) -> Handshake<'_> {
    Handshake {
        path: "",
        query: "",
        params: &[("room", "7")],
        user,
        user_key: "",
        user_name: "Ann",
        address: "",
        headers: &[],
        subprotocols: &[],
    }
}

#[test]
fn conversation() {
    let mut host = Host::new("null").function(HOOKS);
    let (alice, bob) = (host.connect(&ALICE), host.connect(&BOB));
    assert_eq!(host.client(alice).error, None);
    assert_eq!(host.received(alice), ["game-7 1"]);
    assert_eq!(host.received(bob), ["game-7 2"]);

    host.text(alice, "hi").unwrap();
    assert!(host.received(alice).is_empty());
    assert_eq!(host.received(bob), [r#"{"from":"alice","text":"hi"}"#]);

    host.text(bob, "ping").unwrap();
    host.text(bob, "echo").unwrap();
    assert_eq!(host.received(bob), ["pong", "first", "echo"]);

    assert_eq!(host.text(bob, "fail"), Err("no".into()));
    assert!(host.received(bob).is_empty());

    host.text(bob, "quit").unwrap();
    assert_eq!(host.client(bob).closed, Some((3000, "bye".into())));
    assert!(host.client(bob).groups.is_empty());
    assert_eq!(host.received(alice), ["bob left"]);
    assert!(host.text(bob, "late").is_err());
}

#[test]
fn rejections() {
    let mut host = Host::new("null").function(HOOKS);
    let c = host.connect(&Handshake::default());
    let c = host.client(c);
    assert!(!c.accepted && c.status == 403 && c.reason == "anonymous" && c.error.is_none());
    let c = host.connect(&Handshake { query: "x=1&v=a%20b", ..ALICE });
    assert_eq!(host.client(c).status, 426);
    assert_eq!(host.shared("visits:game-7"), None);
}

#[test]
fn groups_are_granted() {
    let mut host = Host::new("null").function(HOOKS);
    host.joins = Some(vec!["chat-*".into()]);
    let c = host.connect(&ALICE);
    let c = host.client(c);
    assert!(c.status == 403 && c.error.as_deref().unwrap_or_default().contains("patterns"), "{:?}", c);
}

#[test]
fn alarms_come_until_they_succeed() {
    let mut host = Host::new("null").function(HOOKS);
    host.now = Some(1_000_000_000_000);
    let alice = host.connect(&ALICE);
    host.received(alice);
    host.text(alice, "remind").unwrap();
    host.advance(4000);
    assert!(host.received(alice).is_empty());
    host.advance(1000);
    assert_eq!(host.received(alice), ["remind"]);

    host.alarms.push(PendingAlarm { name: "x".into(), payload: "broken".into(), at: 0, failures: 0 });
    host.advance(0);
    assert_eq!((host.alarms.len(), host.alarms[0].failures), (1, 1));
    assert_eq!(host.error.as_deref(), Some("alarm x: broken"));
}

#[test]
fn fetches() {
    let mut host = Host::new("null").function(HOOKS);
    let alice = host.connect(&ALICE);
    host.received(alice);
    host.text(alice, "ask").unwrap();
    assert_eq!(host.received(alice), ["unavailable"]);
    host.fetch = Some(Box::new(|r| (200, [&r.method[..], &r.url, &r.headers, &r.body, &r.once].join(" "))));
    host.hold_responses = true;
    host.text(alice, "ask").unwrap();
    assert!(host.received(alice).is_empty());
    host.respond();
    assert_eq!(host.received(alice), ["POST https://example.org/ {} ? asked"]);
}

/// The response to a client that has left is no failure.
#[test]
fn clients_may_leave() {
    let mut host = Host::new("null").function(HOOKS);
    host.hold_responses = true;
    let alice = host.connect(&ALICE);
    host.disconnect(alice, 1001, "");
    host.respond();
    assert_eq!((&host.client(alice).error, host.client(alice).frames.len()), (&None, 0));
}

#[test]
fn replays_have_no_effects() {
    fn replayed(_: &mut Event) -> Verdict {
        match (publish("g", "x"), post_json("https://example.org/", "{}", None)) {
            (Err(EffectError::NoClient), Err(EffectError::NoClient)) => Verdict::Pass,
            _ => Verdict::Drop,
        }
    }
    let mut host = Host::new("null");
    host.source = "history".into();
    assert_eq!(host.event(replayed, "g", "{}").unwrap().verdict, "pass");
}

#[test]
fn unknown_continuations_fail() {
    let mut host = Host::new("null").function(HOOKS);
    let alice = host.connect(&ALICE);
    host.text(alice, "lost").unwrap();
    assert!(host.client(alice).error.as_deref().unwrap_or_default().contains("\"nowhere\""));
}

fn ask() -> Result<(), String> {
    let note = |name| then("note", name);
    shared::get("k", note("none"))?;
    shared::swap("k", "", "1", 1000, note("swapped"))?;
    shared::swap("k", "2", "3", 0, note("conflict"))?;
    shared::add("k", 4, 0, note("sum"))?;
    for value in ["a", "b", "c\""] {
        shared::push("l", value, 2, 0, None)?;
    }
    shared::list("l", 9, note("list"))?;
    shared::get("l", note("a list"))?;
    Ok(shared::set("text", "x", 0, None)?)
}

fn note(c: &Client, r: &Response) -> Result<(), String> {
    if c.present() {
        return Err("a client".into());
    }
    log(Level::Info, &[r.context, " ", &r.status.to_string(), " ", r.as_str(), " ", &r.list().join("+")].concat());
    Ok(())
}

#[test]
fn shared_store() {
    const NOTE: Results = &[("note", note)];
    let mut host = Host::new("null").function(Hooks { on_result: Some(NOTE), ..Hooks::NONE });
    host.now = Some(1_000_000_000_000);
    host.tick(ask).unwrap();
    assert_eq!(host.error, None);
    let lines: Vec<&str> = host.logged.iter().map(|(_, line)| &line[..]).collect();
    assert_eq!(
        lines,
        ["none 1  ", "swapped 0  ", "conflict 2 1 ", "sum 0 5 ", r#"list 0 ["b","c\""] b+c""#, "a list -4  "]
    );
    host.advance(1000);
    assert_eq!(host.shared("k"), None);
}
