-- Admit requests of one kind to the vendor: is the gate open, and when may each of them start?
--
-- KEYS  1 the company's gate (hash)   2 its requests in flight (hash: boot id -> "<count>@<seen_us>")
-- ARGV  1 boot id, hex                2 kind: order, lookup or login      3 how many are wanted, 1 or more
--       4 horizon in us: the latest start, from now, that is of use      5 own requests in flight, exactly
--       6 length in us of the lease of a probe
-- Return {granted, first_wait_us, interval_us, refusal or "", wait_us, reason, probe 0|1, end_us as text}:
--       permit i of 0..granted-1 may start max(0, first_wait_us + i * interval_us) after now. Nothing granted: ask
--       again after wait_us.
-- Why atomic: two workers that read the same state would both take the last slot, or both be the one probe.
--
-- Fields of the gate (times are Redis TIME in us): layout (missing: 1, as before it was written; a script that finds a
-- newer one than its own refuses, and writes nothing); interval_us, burst, max_in_flight, rate_per_second (for show);
-- paused (a text; missing: not paused); tat_us (when the last slot that was given away is paid off);
-- throttled_until_us (the vendor said "later"); and per kind <kind>_unwell (requests unwell in a row),
-- <kind>_held_until_us (missing: closed circuit), <kind>_hold_us, <kind>_reason, <kind>_probe (boot id),
-- <kind>_probe_until_us.
local boot, kind = ARGV[1], ARGV[2]
local want, horizon_us = tonumber(ARGV[3]), tonumber(ARGV[4])
local outstanding, probe_lease_us = tonumber(ARGV[5]), tonumber(ARGV[6])
local LAYOUT = 1
local LONGEST_HORIZON_US = 60000000
local LONGEST_THROTTLE_US = 86400000000
-- A worker repeats its count at each beat; one that has not for this long is gone and was forgotten by nobody.
local LAPSE_US = 60000000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function refuse(refusal, wait_us, reason)
  return {0, 0, 0, refusal, wait_us, reason or '', 0, '0'}
end

local field = redis.call('HMGET', KEYS[1], 'interval_us', 'burst', 'max_in_flight', 'paused', 'tat_us',
  'throttled_until_us', kind .. '_held_until_us', kind .. '_hold_us', kind .. '_reason', kind .. '_probe_until_us',
  'layout')
if (tonumber(field[11] or 1) or math.huge) > LAYOUT then
  return refuse('newer', 5000000, 'a newer version keeps this gate')
end
local interval, burst, max_in_flight = tonumber(field[1]), tonumber(field[2]), tonumber(field[3])
if not (interval and burst and max_in_flight) then
  return refuse('unseeded', 1000000)
end
if field[4] then
  return refuse('paused', 5000000, field[4])
end

-- Every stored instant is cut to the furthest that could have been meant, so a clock that stepped back costs no more.
if kind ~= 'login' then
  local throttled_until = math.min(tonumber(field[6]) or 0, now + LONGEST_THROTTLE_US)
  if now < throttled_until then
    return refuse('throttled', throttled_until - now, 'the vendor asked to wait')
  end
end

local probe = 0
local held_until = tonumber(field[7])
if held_until then
  held_until = math.min(held_until, now + tonumber(field[8]))
  if now < held_until then
    return refuse('held', held_until - now, field[9])
  end
  local probe_until = math.min(tonumber(field[10]) or 0, now + LONGEST_HORIZON_US + probe_lease_us)
  if now < probe_until then
    return refuse('probing', math.min(probe_until - now, 1000000), field[9])
  end
  probe, want = 1, 1
end

local total = outstanding
local counts = redis.call('HGETALL', KEYS[2])
for i = 1, #counts, 2 do
  if counts[i] ~= boot then
    local count, seen = string.match(counts[i + 1], '^(%d+)@(%d+)$')
    if count and now < tonumber(seen) + LAPSE_US then
      total = total + tonumber(count)
    else
      redis.call('HDEL', KEYS[2], counts[i])
    end
  end
end
local room = max_in_flight - total
if kind == 'order' then
  room = room - math.floor(max_in_flight / 10)
end
if room < 1 then
  return refuse('in_flight', 200000, 'as many requests as allowed are in flight')
end

local tat = math.max(tonumber(field[5]) or 0, now)
tat = math.min(tat, now + LONGEST_HORIZON_US + burst * interval)
local first_wait = tat - now - (burst - 1) * interval
if first_wait > horizon_us then
  -- Asking as soon as one slot comes into reach would mean many small batches: half a horizon's worth is waited for.
  return refuse('rate', first_wait - math.floor(horizon_us / 2), 'the rate is used up')
end
local fit = math.floor((horizon_us - first_wait) / interval) + 1
local granted = math.min(want, room, fit)
local ends = string.format('%.0f', tat + granted * interval)
redis.call('HSET', KEYS[1], 'tat_us', ends)
redis.call('HSET', KEYS[2], boot, string.format('%.0f@%.0f', outstanding + granted, now))
if probe == 1 then
  local probe_until = now + math.max(first_wait, 0) + probe_lease_us
  redis.call('HSET', KEYS[1], kind .. '_probe', boot, kind .. '_probe_until_us', string.format('%.0f', probe_until))
end
return {granted, first_wait, interval, '', 0, '', probe, ends}
