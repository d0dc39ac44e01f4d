//! The clients of a function, and the effects on them.
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use crate::{find_text, host, log, path, text, Level};

/// The connection that the hook at hand is about. Its effects happen in order, after the hook has succeeded; those of a
/// hook that fails do not happen. A client is valid until the hook returns. Its id and attachment stay the same from hook
/// to hook, while the plugin's variables may be those of another instance.
pub struct Client(pub(crate) ());

impl Client {
    /// The connection's id; `None` without a client. It is known after the client has left, too.
    pub fn id(&self) -> Option<String> {
        text("", |_, b| host::connection_id(b))
    }

    /// Whether the call is about a client. There is none in a continuation of a request that an event, a tick or an alarm
    /// made. The continuation of a client that has left still knows its attachment, and other effects on it fail with
    /// [`EffectError::NoClient`].
    pub fn present(&self) -> bool {
        host::connection_id(&mut []) >= 0
    }

    /// The text that [`Client::set_attachment`] stored, empty before.
    pub fn attachment(&self) -> String {
        text("", |_, b| host::attachment_get(b)).unwrap_or_default()
    }

    /// The value at `path` in an attachment that is JSON, such as one of [`crate::object`]; empty if there is none.
    pub fn attachment_text(&self, path: &str) -> String {
        find_text(self.attachment().as_bytes(), path).unwrap_or_default()
    }

    /// Keeps a text of at most 16 KiB with the connection. The next hooks of this client read it.
    pub fn set_attachment(&self, text: &str) -> Result<(), EffectError> {
        effect("attachment", host::attachment_set(text), EffectError::TooLarge)
    }

    /// Sends a text frame to the client, at most 64 of them in a call.
    pub fn send(&self, text: &str) -> Result<(), EffectError> {
        effect("send", host::send(0, text.as_bytes()), EffectError::Text)
    }

    /// Sends a binary frame to the client.
    pub fn send_binary(&self, data: &[u8]) -> Result<(), EffectError> {
        effect("send", host::send(1, data), EffectError::Text)
    }

    /// Subscribes the client to a group, which must be among the patterns of the plugin's setting `join`.
    pub fn join(&self, group: &str) -> Result<(), EffectError> {
        effect(group, host::join(group), EffectError::Group)
    }

    /// Ends a subscription of the client.
    pub fn leave(&self, group: &str) -> Result<(), EffectError> {
        effect(group, host::leave(group), EffectError::Group)
    }

    /// Like the function [`publish`].
    pub fn publish(&self, group: &str, text: &str) -> Result<(), EffectError> {
        publish(group, text)
    }

    /// Like [`publish`], for all clients of the group but this one.
    pub fn publish_others(&self, group: &str, text: &str) -> Result<(), EffectError> {
        effect(group, host::publish(group, "", text, 1), EffectError::Group)
    }

    /// Closes the connection. `code` is 1000, 1008, 1011, 1013 or 3000 to 4999. `reason` has at most 123 bytes.
    pub fn close(&self, code: u16, reason: &str) -> Result<(), EffectError> {
        effect("close", host::close(i32::from(code), reason), EffectError::Code)
    }
}

/// Sends a text to all clients of a group on all nodes. The group must be among the patterns of the plugin's setting
/// `publish`. Every hook may publish.
pub fn publish(group: &str, text: &str) -> Result<(), EffectError> {
    effect(group, host::publish(group, "", text, 0), EffectError::Group)
}

/// Sends a message to all consumers of a group on all nodes, such as those of Django Channels: `kind` is the message's
/// type, and `members` is a JSON object with its other members, see [`crate::object`].
pub fn publish_message(group: &str, kind: &str, members: &str) -> Result<(), EffectError> {
    effect(group, host::publish(group, kind, members, 0), EffectError::Group)
}

/// Makes the relay answer text messages that equal `request`, such as a heartbeat, without a call of the plugin. It has an
/// effect in [`crate::on_init!`] only, for at most 10 pairs of 2,048 bytes each.
pub fn auto_response(request: &str, response: &str) -> Result<(), EffectError> {
    effect("auto response", host::auto_response(request, response), EffectError::TooLarge)
}

/// The reason why an effect or a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectError {
    /// Too many in one call, or in flight.
    Limit,
    TooLarge,
    /// No pattern of `join` or `publish` matches the group, or a grant is missing.
    NotGranted,
    /// There is no client, it has left, or the event is a replay. A hook that returns it has not failed.
    NoClient,
    /// Not UTF-8.
    Text,
    /// Not a group name.
    Group,
    /// A code or a reason that a plugin cannot close with.
    Code,
    Malformed,
}

/// The text of [`EffectError::NoClient`].
pub(crate) const NO_CLIENT: &str = "there is no client, it has left, or the event is a replay";

impl EffectError {
    fn reason(self) -> &'static str {
        match self {
            EffectError::Limit => "too many in one call, or in flight",
            EffectError::TooLarge => "too large",
            EffectError::NotGranted => "not granted; add the group to the plugin's join or publish patterns",
            EffectError::NoClient => NO_CLIENT,
            EffectError::Text => "not UTF-8",
            EffectError::Group => "not a group name; use 1 to 99 of A-Z a-z 0-9 - _ .",
            EffectError::Code => {
                "use the code 1000, 1008, 1011, 1013 or 3000 to 4999, and a reason of at most 123 bytes"
            }
            EffectError::Malformed => "malformed",
        }
    }
}

