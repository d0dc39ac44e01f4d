use crate::testing::{Decision, Emission, Hooks, Host, Outcome};
use crate::*;
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::{env, fs, process};

/// A JSON value, for the cases that all SDKs share.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Bool(bool),
    Text(String),
    List(Vec<Value>),
    Object(BTreeMap<String, Value>),
}

impl Value {
    fn parse(text: &str) -> Value {
        let b = text.as_bytes();
        let range = path::find(b, "").expect("a value");
        let elements = |names: &mut dyn Iterator<Item = String>| {
            names.map_while(|n| path::find(b, &n)).map(|r| Value::parse(&text[r])).collect::<Vec<_>>()
        };
        match b[range.start] {
            b'"' => {
                Value::Text(String::from_utf8(path::unescape(&b[range.start + 1..range.end - 1]).into_owned()).unwrap())
            }
            b'[' => Value::List(elements(&mut (0..).map(|i: u32| i.to_string()))),
            b'{' => {
                let mut object = BTreeMap::new();
                for name in ["name", "in", "ops", "ok", "out", "doc", "path", "raw", "text"] {
                    if let Some(r) = path::find(b, name) {
                        object.insert(name.to_string(), Value::parse(&text[r]));
                    }
                }
                Value::Object(object)
            }
            b'n' => Value::Null,
            c => Value::Bool(c == b't'),
        }
    }

    fn text(&self) -> &str {
        match self {
            Value::Text(s) => s,
            other => panic!("{:?} is no text", other),
        }
    }

    fn list(&self) -> &[Value] {
        match self {
            Value::List(list) => list,
            other => panic!("{:?} is no list", other),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(members) => members.get(name),
            _ => None,
        }
    }
}

fn cases(file: &str, at_least: usize) -> Vec<Value> {
    // Only the repository has the shared cases, the published crate does not.
    let file = format!("{}/../testdata/{}", env!("CARGO_MANIFEST_DIR"), file);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(_) if fs::metadata(format!("{}/../rust", env!("CARGO_MANIFEST_DIR"))).is_err() => return vec![],
        Err(e) => panic!("{}: {}", file, e),
    };
    let cases: Vec<Value> = text.lines().map(Value::parse).collect();
    assert!(cases.len() >= at_least, "{} cases", cases.len());
    cases
}

#[test]
fn shared_paths() {
    for c in cases("jsonpath.ndjson", 15) {
        let (doc, path) = (c.get("doc").unwrap().text(), c.get("path").unwrap().text());
        let found = path::find(doc.as_bytes(), path).map(|r| &doc[r]);
        assert_eq!(found, c.get("raw").map(Value::text), "{} at {}", doc, path);
    }
}

thread_local! {
    static CASE: std::cell::RefCell<Value> = std::cell::RefCell::new(Value::Null);
}

#[test]
fn shared_edits() {
    fn hook(e: &mut Event) -> Verdict {
        let case = CASE.with(|c| c.borrow().clone());
        for (op, ok) in case.get("ops").unwrap().list().iter().zip(case.get("ok").unwrap().list()) {
            let op: Vec<&str> = op.list().iter().map(Value::text).collect();
            let done = match op[0] {
                "set" => e.set(op[1], op[2]),
                "set_string" => e.set_string(op[1], op[2]),
                "remove" => e.remove(op[1]),
                "rename" => e.rename(op[1], op[2]),
                other => panic!("{}", other),
            };
            assert_eq!(Value::Bool(done), *ok, "{:?} {:?}", case, op);
        }
        assert_eq!(std::str::from_utf8(e.payload).unwrap(), case.get("in").unwrap().text());
        e.edited()
    }
    let mut host = Host::new("");
    for case in cases("edits.ndjson", 90) {
        CASE.with(|c| *c.borrow_mut() = case.clone());
        let before = case.get("in").unwrap().text();
        let got = host.event(hook, "g", before).unwrap();
        let want = case.get("out").map_or(("pass", before), |out| ("replace", out.text()));
        assert_eq!((got.verdict, got.payload.as_str()), want, "{:?}", case);
    }
}

