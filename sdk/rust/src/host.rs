//! The host functions, module `ev1` of plugin ABI 1. Outside WebAssembly, a [`crate::testing::Host`] takes the relay's
//! place.
use core::ops::Range;

/// The severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

#[cfg(target_arch = "wasm32")]
mod import {
    #[link(wasm_import_module = "ev1")]
    extern "C" {
        pub fn log(level: i32, p: *const u8, n: usize);
        pub fn config(p: *mut u8, cap: usize) -> i32;
        pub fn config_get(path: *const u8, n: usize, p: *mut u8, cap: usize) -> i32;
        pub fn json_get(path: *const u8, n: usize, p: *mut u8, cap: usize) -> i32;
        pub fn json_find(path: *const u8, n: usize) -> i64;
        pub fn event_source(p: *mut u8, cap: usize) -> i32;
        pub fn event_sent_ms() -> i64;
        pub fn event_position(p: *mut u8, cap: usize) -> i32;
        pub fn audience(mask: u64);
        pub fn emit(g: *const u8, gn: usize, p: *const u8, n: usize, mask: u64) -> i32;
        pub fn emit_at(
            g: *const u8,
            gn: usize,
            p: *const u8,
            n: usize,
            mask: u64,
            position: *const u8,
            position_n: usize,
        ) -> i32;
        pub fn metric_add(name: *const u8, n: usize, delta: i64) -> i32;
        pub fn kv_get(k: *const u8, kn: usize, p: *mut u8, cap: usize) -> i32;
        pub fn kv_set(k: *const u8, kn: usize, p: *const u8, n: usize, ttl: i64) -> i32;
        pub fn kv_incr(k: *const u8, kn: usize, delta: i64, ttl: i64) -> i64;
        pub fn now_ms() -> i64;
    }
}

/// Defines functions that call the relay in WebAssembly, and the current test host elsewhere.
macro_rules! functions {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $call:expr;)*) => {$(
        #[cfg(target_arch = "wasm32")]
        pub fn $name($($arg: $type),*) $(-> $result)? {
            unsafe { $call }
        }
        #[cfg(not(target_arch = "wasm32"))]
        pub fn $name($($arg: $type),*) $(-> $result)? {
            crate::testing::with(|host| host.$name($($arg),*))
        }
    )*};
}

functions! {
    fn log(level: Level, text: &str) = import::log(level as i32, text.as_ptr(), text.len());
    fn config(b: &mut [u8]) -> i32 = import::config(b.as_mut_ptr(), b.len());
    fn config_get(path: &str, b: &mut [u8]) -> i32 = import::config_get(path.as_ptr(), path.len(), b.as_mut_ptr(), b.len());
    fn json_get(path: &str, b: &mut [u8]) -> i32 = import::json_get(path.as_ptr(), path.len(), b.as_mut_ptr(), b.len());
    fn json_find(path: &str) -> i64 = import::json_find(path.as_ptr(), path.len());
    fn event_source(b: &mut [u8]) -> i32 = import::event_source(b.as_mut_ptr(), b.len());
    fn event_sent_ms() -> i64 = import::event_sent_ms();
    fn event_position(b: &mut [u8]) -> i32 = import::event_position(b.as_mut_ptr(), b.len());
    fn audience(mask: u64) = import::audience(mask);
    fn emit(group: &str, p: &[u8], mask: u64) -> i32 = import::emit(group.as_ptr(), group.len(), p.as_ptr(), p.len(), mask);
    fn emit_at(group: &str, p: &[u8], mask: u64, at: &str) -> i32 =
        import::emit_at(group.as_ptr(), group.len(), p.as_ptr(), p.len(), mask, at.as_ptr(), at.len());
    fn metric_add(name: &str, delta: i64) -> i32 = import::metric_add(name.as_ptr(), name.len(), delta);
    fn kv_get(key: &str, b: &mut [u8]) -> i32 = import::kv_get(key.as_ptr(), key.len(), b.as_mut_ptr(), b.len());
    fn kv_set(key: &str, v: &str, ttl: i64) -> i32 = import::kv_set(key.as_ptr(), key.len(), v.as_ptr(), v.len(), ttl);
    fn kv_incr(key: &str, delta: i64, ttl: i64) -> i64 = import::kv_incr(key.as_ptr(), key.len(), delta, ttl);
    fn now() -> i64 = import::now_ms();
}

/// The position of the value at `path` in the payload as it arrived.
pub fn find(path: &str) -> Option<Range<usize>> {
    let at = json_find(path);
    if at < 0 {
        return None;
    }
    let from = (at >> 32) as usize;
    Some(from..from + (at as u32) as usize)
}
