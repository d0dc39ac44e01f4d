-- known returns the size of the key, 0 without a value, and by how many keys a write adds to the plugin's.
local function known()
	if call('EXISTS', value) == 0 then
		forget(key)
		return 0, 1
	end
	return tonumber(call('HGET', sizes, key) or 0), 0
end

local function room(old, new, more)
	return fits(old, new, function()
		return call('HLEN', sizes) + more
	end, maxKeys)
end

local function record(old, new)
	if new ~= old then
		call('HSET', sizes, key, exact(new))
		charge(new - old)
	end
end

local function lifetime()
	if number > 0 then
		local ends = exact(now + number)
		call('PEXPIREAT', value, ends)
		call('ZADD', expiry, ends, key)
		plugin.ends = true
	elseif plugin.ends then
		call('PERSIST', value)
		call('ZREM', expiry, key)
	end
end

-- attempt returns the reply to a command, and nil if the value has a form for which the command is not. Any other error,
-- such as that of a replica or without memory, says nothing about the value and ends the request.
local function attempt(...)
	local reply = redis.pcall(...)
	local err = type(reply) == 'table' and reply.err
	if not err then
		return reply
	end
	for _, form in ipairs({'WRONGTYPE', 'not an integer', 'would overflow'}) do
		if string.find(err, form, 1, true) then
			return nil
		end
	end
	error(reply)
end

-- read returns the value, '' if there is none, and nil for a list.
local function read()
	local v = attempt('GET', value)
	if v == nil then
		return nil
	end
	return v or ''
end

local function set(v)
	if v == '' then
		call('DEL', value)
		forget(key)
		return {0}
	end
	tidy()
	local old, more = known()
	local new = #key + #v + 64
	if not room(old, new, more) then
		return {-2}
	end
	call('SET', value, v)
	record(old, new)
	lifetime()
	return {0}
end

local function add(delta)
	local v = read()
	if not v then
		return {-4}
	end
	if v == '' then
		local result = set(delta)
		if result[1] == 0 then
			result[2] = delta
		end
		return result
	end
	if not attempt('INCRBY', value, delta) then
		return {-4}
	end
	v = call('GET', value) -- A number of Lua has 53 bits.
	record(tonumber(call('HGET', sizes, key) or 0), #key + #v + 64)
	return {0, v}
end

local function push(v, limit, most)
	local n = attempt('LLEN', value)
	if not n then
		return {-4}
	end
	tidy()
	local old, more = known()
	local new = math.max(old, #key + 64) + #v + 16
	if n >= limit then
		for _, e in ipairs(call('LRANGE', value, 0, n - limit)) do
			new = new - #e - 16
		end
	end
	if new - #key - 64 > most or not room(old, new, more) then
		return {-2}
	end
	call('RPUSH', value, v)
	call('LTRIM', value, -limit, -1)
	record(old, new)
	lifetime()
	return {0}
end

local values = {
	get = function()
		local v = read()
		if not v then
			return {-4}
		end
		return v == '' and {1} or {0, v}
	end,
	set = function()
		return set(first)
	end,
	swap = function()
		local v = read()
		if not v then
			return {-4}
		elseif v ~= second then
			return {2, v}
		end
		return set(first)
	end,
	add = function()
		return add(first)
	end,
	push = function()
		return push(first, tonumber(second), tonumber(third))
	end,
	list = function()
		local list = attempt('LRANGE', value, -second, -1)
		if not list then
			return {-4}
		end
		table.insert(list, 1, #list == 0 and 1 or 0)
		return list
	end,
	usage = function()
		reap(1000)
		return {0, tonumber(call('GET', bytes) or 0), call('HLEN', sizes), call('ZCARD', due)}
	end,
}
