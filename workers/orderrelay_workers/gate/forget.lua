-- Free the places in flight and the probes of a worker that is dead.
--
-- KEYS  in pairs: a company's gate (hash), its requests in flight (hash: boot id -> "<count>@<seen_us>")
-- ARGV  1 boot id, hex                2.. the kinds of requests
-- Return how many companies had requests of it in flight.
-- Why atomic: a probe may be taken away only while it is still the dead worker's.
local freed = 0
for i = 1, #KEYS, 2 do
  -- A gate of a newer layout is left to newer workers.
  if not is_newer(redis.call('HGET', KEYS[i], 'layout')) then
    freed = freed + redis.call('HDEL', KEYS[i + 1], ARGV[1])
    for j = 2, #ARGV do
      if redis.call('HGET', KEYS[i], ARGV[j] .. '_probe') == ARGV[1] then
        redis.call('HDEL', KEYS[i], ARGV[j] .. '_probe', ARGV[j] .. '_probe_until_us')
      end
    end
  end
end
return freed
