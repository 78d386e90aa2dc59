-- Sends the requests of a file: wrk … URL -- FILE (see kurir/bench/load.py, which writes it).
-- Line 1: "METHOD PATH", a tab, "endless" or "once"; the others: a signature or nothing, a tab, a body. A body's "{n}" becomes eight
-- digits that count up. "endless" goes round the lines; "once" sends each once and reports when all are answered.
local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds; long nanoseconds; } kurir_time;
int clock_gettime(int clock, kurir_time *time);
]]

local method, path, mode
local signatures, bodies = {}, {}
local sent, answered, began, verified = 0, 0, 0, false
local headers = {}

local function now()
  local time = ffi.new("kurir_time")
  ffi.C.clock_gettime(1, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

local function on_response()
  answered = answered + 1
  if answered == #bodies then
    io.stdout:write(string.format("all answered %.6f\n", now() - began))
    io.stdout:flush()
  end
end

function init(arguments)
  local first = true
  for line in io.lines(arguments[1]) do
    if first then
      method, path, mode = line:match("^(%S+) (%S+)\t(%S+)$")
      first = false
    else
      local signature, body = line:match("^([^\t]*)\t(.*)$")
      local parts = {}
      for part in (body .. "{n}"):gmatch("(.-){n}") do
        parts[#parts + 1] = part
      end
      signatures[#signatures + 1] = signature
      bodies[#bodies + 1] = parts
    end
  end
  headers["Content-Type"] = "application/json"
  headers["Host"] = wrk.headers["Host"]
  if mode == "once" then
    response = on_response
  end
end

function request()
  if not verified then -- wrk looks at the first request before it begins, and does not send it
    verified = true
    return wrk.format(method, path, headers, "")
  end
  if began == 0 then
    began = now()
  end
  if mode == "once" and sent == #bodies then
    return "" -- nothing more: the connection stays idle
  end
  local i = sent % #bodies + 1
  sent = sent + 1
  local parts = bodies[i]
  local body = parts[2] and table.concat(parts, string.format("%08d", sent)) or parts[1]
  if signatures[i] ~= "" then
    headers["X-Hub-Signature-256"] = signatures[i]
  end
  return wrk.format(method, path, headers, body)
end

function done(summary, latency, _)
  local errors = summary.errors
  io.stdout:write(string.format(
    '{"done":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"lost":%d,"refused":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
