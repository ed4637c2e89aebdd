-- Read a company's gate with the time that its instants are measured by.
--
-- KEYS  1 the company's gate (hash)   2 its requests in flight (hash: boot id -> "<count>@<seen_us>")
-- Return {now_us as text, {field, value, ...} of the gate, {boot id, count, ...}}.
-- Why atomic: a hold read at one time and a clock read at another would show waits that never were.
return {whole(now), redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}
