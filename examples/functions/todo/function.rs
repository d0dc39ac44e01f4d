//! A shared to-do list. The list is one value of the shared store, which all nodes see. Each change reads the list and
//! swaps it for the changed one; if another client was faster, the change is made again, to that client's list.
use edgerelay::{object, quote, shared, then, Admission, Client, Connect, Message, Response, Results};

mod list;
use list::{Change, List};

edgerelay::function! { on_connect: connect, on_message: message, on_result: RESULTS }

const RESULTS: Results = &[("change", change), ("changed", changed), ("greet", greet), ("publish", publish)];

/// How long a list is kept after its last change, in milliseconds.
const KEPT: i64 = 30 * 24 * 3_600_000;

/// Lets a client into the list of its path, and asks the store for the list. A group has at most 99 characters.
fn connect(c: &Connect) -> Admission {
    let group = format!("todo_{}", c.param("list"));
    if c.join(&group).is_err() {
        return Admission::Reject;
    }
    let list = object(&[("key", &c.param("list")), ("group", &group)]);
    Admission::if_ok(c.set_attachment(&list).and_then(|()| shared::get(&key(c), then("greet", ""))))
}

fn key(c: &Client) -> String {
    format!("todo {}", c.attachment_text("key"))
}

/// Begins a change with the list that the store has.
fn message(c: &Client, m: &mut Message) -> Result<(), String> {
    let id = m.int("id").and_then(|id| u32::try_from(id).ok());
    let wanted = match (m.text("do").as_deref(), m.text("text"), id) {
        (Some("add"), Some(text), _) => Change::add(&text),
        (Some("check"), _, Some(id)) => Some(Change::Check(id)),
        (Some("uncheck"), _, Some(id)) => Some(Change::Uncheck(id)),
        (Some("remove"), _, Some(id)) => Some(Change::Remove(id)),
        _ => None,
    };
    match wanted {
        Some(wanted) => Ok(shared::get(&key(c), then("change", &wanted.to_string()))?),
        None => Ok(()), // not a message of this list
    }
}

/// Makes the change to the list of a response, and swaps it.
fn change(c: &Client, r: &Response) -> Result<(), String> {
    if r.err().is_err() {
        return report(c, "the list cannot be changed at the moment; try again");
    }
    let (before, change) = (if r.missing() { "" } else { r.as_str() }, Change::parse(r.context));
    let mut list = List::parse(before);
    match change.ok_or("a change that this version does not know").and_then(|change| list.apply(&change)) {
        Ok(()) => Ok(shared::swap(&key(c), before, &list.to_string(), KEPT, then("changed", r.context))?),
        Err(why) => report(c, why),
    }
}

/// Tells all clients, or makes the change again to the list of the client that was faster.
fn changed(c: &Client, r: &Response) -> Result<(), String> {
    if r.conflict() || r.err().is_err() {
        return change(c, r);
    }
    Ok(shared::get(&key(c), then("publish", ""))?)
}

/// Lists have versions, so it does not matter that two of them may come in the wrong order.
fn publish(c: &Client, r: &Response) -> Result<(), String> {
    r.err()?;
    Ok(c.publish(&c.attachment_text("group"), &List::parse(r.as_str()).json())?)
}

fn greet(c: &Client, r: &Response) -> Result<(), String> {
    r.err()?;
    Ok(c.send(&List::parse(if r.missing() { "" } else { r.as_str() }).json())?)
}

fn report(c: &Client, why: &str) -> Result<(), String> {
    Ok(c.send(&["{\"error\":", &quote(why), "}"].concat())?)
}

#[cfg(test)]
mod tests;
