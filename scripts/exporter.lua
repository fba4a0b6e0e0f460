-- Hands SmartCache's numbers to redis_exporter, which drops INFO fields that it does not know:
--
--   prometheus-redis-exporter -script /path/to/exporter.lua
--
-- The exporter runs this in the server at every scrape (EVAL, or EVAL_RO with -lua-script-read-only), and wants names and
-- numbers in turn. It can give a metric no label but `key`, so the name is what STATS RULES PROMETHEUS has before the
-- number, and scripts/prometheus.yml takes it apart again:
--
--   redis_script_values{key="smartcache_hits_total{rule=\"user\"}"} 17    the exporter
--   smartcache_hits_total{rule="user"} 17                                 Prometheus
--
-- An error would make the exporter say redis_up 0. A server without the module, or a user who may not call STATS, is
-- told by smartcache_up 0 instead.

local text = redis.pcall('SMARTCACHE.STATS', 'RULES', 'PROMETHEUS')
if type(text) ~= 'string' then
  return { 'smartcache_up', '0' }
end
local found = { 'smartcache_up', '1' }
for line in text:gmatch('[^\n]+') do
  local name, number = line:match('^([^#].*) (%S+)$')
  if name then
    found[#found + 1] = name
    found[#found + 1] = number
  end
end
return found
