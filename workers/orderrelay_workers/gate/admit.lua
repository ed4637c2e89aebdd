-- Admit requests of one kind to the vendor: is the gate open, and when may each of them start?
--
-- KEYS  1 the company's gate (hash)   2 its requests in flight (hash: boot id -> "<count>@<seen_us>")
-- ARGV  1 boot id, hex                2 kind: order, lookup or login      3 how many are wanted, 1 or more
--       4 horizon in us: the latest start, from now, that is of use      5 own requests in flight, exactly
--       6 length in us of the lease of a probe
--       7 1 if these have their places in flight already, and only were too late for their slots, else 0
--       8 how many retries of earlier grants of this worker were not used
--       9 lead in us: none can start sooner than so long after now, as they have to be claimed first
--       10 how many of its own places in flight lie idle    11 how many may be granted ahead: for places of its own
--       that are in use, in which they start as these become free
-- Return {granted, first_wait_us, step_us, refusal or "", wait_us, reason, probe 0|1, end_us as text, retries, places,
--       ahead, late_us, keep, full 0|1}: permit i of 0..granted-1 may start lead + max(0, first_wait_us + i *
--       step_us) after now, and up to late_us later; so many of them may be retries; so many new places in flight were
--       given for them; the last so many were granted ahead; the first have the idle places. Of its places that lie idle
--       the worker may keep those up to so many in all. full: more places would have let more of them go. Nothing granted,
--       or full: ask again after wait_us.
-- Why atomic: two workers that read the same state would both take the last slot, or both be the one probe.
--
-- Fields of the gate (missing ones have their default, so versions may add some without a new layout): layout (missing:
-- 1, as before it was written; a script that finds a newer one than its own refuses, and writes nothing);
-- interval_us (between two orders, at the rate in force), burst, max_in_flight, rate_per_second (the limit),
-- lookup_weight, login_weight (what such a request costs, in orders), learn_from (the least rate, if it is learned),
-- retry_share; paused (a text; missing: not paused); closed_from_us, closed_until_us, closed_reason; tat_us (when the
-- last slot that was given away is paid off), lookup_tat_us (the same for the share of look-ups),
-- order_wanted_us (when orders last had to wait for the rate); busy_tat_us (as tat_us, at BUSY_SHARE of the rate),
-- ahead_until_us (until then slots are as far apart as at AHEAD_SHARE of the rate); place_wanted_by (boot id) and
-- place_wanted_us (who last found no place and has less than its share, and when); others_wanted_us (when a look-up or
-- a login last found no place); throttled_until_us,
-- throttled_at_us and throttle_us (the vendor said "later"); probes_from_us (no probe of any kind before);
-- retry_tokens and retry_at_us;
-- done, done_at_us and done_since_us (orders that ended) and done_requests (by so many requests); those of the learned rate: see report.lua; n_<name>
-- (counts); and per kind <kind>_good, <kind>_bad, <kind>_at_us (the window), <kind>_held_until_us (missing: closed
-- circuit), <kind>_hold_us, <kind>_reason, <kind>_probe (boot id), <kind>_probe_until_us.
local boot, kind = ARGV[1], ARGV[2]
local want, horizon_us = tonumber(ARGV[3]), tonumber(ARGV[4])
local outstanding, probe_lease_us = tonumber(ARGV[5]), tonumber(ARGV[6])
local again, retries_back, lead_us = ARGV[7] == '1', tonumber(ARGV[8]), tonumber(ARGV[9])
local idle, ahead = tonumber(ARGV[10]), tonumber(ARGV[11])
local LONGEST_HORIZON_US = 60000000
local LONGEST_HOLD_US = 10000000
-- A worker repeats its count at each beat; one that has not for this long is gone and was forgotten by nobody.
local LAPSE_US = 60000000
-- One grant of orders is worth so much time, so that workers which are as eager get as much.
local TURN_US = 50000
-- Look-ups may reserve further ahead than orders for their share of the rate. They have the rest as far as no order was
-- refused lately, and less far ahead: so neither crowds the other out.
local LOOKUP_SHARE_US, LOOKUP_REST_US = 1000000, 500000
-- When all places in flight are taken, one is likely to be free so soon; who has its share of them asks less often.
local IN_FLIGHT_WAIT_US, CONTENT_WAIT_US = 20000, 250000
-- Who goes ahead may be this late for a slot. So that no second holds more than the rate all the same, that is allowed
-- only while much less is asked for, and all slots lie further apart until AHEAD_US after the last that may be late:
-- what is late from before such a second and what begins in it are, at AHEAD_SHARE, the rate at most.
local AHEAD_LATE_US, AHEAD_US, AHEAD_SHARE = 250000, 1250000, 0.8
local BUSY_SHARE, BUSY_US, MOST_BUSY_US = 0.7, 300000, 1000000
-- While a worker that has less than its share of the places wants some, none has more than that; while a look-up or a
-- login wants one, orders leave one, even where a tenth of all is none. Either wish is forgotten after so long.
local PLACE_WANTED_US = 300000
-- Retries that may be made without any success: so many at most, and one more in so much time.
local RETRIES_AT_LEAST = 10
local RETRY_EVERY_US = 5000000