/// Random sequences of edits give the same text with the relay's search and with the plugin's own.
#[test]
fn searches_agree() {
    fn edit(e: &mut Event, apart: bool) -> Vec<(bool, String)> {
        let names = ["a", "b", "c", "a.b", "a.c", "b.0", "b.1", "b.0.a", "c.c", "a.b.c", "d"];
        let mut seed = e.int("seed").unwrap() as u64;
        let mut next = |n: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % n
        };
        (0..6)
            .map(|_| {
                let (path, kind) = (names[next(names.len())], next(4));
                if apart {
                    e.search_alone();
                }
                let done = match kind {
                    0 => e.set(path, ["1", "[1,{\"a\":2}]", "{\"b\":{},\"c\":[]}"][next(3)]),
                    1 => e.set_string(path, ["", "a\"b", "a long text"][next(3)]),
                    2 => e.remove(path),
                    _ => e.rename(path, ["a", "b", "e"][next(3)]),
                };
                (done, String::from_utf8(e.edited_payload().to_vec()).unwrap())
            })
            .collect()
    }
    fn hook(e: &mut Event) -> Verdict {
        let with = edit(e, false);
        e.edited();
        assert_eq!(with, edit(e, true));
        Verdict::Pass
    }
    let mut host = Host::new("");
    for seed in 0..3000 {
        let doc = format!(
            "{{\"seed\":{}, \"a\" : {{\"b\":{{\"c\":1}}, \"c\":2}},\"b\":[{{\"a\":1}},[2]],\"c\":{{}} }}",
            seed
        );
        host.event(hook, "g", &doc).unwrap();
    }
}

/// Edits work on the text that the plugin has put in place of the payload.
#[test]
fn edits_of_another_payload() {
    fn hook(e: &mut Event) -> Verdict {
        let text = "{\"long name\":[1,2,3],\"b\":{\"c\":4},\"a\":1}";
        e.payload = Box::leak(text.to_string().into_bytes().into_boxed_slice());
        assert!(e.set("b.c", "5") && e.remove("a") && !e.remove("z") && e.rename("b", "d"));
        e.edited()
    }
    let got = Host::new("").event(hook, "g", "{\"a\":1,\"z\":2}").unwrap();
    assert_eq!(got.payload, "{\"long name\":[1,2,3],\"d\":{\"c\":5}}");
}

fn outcome(verdict: &'static str, payload: &str) -> Result<Outcome, String> {
    Ok(Outcome { verdict, payload: payload.into(), audience: EVERYBODY, emitted: vec![] })
}

#[test]
fn members_go_to_the_end() {
    fn insert(e: &mut Event) -> Verdict {
        e.insert(if e.group == "none" { "" } else { "\"b\":2" })
    }
    let mut host = Host::new("");
    assert_eq!(host.event(insert, "g", " {\"a\":1 } "), outcome("replace", " {\"a\":1 ,\"b\":2}"));
    assert_eq!(host.event(insert, "g", "{ }"), outcome("replace", "{ \"b\":2}"));
    assert_eq!(host.event(insert, "g", "{}"), outcome("replace", "{\"b\":2}"));
    for payload in ["[1]", "", "{", "}", " "] {
        assert_eq!(host.event(insert, "g", payload), outcome("pass", payload));
    }
    assert_eq!(host.event(insert, "none", "{}"), outcome("pass", "{}"));
}

#[test]
fn verdicts_and_readers() {
    fn hook(e: &mut Event) -> Verdict {
        match e.text("do").unwrap_or_default().as_str() {
            "drop" => Verdict::Drop,
            "error" => Verdict::Error("for a reason".into()),
            "panic" => panic!("ouch"),
            "bytes" => Verdict::Replace(vec![0xff]),
            "long" => Verdict::Replace(vec![b'x'; e.int("n").unwrap() as usize]),
            "read" => {
                assert!(e.is("o.s", "é") && !e.is("o.s", "e") && e.has("z") && !e.has("y"));
                assert_eq!(e.find("o.s").map(|r| e.payload[r].to_vec()), Some(b"\"\\u00e9\"".to_vec()));
                e.payload[2] = b'x';
                assert_eq!(e.int("n"), Some(42));
                Verdict::Pass
            }
            "audience" => {
                audience(6);
                audience(12);
                Verdict::Pass
            }
            _ => Verdict::Pass,
        }
    }
    let mut host = Host::new("");
    let read = "{\"do\":\"read\",\"o\":{\"s\":\"\\u00e9\"},\"z\":null,\"n\":42}";
    assert_eq!(host.event(hook, "g", read), outcome("pass", read));
    assert_eq!(host.event(hook, "g", "{\"do\":\"drop\"}"), outcome("drop", ""));
    assert_eq!(host.event(hook, "g", "{\"do\":\"audience\"}").unwrap().audience, 4);
    for (what, want) in [("error", "for a reason"), ("panic", "ouch"), ("bytes", "not UTF-8")] {
        let error = host.event(hook, "g", &format!("{{\"do\":\"{}\"}}", what)).unwrap_err();
        assert!(error.contains(want), "{}", error);
    }
    assert_eq!(host.logged, [(Level::Error, "for a reason".to_string())]);
    let long = |host: &mut Host, n: usize| host.event(hook, "g", &format!("{{\"do\":\"long\",\"n\":{}}}", n)).is_ok();
    assert!(long(&mut host, 1 << 20) && !long(&mut host, (1 << 20) + 1));
    host.max_result = 10;
    assert!(long(&mut host, 10) && !long(&mut host, 11));
    host.json = true;
    assert!(long(&mut host, 10));
}

