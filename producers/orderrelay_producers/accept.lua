-- Accept one order into the intake.
--
-- KEYS  1  recent      string: content digest last accepted under this ExternalId
--       2  intake      stream of accepted orders
--       3  companies   sorted set: company alias -> epoch seconds of the last word of a worker that serves it
--       4  waiting     string: jobs of the company that wait in the ledger, as a worker last counted
-- ARGV  1  company alias, normalised
--       2  content digest of this order
--       3  seconds that `recent` lives, from when it is first set
--       4  most orders that may wait (intake and ledger together)
--       5  seconds after which a member of `companies` says nothing any more
--       6… fields and values of the stream entry, by turns
-- Returns {verdict, detail}:
--       accepted | already | conflict   detail: id of the stream entry
--       unknown_company                 detail: the aliases that workers serve, comma separated; nothing was added
--       full                            detail: how many wait; nothing was added
--
-- One script, so that a verdict and its entry are one thing, and one round trip. What it found in `recent` never keeps
-- an order out of the stream: that key may be older than the truth, and only the ledger decides. Whatever can fail does
-- so before or at XADD, so an error reply proves that the order was not taken.

local recent, intake, companies, waiting = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local company, digest = ARGV[1], ARGV[2]

if not redis.call('ZSCORE', companies, company) then
  local now = tonumber(redis.call('TIME')[1])
  if #redis.call('ZRANGEBYSCORE', companies, now - tonumber(ARGV[5]), '+inf', 'LIMIT', 0, 1) > 0 then
    return {'unknown_company', table.concat(redis.call('ZRANGE', companies, 0, 19), ', ')}
  end
end

local depth = redis.call('XLEN', intake) + (tonumber(redis.call('GET', waiting) or '0') or 0)
if depth >= tonumber(ARGV[4]) then
  return {'full', string.format('%.0f', depth)}
end

local first = redis.call('GET', recent)
local entry = redis.call('XADD', intake, '*', unpack(ARGV, 6))
if first == digest then
  return {'already', entry}
end
if first then
  return {'conflict', entry}
end
redis.call('SET', recent, digest, 'EX', ARGV[3], 'NX')
return {'accepted', entry}
