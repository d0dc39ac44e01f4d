-- Applies changes in order. KEYS: 1 meta, 2 nodes, 3 dead, 4 leaving, 5 due, 6 outbox, 7 the members that a node holds,
-- then groups. ARGV: 1 now or '', 2 node, 3 epoch, 4 calls, 5 the node whose members are concerned, 6 claim, 7 settle,
-- 8 lease in milliseconds, 9 the size of queues, 10 what begins the keys; then five for each change: operation, number of
-- the group's key, user, and two more.
-- Returns {known, queued, dropped}, then five for each announcement: kind, group, user, info, members.
-- A group is a hash of users: "<node>,<node> <policy> <info>". A policy is
-- "<grace>;<announce up to>;<webhook>;<1: users too>", and "?" if pages may have been told that the user has left. leaving is a sorted set of "<group>\0<user>" by the end of the grace
-- period, due one of announcements "<kind><group>\0<user>" by the time from which any node may claim them, and outbox a
-- hash of their infos. Queues of webhooks are streams.
local call = redis.call
local time = call('TIME')
local now = tonumber(ARGV[1]) or time[1] * 1000 + math.floor(time[2] / 1000)
local meta, nodes, dead, leaving, due, outbox, held = unpack(KEYS, 1, 7)
local by, of, prefix = ARGV[2], ARGV[5], ARGV[10]
local claim, lease, queueMax = tonumber(ARGV[6]), tonumber(ARGV[8]), tonumber(ARGV[9])
local state = call('HMGET', meta, 'id', 'n:' .. by, 'at')
if state[1] ~= ARGV[3] or state[2] ~= ARGV[4] or not call('ZSCORE', nodes, by) then
	return {0, 0, 0}
end
call('HINCRBY', meta, 'n:' .. by, 1)
local settled = state[3] + ARGV[7]
local result = {1, 0, 0}
if of ~= by and call('SISMEMBER', dead, of) == 0 then -- The node lives again.
	return result
end

local function split(record)
	local on, policy, info = string.match(record, '^(%S*) (%S*) (.*)$')
	local grace, bound, webhook, users = string.match(policy, '^(%d+);(%d+);([^;]*);(%d)%??$')
	return on, policy, info, tonumber(grace), tonumber(bound), webhook, users == '1'
end

