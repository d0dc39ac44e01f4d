-- Makes a node known in a shard. KEYS: 1 meta, 2 nodes, 3 dead. ARGV: 1 now or '', 2 node, 3 an epoch for an empty shard,
-- 4 lease in milliseconds. Returns the epoch.
-- meta is a hash: id the epoch, at its beginning, n:<node> the calls with the node's registration, s:<node> when its lease
-- was first found ended. nodes is a sorted set by the end of the lease, dead the set of nodes without one.
local call = redis.call
local time = call('TIME')
local now = tonumber(ARGV[1]) or time[1] * 1000 + math.floor(time[2] / 1000)
local node = ARGV[2]
local epoch = call('HGET', KEYS[1], 'id')
if not epoch then
	epoch = ARGV[3]
	call('HSET', KEYS[1], 'id', epoch, 'at', now)
end
call('HSET', KEYS[1], 'n:' .. node, 0)
call('HDEL', KEYS[1], 's:' .. node)
call('ZADD', KEYS[2], now + ARGV[4], node)
call('SREM', KEYS[3], node)
return epoch
