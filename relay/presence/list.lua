-- Lists a group. KEYS: the group. ARGV: limit. Returns the number of members, then users and their records.
local call = redis.call
local n, limit = call('HLEN', KEYS[1]), tonumber(ARGV[1])
local result = {n}
if limit == 0 then
	return result
elseif n <= limit then
	for _, v in ipairs(call('HGETALL', KEYS[1])) do
		result[#result + 1] = v
	end
	return result
end
local cursor, seen, found = '0', {}, 0
repeat
	local page = call('HSCAN', KEYS[1], cursor, 'COUNT', limit)
	cursor = page[1]
	for i = 1, #page[2], 2 do
		if not seen[page[2][i]] and found < limit then
			seen[page[2][i]], found = true, found + 1
			result[#result + 1] = page[2][i]
			result[#result + 1] = page[2][i + 1]
		end
	end
until cursor == '0' or found >= limit
return result
