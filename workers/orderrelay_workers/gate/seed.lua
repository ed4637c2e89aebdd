-- Make a company's gate from what the ledger says, if Redis has none: at first, and after a wipe.
--
-- KEYS  1 the company's gate (hash)   2 its requests in flight (hash: boot id -> "<count>@<seen_us>")
-- ARGV  1 interval in us              2 burst                             3 most requests in flight
--       4 rate per second, for show   5 reason of the pause, or ""        6 own boot id, hex
--       7 own requests in flight, exactly
--       8.. boot id and count of every other worker that has requests in flight, in pairs
-- Return 1, or 0 if there was a gate already (then nothing was changed).
-- Why atomic: a late second seed would forget a pause, a hold and the slots that were given away since the first.
local LAYOUT = '1'
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])

local known = {}
local counts = redis.call('HGETALL', KEYS[2])
for i = 1, #counts, 2 do
  known[counts[i]] = counts[i + 1]
end
redis.call('DEL', KEYS[2])
local busy = false
for i = 6, #ARGV, 2 do
  local boot, count = ARGV[i], tonumber(ARGV[i + 1])
  if i > 6 and known[boot] then
    -- It has spoken for itself since the wipe, which is newer than what the ledger says.
    redis.call('HSET', KEYS[2], boot, known[boot])
    busy = true
  elseif count > 0 then
    redis.call('HSET', KEYS[2], boot, string.format('%.0f@%.0f', count, now))
    busy = true
  end
end

-- Requests in flight may still wait for slots of the lost gate, which lie within a second as a rule.
local tat = now
if busy then
  tat = now + 1000000 + (burst - 1) * interval
end
redis.call('HSET', KEYS[1], 'layout', LAYOUT, 'interval_us', ARGV[1], 'burst', ARGV[2], 'max_in_flight', ARGV[3],
  'rate_per_second', ARGV[4], 'tat_us', string.format('%.0f', tat))
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'paused', ARGV[5])
end
return 1
