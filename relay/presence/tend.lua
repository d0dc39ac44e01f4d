-- Renews a node's lease and returns what is to be done. KEYS: 1 meta, 2 nodes, 3 dead, 4 leaving, 5 due. ARGV: 1 now or '',
-- 2 node, 3 epoch, 4 calls, 5 lease, 6 suspicion in milliseconds, 7 limit. Returns {} for an unknown registration, else
-- {dead nodes, expired members, unclaimed announcements}. See register.lua and change.lua.
local call = redis.call
local time = call('TIME')
local now = tonumber(ARGV[1]) or time[1] * 1000 + math.floor(time[2] / 1000)
local meta, node, suspicion, limit = KEYS[1], ARGV[2], tonumber(ARGV[6]), ARGV[7]
local state = call('HMGET', meta, 'id', 'n:' .. node)
if state[1] ~= ARGV[3] or state[2] ~= ARGV[4] or not call('ZSCORE', KEYS[2], node) then
	return {}
end
call('ZADD', KEYS[2], now + ARGV[5], node)
call('HDEL', meta, 's:' .. node)
for _, other in ipairs(call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, limit)) do
	local since = call('HGET', meta, 's:' .. other)
	if not since then
		call('HSET', meta, 's:' .. other, now)
	elseif now >= since + suspicion then
		call('ZREM', KEYS[2], other)
		call('HDEL', meta, 's:' .. other, 'n:' .. other)
		call('SADD', KEYS[3], other)
	end
end
return {
	call('SMEMBERS', KEYS[3]),
	call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, limit),
	call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, limit),
}
