//! Requests of plugins, and the responses.
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::client::{effect, Client, EffectError};
use crate::{find_text, host, path};

/// Names the function that gets the response to a request. Functions have no closures over a request, because another
/// instance of the plugin may get the response, even one of a newer version.
#[derive(Clone, Copy, Debug)]
pub struct Then<'a> {
    name: &'a str,
    context: &'a str,
}

/// A continuation: `name` is that of a handler, see [`crate::on_result!`], and `context` is a text that the handler gets
/// back as [`Response::context`], such as one of [`object`]. Both together have at most 1,023 bytes. A request that needs
/// no answer has `None` instead.
pub fn then<'a>(name: &'a str, context: &'a str) -> Option<Then<'a>> {
    Some(Then { name, context })
}

/// The context of a request as it travels: the name, a zero byte, and the context.
fn wire(then: Option<Then>) -> String {
    then.map_or_else(String::new, |t| [t.name, "\0", t.context].concat())
}

fn requested(what: &str, token: i64) -> Result<(), EffectError> {
    effect(what, token.clamp(-9, 0) as i32, EffectError::Malformed)
}

/// The plugin's store that all nodes share. Requests begin after the hook has succeeded. Those of one client, and those for
/// events of one group, take effect in order. Times to live are in milliseconds; 0 means forever. Grant: shared.
pub mod shared {
    use super::*;

    /// Reads a value. [`Response::missing`] tells that there is none.
    pub fn get(key: &str, then: Option<Then>) -> Result<(), EffectError> {
        requested("shared get", host::shared_get(key, &wire(then)))
    }

    /// Stores a value. An empty value deletes the key.
    pub fn set(key: &str, value: &str, ttl: i64, then: Option<Then>) -> Result<(), EffectError> {
        requested("shared set", host::shared_set(key, value, ttl, &wire(then)))
    }

    /// Deletes a key.
    pub fn delete(key: &str, then: Option<Then>) -> Result<(), EffectError> {
        set(key, "", 0, then)
    }

    /// Stores a value if the present one is `expected`; an empty one means that there is none. Otherwise the response is a
    /// [`Response::conflict`] and holds the present value.
    pub fn swap(key: &str, expected: &str, value: &str, ttl: i64, then: Option<Then>) -> Result<(), EffectError> {
        requested("shared swap", host::shared_swap(key, expected, value, ttl, &wire(then)))
    }

    /// Adds to a decimal number, 0 if the key is missing. The response is the sum, see [`Response::number`]. `ttl` counts
    /// from the key's first use.
    pub fn add(key: &str, delta: i64, ttl: i64, then: Option<Then>) -> Result<(), EffectError> {
        requested("shared add", host::shared_add(key, delta, ttl, &wire(then)))
    }

    /// Appends a value to a list, of which the last `limit` elements stay.
    pub fn push(key: &str, value: &str, limit: i32, ttl: i64, then: Option<Then>) -> Result<(), EffectError> {
        requested("shared push", host::shared_push(key, value, limit, ttl, &wire(then)))
    }

    /// Reads the last `limit` elements of a list, oldest first, see [`Response::list`].
    pub fn list(key: &str, limit: i32, then: Option<Then>) -> Result<(), EffectError> {
        requested("shared list", host::shared_list(key, limit, &wire(then)))
    }
}

/// Calls of the plugin at a time, on one of the nodes, also after the client has left or a node has failed. An alarm
/// replaces an earlier one of the same name. Grant: alarms.
pub mod alarms {
    use super::*;

    /// Sets an alarm that is due in some milliseconds.
    pub fn after(name: &str, payload: &str, ms: i64, then: Option<Then>) -> Result<(), EffectError> {
        requested("alarm", host::alarm_set(name, payload, ms, &wire(then)))
    }

    /// Sets an alarm for a Unix time in milliseconds.
    pub fn at(name: &str, payload: &str, unix_ms: i64, then: Option<Then>) -> Result<(), EffectError> {
        requested("alarm", host::alarm_set(name, payload, unix_ms, &wire(then)))
    }

    /// Cancels an alarm.
    pub fn cancel(name: &str, then: Option<Then>) -> Result<(), EffectError> {
        requested("alarm cancel", host::alarm_cancel(name, &wire(then)))
    }
}

/// A request to a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest<'a> {
    /// Empty: GET, or POST with a body.
    pub method: &'a str,
    pub url: &'a str,
    pub header: &'a [(&'a str, &'a str)],
    pub body: &'a str,
    /// What the request is about, such as `job 7 failed`: of all nodes on which the plugin makes equal requests, one makes
    /// it. For the others, the status is [`Response::CONFLICT`].
    pub once: &'a str,
}

