-- Carries out one request. KEYS: 1 the fence of the node, 2 the sizes of all keys (hash), 3 the ends of their lifetimes
-- (sorted set), 4 the number of all bytes; of requests for values: 5 the value; of requests for alarms: 5 when each is due
-- (sorted set), 6 "<attempts> <payload>" of each (hash), 7 "<claim> <time>" of those that are claimed (hash).
-- ARGV: 1 the node's session, 2 operation, 3 key or name, 4 a number (lifetime, delay or lease, in milliseconds), 5 bytes
-- and 6 keys or alarms that the plugin may have, then what the operation says.
-- Returns {status, ...}; the status -100 means that the node has begun another session.
local call = redis.call
if call('GET', KEYS[1]) ~= ARGV[1] then
	return {-100}
end
local sizes, expiry, bytes = KEYS[2], KEYS[3], KEYS[4]
local op, key, number = ARGV[2], ARGV[3], tonumber(ARGV[4])
local maxBytes, maxCount = tonumber(ARGV[5]), tonumber(ARGV[6])
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

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
	call('ZREM', expiry, k)
end

-- reap forgets keys that have expired, so that they do not count for ever.
local function reap(limit)
	local gone = call('ZRANGEBYSCORE', expiry, '-inf', '(' .. exact(now), 'LIMIT', 0, limit)
	for _, k in ipairs(gone) do
		forget(k)
	end
	return #gone
end

-- fits reports whether an entry may grow from old to new bytes, and the number of entries to count.
local function fits(old, new, count)
	while new > old do
		local used = tonumber(call('GET', bytes) or 0)
		if used - old + new <= maxBytes and count() <= maxCount then
			return true
		end
		if reap(1000) == 0 then
			return false
		end
	end
	return true
end
