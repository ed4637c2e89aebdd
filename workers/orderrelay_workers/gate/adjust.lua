-- Change fields of a company's gate, if it is seeded: limits, pause, resume.
--
-- KEYS  1 the company's gate (hash)
-- ARGV  1 how many fields to set (n)  2..2n+1 their names and values, in pairs   2n+2.. names of fields to remove
-- Return 1, or 0 if the gate is not seeded, or of a newer layout (then nothing was changed).
-- Why atomic: a field written to a gate that was just wiped would look like a seeded gate.
if redis.call('EXISTS', KEYS[1]) == 0 or is_newer(redis.call('HGET', KEYS[1], 'layout')) then
  return 0
end
local last = 1 + 2 * tonumber(ARGV[1])
for i = 2, last, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
for i = last + 1, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[i])
end
return 1
