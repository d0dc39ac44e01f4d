//! SDK for plugins of the edgerelay websocket relay, which filter and change events on their way to browsers.
//!
//! ```
//! use edgerelay::{Event, Verdict};
//!
//! edgerelay::on_event!(filter);
//!
//! fn filter(e: &mut Event) -> Verdict {
//!     if e.is("status", "failed") { Verdict::Pass } else { Verdict::Drop }
//! }
//! ```
//!
//! Plugins that answer clients are functions, see [`function!`], [`Client`], [`shared`], [`alarms`] and [`fetch()`].
//!
//! A plugin is a `cdylib` for `wasm32-unknown-unknown`. The macros [`on_init!`], [`on_event!`], [`on_subscribe!`],
//! [`on_class!`] and [`on_tick!`] export the hooks. A hook without an export costs the relay nothing. The module imports
//! only the host functions that its code calls. Functions marked with a grant need that grant in the plugin's block of
//! the Caddyfile. [`manifest!`] embeds the plugin's name, version and grants.
//!
//! An instance handles one call at a time. Instances share no memory: shared state belongs in the key-value store.
//!
//! Outside WebAssembly, a [`testing::Host`] takes the relay's place, so plugins have unit tests of their own:
//!
//! ```
//! # use edgerelay::{Event, Verdict};
//! # fn filter(e: &mut Event) -> Verdict {
//! #     if e.is("status", "failed") { Verdict::Pass } else { Verdict::Drop }
//! # }
//! let mut host = edgerelay::testing::Host::new("null");
//! let outcome = host.event(filter, "jobs-1", r#"{"status": "running"}"#).unwrap();
//! assert_eq!(outcome.verdict, "drop");
//! ```
#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

mod client;
mod edit;
mod host;
mod path;
mod service;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use client::{
    auto_response, publish, publish_message, Admission, Alarm, Client, Closing, Connect, EffectError, Message,
};
pub use host::Level;
pub use service::{
    alarms, fetch, object, post_json, quote, shared, text_at, then, HttpRequest, Response, ResponseError, Results, Then,
};

/// The version of the SDK.
pub const VERSION: &str = "0.3.0";

/// The decision of a hook about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The event passes unchanged.
    Pass,
    /// The event is dropped; from `on_class`, for this class.
    Drop,
    /// The event gets a new payload, UTF-8 text.
    Replace(Vec<u8>),
    /// The plugin failed for the given reason, and its `on_error` setting decides.
    Error(String),
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Allow,
    /// Allow the subscription and put the subscriber into an audience class, 0 to 63.
    AllowAs(u8),
    Deny,
    /// Deny the subscription with a reason for the user.
    DenyBecause(String),
    /// The plugin failed for the given reason, which denies the subscription.
    Error(String),
}

/// An event on its way to the subscribers of a group.
pub struct Event<'a> {
    /// The group's name, such as `job_events-42`.
    pub group: &'a str,
    /// The payload, UTF-8 text. The plugin may change the bytes in place; the methods still read the original text.
    pub payload: &'a mut [u8],
    edits: edit::Edits,
    /// The address and the length of `payload`, unless the plugin has put another text in place.
    arrived: (*const u8, usize),
}

/// A user's request to subscribe: `text("group")` returns the group, and `text("user.…")` the authorizer's information
/// about the user.
pub struct Request(());

