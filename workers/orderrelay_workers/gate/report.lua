-- Report how requests of one kind ended: free their places in flight, and open or close the circuit.
--
-- KEYS  1 the company's gate (hash)   2 its requests in flight (hash: boot id -> "<count>@<seen_us>")
-- ARGV  1 boot id, hex                2 kind: order, lookup or login      3 own requests in flight now, exactly
--       4 how many ended well         5 how many ended unwell             6 1 if the probe is among them, else 0
--       7 reason to open at once, or ""                                   8 the wait in us that the vendor asked for, or 0
-- Return 1, or 0 if the gate is not seeded (then only the count was written), or of a newer layout (then nothing was).
-- Why atomic: counting, opening and doubling are one decision; two workers would open twice and double twice.
local boot, kind, outstanding = ARGV[1], ARGV[2], tonumber(ARGV[3])
local good, unwell, probe = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local trip, throttle_us = ARGV[7], tonumber(ARGV[8])
local LAYOUT = 1
local OPENS_AT = 5
-- Orders in doubt shall not wait long after a short outage; their look-ups create nothing and are few.
local FIRST_HOLD_US = kind == 'lookup' and 1000000 or 5000000
local LONGEST_HOLD_US = 300000000
local LONGEST_THROTTLE_US = 86400000000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

if (tonumber(redis.call('HGET', KEYS[1], 'layout') or 1) or math.huge) > LAYOUT then
  return 0
end
if outstanding > 0 then
  redis.call('HSET', KEYS[2], boot, string.format('%.0f@%.0f', outstanding, now))
else
  redis.call('HDEL', KEYS[2], boot)
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end

if throttle_us > 0 then
  local known = math.min(tonumber(redis.call('HGET', KEYS[1], 'throttled_until_us')) or 0, now + LONGEST_THROTTLE_US)
  local asked = now + math.min(throttle_us, LONGEST_THROTTLE_US)
  redis.call('HSET', KEYS[1], 'throttled_until_us', string.format('%.0f', math.max(known, asked)))
end

local function forget_probe()
  redis.call('HDEL', KEYS[1], kind .. '_probe', kind .. '_probe_until_us')
end

local function hold(hold_us, reason)
  redis.call('HSET', KEYS[1], kind .. '_held_until_us', string.format('%.0f', now + hold_us),
    kind .. '_hold_us', string.format('%.0f', hold_us), kind .. '_reason', reason)
  forget_probe()
end

if good > 0 then
  redis.call('HDEL', KEYS[1], kind .. '_unwell', kind .. '_held_until_us', kind .. '_hold_us', kind .. '_reason')
  forget_probe()
  -- The order within a batch is not known, and a vendor that answers well is not down.
  unwell = 0
end

local field = redis.call('HMGET', KEYS[1], kind .. '_hold_us', kind .. '_reason', kind .. '_probe', kind .. '_unwell')
local hold_us = tonumber(field[1])
-- A probe whose lease is over, with another's in its place, decides nothing any more.
probe = probe and field[3] == boot
if hold_us then
  if probe and (unwell > 0 or trip ~= '') then
    hold(math.min(hold_us * 2, LONGEST_HOLD_US), trip ~= '' and trip or field[2])
  else
    if trip ~= '' then
      redis.call('HSET', KEYS[1], kind .. '_reason', trip)
    end
    if probe then
      forget_probe()
    end
  end
elseif trip ~= '' then
  hold(FIRST_HOLD_US, trip)
elseif unwell > 0 then
  local in_a_row = (tonumber(field[4]) or 0) + unwell
  redis.call('HSET', KEYS[1], kind .. '_unwell', string.format('%.0f', in_a_row))
  if in_a_row >= OPENS_AT then
    hold(FIRST_HOLD_US, string.format('%.0f requests in a row went unwell', in_a_row))
  end
end
return 1