#[test]
fn emissions_have_limits() {
    fn hook(e: &mut Event) -> Verdict {
        use EmitError::*;
        match e.group {
            "many" => {
                for i in 0..17 {
                    assert_eq!(emit("", b"{}"), if i < 16 { Ok(()) } else { Err(TooMany) });
                }
            }
            "hop" => {
                assert_eq!((emit("x", b""), emit("hop", b""), emit("", b"")), (Err(Hops), Ok(()), Ok(())));
            }
            _ => {
                assert_eq!(emit("a b", b""), Err(Name));
                assert_eq!(emit("x", b"\xff"), Err(Name));
                assert_eq!(emit("x", &vec![0; (1 << 20) + 1]), Err(TooLong));
                assert_eq!(emit_for("alerts", b"{}", 2), Ok(()));
            }
        }
        Verdict::Drop
    }
    let mut host = Host::new("");
    let alert = Emission { group: "alerts".into(), payload: "{}".into(), audience: 2, position: String::new() };
    assert_eq!(host.event(hook, "g", "{}").unwrap().emitted, [alert]);
    assert_eq!(host.event(hook, "many", "{}").unwrap().emitted.len(), 16);
    host.hops = 4;
    assert_eq!(host.event(hook, "hop", "{}").unwrap().emitted.len(), 2);
}

#[test]
fn ticks_and_metadata() {
    fn tick() -> Result<(), String> {
        audience(0); // without effect
        assert_eq!(emit("", b""), Err(EmitError::Name));
        match kv_incr("ticks", 1, 0) {
            Some(3) => Err("enough".into()),
            _ => emit("clock", b"1").map_err(|e| format!("{:?}", e)),
        }
    }
    fn hook(e: &mut Event) -> Verdict {
        assert_eq!((e.source(), e.sent()), (Some("peer".into()), Some(5)));
        Verdict::Pass
    }
    let mut host = Host::new("");
    for _ in 0..2 {
        let outcome = host.tick(tick).unwrap();
        assert_eq!((outcome.verdict, outcome.emitted.len(), outcome.audience), ("pass", 1, EVERYBODY));
    }
    assert!(host.tick(tick).unwrap_err().contains("enough"));
    host.grants = Some(vec!["emit".into()]);
    assert!(host.tick(tick).unwrap_err().contains("'grant tick'"));
    host.source = "peer".into();
    host.sent = Some(5);
    host.event(hook, "g", "{}").unwrap();
    host.class(|_, e| hook(e), 0, "g", "{}").unwrap();
    assert!(host.class(|_, e| hook(e), 64, "g", "{}").is_err());
    host.source.clear();
    host.sent = None;
    let none = |e: &mut Event| {
        assert_eq!((e.source(), e.sent()), (None, None));
        Verdict::Pass
    };
    host.event(none, "g", "{}").unwrap();
}

#[test]
fn store_counters_and_clock() {
    fn fill() -> Result<(), String> {
        let text = "x".repeat(35); // 64 + 1 + 35 bytes each
        assert!(kv_set("a", &text, 1000) && kv_set("b", &text, 1000) && !kv_set("c", "x", 0));
        assert!(kv_set("a", &"y".repeat(35), 1000) && !kv_set("a", &"y".repeat(36), 0));
        assert_eq!((kv_incr("n", 1, 0), kv_incr("a", 1, 0)), (None, None));
        for i in 0..33 {
            assert_eq!(count(&format!("metric_{}", i), 2), i < 32, "{}", i);
        }
        assert!(count("metric_1", 1) && !count("9", 1) && !count("", 1) && !count("a", -1) && !count("Bad", 1));
        log(Level::Warn, &"é".repeat(3000));
        assert_eq!((config_int("n"), config_list("l"), now()), (Some(7), vec!["a".into(), "2".into()], 5));
        Ok(())
    }
    fn still_full() -> Result<(), String> {
        assert!(kv_get("a").is_some() && !kv_set("c", "x", 0));
        Ok(())
    }
    fn expired() -> Result<(), String> {
        assert!(kv_get("a").is_none() && kv_set("c", &"x".repeat(135), i64::MAX) && kv_set("c", "", 0));
        assert_eq!((kv_incr("n", 2, 10), kv_incr("n", 3, 99)), (Some(2), Some(5)));
        Ok(())
    }
    let mut host = Host::new("{\"n\": 7, \"l\": [\"a\", 2]}");
    host.store_limit = 200;
    host.now = Some(5);
    host.init(fill).unwrap();
    assert_eq!((host.logged[0].1.len(), host.metrics["metric_1"]), (4096, 3));
    host.advance(999);
    host.init(still_full).unwrap();
    host.advance(1);
    host.init(expired).unwrap();
    host.advance(9);
    assert_eq!(host.stored("n").as_deref(), Some("5"));
    host.advance(1);
    assert_eq!(host.stored("n"), None);
}

