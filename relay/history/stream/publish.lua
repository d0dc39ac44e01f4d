-- Stores an event and publishes the event with its position, in one step. KEYS: the stream, and a hash about the stream.
-- ARGV: channel, time of sending (8 bytes), text, an epoch (8 bytes), bounds: count, bytes, age in microseconds; lifetime
-- of the hash in milliseconds; the name of the entry's field, and the form of the message.
-- The hash: e epoch; s, packed, the last number used, the last event, the bytes of the texts, the oldest event, and when
-- the lifetimes were renewed; f the newest removed event; g, m, h and r: see read.lua.
local call, pack = redis.call, struct.pack
local stream, hash, text = KEYS[1], KEYS[2], ARGV[3]
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local meta = call('HMGET', hash, 'e', 's')
local epoch = meta[1]
local last, previous, bytes, oldest, renewed = 0, 0, 0, 0, 0
local count, size, age = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
if epoch then
	last, previous, bytes, oldest, renewed = struct.unpack('>I8I8I8I8I8', meta[2])
else -- A new history, or one whose hash is gone: no position from before is valid.
	call('DEL', stream)
	epoch = ARGV[4]
	local info = call('INFO', 'server', 'replication')
	call('HSET', hash, 'e', epoch,
		'r', string.match(info, 'run_id:(%x+)') .. ' ' .. string.match(info, 'master_replid:(%x+)'))
end
local id = math.max(now, last + 1)
call('XADD', stream, string.format('%d-0', id), ARGV[9], ARGV[2] .. text)
local n = call('XLEN', stream)
if n == 1 then -- Every earlier event is gone.
	bytes, oldest, renewed = 0, id, 0
	call('HSET', hash, 'f', previous)
end
bytes = bytes + #text

-- Removing many at a time costs each event little.
if n > count + 64 or bytes > size + size / 8 or oldest < now - age - age / 8 then
	local removed, more = nil, true
	while more do
		local step = math.max(1, math.min(65, math.floor(65536 / (bytes / math.max(n, 1) + 1))))
		local batch = call('XRANGE', stream, '-', '+', 'COUNT', step)
		more = #batch > 0
		for _, entry in ipairs(batch) do
			oldest = tonumber(string.match(entry[1], '^%d+'))
			if n <= count and bytes <= size and oldest >= now - age then
				more = false
				break
			end
			removed, n = oldest, n - 1
			if entry[2][1] ~= 'h' then
				bytes = bytes - #entry[2][2] + 8
			end
		end
		if removed then
			call('XTRIM', stream, 'MINID', string.format('%.0f', removed + 1))
		end
	end
	if removed then
		call('HSET', hash, 'f', removed)
	end
end

if now - renewed > age / 8 then
	call('PEXPIRE', stream, string.format('%.0f', age / 800 + 1000))
	call('PEXPIRE', hash, ARGV[8])
	renewed = now
end
call('HSET', hash, 's', pack('>I8I8I8I8I8', id, id, bytes, oldest, renewed))
local message = pack('>Bc8I8c8I8', ARGV[10], ARGV[2], id, epoch, previous) .. text
return {call('SPUBLISH', ARGV[1], message), bytes}