local f = read(KEYS[1], {'layout', 'interval_us', 'burst', 'max_in_flight', 'rate_per_second', 'paused', 'tat_us',
  'closed_from_us', 'closed_until_us', 'closed_reason', 'throttled_until_us', 'throttled_at_us',
  'probes_from_us', 'order_probe_until_us',
  'lookup_probe_until_us', 'login_probe_until_us', 'order_held_until_us', 'lookup_held_until_us',
  'login_held_until_us', 'lookup_tat_us', 'order_wanted_us', 'retry_tokens', 'retry_at_us', 'retry_share',
  'busy_tat_us', 'ahead_until_us', 'place_wanted_by', 'place_wanted_us', 'others_wanted_us',
  'order_hold_us', 'order_reason',
  'order_weight', 'lookup_weight', 'login_weight', kind .. '_hold_us', kind .. '_reason'})

local function refuse(refusal, wait_us, reason, keep)
  if f.interval_us and refusal ~= 'newer' then
    count(KEYS[1], kind .. '_refused_' .. refusal, 1)
  end
  return {0, 0, 0, refusal, math.ceil(wait_us), reason or '', 0, '0', 0, 0, 0, 0, keep or 0,
    refusal == 'in_flight' and 1 or 0}
end

if is_newer(f.layout) then
  return refuse('newer', 5000000, 'a newer version keeps this gate')
end
local interval, burst, max_in_flight = tonumber(f.interval_us), tonumber(f.burst), tonumber(f.max_in_flight)
if not (interval and burst and max_in_flight) then
  return refuse('unseeded', 1000000)
end
if f.paused then
  return refuse('paused', 5000000, f.paused)
end
local reach_us = horizon_us
local closed_until = tonumber(f.closed_until_us)
if closed_until and now < closed_until then
  local opens_in, closes_in = closed_until - now, tonumber(f.closed_from_us) - now
  if closes_in <= 0 then
    return refuse('closed', opens_in, f.closed_reason)
  end
  -- A slot beyond that would start while it is closed.
  reach_us = math.min(reach_us, closes_in - 1 - lead_us)
  if reach_us < 0 then
    return refuse('closed', opens_in, f.closed_reason)
  end
end
if kind ~= 'login' then
  local throttled_until = throttled(KEYS[1], f)
  if now < throttled_until then
    return refuse('throttled', throttled_until - now, 'the vendor asked to wait')
  end
end

local probe = 0
-- While orders are held a login is a probe too: it would go out for their sake.
local held = f[kind .. '_held_until_us'] and kind or (kind == 'login' and f.order_held_until_us and 'order')
if held then
  local held_until = instant(KEYS[1], f, held .. '_held_until_us', tonumber(f[held .. '_hold_us']))
  local probes_from = instant(KEYS[1], f, 'probes_from_us', LONGEST_HOLD_US)
  local from = math.max(held_until, probes_from)
  for _, other in ipairs({'order', 'lookup', 'login'}) do
    if other ~= held and (tonumber(f[other .. '_held_until_us']) or math.huge) < held_until then
      -- The kind that has waited longer may go first, if it wants to.
      from = math.max(from, probes_from + 1000000)
    end
  end
  if now < from or again then
    return refuse('held', math.max(from - now, 0), f[held .. '_reason'])
  end
  -- One probe in the whole fleet, of whatever kind: a vendor that is down is asked one thing at a time.
  for _, other in ipairs({'order', 'lookup', 'login'}) do
    local out_until = instant(KEYS[1], f, other .. '_probe_until_us', LONGEST_HORIZON_US + probe_lease_us)
    if other ~= kind then
      -- One that hangs shall not keep the other kinds from being tried for longer than a hold.
      out_until = out_until - probe_lease_us + math.min(probe_lease_us, LONGEST_HOLD_US)
    end
    if now < out_until then
      return refuse('probing', math.min(out_until - now, 1000000), f[held .. '_reason'])
    end
  end
  probe, want = 1, 1
