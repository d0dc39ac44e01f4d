use crate::list::{Change, List};
use crate::HOOKS;
use edgerelay::testing::{Handshake, Host};

fn host() -> Host {
    let mut host = Host::new("null").function(HOOKS);
    host.grants = Some(vec!["shared".into()]);
    host
}

fn home() -> Handshake<'static> {
    Handshake { params: &[("list", "home")], ..Handshake::default() }
}

#[test]
fn a_change_reaches_all_pages_and_late_ones() {
    let mut host = host();
    let (ann, ben) = (host.connect(&home()), host.connect(&home()));
    for page in [ann, ben] {
        assert_eq!(host.received(page), [r#"{"version":0,"items":[]}"#]);
    }
    host.text(ann, r#"{"do":"add","text":"buy \"oat\"\n milk"}"#).unwrap();
    let milk = r#"{"version":1,"items":[{"id":1,"checked":false,"text":"buy \"oat\" milk"}]}"#;
    assert_eq!(host.received(ann), [milk]);
    assert_eq!(host.received(ben), [milk]);
    host.text(ben, r#"{"do":"check","id":1}"#).unwrap();
    let late = host.connect(&home());
    assert_eq!(host.received(late), [milk.replace("false", "true").replace("\"version\":1", "\"version\":2")]);
    host.text(ben, r#"{"do":"uncheck","id":1}"#).unwrap();
    host.text(ben, r#"{"do":"remove","id":1}"#).unwrap();
    host.text(ben, r#"{"do":"remove","id":1}"#).unwrap();
    assert_eq!(host.received(late).last().unwrap(), r#"{"version":5,"items":[]}"#);
}

/// Two clients read the same list before one of them swaps it.
#[test]
fn the_slower_change_is_made_again() {
    let mut host = host();
    let (ann, ben) = (host.connect(&home()), host.connect(&home()));
    host.hold_responses = true;
    host.text(ann, r#"{"do":"add","text":"tea"}"#).unwrap();
    host.text(ben, r#"{"do":"add","text":"coffee"}"#).unwrap();
    host.respond();
    let stored = host.shared("todo home").unwrap();
    assert_eq!(stored, "2 3\n1 - tea\n2 - coffee\n");
    for page in [ann, ben] {
        let item = |id, text| format!(r#"{{"id":{},"checked":false,"text":"{}"}}"#, id, text);
        let both = format!(r#"{{"version":2,"items":[{},{}]}}"#, item(1, "tea"), item(2, "coffee"));
        assert_eq!(host.received(page).last().unwrap(), &both);
    }
}

#[test]
fn other_messages_are_ignored() {
    let mut host = host();
    let ann = host.connect(&home());
    host.received(ann);
    let long = format!(r#"{{"do":"add","text":"{}"}}"#, "x".repeat(101));
    for text in ["no JSON", r#"{"do":"add","text":" "}"#, r#"{"do":"check"}"#, r#"{"do":"check","id":-1}"#, &long] {
        host.text(ann, text).unwrap();
        assert!(host.received(ann).is_empty(), "{}", text);
    }
}

#[test]
fn a_full_list_says_so() {
    let mut list = List::parse("");
    let add = Change::add(&"\u{1f375}".repeat(100)).unwrap();
    while list.apply(&add).is_ok() {}
    assert!(list.to_string().len() < 64 << 10);
    let mut host = host();
    host.set_shared("todo home", &list.to_string());
    let ann = host.connect(&home());
    host.received(ann);
    host.text(ann, r#"{"do":"add","text":"more"}"#).unwrap();
    assert_eq!(host.received(ann), [r#"{"error":"the list is full; remove items"}"#]);
}

#[test]
fn changes_travel_as_text() {
    for change in [Change::add("a b").unwrap(), Change::Check(1), Change::Uncheck(2), Change::Remove(3)] {
        assert_eq!(Change::parse(&change.to_string()), Some(change));
    }
    assert_eq!(Change::parse("add  "), None);
    assert_eq!(Change::parse("check x"), None);
}
