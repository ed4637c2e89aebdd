-- Report how requests of one kind ended: free their places in flight, open or close the circuit, learn the rate.
--
-- KEYS  1 the company's gate (hash)   2 its requests in flight (hash: boot id -> "<count>@<seen_us>")
-- ARGV  1 boot id, hex                2 kind: order, lookup or login      3 own requests in flight now, exactly
--       4 how many ended well         5 how many ended unwell             6 1 if the probe is among them, else 0
--       7 reason to open at once, or ""
--       8 the wait in us that the vendor asked for; 0: for none; -1: it said "later" and not when
--       9 how many of those that ended well were retries                 10 their mean latency in us, or 0
--       11 how many got "later" for an answer
--       12 how many orders came to an end by those that ended well, as one request may hold several
-- Return what changed, by turns a name and a number or text: opened <reason>, held <hold_us>, closed <kind>,
--       throttled <wait_us>, slower <rate>; {"unseeded"} if the gate is not seeded (then only the count was written);
--       {"newer"} if it is of a newer layout (then nothing was).
-- Why atomic: counting, opening and doubling are one decision; two workers would open twice and double twice.
--
-- Fields of the learned rate: rate_now (orders per second), rate_at_us (when it was last moved), rate_cut_us (when it
-- was last cut), rate_bad (the rate that was too much), rate_climb (share by which it climbs in a second, beyond that);
-- good_from_us, good_now, good_before (good orders in the present second and the one before); latency_fast_us,
-- latency_slow_us. All of these count requests; only done counts orders, and done_requests by how many requests.
local boot, kind, outstanding = ARGV[1], ARGV[2], tonumber(ARGV[3])
local good, unwell, probe = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local trip, throttle_us = ARGV[7], tonumber(ARGV[8])
local retries_good, latency_us, refused = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local orders = tonumber(ARGV[12])
-- The window of a circuit holds so many of the last requests, and forgets older ones within minutes. It opens when at
-- least so many of them ended unwell, and these are at least such a share.
local WINDOW, WINDOW_US, OPENS_SHARE = 20, 60000000, 0.5
-- Logins go one at a time, so two are as much as five orders that went out together.
local OPENS_AT = kind == 'login' and 2 or 5
-- Orders in doubt shall not wait long after a short outage; their look-ups create nothing and are few.
local FIRST_HOLD_US = kind == 'lookup' and 1000000 or 5000000
-- The longest hold is what recovery after an outage may take at most, and how seldom a vendor that is down is asked.
local LONGEST_HOLD_US = 10000000
local FIRST_THROTTLE_US, LONGEST_THROTTLE_US = 1000000, 86400000000
local LONGEST_GUESS_US = 10000000
local LEARNING_THROTTLE_US = 200000
local DONE_US = 30000000
-- As in the code that turns a rate into an interval: a little slower than allowed, so that jitter breaks no limit.
local PACE = 0.99

local f = read(KEYS[1], {'layout', 'interval_us', 'rate_per_second', 'learn_from', 'throttled_until_us',
  'throttled_at_us', 'throttle_us', 'probes_from_us', 'retry_tokens', 'retry_share', 'done', 'done_at_us',
  'done_requests', 'rate_now',
  'rate_at_us', 'rate_cut_us', 'rate_bad', 'rate_climb', 'good_from_us', 'good_now', 'good_before', 'latency_fast_us',
  'latency_slow_us', 'order_hold_us', 'lookup_hold_us', 'login_hold_us', 'order_reason', kind .. '_good',
  kind .. '_bad', kind .. '_at_us', kind .. '_reason', kind .. '_probe'})
if is_newer(f.layout) then
  return {'newer'}
end
if outstanding > 0 then
  redis.call('HSET', KEYS[2], boot, string.format('%.0f@%.0f', outstanding, now))
else
  redis.call('HDEL', KEYS[2], boot)
end
if not f.interval_us then
  return {'unseeded'}
end
if good + unwell + refused == 0 and not probe and trip == '' and throttle_us == 0 then
  return {}
end

