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
        pub fn connection_id(p: *mut u8, cap: usize) -> i32;
        pub fn attachment_get(p: *mut u8, cap: usize) -> i32;
        pub fn attachment_set(p: *const u8, n: usize) -> i32;
        pub fn send(kind: i32, p: *const u8, n: usize) -> i32;
        pub fn join(p: *const u8, n: usize) -> i32;
        pub fn leave(p: *const u8, n: usize) -> i32;
        pub fn publish(g: *const u8, gn: usize, t: *const u8, tn: usize, p: *const u8, n: usize, flags: i32) -> i32;
        pub fn close(code: i32, p: *const u8, n: usize) -> i32;
        pub fn auto_response(p: *const u8, n: usize, q: *const u8, m: usize) -> i32;
        pub fn result_context(p: *mut u8, cap: usize) -> i32;
        pub fn shared_get(k: *const u8, kn: usize, c: *const u8, cn: usize) -> i64;
        pub fn shared_set(k: *const u8, kn: usize, p: *const u8, n: usize, ttl: i64, c: *const u8, cn: usize) -> i64;
        pub fn shared_swap(
            k: *const u8,
            kn: usize,
            e: *const u8,
            en: usize,
            p: *const u8,
            n: usize,
            ttl: i64,
            c: *const u8,
            cn: usize,
        ) -> i64;
        pub fn shared_add(k: *const u8, kn: usize, delta: i64, ttl: i64, c: *const u8, cn: usize) -> i64;
        pub fn shared_push(
            k: *const u8,
            kn: usize,
            p: *const u8,
            n: usize,
            limit: i32,
            ttl: i64,
            c: *const u8,
            cn: usize,
        ) -> i64;
        pub fn shared_list(k: *const u8, kn: usize, limit: i32, c: *const u8, cn: usize) -> i64;
        pub fn alarm_set(k: *const u8, kn: usize, p: *const u8, n: usize, at: i64, c: *const u8, cn: usize) -> i64;
        pub fn alarm_cancel(k: *const u8, kn: usize, c: *const u8, cn: usize) -> i64;
        pub fn fetch(r: *const u8, rn: usize, p: *const u8, n: usize, c: *const u8, cn: usize) -> i64;
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
    fn connection_id(b: &mut [u8]) -> i32 = import::connection_id(b.as_mut_ptr(), b.len());
    fn attachment_get(b: &mut [u8]) -> i32 = import::attachment_get(b.as_mut_ptr(), b.len());
    fn attachment_set(s: &str) -> i32 = import::attachment_set(s.as_ptr(), s.len());
    fn send(kind: i32, p: &[u8]) -> i32 = import::send(kind, p.as_ptr(), p.len());
    fn join(group: &str) -> i32 = import::join(group.as_ptr(), group.len());
    fn leave(group: &str) -> i32 = import::leave(group.as_ptr(), group.len());
    fn publish(group: &str, kind: &str, s: &str, flags: i32) -> i32 =
        import::publish(group.as_ptr(), group.len(), kind.as_ptr(), kind.len(), s.as_ptr(), s.len(), flags);
    fn close(code: i32, reason: &str) -> i32 = import::close(code, reason.as_ptr(), reason.len());
    fn auto_response(q: &str, a: &str) -> i32 = import::auto_response(q.as_ptr(), q.len(), a.as_ptr(), a.len());
    fn result_context(b: &mut [u8]) -> i32 = import::result_context(b.as_mut_ptr(), b.len());
    fn shared_get(key: &str, c: &str) -> i64 = import::shared_get(key.as_ptr(), key.len(), c.as_ptr(), c.len());
    fn shared_set(key: &str, v: &str, ttl: i64, c: &str) -> i64 =
        import::shared_set(key.as_ptr(), key.len(), v.as_ptr(), v.len(), ttl, c.as_ptr(), c.len());
    fn shared_swap(key: &str, e: &str, v: &str, ttl: i64, c: &str) -> i64 =
        import::shared_swap(key.as_ptr(), key.len(), e.as_ptr(), e.len(), v.as_ptr(), v.len(), ttl, c.as_ptr(), c.len());
    fn shared_add(key: &str, delta: i64, ttl: i64, c: &str) -> i64 =
        import::shared_add(key.as_ptr(), key.len(), delta, ttl, c.as_ptr(), c.len());
    fn shared_push(key: &str, v: &str, limit: i32, ttl: i64, c: &str) -> i64 =
        import::shared_push(key.as_ptr(), key.len(), v.as_ptr(), v.len(), limit, ttl, c.as_ptr(), c.len());
    fn shared_list(key: &str, limit: i32, c: &str) -> i64 = import::shared_list(key.as_ptr(), key.len(), limit, c.as_ptr(), c.len());
    fn alarm_set(name: &str, v: &str, at: i64, c: &str) -> i64 =
        import::alarm_set(name.as_ptr(), name.len(), v.as_ptr(), v.len(), at, c.as_ptr(), c.len());
    fn alarm_cancel(name: &str, c: &str) -> i64 = import::alarm_cancel(name.as_ptr(), name.len(), c.as_ptr(), c.len());
    fn fetch(r: &str, body: &str, c: &str) -> i64 = import::fetch(r.as_ptr(), r.len(), body.as_ptr(), body.len(), c.as_ptr(), c.len());
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