local function tell(kind, group, user, info, n)
	for _, v in ipairs({kind, group, user, info, n}) do
		result[#result + 1] = v
	end
end

local function put(kind, group, user, info, at)
	local id = kind .. group .. '\0' .. user
	call('ZADD', due, at, id)
	call('HSET', outbox, id, info)
end

local function drop(kind, group, user)
	local id = kind .. group .. '\0' .. user
	call('ZREM', due, id)
	call('HDEL', outbox, id)
end

local opposite = {j = 'l', l = 'j'}

local function announce(kind, group, user, info, bound, n)
	drop(opposite[kind], group, user)
	local before = n -- members that are told, with the one concerned
	if kind == 'l' then
		before = n + 1
	end
	if bound == 0 then
		return
	elseif before > bound then
		call('ZADD', due, 'NX', now + 1000, 'c' .. group .. '\0')
	elseif now < settled then
		put(kind, group, user, info, settled)
	else
		put(kind, group, user, info, now + claim)
		tell(kind, group, user, info, n)
	end
end

local function queue(webhook, kind, group, user, info, n)
	local key = prefix .. 'calls:' .. webhook
	if call('XLEN', key) >= queueMax then
		result[3] = result[3] + 1
	end
	call('XADD', key, 'MAXLEN', queueMax, '*', 't', kind, 'g', group, 'u', user, 'i', info, 'n', n, 'at', now)
	result[2] = result[2] + 1
end

local function without(on, node)
	local rest = {}
	for other in string.gmatch(on, '[^,]+') do
		if other ~= node then
			rest[#rest + 1] = other
		end
	end
	return table.concat(rest, ',')
end

local apply = {}

function apply.e(op, key, group, user, info, policy)
	local record = call('HGET', key, user)
	local on, certain = '', record
	if op == 'k' then
		policy = policy .. '?'
	end
	if record then
		local before, its, known = split(record)
		on, certain = without(before, of), string.sub(its, -1) ~= '?'
		if op == 'k' then
			policy, info = its, known
		end
	end
	on = on == '' and of or on .. ',' .. of
	call('HSET', key, user, on .. ' ' .. policy .. ' ' .. info)
	call('SADD', held, group .. '\0' .. user)
	call('ZREM', leaving, group .. '\0' .. user)
	if op == 'q' then
		drop('j', group, user)
	elseif op == 'e' and not certain then
		local _, _, _, _, bound, webhook, users = split(on .. ' ' .. policy .. ' ' .. info)
		local n = call('HLEN', key)
		announce('j', group, user, info, bound, n)
		if webhook ~= '' and not record then
			if n == 1 then
				queue(webhook, 'occupied', group, user, info, n)
			end
			if users then
				queue(webhook, 'joined', group, user, info, n)
			end
		end
	end
end
apply.q, apply.k = apply.e, apply.e

function apply.r(_, key, group, user)
	call('SREM', held, group .. '\0' .. user)
	local record = call('HGET', key, user)
	if not record then
		return
	end
	local on, policy, info, grace = split(record)
	local rest = without(on, of)
	if rest == on then
		return
	end
	call('HSET', key, user, rest .. ' ' .. policy .. ' ' .. info)
	if rest == '' then
		if of ~= by then
			grace = math.max(0, grace - lease)
		end
		call('ZADD', leaving, math.max(now + grace, settled), group .. '\0' .. user)
	end
end

function apply.x(_, key, group, user)
	local id = group .. '\0' .. user
	local ends = call('ZSCORE', leaving, id)
	if not ends or tonumber(ends) > now then
		return
	end
	call('ZREM', leaving, id)
	local record = call('HGET', key, user)
	if not record then
		return
	end
	call('HDEL', key, user)
	local _, _, info, _, bound, webhook, users = split(record)
	local n = call('HLEN', key)
	announce('l', group, user, info, bound, n)
	if webhook ~= '' then
		if users then
			queue(webhook, 'left', group, user, info, n)
		end
		if n == 0 then
			queue(webhook, 'vacated', group, user, info, n)
		end
	end
end

local function isTrue(kind, key, user)
	return kind == 'c' or (call('HEXISTS', key, user) == 1) == (kind == 'j')
end

function apply.d(_, key, group, user, kind)
	local id = kind .. group .. '\0' .. user
	local at = call('ZSCORE', due, id)
	if not at or tonumber(at) > now then
		return
	elseif not isTrue(kind, key, user) then
		return drop(kind, group, user)
	end
	call('ZADD', due, now + claim, id)
	tell(kind, group, user, call('HGET', outbox, id) or '', call('HLEN', key))
end

function apply.a(_, key, group, user, kind, n)
	local info = call('HGET', outbox, kind .. group .. '\0' .. user) or ''
	drop(kind, group, user)
	local members = call('HLEN', key)
	if kind == 'c' then
		if members ~= tonumber(n) then
			call('ZADD', due, now + 1000, 'c' .. group .. '\0')
		end
	elseif not isTrue(kind, key, user) and now >= settled then -- The state has changed while it was published.
		local record = call('HGET', key, user)
		if record then
			info = select(3, split(record))
		end
		put(opposite[kind], group, user, info, now + claim)
		tell(opposite[kind], group, user, info, members)
	end
end

for i = 11, #ARGV, 5 do
	local key = KEYS[7 + ARGV[i + 1]]
	local group = string.sub(key, #prefix + 3) -- behind "g:"
	apply[ARGV[i]](ARGV[i], key, group, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
end
return result
