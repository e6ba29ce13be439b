"""The Lua scripts of the Redis log: each is done by the server whole, with nobody in between.

The keys of a log, with its prefix P:

    P:format       version of this layout
    P:identity     drawn when the log was made
    P:log          the Redis Stream of all events: stream, version, at, data, and the position before
    P:last         position of the last event, kept when that is deleted
    P:fence        the one fence that is valid
    P:ids:S        positions of the events of stream S; their number is its version
    P:tokens:S     of each append to S the token and the version it led to
    P:row:S        S in the read model: rank, open, opened, changed and the columns that are set
    P:calls        streams of the read model, by the time they were opened
    P:open         open streams, by the time they were opened
    P:closed       all others, by the time of their latest event

Answers of many values are packed into one, because txredisapi needs a turn of the reactor for each.
A script must not fail once it has written: Redis does not undo what a failed script did.
"""

OPEN = """
-- KEYS: format, identity   ARGV: format, a new identity
redis.call('SETNX', KEYS[1], ARGV[1])
redis.call('SETNX', KEYS[2], ARGV[2])
return cmsgpack.pack({redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])})
"""

APPEND = """
-- KEYS: log, last, fence, open, closed, calls, the stream's ids, tokens, row
-- ARGV: token, expected or '', fence or '', wall time, stream, open '1' '0' or '',
--       {{rank, {{column, value}, ...}}, ...}, event, ...
local log, last, fence, open, closed, calls, ids, tokens, row = unpack(KEYS)
local token, expected, held, at, stream, opens = unpack(ARGV, 1, 6)

local done = redis.call('HGET', tokens, token)
if done then return tonumber(done) end  -- sent again because the answer was lost
local current = redis.call('GET', fence) or '0'
if held ~= '' and held ~= current then return {err = 'FENCED ' .. current} end
local version = redis.call('LLEN', ids)
if expected ~= '' and tonumber(expected) ~= version then return {err = 'CONFLICT ' .. version} end
if #ARGV == 7 then return version end

if version == 0 then redis.call('HSET', row, 'opened', at, 'open', '0', 'rank', '0') end
local previous = redis.call('GET', last) or '0-0'
for n = 8, #ARGV do
    version = version + 1
    local id = redis.call('XADD', log, '*', 'stream', stream, 'version', version, 'at', at,
                          'data', ARGV[n], 'previous', previous)
    redis.call('RPUSH', ids, id)
    previous = id
end
redis.call('SET', last, previous)
redis.call('HSET', tokens, token, version)

redis.call('HSET', row, 'changed', at)
if opens ~= '' then redis.call('HSET', row, 'open', opens) end
local rank = tonumber(redis.call('HGET', row, 'rank'))
for _, step in ipairs(cmsgpack.unpack(ARGV[7])) do
    if step[1] > rank then
        rank = step[1]
        redis.call('HSET', row, 'rank', rank)
        for _, column in ipairs(step[2]) do
            if column[2] then
                redis.call('HSET', row, column[1], column[2])
            else
                redis.call('HDEL', row, column[1])
            end
        end
    end
end
local opened = redis.call('HGET', row, 'opened')
if rank > 0 then redis.call('ZADD', calls, opened, stream) end
if redis.call('HGET', row, 'open') == '1' then
    redis.call('ZADD', open, opened, stream)
    redis.call('ZREM', closed, stream)
else
    redis.call('ZADD', closed, at, stream)
    redis.call('ZREM', open, stream)
end
return version
"""

PAGE = """
-- KEYS: log, last, identity   ARGV: position, count
return cmsgpack.pack({
    redis.call('GET', KEYS[3]) or '',
    redis.call('GET', KEYS[2]) or '0-0',
    redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2]),
})
"""

READ = """
-- KEYS: log, the ids of each stream   ARGV: version
local events = {}
for n = 2, #KEYS do
    for _, id in ipairs(redis.call('LRANGE', KEYS[n], ARGV[1], -1)) do
        events[#events + 1] = redis.call('XRANGE', KEYS[1], id, id)[1]
    end
end
return cmsgpack.pack(events)
"""

OPEN_STREAMS = """
-- KEYS: last, open
return cmsgpack.pack({redis.call('GET', KEYS[1]) or '0-0', redis.call('ZRANGE', KEYS[2], 0, -1)})
"""

ROW = """
-- KEYS: the stream's row   ARGV: stream
return cmsgpack.pack({{ARGV[1], redis.call('HGETALL', KEYS[1])}})
"""

ROWS = """
-- KEYS: calls or open   ARGV: prefix of rows, the newest and the oldest time, how many to skip and to give
local rows = {}
local names = redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[2], ARGV[3], 'LIMIT', ARGV[4], ARGV[5])
for n, name in ipairs(names) do
    rows[n] = {name, redis.call('HGETALL', ARGV[1] .. name)}
end
return cmsgpack.pack(rows)
"""

FORGET = """
-- KEYS: log, closed, calls   ARGV: closed before, count, prefixes of ids, tokens and rows
local names = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
for _, name in ipairs(names) do
    for _, id in ipairs(redis.call('LRANGE', ARGV[3] .. name, 0, -1)) do
        redis.call('XDEL', KEYS[1], id)
    end
    redis.call('DEL', ARGV[3] .. name, ARGV[4] .. name, ARGV[5] .. name)
    redis.call('ZREM', KEYS[2], name)
    redis.call('ZREM', KEYS[3], name)
end
return #names
"""

TAKE_FENCE = "return redis.call('INCR', KEYS[1])"