end

local spread = now < instant(KEYS[1], f, 'ahead_until_us', LONGEST_HORIZON_US + AHEAD_US) and AHEAD_SHARE or 1
local busy_tat = instant(KEYS[1], f, 'busy_tat_us', MOST_BUSY_US)
local may_go_ahead = kind == 'order' and not again and probe == 0 and busy_tat <= now + BUSY_US
local function lately(wanted_us)
  return math.abs(now - (tonumber(wanted_us) or 0)) < PLACE_WANTED_US
end
local rival = f.place_wanted_by ~= boot and lately(f.place_wanted_us)
-- Orders keep their places from one request to the next: where a tenth of all is none, others would never have one.
local others_wait = max_in_flight < 10 and lately(f.others_wanted_us)
local for_others = others_wait and 1 or math.floor(max_in_flight / 10)
local room, keep, fair = want, 0, 0
-- How long to wait for places; a worker that has less than its share of them says that it waits, and so do look-ups
-- and logins.
local function wait_for_places(has)
  if kind ~= 'order' then
    redis.call('HSET', KEYS[1], 'others_wanted_us', whole(now))
    return IN_FLIGHT_WAIT_US
  elseif has >= fair then
    return others_wait and IN_FLIGHT_WAIT_US or CONTENT_WAIT_US
  end
  redis.call('HSET', KEYS[1], 'place_wanted_by', boot, 'place_wanted_us', whole(now))
  return IN_FLIGHT_WAIT_US
end
if not again then
  local total, workers = outstanding, rival and 2 or 1
  local counts = redis.call('HGETALL', KEYS[2])
  for i = 1, #counts, 2 do
    if counts[i] ~= boot then
      local number, seen = string.match(counts[i + 1], '^(%d+)@(%d+)$')
      if number and now < tonumber(seen) + LAPSE_US then
        total = total + tonumber(number)
        workers = workers + (rival and counts[i] == f.place_wanted_by and 0 or 1)
      else
        redis.call('HDEL', KEYS[2], counts[i])
      end
    end
  end
  room = max_in_flight - total
  if kind == 'order' then
    local for_orders = max_in_flight - for_others
    room = room - for_others
    fair = math.ceil(for_orders / workers)
    if may_go_ahead and room >= 0 then
      keep = rival and fair or for_orders
    end
    if rival then
      room = math.min(room, fair - outstanding)
    end
  end
  -- In use are as many as it has without the idle ones; of these it keeps what is left of its share.
  idle = math.max(0, math.min(idle, keep - (outstanding - idle)))
  ahead = math.min(ahead, keep)
  room = math.max(room, 0) + idle
  if room + ahead < 1 then
    return refuse('in_flight', wait_for_places(outstanding), 'as many requests as allowed are in flight', keep)
  end
else
  ahead = 0
end

local weight = tonumber(f[kind .. '_weight']) or 1
local step = math.ceil(interval * weight / spread)
local ready = now + lead_us
local heaviest = math.max(1, tonumber(f.lookup_weight) or 1, tonumber(f.login_weight) or 1)
local tat = math.max(instant(KEYS[1], f, 'tat_us', LONGEST_HORIZON_US + (burst + heaviest) * interval), ready)
local first_wait = tat - ready - (burst - 1) * interval
local function fitting(within_us)
  if first_wait > within_us then
    return 0
  end
  return step == 0 and want or math.floor((within_us - first_wait) / step) + 1
