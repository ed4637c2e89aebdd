-- Make a company's gate from what the ledger says, if Redis has none: at first, and after a wipe.
--
-- KEYS  1 the company's gate (hash)   2 its requests in flight (hash: boot id -> "<count>@<seen_us>")
-- ARGV  1 own boot id, hex            2 own requests in flight, exactly   3 how many fields to set (n)
--       4..2n+3 their names and values, in pairs
--       2n+4.. boot id and count of every other worker that has requests in flight, in pairs
-- Return 1, or 0 if there was a gate already (then nothing was changed).
-- Why atomic: a late second seed would forget a pause, a hold and the slots that were given away since the first.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local known = {}
local counts = redis.call('HGETALL', KEYS[2])
for i = 1, #counts, 2 do
  known[counts[i]] = counts[i + 1]
end
redis.call('DEL', KEYS[2])
local busy = tonumber(ARGV[2]) > 0
if busy then
  redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f@%.0f', tonumber(ARGV[2]), now))
end
local last = 3 + 2 * tonumber(ARGV[3])
for i = last + 1, #ARGV, 2 do
  local boot, number = ARGV[i], tonumber(ARGV[i + 1])
  if known[boot] then
    -- It has spoken for itself since the wipe, which is newer than what the ledger says.
    redis.call('HSET', KEYS[2], boot, known[boot])
    busy = true
  elseif number > 0 then
    redis.call('HSET', KEYS[2], boot, string.format('%.0f@%.0f', number, now))
    busy = true
  end
end
redis.call('HSET', KEYS[1], 'layout', LAYOUT, unpack(ARGV, 4, last))

-- Requests in flight may still wait for slots of the lost gate, which lie within a second as a rule.
local tat = now
if busy then
  local f = read(KEYS[1], {'interval_us', 'burst'})
  tat = now + 1000000 + (tonumber(f.burst) - 1) * tonumber(f.interval_us)
end
redis.call('HSET', KEYS[1], 'tat_us', whole(tat))
return 1
