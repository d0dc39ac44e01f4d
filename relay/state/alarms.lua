local function size(record)
	local space = string.find(record, ' ', 1, true)
	return #key + #record - space + 64
end

-- release ends a claim, and returns for how many of the given milliseconds after it the claim's owner may still start.
local function release(window)
	local claim = call('HGET', claims, key)
	if not claim then
		return 0
	end
	call('HDEL', claims, key)
	local at = tonumber(string.match(claim, ' (%d+)$'))
	return math.max(0, math.min(window, at + window - now + 1)) -- Both times are rounded down.
end

local function setAlarm(payload, window)
	local before = call('HGET', data, key)
	local old, new = before and size(before) or 0, #key + #payload + 64
	local function count()
		return call('HLEN', data) + (before and 0 or 1)
	end
	if not fits(old, new, count, maxAlarms) then
		return {-2}
	end
	call('HSET', data, key, '0 ' .. payload)
	call('ZADD', due, exact(now + number + (number > 0 and 1 or 0)), key) -- now is rounded down.
	charge(new - old)
	return {0, release(window)}
end

local function removeAlarm()
	local before = call('HGET', data, key)
	if not before then
		return false
	end
	call('HDEL', data, key)
	call('ZREM', due, key)
	charge(-size(before))
	return true
end

-- claim claims what is due. Nobody but the claim's owner finishes, renews or retries it.
local function claim(token, limit)
	local result = {0, -1}
	for _, name in ipairs(call('ZRANGEBYSCORE', due, '-inf', exact(now), 'LIMIT', 0, limit)) do
		local record = call('HGET', data, name)
		if record then
			local space = string.find(record, ' ', 1, true)
			local attempts, payload = tonumber(string.sub(record, 1, space - 1)) + 1, string.sub(record, space + 1)
			call('HSET', data, name, attempts .. ' ' .. payload)
			local moved = call('HEXISTS', claims, name)
			call('HSET', claims, name, token .. ' ' .. exact(now))
			call('ZADD', due, exact(now + number), name)
			for _, v in ipairs({name, attempts, payload, moved}) do
				result[#result + 1] = v
			end
		else
			call('ZREM', due, name)
		end
	end
	local first = call('ZRANGE', due, 0, 0, 'WITHSCORES')
	if first[1] then
		result[2] = math.max(0, first[2] - now)
	end
	return result
end

-- owned calls f if the request has the claim of the alarm.
local function owned(f)
	return function()
		local owner = call('HGET', claims, key)
		if not owner or string.match(owner, '^%S+') ~= first then
			return {1}
		end
		f()
		return {0}
	end
end

local alarms = {
	alarm_set = function()
		return setAlarm(first, tonumber(second))
	end,
	alarm_cancel = function()
		if not removeAlarm() then
			return {1}
		end
		return {0, release(tonumber(second))}
	end,
	alarm_claim = function()
		return claim(first, tonumber(second))
	end,
	alarm_renew = owned(function()
		call('ZADD', due, exact(now + number), key)
	end),
	alarm_finish = owned(function()
		call('HDEL', claims, key)
		removeAlarm()
	end),
	alarm_retry = owned(function()
		call('HDEL', claims, key)
		call('ZADD', due, exact(now + number), key)
		local attempts, payload = string.match(call('HGET', data, key), '^(%d+)( .*)$')
		call('HSET', data, key, attempts - second .. payload)
	end),
}