end
local fit = fitting(reach_us)
local share_step, lookup_tat
if kind == 'lookup' then
  share_step = step / LOOKUP_SHARE
  lookup_tat = math.max(instant(KEYS[1], f, 'lookup_tat_us', LONGEST_HORIZON_US + heaviest * share_step), now)
  local shared = 0
  if lookup_tat - now <= LOOKUP_SHARE_US then
    shared = share_step == 0 and want or math.floor((LOOKUP_SHARE_US - (lookup_tat - now)) / share_step) + 1
  end
  local rest = 0
  if math.abs(now - (tonumber(f.order_wanted_us) or 0)) > 2 * interval then
    rest = fitting(math.min(reach_us, LOOKUP_REST_US))
  end
  fit = math.max(math.min(fit, shared), rest)
elseif kind == 'order' and not again then
  local at_once = math.max(0, math.floor(-first_wait / interval))
  fit = math.min(fit, at_once + math.max(1, math.floor(TURN_US / interval)))
end
if ahead > 0 and math.min(want, fit) > room then
  step = math.ceil(interval * weight / AHEAD_SHARE)
  fit = math.min(fit, fitting(reach_us))
end
if fit < 1 then
  if reach_us < horizon_us and first_wait <= horizon_us then
    return refuse('closed', closed_until - now, f.closed_reason)
  end
  if kind == 'order' then
    redis.call('HSET', KEYS[1], 'order_wanted_us', whole(now))
  end
  return refuse('rate', math.max(first_wait - math.max(horizon_us - TURN_US, 0), 10000), 'the rate is used up')
end
local granted = math.min(want, room + ahead, fit)
local full = granted == room + ahead and granted < math.min(want, fit) and 1 or 0
ahead = math.max(0, granted - room)
local places = again and 0 or math.max(0, granted - ahead - idle)
local wait_us = 0
if full == 1 and kind == 'order' then
  wait_us = wait_for_places(outstanding + places)
elseif kind == 'order' and not again and f.place_wanted_by == boot then
  redis.call('HDEL', KEYS[1], 'place_wanted_by', 'place_wanted_us')
elseif kind ~= 'order' and f.others_wanted_us then
  redis.call('HDEL', KEYS[1], 'others_wanted_us')
end
local ends = whole(tat + granted * step)
local busy = math.min(math.max(busy_tat, now) + granted * interval * weight / BUSY_SHARE, now + MOST_BUSY_US)
redis.call('HSET', KEYS[1], 'tat_us', ends, 'busy_tat_us', whole(busy))
if ahead > 0 then
  redis.call('HSET', KEYS[1], 'ahead_until_us', whole(ready + math.max(first_wait, 0) + granted * step + AHEAD_US))
end
if kind == 'lookup' then
  redis.call('HSET', KEYS[1], 'lookup_tat_us', whole(lookup_tat + granted * share_step))
end
if probe == 1 then
  local probe_until = ready + math.max(first_wait, 0) + probe_lease_us
  redis.call('HSET', KEYS[1], kind .. '_probe', boot, kind .. '_probe_until_us', whole(probe_until))
end
if again then
  count(KEYS[1], kind .. '_late', granted)
  return {granted, math.floor(first_wait), step, '', 0, '', 0, ends, granted, 0, 0, 0, 0, 0}
end
redis.call('HSET', KEYS[2], boot, string.format('%.0f@%.0f', outstanding + places, now))
count(KEYS[1], kind .. '_admitted', granted)

local retries = granted
if kind == 'order' then
  local most = math.max(RETRIES_AT_LEAST, (tonumber(f.retry_share) or 0.2) * (tonumber(f.rate_per_second) or 0) * 10)
  local passed = math.max(0, now - (tonumber(f.retry_at_us) or now))
  local tokens = math.min(most, (tonumber(f.retry_tokens) or most) + retries_back + passed / RETRY_EVERY_US)
  retries = math.min(granted, math.floor(tokens))
  redis.call('HSET', KEYS[1], 'retry_tokens', string.format('%.6f', tokens - retries), 'retry_at_us', whole(now))
end
return {granted, math.floor(first_wait), step, '', wait_us, '', probe, ends, retries, places, ahead,
  ahead > 0 and AHEAD_LATE_US or 0, keep, full}
