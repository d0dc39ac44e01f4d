-- Carries out requests, in order. KEYS: 1 the fence of the node; then for each plugin: the sizes of all keys (hash), the ends
-- of their lifetimes (sorted set), the number of all bytes, when each alarm is due (sorted set), "<attempts> <payload>" of
-- each (hash), "<claim> <time>" of those that are claimed (hash); and the values of requests for values.
-- ARGV: 1 the node's session; 2 bytes, 3 keys and 4 alarms that a plugin may have; then for each request: operation, the
-- positions in KEYS of its plugin's keys and of its value, key or name, a number (lifetime, delay or lease, in
-- milliseconds), and three that the operation names.
-- Returns {status, ...} of each request; the status -101 means that Redis rejected it, with the reason. Returns {-100} if the
-- node has begun another session.
local call = redis.call
if call('GET', KEYS[1]) ~= ARGV[1] then
	return {-100}
end
local maxBytes, maxKeys, maxAlarms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Of the current request.
local op, value, key, number, first, second, third
local sizes, expiry, bytes, due, data, claims
-- plugin has what this run knows of the request's plugin: whether expired keys were forgotten, and whether any key may
-- have an end.
local plugin
local plugins = {}

local function exact(n)
	return string.format('%.0f', n)
end

local function charge(n)
	if n ~= 0 then
		call('INCRBY', bytes, exact(n))
	end
end

-- forget removes the bookkeeping of a key.
local function forget(k)
	local size = call('HGET', sizes, k)
	if size then
		call('HDEL', sizes, k)
		charge(-size)
	end
	if plugin.ends then
		call('ZREM', expiry, k)
	end
end

-- reap forgets keys that have expired, so that they do not count for ever.
local function reap(limit)
	local gone = call('ZRANGEBYSCORE', expiry, '-inf', '(' .. exact(now), 'LIMIT', 0, limit)
	for _, k in ipairs(gone) do
		forget(k)
	end
	return #gone
end

-- tidy forgets some keys that have expired, before the first write of a plugin.
local function tidy()
	if not plugin.tidy then
		plugin.tidy = true
		if plugin.ends then
			reap(5)
		end
	end
end

-- fits reports whether an entry may grow from old to new bytes, and the number of entries to count.
local function fits(old, new, count, most)
	while new > old do
		local used = tonumber(call('GET', bytes) or 0)
		if used - old + new <= maxBytes and count() <= most then
			return true
		end
		if reap(1000) == 0 then
			return false
		end
	end
	return true
end