local changes, set, gone = {}, {}, {}
local function tell(name, value)
  changes[#changes + 1], changes[#changes + 2] = name, tostring(value)
end
local function put(name, value)
  set[#set + 1], set[#set + 2] = name, value
end
local function drop(...)
  for _, name in ipairs({...}) do
    gone[#gone + 1] = name
  end
end

local function throttle()
  local known = throttled(KEYS[1], f)
  local wait = throttle_us
  if wait < 0 then
    if now < known then
      return
    end
    -- Nobody said how long, so it is twice as long each time that it was too short, and as at first when it was not.
    local last = tonumber(f.throttle_us) or 0
    wait = FIRST_THROTTLE_US
    if f.learn_from then
      wait = LEARNING_THROTTLE_US
    elseif last > 0 and now < known + 2 * last then
      wait = math.min(2 * last, LONGEST_GUESS_US)
    end
    put('throttle_us', whole(wait))
  end
  local untl = now + math.min(wait, LONGEST_THROTTLE_US)
  if untl > known then
    put('throttled_until_us', whole(untl))
    put('throttled_at_us', whole(now))
    if kind == 'login' then
      -- Orders and look-ups heed the wait above; logins have none of their own but the circuit's.
      put('login_held_until_us', whole(untl))
      put('login_hold_us', whole(untl - now))
      put('login_reason', 'the vendor asked to wait')
    end
    if now >= known then
      tell('throttled', whole(wait))
      count(KEYS[1], 'throttled', 1)
    end
  end
end

local function hold(hold_us, reason)
  put(kind .. '_held_until_us', whole(now + hold_us))
  put(kind .. '_hold_us', whole(hold_us))
  put(kind .. '_reason', reason)
  drop(kind .. '_probe', kind .. '_probe_until_us')
end

local function close()
  drop(kind .. '_held_until_us', kind .. '_hold_us', kind .. '_reason', kind .. '_probe', kind .. '_probe_until_us',
    kind .. '_good', kind .. '_bad', kind .. '_at_us', 'probes_from_us')
  for _, other in ipairs({'order', 'lookup', 'login'}) do
    if other ~= kind and f[other .. '_hold_us'] then
      -- The vendor answers again, so the others are tried at once as well.
      put(other .. '_held_until_us', whole(now))
    end
  end
  if f[kind .. '_hold_us'] then
    tell('closed', kind)
    count(KEYS[1], kind .. '_closed', 1)
  end
end

local function judge()
  local hold_us = tonumber(f[kind .. '_hold_us'])
  if kind == 'login' and probe and not hold_us then
    hold_us = tonumber(f.order_hold_us)
  end
  -- A probe whose lease is over, with another's in its place, decides nothing any more.
  probe = probe and f[kind .. '_probe'] == boot
  if hold_us then
    if probe and good > 0 then
      close()
    elseif probe and (unwell > 0 or trip ~= '') then
      local longer = math.min(hold_us * 2, LONGEST_HOLD_US)
      hold(longer, trip ~= '' and trip or f[kind .. '_reason'] or f.order_reason or 'no answer')
      put('probes_from_us', whole(now + longer))
      tell('held', whole(longer))
    else
      if trip ~= '' then
        put(kind .. '_reason', trip)
      end
      if probe then
        drop(kind .. '_probe', kind .. '_probe_until_us')
      end
    end
    return
  end
  local well = decayed(f[kind .. '_good'], f[kind .. '_at_us'], WINDOW_US) + good
  local bad = decayed(f[kind .. '_bad'], f[kind .. '_at_us'], WINDOW_US) + unwell
  local share = bad / math.max(well + bad, 1e-9)
  if trip ~= '' or (unwell > 0 and bad >= OPENS_AT - 0.5 and share >= OPENS_SHARE) then
    local reason = trip
    if reason == '' then
      reason = string.format('%.0f %% of the last requests went unwell', share * 100)
    end
    hold(FIRST_HOLD_US, reason)
    drop(kind .. '_good', kind .. '_bad', kind .. '_at_us')
    tell('opened', reason)
    count(KEYS[1], kind .. '_opened', 1)
  elseif well + bad > 0 then
    local kept = math.min(1, WINDOW / (well + bad))
    put(kind .. '_good', string.format('%.4f', well * kept))
    put(kind .. '_bad', string.format('%.4f', bad * kept))
    put(kind .. '_at_us', whole(now))
  end
end

-- Good orders in the last second, by what the present span of a second and the one before it have seen.
local function goodput()
  local from, this, before = tonumber(f.good_from_us) or 0, tonumber(f.good_now) or 0, tonumber(f.good_before) or 0
  local age = now - from
  if age < 0 or age >= 2000000 then
    from, this, before, age = now, 0, 0, 0
  elseif age >= 1000000 then
    from, this, before, age = from + 1000000, 0, this, age - 1000000
  end
  this = this + good
  put('good_from_us', whole(from))
  put('good_now', whole(this))
  put('good_before', whole(before))
  return this + before * (1 - age / 1000000)
end

local function set_rate(rate)
  put('rate_now', string.format('%.4f', rate))
  put('rate_at_us', whole(now))
  put('interval_us', whole(math.ceil(1000000 / (rate * PACE))))
end

-- The rate falls on "later" and on latency that has doubled, at most once a second, and climbs back: fast to just below
-- what was too much, slowly past it, and ever faster beyond, as the limit seems to have moved.
local function learn()
  local floor, ceiling = tonumber(f.learn_from), tonumber(f.rate_per_second)
  local rate = math.min(math.max(tonumber(f.rate_now) or floor, floor), ceiling)
  local passing, cut_at = goodput(), tonumber(f.rate_cut_us) or 0
  local fast, slow = tonumber(f.latency_fast_us), tonumber(f.latency_slow_us)
  if latency_us > 0 then
    fast = fast and fast + (latency_us - fast) * 0.2 or latency_us
    slow = slow and slow + (latency_us - slow) * 0.01 or latency_us
    put('latency_fast_us', whole(fast))
    put('latency_slow_us', whole(slow))
  end
  local slowed = fast and fast > 2 * slow and fast > slow + 50000
  if refused > 0 or slowed then
    if math.abs(now - cut_at) < 1000000 then
      return
    end
    local held_lately = now < (tonumber(f.throttled_until_us) or 0) + 1200000
    local down = rate * 0.92
    if refused > 0 then
      -- What was taken in the last second is the best guess at the limit, unless all had to wait for some of it.
      down = math.min(down, math.max(passing * (held_lately and 1.1 or 0.97), rate * 0.5))
    end
    set_rate(math.max(floor, down))
    put('rate_cut_us', whole(now))
    put('rate_bad', string.format('%.4f', rate))
    put('rate_climb', '0.01')
    tell('slower', string.format('%.2f', math.max(floor, down)))
    count(KEYS[1], 'slower', 1)
    return
  end
  local passed = math.min(math.max(now - (tonumber(f.rate_at_us) or now), 0), 1000000) / 1000000
  if not f.rate_now then
    set_rate(rate)
  elseif good > 0 and passing > 0.6 * rate and not (fast and fast > 1.5 * slow and fast > slow + 30000) then
    local bad, climb = tonumber(f.rate_bad), 0.15
    if bad and rate < 0.95 * bad then
      climb = 0.05
    elseif bad and rate < 1.05 * bad then
      climb = 0.008
    elseif bad then
      -- Doubles in three seconds.
      climb = math.min((tonumber(f.rate_climb) or 0.01) * math.exp(0.231 * passed), 0.15)
      put('rate_climb', string.format('%.6f', climb))
    end
    set_rate(math.min(ceiling, rate * (1 + climb * passed)))
  elseif passed > 0.5 then
    -- Nothing is learned from a rate that was not used.
    put('rate_at_us', whole(now))
  end
end

if throttle_us ~= 0 then
  throttle()
end
judge()
if kind == 'order' then
  if good > 0 then
    local done = decayed(f.done, f.done_at_us, DONE_US)
    if done < 0.01 then
      put('done_since_us', whole(now))
    end
    put('done', string.format('%.4f', done + orders))
    -- A gate from before requests of several orders has had one in each.
    local by = decayed(f.done_requests or f.done, f.done_at_us, DONE_US)
    put('done_requests', string.format('%.4f', by + good))
    put('done_at_us', whole(now))
    if f.retry_tokens then
      local share = tonumber(f.retry_share) or 0.2
      put('retry_tokens', string.format('%.6f', tonumber(f.retry_tokens) + share * good + retries_good))
    end
    count(KEYS[1], 'order_good', good)
  end
  if unwell > 0 then
    count(KEYS[1], 'order_unwell', unwell)
  end
  if f.learn_from then
    learn()
  end
end
if #gone > 0 then
  redis.call('HDEL', KEYS[1], unpack(gone))
end
if #set > 0 then
  redis.call('HSET', KEYS[1], unpack(set))
end
return changes
