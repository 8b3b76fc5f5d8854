-- Sends the requests of a file in turn. At the end it prints how many were answered, in how many
-- microseconds, and how many failed.
local requests = {}
local at = 0

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  for request in file:read("*a"):gmatch(".-\r\n\r\n") do
    requests[#requests + 1] = request
  end
  file:close()
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  print(string.format("answered %d %d %d", summary.requests, summary.duration, failed))
end
