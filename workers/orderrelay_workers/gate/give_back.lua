-- Give back permits that nothing was started with: their places in flight, their slots if possible, and the probe.
--
-- KEYS  1 the company's gate (hash)   2 its requests in flight (hash: boot id -> "<count>@<seen_us>")
-- ARGV  1 boot id, hex                2 kind: order, lookup or login      3 own requests in flight now, exactly
--       4 how many are given back     5 step in us of the grant           6 end_us of the grant
--       7 1 if the grant was a probe, else 0
-- Return 1 if the slots went back, else 0: somebody has reserved behind them, and waits as told then; or the gate is of
--       a newer layout, and nothing was written.
-- Why atomic: the slots may go back only while they are the last ones.
local boot, kind, outstanding = ARGV[1], ARGV[2], tonumber(ARGV[3])
local unused, step = tonumber(ARGV[4]), tonumber(ARGV[5])

local f = read(KEYS[1], {'layout', 'tat_us', 'lookup_tat_us', kind .. '_probe'})
if is_newer(f.layout) then
  return 0
end
if outstanding > 0 then
  redis.call('HSET', KEYS[2], boot, string.format('%.0f@%.0f', outstanding, now))
else
  redis.call('HDEL', KEYS[2], boot)
end
if ARGV[7] == '1' and f[kind .. '_probe'] == boot then
  redis.call('HDEL', KEYS[1], kind .. '_probe', kind .. '_probe_until_us')
end
if f.tat_us ~= ARGV[6] then
  return 0
end
redis.call('HSET', KEYS[1], 'tat_us', whole(tonumber(ARGV[6]) - unused * step))
if kind == 'lookup' and f.lookup_tat_us then
  redis.call('HSET', KEYS[1], 'lookup_tat_us', whole(tonumber(f.lookup_tat_us) - unused * step / LOOKUP_SHARE))
end
count(KEYS[1], kind .. '_given_back', unused)
return 1
