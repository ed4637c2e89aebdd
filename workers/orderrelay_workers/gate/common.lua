-- Put in front of every script of the gate: its clock, its layout, and numbers as Redis stores them.
--
-- Instants are Redis TIME in microseconds.
local LAYOUT = 1
-- Look-ups have this share of the rate for certain.
local LOOKUP_SHARE = 0.2
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- A layout that only newer workers know: nothing is granted then, and nothing written.
local function is_newer(layout)
  return (tonumber(layout or 1) or math.huge) > LAYOUT
end

local function whole(number)
  return string.format('%.0f', number)
end

-- The fields of a hash by name.
local function read(key, names)
  local values, found = redis.call('HMGET', key, unpack(names)), {}
  for i = 1, #names do
    found[names[i]] = values[i] or nil
  end
  return found
end

local function count(key, name, number)
  redis.call('HINCRBY', key, 'n_' .. name, whole(number))
end

-- How much is left of a weight after so many microseconds, if it falls to 1/e of itself in that many.
local function decayed(weight, at, span_us)
  return (tonumber(weight) or 0) * math.exp(-math.max(0, now - (tonumber(at) or now)) / span_us)
end

-- A stored instant, 0 if it is missing. One that lies further ahead than could have been meant, as after the clock
-- stepped back, is cut to that, for good: so such a step costs no more than that wait.
local function instant(key, fields, name, longest_us)
  local at = tonumber(fields[name]) or 0
  if at > now + longest_us then
    at = now + longest_us
    redis.call('HSET', key, name, whole(at))
  end
  return at
end

-- Until when the vendor asked to wait. The wait may be of any length, so it is told by when it was asked whether the
-- clock stepped back since.
local function throttled(key, fields)
  local untl, at = tonumber(fields.throttled_until_us) or 0, tonumber(fields.throttled_at_us) or 0
  if now < at then
    untl = now + math.max(0, untl - at)
    redis.call('HSET', key, 'throttled_until_us', whole(untl), 'throttled_at_us', whole(now))
  end
  return untl
end
