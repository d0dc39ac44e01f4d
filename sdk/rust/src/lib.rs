//! SDK for plugins of the edgerelay websocket relay: they filter and change events on their way to browsers.
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
//! A plugin is a `cdylib` for `wasm32-unknown-unknown`. The macros [`on_init!`], [`on_event!`], [`on_subscribe!`] and [`on_class!`]
//! export its hooks; one that is not exported costs the relay nothing. The module imports only the host functions that its code calls;
//! those marked with a grant need it in the plugin's block of the Caddyfile.
//!
//! An instance does one call at a time. Instances share no memory; what must be shared goes through the key-value store.
//!
//! Outside WebAssembly there is no host: its functions panic. Keep what is worth a unit test free of them, and try the module itself
//! with `caddy edgerelay plugin test`.

use std::ops::Range;

mod host;
pub use host::Level;

/// What a hook decides about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The event goes on as it came.
    Pass,
    /// It ends here, or, from `on_class`, this class does not get it.
    Drop,
    /// This UTF-8 text is the event's new payload.
    Replace(Vec<u8>),
    /// The plugin failed, for this reason; its `on_error` setting decides.
    Error(String),
}

/// What a hook says to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Allow,
    /// Allow, and put the subscriber into an audience class, 0 to 63.
    AllowAs(u8),
    Deny,
    /// Deny, and tell the user why.
    DenyBecause(String),
    /// The plugin failed, for this reason, which denies.
    Error(String),
}

/// An event on its way to the subscribers of a group.
pub struct Event<'a> {
    /// The group's name, such as `job_events-42`.
    pub group: &'a str,
    /// The payload, UTF-8 text. It may be changed in place; the methods still read what came.
    pub payload: &'a mut [u8],
}

/// A user's wish to subscribe: `text("group")`, and `text("user.…")` for what the authorizer knows of the user.
pub struct Request(());

macro_rules! document {
    ($type:ty) => {
        /// Values are found by the host. A path is member names and array positions joined by dots, a backslash escaping a dot or
        /// itself: `event_data.res.0.stdout`. The first of two equal members counts.
        impl $type {
            /// The value at `path`: a string decoded, anything else as JSON text.
            pub fn text(&self, path: &str) -> Option<String> {
                text(path, host::json_get)
            }

            /// Whether the value at `path`, as `text` gives it, is `want`. The fastest way to filter.
            pub fn is(&self, path: &str, want: &str) -> bool {
                let mut small = [0; 64];
                if want.len() > small.len() {
                    return self.text(path).as_deref() == Some(want);
                }
                let n = host::json_get(path, &mut small);
                n == want.len() as i32 && &small[..want.len()] == want.as_bytes()
            }

            /// The value at `path` as an integer, a string of digits too.
            pub fn int(&self, path: &str) -> Option<i64> {
                self.text(path)?.parse().ok()
            }

            /// Whether there is a value at `path`, be it null.
            pub fn has(&self, path: &str) -> bool {
                host::json_find(path) >= 0
            }
        }
    };
}
document!(Event<'_>);
document!(Request);

impl Event<'_> {
    /// Where the value at `path` stands in the payload as JSON text, quotes included.
    pub fn find(&self, path: &str) -> Option<Range<usize>> {
        let at = host::json_find(path);
        if at < 0 {
            return None;
        }
        let from = (at >> 32) as usize;
        Some(from..from + (at as u32) as usize)
    }

    /// A replacement of the payload, a JSON object, with more members at its end; `members` is their JSON text: `"seen":true`.
    /// A payload that is no object passes as it is.
    pub fn insert(&self, members: &str) -> Verdict {
        let space = |b: &u8| matches!(b, b' ' | b'\n' | b'\t' | b'\r');
        let p: &[u8] = self.payload;
        let (start, end) = match (p.iter().position(|b| !space(b)), p.iter().rposition(|b| !space(b))) {
            (Some(s), Some(e)) if e > s && p[s] == b'{' && p[e] == b'}' && !members.is_empty() => (s, e),
            _ => return Verdict::Pass,
        };
        let mut out = Vec::with_capacity(p.len() + members.len() + 1);
        out.extend_from_slice(&p[..end]);
        if p[start + 1..end].iter().any(|b| !space(b)) {
            out.push(b',');
        }
        out.extend_from_slice(members.as_bytes());
        out.push(b'}');
        Verdict::Replace(out)
    }
}

/// Writes a line to the relay's log, which takes a bounded number of them. Text beyond 4 KiB is cut.
pub fn log(level: Level, text: &str) {
    host::log(level, text)
}

/// The plugin's configuration, a JSON text; `null` if it has none.
pub fn config() -> String {
    text("", |_, b| host::config(b)).unwrap_or_default()
}

/// A value of the configuration by its path, as [`Event::text`] gives it.
pub fn config_text(path: &str) -> Option<String> {
    text(path, host::config_get)
}

/// An integer of the configuration.
pub fn config_int(path: &str) -> Option<i64> {
    config_text(path)?.parse().ok()
}

/// The array at `path` of the configuration, each element as [`config_text`] gives it; empty if there is none.
pub fn config_list(path: &str) -> Vec<String> {
    let dot = if path.is_empty() { "" } else { "." };
    (0..).map_while(|i: u32| config_text(&[path, dot, &i.to_string()].concat())).collect()
}

/// The audience of all classes.
pub const EVERYBODY: u64 = u64::MAX;

/// Restricts the event at hand, as far as this plugin lets it go on, to subscribers whose class is in `mask`: bit c stands for class c.
pub fn audience(mask: u64) {
    host::audience(mask)
}

