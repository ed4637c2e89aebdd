-- Accept one order into the intake.
--
-- KEYS  1  recent      hash of even days: what stands for an order -> for the content that was accepted first
--       2              the same of odd days
--       3  intake      stream of accepted orders
--       4  companies   sorted set: company alias -> epoch seconds of the last word of a worker that serves it
--       5  waiting     string: jobs of the company that wait in the ledger, as a worker last counted
-- ARGV  1  company alias, normalised
--       2  what stands for this order in `recent`
--       3  what stands for its content there
--       4  seconds of a day of `recent`
--       5  most orders that may wait (intake and ledger together)
--       6  seconds after which a member of `companies` says nothing any more
--       7… fields and values of the stream entry, by turns
-- Returns {verdict, detail}:
--       accepted | already | conflict   detail: id of the stream entry
--       unknown_company                 detail: the aliases that workers serve, comma separated; nothing was added
--       full                            detail: how many wait; nothing was added
--
-- One script, so that a verdict and its entry are one thing, and one round trip. What it found in `recent` never keeps
-- an order out of the stream: that may be older than the truth, and only the ledger decides. Whatever can fail does so
-- before or at XADD, so an error reply proves that the order was not taken; what fails in `recent` is passed over.

local intake, companies, waiting = KEYS[3], KEYS[4], KEYS[5]
local company, order, content = ARGV[1], ARGV[2], ARGV[3]

if not redis.call('ZSCORE', companies, company) then
  local now = tonumber(redis.call('TIME')[1])
  if #redis.call('ZRANGEBYSCORE', companies, now - tonumber(ARGV[6]), '+inf', 'LIMIT', 0, 1) > 0 then
    return {'unknown_company', table.concat(redis.call('ZRANGE', companies, 0, 19), ', ')}
  end
end

local depth = redis.call('XLEN', intake) + (tonumber(redis.call('GET', waiting) or '0') or 0)
if depth >= tonumber(ARGV[5]) then
  return {'full', string.format('%.0f', depth)}
end

local entry = redis.call('XADD', intake, '*', unpack(ARGV, 7))

-- The entry's id tells the time, by one clock for all producers.
local day_seconds = tonumber(ARGV[4])
local day = math.floor(tonumber(string.match(entry, '^%d+')) / 1000 / day_seconds)
local today, yesterday = KEYS[1 + day % 2], KEYS[2 - day % 2]

local first = redis.pcall('HGET', yesterday, order)
if not first then
  if redis.pcall('HSETNX', today, order, content) == 1 then
    if redis.call('HLEN', today) == 1 then
      redis.call('EXPIREAT', today, (day + 2) * day_seconds)
    end
    return {'accepted', entry}
  end
  first = redis.pcall('HGET', today, order)
end
if first == content then
  return {'already', entry}
end
if type(first) == 'string' then
  return {'conflict', entry}
end
return {'accepted', entry}
