//! An edge function: rooms in which all clients get what one of them sends, and a counter of visits.
use edgerelay::{shared, then, Admission, Client, Connect, Message, Response, Results};

edgerelay::manifest!(include_str!("../manifest.json"));
edgerelay::function! { on_connect: connect, on_message: message, on_result: RESULTS }

const RESULTS: Results = &[("visited", visited)];

fn connect(c: &Connect) -> Admission {
    Admission::if_ok(enter(c, &["room-", &c.param("room")].concat()))
}

fn enter(c: &Connect, room: &str) -> Result<(), String> {
    c.set_attachment(room)?;
    shared::add(&["visits:", room].concat(), 1, 0, then("visited", room))?;
    c.join(room)?;
    Ok(())
}

fn message(c: &Client, m: &mut Message) -> Result<(), String> {
    c.publish(&c.attachment(), m.as_str())?;
    Ok(())
}

fn visited(c: &Client, r: &Response) -> Result<(), String> {
    if let Err(e) = r.err() {
        c.send(&["the counter is ", &String::from(e)].concat())?;
        return Ok(());
    }
    c.send(&["visit ", r.as_str(), " of ", r.context].concat())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use edgerelay::testing::{Handshake, Host};

    /// Runs a conversation, without WebAssembly.
    #[test]
    fn room() {
        let mut host = Host::new("null").function(super::HOOKS);
        let room = Handshake { params: &[("room", "7")], ..Handshake::default() };
        let (alice, bob) = (host.connect(&room), host.connect(&room));
        host.text(alice, "hello").unwrap();
        assert_eq!(host.received(bob), ["visit 2 of room-7", "hello"]);
    }
}