/// Makes an HTTP request. The response's status is that of HTTP, or below 0. Grant: fetch.
pub fn fetch(r: &HttpRequest, then: Option<Then>) -> Result<(), EffectError> {
    let method = match (r.method, r.body) {
        ("", "") => "GET",
        ("", _) => "POST",
        (method, _) => method,
    };
    let once = if r.once.is_empty() { String::new() } else { [",\"once\":", &quote(r.once)].concat() };
    let parts =
        ["{\"method\":", &quote(method), ",\"url\":", &quote(r.url), ",\"headers\":", &object(r.header), &once, "}"].concat();
    requested("fetch", host::fetch(&parts, r.body, &wire(then)))
}

/// Posts a JSON text. Grant: fetch.
pub fn post_json(url: &str, body: &str, then: Option<Then>) -> Result<(), EffectError> {
    fetch(&HttpRequest { method: "POST", url, header: &[("Content-Type", "application/json")], body, once: "" }, then)
}

/// The continuations of a plugin, by the names that [`then`] uses. The client is the one whose hook made the request; see
/// [`Client::present`].
pub type Results = &'static [(&'static str, fn(&Client, &Response) -> Result<(), String>)];

/// The response to a request. `text`, `is` and `int` read a body that is JSON.
pub struct Response<'a> {
    /// 0, one of the statuses of this type, or that of HTTP.
    pub status: i32,
    /// The context of [`then`].
    pub context: &'a str,
    pub payload: &'a [u8],
}

impl Response<'_> {
    pub const OK: i32 = 0;
    /// There is no such key or alarm.
    pub const NONE: i32 = 1;
    /// Of [`shared::swap`]: the value is another one, which is the body.
    pub const CONFLICT: i32 = 2;
    /// The store or the server did not answer in time; the effect is unknown.
    pub const UNAVAILABLE: i32 = -1;
    /// The value, the store or the response is beyond its bound.
    pub const TOO_LARGE: i32 = -2;
    /// The grant does not allow it.
    pub const DENIED: i32 = -3;
    /// The request, or a value in the store, has the wrong form.
    pub const INVALID: i32 = -4;
    /// Too many requests are in flight, or the rate is exceeded.
    pub const BUSY: i32 = -5;

    /// Success: the status 0, or 200 to 299 of HTTP.
    pub fn ok(&self) -> bool {
        self.status == Self::OK || (200..300).contains(&self.status)
    }

    /// There is no such key or alarm.
    pub fn missing(&self) -> bool {
        self.status == Self::NONE
    }

    /// The store holds another value than the expected one, see [`shared::swap`].
    pub fn conflict(&self) -> bool {
        self.status == Self::CONFLICT
    }

    /// The body; empty if it is not UTF-8.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.payload).unwrap_or_default()
    }

    /// The body as an integer, and 0 if it is none.
    pub fn number(&self) -> i64 {
        self.as_str().parse().unwrap_or_default()
    }

    /// The elements of a body that is a JSON array, strings decoded.
    pub fn list(&self) -> Vec<String> {
        (0..).map_while(|i: u32| self.text(&i.to_string())).collect()
    }

    /// An error if the status is below 0, or an error of HTTP: `r.err()?`.
    pub fn err(&self) -> Result<(), ResponseError> {
        if self.status < 0 || self.status >= 400 {
            return Err(ResponseError(self.status));
        }
        Ok(())
    }
}

/// The status of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseError(pub i32);

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(*self))
    }
}

/// For `?` in hooks.
impl From<ResponseError> for String {
    fn from(e: ResponseError) -> String {
        match e.0 {
            Response::UNAVAILABLE => "unavailable".into(),
            Response::TOO_LARGE => "too large".into(),
            Response::DENIED => "not granted".into(),
            Response::INVALID => "invalid".into(),
            Response::BUSY => "too many requests".into(),
            status => ["HTTP status ", &status.to_string()].concat(),
        }
    }
}

/// A text as a JSON string.
pub fn quote(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    path::push_quoted(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

/// A JSON object of strings: `object(&[("from", name), ("text", text)])`.
pub fn object(members: &[(&str, &str)]) -> String {
    let mut out = Vec::from(*b"{");
    for (i, (name, value)) in members.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        path::push_quoted(&mut out, name);
        out.push(b':');
        path::push_quoted(&mut out, value);
    }
    out.push(b'}');
    String::from_utf8(out).unwrap_or_default()
}

/// The value at `path` in any JSON text, such as an attachment or a context: a string decoded, any other value as JSON
/// text.
pub fn text_at(json: &str, path: &str) -> Option<String> {
    find_text(json.as_bytes(), path)
}
