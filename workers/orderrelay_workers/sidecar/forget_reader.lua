-- Forget a reader of the group. If it woke up and read in between, everything is read again from the beginning:
-- what it had pending is in nobody's hands any more, and booking is idempotent.
--
-- KEYS[1] stream   ARGV[1] group   ARGV[2] reader
-- Return how many entries it had pending.
local pending = redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
if pending > 0 then
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], '0')
end
return pending
