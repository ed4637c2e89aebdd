-- Publish what is told about jobs, many in one call.
--
-- KEYS     1…  status     string: the published status of a job
-- ARGV     1   seconds that each lives
--          2   "first": leave what is known of a job already; "last": write over it
--          3…  the statuses, JSON, in the order of the keys
-- Returns how many were written.
--
-- One script, as so many commands cost both sides several times as much. It is one thing only by the way.

local lives, written = ARGV[1], 0
for i, key in ipairs(KEYS) do
  local reply
  if ARGV[2] == 'first' then
    reply = redis.call('SET', key, ARGV[i + 2], 'EX', lives, 'NX')
  else
    reply = redis.call('SET', key, ARGV[i + 2], 'EX', lives)
  end
  if reply then
    written = written + 1
  end
end
return written
