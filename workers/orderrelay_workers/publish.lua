-- Publish what is told about jobs, many in one call.
--
-- KEYS     1…  status     string: the published status of a job
-- ARGV     1   seconds that each lives
--          2   "first": leave what is known of a job already; "last": write over it
--          3   the word that the ledger has no such job; it is not what is known of one
--          4   "1": tell who waits for a job, by a word on the channel that is called like its status
--          5…  the statuses, JSON, in the order of the keys
-- Returns how many were written.
--
-- One script, as so many commands cost both sides several times as much. It is one thing only by the way.

local lives, order, unheard_of, tell, written = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', 0
for i, key in ipairs(KEYS) do
  local known = order == 'first' and redis.call('GET', key)
  if not known or known == unheard_of then
    redis.call('SET', key, ARGV[i + 4], 'EX', lives)
    written = written + 1
    if tell then
      redis.pcall('PUBLISH', key, '')  -- refused where this Redis user may not; then who waits looks now and then
    end
  end
end
return written
