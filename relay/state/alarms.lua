local function alarms()
	local due, data, claims = KEYS[5], KEYS[6], KEYS[7]

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
		return math.max(0, math.min(window, at + window - now))
	end

	local function set(payload, window)
		local before = call('HGET', data, key)
		local old, new = before and size(before) or 0, #key + #payload + 64
		local function count()
			return call('HLEN', data) + (before and 0 or 1)
		end
		if not fits(old, new, count) then
			return {-2}
		end
		call('HSET', data, key, '0 ' .. payload)
		call('ZADD', due, exact(now + number), key)
		charge(new - old)
		return {0, release(window)}
	end

	local function remove()
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

	if op == 'alarm_set' then
		return set(ARGV[7], tonumber(ARGV[8]))
	elseif op == 'alarm_cancel' then
		if not remove() then
			return {1}
		end
		return {0, release(tonumber(ARGV[8]))}
	elseif op == 'alarm_claim' then
		return claim(ARGV[7], tonumber(ARGV[8]))
	end
	local owner = call('HGET', claims, key)
	if not owner or string.match(owner, '^%S+') ~= ARGV[7] then
		return {1}
	end
	if op == 'alarm_renew' then
		call('ZADD', due, exact(now + number), key)
	elseif op == 'alarm_finish' then
		call('HDEL', claims, key)
		remove()
	elseif op == 'alarm_retry' then
		call('HDEL', claims, key)
		call('ZADD', due, exact(now + number), key)
		local attempts, payload = string.match(call('HGET', data, key), '^(%d+)( .*)$')
		call('HSET', data, key, attempts - ARGV[8] .. payload)
	end
	return {0}
end

if string.sub(op, 1, 6) == 'alarm_' then
	return alarms()
end
return values()