#[test]
fn missing_grants_are_named() {
    fn hook(e: &mut Event) -> Verdict {
        match e.group {
            "emit" => drop(emit("x", b"")),
            "metrics" => drop(count("a", 1)),
            "clock" => drop(now()),
            _ => drop(kv_get("a")),
        }
        Verdict::Pass
    }
    let mut host = Host::new("");
    for grant in ["emit", "metrics", "clock", "kv"] {
        host.grants = Some(vec![grant.into()]);
        host.event(hook, grant, "{}").unwrap();
        host.grants = Some(vec![]);
        let error = host.event(hook, grant, "{}").unwrap_err();
        assert!(error.contains(&format!("'grant {}'", grant)), "{}", error);
    }
}

fn subscribe(r: &Request) -> Answer {
    match r.text("user.name").unwrap_or_default().as_str() {
        "alice" => Answer::AllowAs(3),
        "bob" => Answer::DenyBecause("not yours".into()),
        "carl" => Answer::Deny,
        "dora" => Answer::AllowAs(64),
        _ if !r.is("group", "g\"1") => Answer::Error("which group?".into()),
        _ => Answer::Allow,
    }
}

#[test]
fn subscriptions() {
    let mut host = Host::new("");
    let allow = Decision { allow: true, ..Decision::default() };
    for (user, want) in [
        ("{\"name\":\"alice\"}", Decision { class: 3, ..allow.clone() }),
        ("{\"name\":\"bob\"}", Decision { reason: "not yours".into(), ..Decision::default() }),
        ("{\"name\":\"carl\"}", Decision::default()),
        ("", allow),
    ] {
        assert_eq!(host.subscribe(subscribe, user, "g\"1"), Ok(want));
    }
    assert!(host.subscribe(subscribe, "{\"name\":\"dora\"}", "g").unwrap_err().contains("class 64"));
    assert!(host.subscribe(subscribe, "null", "h").unwrap_err().contains("which group?"));
}

