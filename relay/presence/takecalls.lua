-- Takes the right to send the entries of a webhook's queue, and returns the first entries. KEYS: 1 meta, 2 the queue,
-- 3 the right. ARGV: node, how long the right lasts in milliseconds, limit. Returns {} if there is nothing to send, else
-- {epoch, entries}.
local call = redis.call
if call('XLEN', KEYS[2]) == 0 then
	return {}
end
local sender = call('GET', KEYS[3])
if sender and sender ~= ARGV[1] then
	return {}
end
call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
return {call('HGET', KEYS[1], 'id') or '', call('XRANGE', KEYS[2], '-', '+', 'COUNT', ARGV[3])}
