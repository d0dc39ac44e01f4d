-- begin makes the request at a position of ARGV the current one.
local function begin(at)
	local block = tonumber(ARGV[at + 1])
	op, value, key, number = ARGV[at], KEYS[tonumber(ARGV[at + 2])], ARGV[at + 3], tonumber(ARGV[at + 4])
	first, second, third = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
	sizes, expiry, bytes, due, data, claims = unpack(KEYS, block, block + 5)
	plugin = plugins[block]
	if not plugin then
		plugin = {ends = call('EXISTS', expiry) == 1}
		plugins[block] = plugin
	end
end

-- An error of Redis, such as one without memory, concerns its request alone.
local function carryOut(at)
	begin(at)
	return (values[op] or alarms[op])()
end

local results = {}
for at = 5, #ARGV, 8 do
	local ok, result = pcall(carryOut, at)
	if not ok then
		if type(result) == 'table' then
			result = result.err
		end
		result = {-101, tostring(result)}
	end
	results[#results + 1] = result
end
return results