impl fmt::Display for EffectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

/// For `?` in hooks.
impl From<EffectError> for String {
    fn from(e: EffectError) -> String {
        e.reason().to_string()
    }
}

/// Returns the error of an effect, and logs it, since authors seldom check. `malformed` is what -4 means.
pub(crate) fn effect(what: &str, code: i32, malformed: EffectError) -> Result<(), EffectError> {
    let error = match code {
        -1 => EffectError::Limit,
        -2 => EffectError::TooLarge,
        -3 => EffectError::NotGranted,
        -4 => malformed,
        -5 => return Err(EffectError::NoClient),
        _ if code < 0 => EffectError::Malformed,
        _ => return Ok(()),
    };
    log(Level::Warn, &[what, ": ", error.reason()].concat());
    Err(error)
}

/// A request to connect, with its client: what is sent, joined or attached here holds if the connection is accepted.
/// `text` reads `id`, `path`, `query`, `params`, `user`, `user_key`, `user_name`, `address`, `headers` and `subprotocols`.
pub struct Connect {
    pub(crate) client: Client,
}

impl Deref for Connect {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Connect {
    /// The path of the request.
    pub fn path(&self) -> String {
        self.text("path").unwrap_or_default()
    }

    /// A placeholder of the route's path: `room` of `/ws/game/{room}/`.
    pub fn param(&self, name: &str) -> String {
        self.member("params.", name)
    }

    /// A member of the user's profile, such as `username`; empty for anonymous users.
    pub fn user(&self, path: &str) -> String {
        self.text(&["user.", path].concat()).unwrap_or_default()
    }

    /// The user's name, as the authorizer of the route tells it; empty for anonymous users.
    pub fn user_name(&self) -> String {
        self.text("user_name").unwrap_or_default()
    }

    /// A header that the route grants. The name is case-insensitive.
    pub fn header(&self, name: &str) -> String {
        self.member("headers.", &name.to_ascii_lowercase())
    }

    /// The first value of a parameter of the query string, decoded.
    pub fn query(&self, name: &str) -> String {
        let query = self.text("query").unwrap_or_default();
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let value = pairs.find(|(key, _)| decode_query(key) == name);
        value.map(|(_, value)| decode_query(value)).unwrap_or_default()
    }

    fn member(&self, parent: &str, name: &str) -> String {
        let mut path = String::from(parent);
        path::push_name(&mut path, name);
        self.text(&path).unwrap_or_default()
    }
}

/// Decodes a part of a query string. A percent sign without two hexadecimal digits stands for itself.
fn decode_query(text: &str) -> String {
    let (bytes, mut out, mut i) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    let digit = |i: usize| bytes.get(i).and_then(|&c| (c as char).to_digit(16));
    while i < bytes.len() {
        let mut c = bytes[i];
        if c == b'+' {
            c = b' ';
        } else if let (b'%', Some(high), Some(low)) = (c, digit(i + 1), digit(i + 2)) {
            c = (high * 16 + low) as u8;
            i += 2;
        }
        out.push(c);
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The decision about a [`Connect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    Accept,
    /// Rejects the connection with the HTTP status 403.
    Reject,
    /// Rejects the connection with an HTTP status, 400 to 599.
    RejectWith(u16),
    /// Rejects the connection with the HTTP status 403, and logs the reason.
    RejectBecause(String),
    /// The plugin failed for the given reason. The client gets the HTTP status 503.
    Error(String),
}

impl Admission {
    /// Accepts if the result is `Ok`, and is [`Admission::Error`] otherwise. The client gets the HTTP status 403 if it
    /// cannot join a group, because of the name or of the plugin's setting join, and 503 for any other error.
    pub fn if_ok<E: Into<String>>(result: Result<(), E>) -> Admission {
        result.map_or_else(|e| Admission::Error(e.into()), |()| Admission::Accept)
    }
}

/// A message of a client. It is valid until the hook returns. `text`, `is` and `int` read JSON.
pub struct Message<'a> {
    pub payload: &'a [u8],
    /// Whether the message is binary, not text.
    pub binary: bool,
    pub(crate) reply: Option<Vec<u8>>,
}

impl Message<'_> {
    /// The whole message; empty if it is binary and not UTF-8.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.payload).unwrap_or_default()
    }

    /// Sends a message of the same kind back to the client, after the frames of [`Client::send`]. It is the fastest way to
    /// answer. The last call counts.
    pub fn reply(&mut self, payload: impl Into<Vec<u8>>) {
        self.reply = Some(payload.into());
    }
}

/// The end of a connection.
pub struct Closing<'a> {
    /// Of the close frame; 1006 without one.
    pub code: u16,
    pub reason: &'a str,
}

/// An alarm that is due. It comes at least once: if the hook fails, or its node, it comes again.
pub struct Alarm<'a> {
    /// The name that the alarm was set with.
    pub name: &'a str,
    /// `text`, `is` and `int` read a payload that is JSON.
    pub payload: &'a [u8],
}

impl Alarm<'_> {
    /// The payload.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.payload).unwrap_or_default()
    }
}