#[test]
fn samples_are_judged() {
    fn event(e: &mut Event) -> Verdict {
        if e.is("do", "fail") {
            return Verdict::Error("for a reason".into());
        }
        if e.source().as_deref() == Some("peer") && e.sent() == Some(now() - 5) {
            return Verdict::Drop;
        }
        if e.has("alert") {
            audience(2);
            emit_for("alerts", b"{\"a\": \"b c\"}", 4).unwrap();
            emit("", b"x").unwrap();
        }
        e.set_string("seen", "a b");
        e.edited()
    }
    let hooks = Hooks {
        on_event: Some(event),
        on_class: Some(|class, _| if class == 1 { Verdict::Drop } else { Verdict::Pass }),
        on_subscribe: Some(subscribe),
        on_tick: Some(|| emit("clock", b"1").map_err(|e| format!("{:?}", e))),
        ..Hooks::NONE
    };
    let file = env::temp_dir().join(format!("edgerelay-samples-{}.ndjson", process::id()));
    for (line, want) in [
        (r#"{"group":"g","payload":{"a":NaN},"verdict":"replace","output":{ "a": NaN, "seen":"a b" }}"#, ""),
        (r#"{"group":"g","text":"no JSON","verdict":"pass","emits":[]}"#, ""),
        (r#"{"group":"g","payload":{},"output_text":"{\"seen\":\"a b\"}","audience":-1}"#, ""),
        (
            r#"{"group":"g","payload":1,"sent":"1970-01-02T00:00:00Z","source":"peer","clock":86400005,"verdict":"drop"}"#,
            "",
        ),
        (
            r#"{"group":"g","payload":{"alert":1},"audience":"0x2","emits":[{"group":"alerts","payload":{"a":"b c"},
                "audience":4},{"group":"g","text":"x"}]}"#,
            "",
        ),
        (r#"{"group":"g","payload":{"do":"fail"},"verdict":"error","reason":"for a reason"}"#, ""),
        (r#"{"class":1,"group":"g","payload":{},"verdict":"drop"}"#, ""),
        (r#"{"hook":"on_class","class":0,"group":"g","text":"","verdict":"pass"}"#, ""),
        (r#"{"user":{"name":"alice"},"group":"g","verdict":"allow","want_class":3}"#, ""),
        (r#"{"hook":"on_subscribe","user":{"name":"bob"},"group":"g","verdict":"deny","reason":"not yours"}"#, ""),
        (r#"{"hook":"on_tick","verdict":"pass","emits":[{"group":"clock","payload":1}]}"#, ""),
        (r#"{"a":"a payload without expectations"}"#, ""),
        (r#"{"text":"a payload, too","a":1}"#, ""),
        (r#"{"at":"1970-01-02T00:00:00Z","group":"g","data":{"a":1},"sent":0}"#, ""),
        (r#"{"group":"g","payload":{},"verdict":"pass"}"#, "verdict replace, want pass"),
        (r#"{"group":"g","payload":{},"output":{"seen":"ab"}}"#, r#"output {"seen":"a b"}, want"#),
        (r#"{"group":"g","payload":{},"audience":1}"#, "audience 0xffffffffffffffff, want 0x1"),
        (r#"{"group":"g","payload":{"alert":1},"emits":[]}"#, "2 events emitted, want 0"),
        (
            r#"{"group":"g","payload":{"alert":1},"emits":[{"group":"x"},{}]}"#,
            r#"to "alerts", want any payload to "x""#,
        ),
        (
            r#"{"group":"g","payload":{"alert":1},"emits":[{"group":"alerts","audience":1},{}]}"#,
            "audience 0x4, want 0x1",
        ),
        (r#"{"group":"g","payload":{"do":"fail"}}"#, "for a reason"),
        (r#"{"group":"g","payload":{"do":"fail"},"verdict":"error","reason":"x y"}"#, r#"want "x y""#),
        (r#"{"user":{"name":"alice"},"group":"g","want_class":4}"#, "class 3 (allow), want 4"),
        (r#"{"user":{"name":"carl"},"group":"g","want_class":0}"#, "class 0 (deny), want 0"),
        (r#"{"user":{"name":"bob"},"group":"g","reason":"not"}"#, r#"the reason is "not yours", want "not""#),
        (r#"{"group":"g","text":"no JSON","output_text":"no JSON"}"#, "verdict pass, want the output"),
        (r#"{"class":1,"group":"g","payload":{},"audience":1}"#, "verdict drop, want the audience"),
        (r#"{"group":"g","payload":{},"group":"h"}"#, "group: the member occurs twice"),
        (r#"{"group":"g","verdict":"pass"}"#, r#"a sample with "verdict", but without input"#),
        (r#"{"group":"g","payload":{},"verdcit":"pass"}"#, "verdcit: unknown member"),
        (r#"{"group":"g","payload":{},"emits":[1]}"#, "emits: use a list of objects"),
        (r#"{"hook":"on_fire","group":"g","payload":{}}"#, r#"unknown hook "on_fire""#),
        (r#"{"hook":"on_class","group":"g","payload":{}}"#, "no class"),
        (r#"{"group":"g","payload":{},"clock":"yesterday"}"#, "clock: "),
        ("", "contains no sample"),
        (r#"{"at":0,"group":"g","dropped":3}"#, "contains no sample"),
    ] {
        fs::write(&file, format!("\n{}\n", line.replace("\n", ""))).unwrap();
        match Host::new("").check(&hooks, &file) {
            Ok(()) => assert_eq!(want, "", "{}", line),
            Err(e) => assert!(
                !want.is_empty() && e.contains(want) && (want == "contains no sample" || e.contains(":2: ")),
                "{}: {}",
                line,
                e
            ),
        }
    }
    fs::write(&file, "{\"hook\":\"on_tick\"}").unwrap();
    let error = Host::new("").check(&Hooks::default(), &file).unwrap_err();
    assert!(error.contains("no such hook"), "{}", error);
    let _ = fs::remove_file(file);
}

#[test]
fn there_is_no_host_without_a_call() {
    let panic = catch_unwind(now).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("testing::Host"));
}

#[test]
fn the_version_is_the_crates() {
    assert_eq!(VERSION, env!("CARGO_PKG_VERSION"));
}
