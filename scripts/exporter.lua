-- Passes SmartCache's metrics to redis_exporter, which ignores unknown INFO fields:
--
--   prometheus-redis-exporter -script /path/to/exporter.lua
--
-- The exporter runs this in the server at every scrape (EVAL, or EVAL_RO with -lua-script-read-only), and expects names
-- and numbers alternately. It supports only the label `key`, so the name contains the labels as in STATS RULES
-- PROMETHEUS, and scripts/prometheus.yml splits it:
--
--   redis_script_values{key="smartcache_hits_total{rule=\"user\"}"} 17    the exporter
--   smartcache_hits_total{rule="user"} 17                                 Prometheus
--
-- An error would make the exporter report redis_up 0. So a server without the module, or a user without permission for
-- STATS, is reported as smartcache_up 0.

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
