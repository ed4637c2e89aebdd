-- Delete intake entries that are booked, each only if it was pending in the group.
--
-- After a failover or a wipe another order may have come under the same id, which nobody has read yet: it is not
-- pending, and stays.
--
-- KEYS[1] stream   ARGV[1] group   ARGV[2…] entry ids
-- Return how many were deleted.
local deleted = 0
for index = 2, #ARGV do
  if redis.call('XACK', KEYS[1], ARGV[1], ARGV[index]) == 1 then
    deleted = deleted + redis.call('XDEL', KEYS[1], ARGV[index])
  end
end
return deleted