/// Why an event was not emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmitError {
    /// More than 16 in one call.
    TooMany,
    /// Longer than the plugin's `max_result`.
    TooLong,
    /// Sent from group to group too often.
    Hops,
    /// No name of a group, or the payload is not UTF-8.
    Name,
}

/// Sends another event, to `group` or, that being empty, to the event's own. It leaves after the event itself, and only if the hook
/// succeeds. Grant: emit.
pub fn emit(group: &str, payload: &[u8]) -> Result<(), EmitError> {
    emit_for(group, payload, EVERYBODY)
}

/// [`emit`] for subscribers of some classes, see [`audience`].
pub fn emit_for(group: &str, payload: &[u8], mask: u64) -> Result<(), EmitError> {
    match host::emit(group, payload, mask) {
        0 => Ok(()),
        -1 => Err(EmitError::TooMany),
        -2 => Err(EmitError::TooLong),
        -3 => Err(EmitError::Hops),
        _ => Err(EmitError::Name),
    }
}

/// Adds to a counter of the plugin's metrics; names are `[a-z_][a-z0-9_]*`, 32 of them at most. Tells whether the host took it.
/// Grant: metrics.
pub fn count(name: &str, delta: i64) -> bool {
    host::metric_add(name, delta) == 0
}

/// Reads from the plugin's store, which its instances on this node share. Grant: kv.
pub fn kv_get(key: &str) -> Option<String> {
    text(key, host::kv_get)
}

/// Stores a value for `ttl` milliseconds, 0 for ever; an empty value deletes. Tells whether there was room. Grant: kv.
pub fn kv_set(key: &str, value: &str, ttl: i64) -> bool {
    host::kv_set(key, value, ttl) == 0
}

/// Adds to a decimal number in the store, 0 if it is missing, and returns the sum; None if the store is full or the value no number.
/// `ttl`, in milliseconds, counts from the key's first use. Grant: kv.
pub fn kv_incr(key: &str, delta: i64, ttl: i64) -> Option<i64> {
    Some(host::kv_incr(key, delta, ttl)).filter(|&n| n != i64::MIN)
}

/// Unix time in milliseconds. Grant: clock.
pub fn now() -> i64 {
    host::now()
}

/// Reads a value of any length; get answers with its length, and copies it if there is room.
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

/// Exports a function `fn() -> Result<(), String>` that runs before any event. If it fails, the relay refuses the plugin with its error.
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

/// Exports a function `fn(u8, &mut Event) -> Verdict` that renders an event for the subscribers of one class.
#[macro_export]
macro_rules! on_class {
    ($f:path) => {
        #[no_mangle]
        pub extern "C" fn ev_on_class(class: u32, group: u32, payload: u32) -> u64 {
            $crate::guest::event(group, payload, |e| $f(class as u8, e))
        }
    };
}

/// Exports a function `fn(&Request) -> Answer` that decides who may subscribe to what, and in which class.
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
    //! What the macros call, and the exports that every plugin has.
    use super::*;

    /// One call runs at a time, in one thread.
    static mut INPUT: Vec<u8> = Vec::new();
    static mut KEPT: Vec<u8> = Vec::new();

    #[no_mangle]
    pub extern "C" fn ev_abi_version() -> i32 {
        1
    }

    #[no_mangle]
    pub extern "C" fn ev_buffer(size: u32) -> *mut u8 {
        if size > 1 << 30 {
            return std::ptr::null_mut();
        }
        let size = size as usize;
        unsafe {
            let input = &mut *std::ptr::addr_of_mut!(INPUT);
            if input.len() < size {
                *input = vec![0; size];
            }
            input.as_mut_ptr()
        }
    }

    pub fn init(setup: fn() -> Result<(), String>) -> i32 {
        match setup() {
            Ok(()) => 0,
            Err(why) => {
                log(Level::Error, &why);
                1
            }
        }
    }

    pub fn event(group: u32, payload: u32, hook: impl Fn(&mut Event) -> Verdict) -> u64 {
        let input = unsafe { &mut *std::ptr::addr_of_mut!(INPUT) };
        let (head, tail) = input.split_at_mut(group as usize);
        let group = std::str::from_utf8(head).unwrap_or_default();
        match hook(&mut Event { group, payload: &mut tail[..payload as usize] }) {
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

    fn failed(why: &str) -> u64 {
        log(Level::Error, why);
        2
    }

    /// Holds a result until the next one. An empty Vec has no address of its own, but one that is not 0.
    fn keep(v: Vec<u8>) -> u64 {
        unsafe {
            let kept = &mut *std::ptr::addr_of_mut!(KEPT);
            *kept = v;
            (kept.as_ptr() as usize as u64) << 32 | kept.len() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(payload: &str, members: &str) -> Verdict {
        Event { group: "g", payload: &mut payload.as_bytes().to_vec() }.insert(members)
    }

    #[test]
    fn members_go_to_the_end() {
        assert_eq!(insert(" {\"a\":1 } ", "\"b\":2"), Verdict::Replace(b" {\"a\":1 ,\"b\":2}".to_vec()));
        assert_eq!(insert("{ }", "\"b\":2"), Verdict::Replace(b"{ \"b\":2}".to_vec()));
        for (payload, members) in [("[1]", "\"b\":2"), ("", "\"b\":2"), ("{", "\"b\":2"), ("{}", "")] {
            assert_eq!(insert(payload, members), Verdict::Pass);
        }
    }

    #[test]
    #[should_panic(expected = "outside WebAssembly")]
    fn there_is_no_host_here() {
        now();
    }
}