macro_rules! document {
    ($type:ty) => {
        /// The host searches the text. A path consists of member names and array positions, joined by dots:
        /// `event_data.res.0.stdout`. A backslash escapes a dot or a backslash. If a member occurs twice, the first
        /// occurrence counts.
        impl $type {
            /// The value at `path`: a string decoded, any other value as JSON text.
            pub fn text(&self, path: &str) -> Option<String> {
                text(path, host::json_get)
            }

            /// Whether `text(path)` equals `want`. This is the fastest way to filter.
            pub fn is(&self, path: &str, want: &str) -> bool {
                let mut small = [0; 64];
                if want.len() > small.len() {
                    return self.text(path).as_deref() == Some(want);
                }
                let n = host::json_get(path, &mut small);
                n == want.len() as i32 && &small[..want.len()] == want.as_bytes()
            }

            /// The integer at `path`, which may also be a string of digits.
            pub fn int(&self, path: &str) -> Option<i64> {
                self.text(path)?.parse().ok()
            }

            /// Whether there is a value at `path`, including null.
            pub fn has(&self, path: &str) -> bool {
                host::json_find(path) >= 0
            }
        }
    };
}
document!(Event<'_>);
document!(Request);
document!(Connect);
document!(Message<'_>);
document!(Response<'_>);
document!(Alarm<'_>);

impl<'a> Event<'a> {
    fn new(group: &'a str, payload: &'a mut [u8]) -> Self {
        let arrived = (payload.as_ptr(), payload.len());
        Event { group, payload, edits: Default::default(), arrived }
    }
}

impl Event<'_> {
    /// The position of the value at `path` in the payload as JSON text, quotes included.
    pub fn find(&self, path: &str) -> Option<Range<usize>> {
        host::find(path)
    }

    /// The way by which the event reached the node, if that is known: `layer`, `peer`, or `history` for an event that
    /// clients have missed and get now, see [`Event::is_replay`].
    pub fn source(&self) -> Option<String> {
        text("", |_, b| host::event_source(b))
    }

    /// Whether the event is of the history, for clients that have missed it. The plugin may have seen the event before,
    /// and sees it again for each client: a plugin with state lets it pass, and leaves the state as it is. Events that
    /// the plugin emits to other groups are dropped.
    pub fn is_replay(&self) -> bool {
        let mut small = [0; 16];
        let n = host::event_source(&mut small);
        n == 7 && &small[..7] == b"history"
    }

    /// The place of the event in the history of its group, a token, if the group has one. See also [`emit_at`].
    pub fn position(&self) -> Option<String> {
        text("", |_, b| host::event_position(b))
    }

    /// When the emitter sent the event, as Unix time in milliseconds, if that is known.
    pub fn sent(&self) -> Option<i64> {
        Some(host::event_sent_ms()).filter(|&ms| ms >= 0)
    }

    /// A replacement of the payload, a JSON object, with more members at its end. `members` is the JSON text of these
    /// members, such as `"seen":true`. It works on the result of edits before it. A payload that is not an object gets no
    /// members. See also [`Event::set`].
    pub fn insert(&mut self, members: &str) -> Verdict {
        let p = self.edited_payload();
        let (start, end) = (path::skip_space(p, 0), path::skip_space_back(p, p.len()));
        if end < start + 2 || p[start] != b'{' || p[end - 1] != b'}' || members.is_empty() {
            return self.edited();
        }
        let mut out = Vec::with_capacity(p.len() + members.len() + 1);
        out.extend_from_slice(&p[..end - 1]);
        if path::skip_space_back(p, end - 1) > start + 1 {
            out.push(b',');
        }
        out.extend_from_slice(members.as_bytes());
        out.push(b'}');
        Verdict::Replace(out)
    }
}

/// Writes a line to the relay's log, at a bounded rate. Text beyond 4 KiB is cut.
pub fn log(level: Level, text: &str) {
    host::log(level, text)
}

/// The plugin's configuration as JSON text, `null` without a configuration.
pub fn config() -> String {
    text("", |_, b| host::config(b)).unwrap_or_default()
}

/// The value at `path` in the configuration, like [`Event::text`].
pub fn config_text(path: &str) -> Option<String> {
    text(path, host::config_get)
}

/// The integer at `path` in the configuration.
pub fn config_int(path: &str) -> Option<i64> {
    config_text(path)?.parse().ok()
}

/// The array at `path` in the configuration, each element like [`config_text`]; empty if there is none.
pub fn config_list(path: &str) -> Vec<String> {
    let dot = if path.is_empty() { "" } else { "." };
    (0..).map_while(|i: u32| config_text(&[path, dot, &i.to_string()].concat())).collect()
}

/// The audience of all classes.
pub const EVERYBODY: u64 = u64::MAX;

/// Restricts the event at hand, if this plugin does not drop it, to subscribers whose class is in `mask`: bit c stands
/// for class c.
pub fn audience(mask: u64) {
    host::audience(mask)
}

/// The reason why an event was not emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmitError {
    /// More than 16 events in one call.
    TooMany,
    /// Longer than the plugin's `max_result`.
    TooLong,
    /// Sent from group to group too often.
    Hops,
    /// The group name is invalid, or missing in a tick, or the payload is not UTF-8.
    Name,
    /// Not a token of [`Event::position`].
    Position,
}

/// Sends another event to `group`, or to the event's own group if `group` is empty. The new event follows the event at
/// hand, and only if the hook succeeds. Grant: emit.
pub fn emit(group: &str, payload: &[u8]) -> Result<(), EmitError> {
    emit_for(group, payload, EVERYBODY)
}

/// Like [`emit`], for subscribers of the classes in `mask`, see [`audience`].
pub fn emit_for(group: &str, payload: &[u8], mask: u64) -> Result<(), EmitError> {
    emitted(host::emit(group, payload, mask))
}

/// Like [`emit`], for an event that the plugin has held back: `position` is the [`Event::position`] of that event, of the
/// same group, or of the last one if the new event stands for several. Clients resume from there. An event of a tick
/// without a position makes a gap in the history of its group.
pub fn emit_at(group: &str, payload: &[u8], position: &str) -> Result<(), EmitError> {
    emitted(host::emit_at(group, payload, EVERYBODY, position))
}

fn emitted(code: i32) -> Result<(), EmitError> {
    match code {
        0 => Ok(()),
        -1 => Err(EmitError::TooMany),
        -2 => Err(EmitError::TooLong),
        -3 => Err(EmitError::Hops),
        -5 => Err(EmitError::Position),
        _ => Err(EmitError::Name),
    }
}

/// Adds to a counter of the plugin's metrics, and returns whether the host accepted the name and delta. Names are
/// `[a-z_][a-z0-9_]*`, at most 32 of them. Grant: metrics.
pub fn count(name: &str, delta: i64) -> bool {
    host::metric_add(name, delta) == 0
}

/// Reads from the plugin's store, which all instances on this node share. Grant: kv.
pub fn kv_get(key: &str) -> Option<String> {
    text(key, host::kv_get)
}

/// Stores a value for `ttl` milliseconds; 0 means forever. An empty value deletes the key. Returns whether there was
/// room. Grant: kv.
pub fn kv_set(key: &str, value: &str, ttl: i64) -> bool {
    host::kv_set(key, value, ttl) == 0
}

/// Adds to a decimal number in the store, 0 if the key is missing, and returns the sum. `ttl`, in milliseconds, counts
/// from the key's first use. Returns None if the store is full or the value is not a number. Grant: kv.
pub fn kv_incr(key: &str, delta: i64, ttl: i64) -> Option<i64> {
    Some(host::kv_incr(key, delta, ttl)).filter(|&n| n != i64::MIN)
}

/// Unix time in milliseconds. Grant: clock.
pub fn now() -> i64 {
    host::now()
}

/// Reads a value of any length. `get` returns the length, and copies the value if there is room.
fn text(key: &str, get: impl Fn(&str, &mut [u8]) -> i32) -> Option<String> {
    let mut small = [0; 128];
    let n = get(key, &mut small);
    if n < 0 {
        return None;
    }
    let n = n as usize;
    if n <= small.len() {
        return Some(String::from_utf8_lossy(&small[..n]).into_owned());
    }
    let mut large = vec![0; n];
    get(key, &mut large);
    String::from_utf8(large).ok()
}

/// The value at `path` in a text that the host does not know.
fn find_text(doc: &[u8], path: &str) -> Option<String> {
    let value = &doc[path::find(doc, path)?];
    let text = match value {
        [b'"', inner @ .., b'"'] => path::unescape(inner),
        _ => value.into(),
    };
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Exports the hooks of a function, and defines `HOOKS`, which tests give to [`testing::Host::function`]. Each hook may be
/// missing:
///
/// ```
/// # use edgerelay::*;
/// edgerelay::function! {
///     on_init: setup,
///     on_connect: connect,
///     on_message: message,
///     on_close: closed,
///     on_result: RESULTS,
///     on_alarm: alarm,
/// }
/// const RESULTS: Results = &[("visited", visited)];
/// # fn setup() -> Result<(), String> { Ok(()) }
/// fn connect(c: &Connect) -> Admission {
///     Admission::if_ok(c.join("lobby"))
/// }
/// fn message(c: &Client, m: &mut Message) -> Result<(), String> {
///     Ok(c.publish("lobby", m.as_str())?)
/// }
/// # fn closed(_: &Client, _: &Closing) -> Result<(), String> { Ok(()) }
/// # fn visited(_: &Client, _: &Response) -> Result<(), String> { Ok(()) }
/// # fn alarm(_: &Alarm) -> Result<(), String> { Ok(()) }
/// ```
///
/// Hooks for events are possible, too: `on_event`, `on_class`, `on_subscribe` and `on_tick`.
#[macro_export]
macro_rules! function {
    ($($hook:ident: $f:path),* $(,)?) => {
        $($crate::$hook!($f);)*
        #[cfg(not(target_arch = "wasm32"))]
        #[allow(dead_code, clippy::needless_update)]
        pub const HOOKS: $crate::testing::Hooks = $crate::testing::Hooks {
            $($hook: Some($f),)*
            ..$crate::testing::Hooks::NONE
        };
    };
}

/// Exports a function `fn(&Connect) -> Admission` that decides about a connection.
#[macro_export]
macro_rules! on_connect {
    ($f:path) => {
        #[no_mangle]
        pub extern "C" fn ev_on_connect(_size: u32) -> u64 {
            $crate::guest::connect($f)
        }
    };
}

/// Exports a function `fn(&Client, &mut Message) -> Result<(), String>` that gets clients' messages. An error discards the
/// effects.
#[macro_export]
macro_rules! on_message {
    ($f:path) => {
        #[no_mangle]
        pub extern "C" fn ev_on_message(kind: u32, size: u32) -> u64 {
            $crate::guest::message(kind, size, $f)
        }
    };
}

/// Exports a function `fn(&Client, &Closing) -> Result<(), String>` that learns that a client is gone.
#[macro_export]
macro_rules! on_close {
    ($f:path) => {
        #[no_mangle]
        pub extern "C" fn ev_on_close(code: u32, size: u32) -> u64 {
            $crate::guest::close(code, size, $f)
        }
    };
}

/// Exports the continuations of requests, a [`Results`].
#[macro_export]
macro_rules! on_result {
    ($results:path) => {
        #[no_mangle]
        pub extern "C" fn ev_on_result(_token: u64, status: i32, size: u32) -> u64 {
            $crate::guest::result(status, size, $results)
        }
    };
}

/// Exports a function `fn(&Alarm) -> Result<(), String>` that runs when an alarm is due. After an error, it comes again.
#[macro_export]
macro_rules! on_alarm {
    ($f:path) => {
        #[no_mangle]
        pub extern "C" fn ev_on_alarm(name: u32, payload: u32) -> u64 {
            $crate::guest::alarm(name, payload, $f)
        }
    };
}

/// Exports a function `fn() -> Result<(), String>` that runs before any event. If the function fails, the relay rejects
/// the plugin with that error.
#[macro_export]
macro_rules! on_init {
    ($f:path) => {
        #[no_mangle]
        pub extern "C" fn ev_init() -> i32 {
            $crate::guest::init($f)
        }
    };
}

/// Exports a function `fn(&mut Event) -> Verdict` that decides about every event.
#[macro_export]
macro_rules! on_event {
    ($f:path) => {
        #[no_mangle]
        pub extern "C" fn ev_on_event(group: u32, payload: u32) -> u64 {
            $crate::guest::event(group, payload, $f)
        }
    };
}

/// Exports a function `fn(u8, &mut Event) -> Verdict` that renders an event for the subscribers of a class.
#[macro_export]
macro_rules! on_class {
    ($f:path) => {
        #[no_mangle]
        pub extern "C" fn ev_on_class(class: u32, group: u32, payload: u32) -> u64 {
            $crate::guest::event(group, payload, |e| $f(class as u8, e))
        }
    };
}

/// Exports a function `fn() -> Result<(), String>` that runs at each interval of the grant `tick`, in every instance. It
/// has no event: emitted events need a group. An error discards the instance.
#[macro_export]
macro_rules! on_tick {
    ($f:path) => {
        #[no_mangle]
        pub extern "C" fn ev_on_tick() -> u64 {
            $crate::guest::tick($f)
        }
    };
}

/// Embeds a manifest, JSON text of at most 64 KiB, that the relay shows and checks before a deployment: name, version,
/// grants, configuration schema. Keep it in a file: `edgerelay::manifest!(include_str!("../manifest.json"));`
#[macro_export]
macro_rules! manifest {
    ($text:expr) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            const TEXT: &str = $text;
            #[used]
            #[link_section = "edgerelay.manifest"]
            static MANIFEST: [u8; TEXT.len()] = unsafe { *(TEXT.as_ptr() as *const [u8; TEXT.len()]) };
        };
    };
}

/// Exports a function `fn(&Request) -> Answer` that decides about subscriptions and the
/// subscribers' classes.
#[macro_export]
macro_rules! on_subscribe {
    ($f:path) => {
        #[no_mangle]
        pub extern "C" fn ev_on_subscribe(_size: u32) -> u64 {
            $crate::guest::subscribe($f)
        }
    };
}

#[doc(hidden)]
pub mod guest {
    //! The functions that the macros call, and the exports of every plugin.
    use super::*;

    /// An instance runs in one thread, one call at a time.
    static mut INPUT: Vec<u8> = Vec::new();
    static mut KEPT: Vec<u8> = Vec::new();

    #[cfg_attr(target_arch = "wasm32", no_mangle)]
    pub extern "C" fn ev_abi_version() -> i32 {
        1
    }

    #[cfg_attr(target_arch = "wasm32", no_mangle)]
    pub extern "C" fn ev_buffer(size: u32) -> *mut u8 {
        if size > 1 << 30 {
            return core::ptr::null_mut();
        }
        let size = size as usize;
        unsafe {
            let input = &mut *core::ptr::addr_of_mut!(INPUT);
            if input.len() < size {
                *input = vec![0; size];
            }
            input.as_mut_ptr()
        }
    }

    pub fn init(setup: fn() -> Result<(), String>) -> i32 {
        i32::from(failure(setup()).is_some())
    }

    pub fn tick(hook: fn() -> Result<(), String>) -> u64 {
        failure(hook()).unwrap_or(0)
    }

    fn failure(r: Result<(), String>) -> Option<u64> {
        forgiven(r).err().map(|why| failed(&why))
    }

    /// That a client has left is no failure.
    pub(crate) fn forgiven(r: Result<(), String>) -> Result<(), String> {
        r.or_else(|why| if why == client::NO_CLIENT { Ok(()) } else { Err(why) })
    }

    pub fn event(group: u32, payload: u32, hook: impl Fn(&mut Event) -> Verdict) -> u64 {
        let input = unsafe { &mut *core::ptr::addr_of_mut!(INPUT) };
        let (head, tail) = input.split_at_mut(group as usize);
        let group = core::str::from_utf8(head).unwrap_or_default();
        match hook(&mut Event::new(group, &mut tail[..payload as usize])) {
            Verdict::Pass => 0,
            Verdict::Drop => 1,
            Verdict::Error(why) => failed(&why),
            Verdict::Replace(v) => keep(v),
        }
    }

    pub fn subscribe(hook: fn(&Request) -> Answer) -> u64 {
        match hook(&Request(())) {
            Answer::Allow => 0,
            Answer::Deny => 1,
            Answer::AllowAs(class) => 0x100 + u64::from(class),
            Answer::DenyBecause(why) => keep(why.into_bytes()),
            Answer::Error(why) => failed(&why),
        }
    }

    fn input(from: u32, n: u32) -> &'static [u8] {
        unsafe { &(&*core::ptr::addr_of!(INPUT))[from as usize..][..n as usize] }
    }

    fn input_text(from: u32, n: u32) -> &'static str {
        core::str::from_utf8(input(from, n)).unwrap_or_default()
    }

    pub fn connect(hook: fn(&Connect) -> Admission) -> u64 {
        match hook(&Connect { client: Client(()) }) {
            Admission::Accept => 0,
            Admission::Reject => 1,
            Admission::RejectWith(status) => 0x10000 + u64::from(status),
            Admission::RejectBecause(why) => keep(why.into_bytes()),
            Admission::Error(why) => failed(&why),
        }
    }

    pub fn message(kind: u32, size: u32, hook: fn(&Client, &mut Message) -> Result<(), String>) -> u64 {
        let mut message = Message { payload: input(0, size), binary: kind == 1, reply: None };
        match (forgiven(hook(&Client(()), &mut message)), message.reply) {
            (Err(why), _) => failed(&why),
            (Ok(()), Some(reply)) => keep(reply),
            (Ok(()), None) => 0,
        }
    }

    pub fn close(code: u32, size: u32, hook: fn(&Client, &Closing) -> Result<(), String>) -> u64 {
        let closing = Closing { code: code as u16, reason: input_text(0, size) };
        failure(hook(&Client(()), &closing)).unwrap_or(0)
    }

    pub fn result(status: i32, size: u32, results: Results) -> u64 {
        let context = text("", |_, b| host::result_context(b)).unwrap_or_default();
        let (name, context) = match context.split_once('\0') {
            Some(parts) => parts,
            None => return 0,
        };
        let response = Response { status, context, payload: input(0, size) };
        failure(continuation(results, name).and_then(|hook| hook(&Client(()), &response))).unwrap_or(0)
    }

    pub(crate) fn continuation(
        results: Results,
        name: &str,
    ) -> Result<fn(&Client, &Response) -> Result<(), String>, String> {
        let found = results.iter().find(|(n, _)| *n == name).map(|(_, hook)| *hook);
        found.ok_or_else(|| ["a response is for the continuation \"", name, "\", which is not registered"].concat())
    }

    pub fn alarm(name: u32, payload: u32, hook: fn(&Alarm) -> Result<(), String>) -> u64 {
        let alarm = Alarm { name: input_text(0, name), payload: input(name, payload) };
        failure(hook(&alarm)).unwrap_or(0)
    }

    fn failed(why: &str) -> u64 {
        log(Level::Error, why);
        2
    }

    /// Keeps a result until the next one. The address of an empty Vec is not 0, as the ABI requires.
    fn keep(v: Vec<u8>) -> u64 {
        unsafe {
            let kept = &mut *core::ptr::addr_of_mut!(KEPT);
            *kept = v;
            (kept.as_ptr() as usize as u64) << 32 | kept.len() as u64
        }
    }
}

/// The README's examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub mod readme {}

#[cfg(test)]
mod function_tests;
#[cfg(test)]
mod tests;
