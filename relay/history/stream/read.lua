-- Reads a history. KEYS: the stream, what is known about the stream (a hash; see publish.lua).
-- ARGV: an epoch (8 bytes), the numbers of positions in ascending order (8 bytes each), the number of latest events, a
-- gap that is not stored yet and its mark (8 bytes) or empty texts, a server that was lost and one from which the stream
-- has moved or empty texts, "head" if the newest position must be one to resume from, lifetimes of
-- the hash and of the stream in milliseconds.
-- The hash: g the newest gap and m its mark, h the newest head, r the run ID and the replication ID of the server. Heads after the first
-- are entries of the stream, too.
local slack = 2000000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local info = redis.call('INFO', 'server', 'replication')
local run = string.match(info, 'run_id:(%x+)') .. ' ' .. string.match(info, 'master_replid:(%x+)')
local meta = redis.call('HMGET', KEYS[2], 'e', 's', 'f', 'g', 'm', 'h', 'r')
local epoch, mark, server = meta[1], meta[5] or '', meta[7]
local removed, gap, head = tonumber(meta[3] or 0), tonumber(meta[4] or 0), tonumber(meta[6] or 0)
local last, previous, bytes, oldest, renewed = 0, 0, 0, 0, 0
if epoch then
	last, previous, bytes, oldest, renewed = struct.unpack('>I8I8I8I8I8', meta[2])
end
local function put(...)
	redis.call('HSET', KEYS[2], ...)
	redis.call('PEXPIRE', KEYS[2], ARGV[9])
end

if not epoch then
	if ARGV[8] ~= 'head' and ARGV[4] == '' then
		return {''}
	end
	redis.call('DEL', KEYS[1])
	head = math.max(now, tonumber(ARGV[4] ~= '' and ARGV[4] or 0) + 1)
	epoch, last, removed, gap, server = ARGV[1], head, 0, 0, run
	put('e', epoch, 's', struct.pack('>I8I8I8I8I8', last, 0, 0, 0, 0), 'h', head, 'r', run)
end
if server ~= run then
	if server and server == ARGV[6] then -- What the lost server had stored last may be missing.
		gap, mark = math.max(now, last + 1), epoch
		put('g', gap, 'm', mark)
	elseif server and server ~= ARGV[7] then
		return {server}
	end
	put('r', run)
end
if ARGV[4] ~= '' and tonumber(ARGV[4]) > gap then
	gap, mark = tonumber(ARGV[4]), ARGV[5]
	put('g', gap, 'm', mark)
end
local exists = redis.call('EXISTS', KEYS[1]) == 1
if not exists then
	removed = previous
end
if ARGV[8] == 'head' then
	if previous > gap and previous > head and gap > 0 and previous <= gap + slack then
		head = math.max(now, last + 1)
		redis.call('XADD', KEYS[1], string.format('%d-0', head), 'h', '')
		if not exists then
			redis.call('PEXPIRE', KEYS[1], ARGV[10])
			bytes, oldest = 0, head
		end
		put('h', head, 'f', removed, 's', struct.pack('>I8I8I8I8I8', head, previous, bytes, oldest, renewed))
	else
		redis.call('PEXPIRE', KEYS[2], ARGV[9])
	end
end

local from
for i = 1, #ARGV[2], 8 do
	local base = struct.unpack('>I8', ARGV[2], i)
	if base == gap then
		from = math.min(from or base, gap - slack)
	elseif base >= removed then
		from = math.min(from or base, base)
		if base > gap then
			break
		end
	end
end
if not from and ARGV[8] == '' and #ARGV[2] > 0 then -- for delivery, as far as it goes
	from = removed
end
if tonumber(ARGV[3]) > 0 then
	local latest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[3])
	if #latest > 0 then
		local oldest = tonumber(string.match(latest[#latest][1], '^%d+'))
		from = math.min(from or oldest, oldest)
	end
end
local events = {}
if from then
	events = redis.call('XRANGE', KEYS[1], string.format('%.0f', from), '+')
end
return {epoch, mark, string.format('%.0f', bytes), string.format('%.0f %.0f %.0f %.0f %.0f', removed, previous, gap, head, now), events}
