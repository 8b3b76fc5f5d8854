-- The load: announces of a real client over 10,000 torrents.
--
-- `wrk -s announce.lua URL -- keep|close LIST`, where LIST is a file of info hashes, one a line
-- in hexadecimal, the most popular first. All requests are made before the first is sent, from
-- a fixed seed, and then sent in turn: every server gets the same, and after one round through
-- them its swarms are full and an announce is a peer's next one, as most are.
--
-- keep: as Transmission 3.00 writes it, on a connection that is kept.
-- close: as libtorrent 2.0 writes it, one connection each.

local TORRENTS = 10000
local PEERS = 60000 -- different announces, `LOAD_ANNOUNCES`; each is one peer of one torrent
local PORT_FIRST = 1025

local seed = 20240229

local function random(below)
    -- Park and Miller: exact in doubles.
    seed = seed * 16807 % 2147483647
    return seed % below
end

local function hashes_of(list)
    local out, file = {}, assert(io.open(list))
    for r = 1, TORRENTS do
        out[r] = file:read():gsub("%x%x", function(hex)
            return string.char(tonumber(hex, 16))
        end)
    end
    file:close()
    return out
end

local function encode(text, plain)
    return (text:gsub("[^%w" .. plain .. "]", function(c)
        return string.format("%%%02x", c:byte())
    end))
end

local function alphanumeric(count)
    local alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    local out = {}
    for i = 1, count do
        local at = random(#alphabet) + 1
        out[i] = alphabet:sub(at, at)
    end
    return table.concat(out)
end

-- Transmission 3.00.
local function kept(hash, port, left, event, host)
    return "GET /announce?info_hash=" .. encode(hash, "%-%._~")
        .. "&peer_id=-TR3000-" .. alphanumeric(12)
        .. "&port=" .. port .. "&uploaded=0&downloaded=0&left=" .. left
        .. "&numwant=80&key=" .. string.format("%x", random(0x7fffffff))
        .. "&compact=1&supportcrypto=1" .. event .. " HTTP/1.1\r\n"
        .. "Host: " .. host .. "\r\nUser-Agent: Transmission/3.00\r\nAccept: */*\r\n"
        .. "Accept-Encoding: deflate, gzip, br, zstd\r\n\r\n"
end

-- libtorrent 2.0.8.
local function closed(hash, port, left, event, host)
    return "GET /announce?info_hash=" .. encode(hash, "!%(%)%*%-%._~")
        .. "&peer_id=-LT2080-" .. alphanumeric(12)
        .. "&port=" .. port .. "&uploaded=0&downloaded=0&left=" .. left
        .. "&corrupt=0&key=" .. string.format("%08X", random(0x7fffffff)) .. event
        .. "&numwant=200&compact=1&no_peer_id=1&supportcrypto=1&redundant=0 HTTP/1.1\r\n"
        .. "Host: " .. host .. "\r\nUser-Agent: libtorrent/2.0.8.0\r\n"
        .. "Accept-Encoding: gzip\r\nConnection: close\r\n\r\n"
end

-- The torrent of rank r is chosen with a probability proportional to 1/r (Zipf).
local function ranks()
    local sums, sum = {}, 0
    for r = 1, TORRENTS do
        sum = sum + 1 / r
        sums[r] = sum
    end
    return function()
        local wanted = random(2147483646) / 2147483646 * sum
        local low, high = 1, TORRENTS
        while low < high do
            local middle = math.floor((low + high) / 2)
            if sums[middle] > wanted then high = middle else low = middle + 1 end
        end
        return low
    end
end

-- With the argument "lengths", LENGTHS lengths of bodies, spaced evenly among all that came, are
-- written at the end. One length cannot stand for all of them: to TCP, a long answer and a short
-- one are more than two of their mean. Short and long ones take turns, because STEP has no factor
-- in common with LENGTHS.
local LENGTHS, STEP = 64, 37

local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

local function keep_lengths()
    lengths = {}
    function response(_, _, body)
        lengths[#lengths + 1] = #body
    end
end

local requests, next_one = {}, 0

function init(arguments)
    local announce = ({ keep = kept, close = closed })[arguments[1]]
    local host = wrk.host .. ":" .. wrk.port
    local hashes, rank = hashes_of(arguments[2]), ranks()
    if arguments[3] == "lengths" then keep_lengths() end
    for i = 1, PEERS do
        local left = random(2) == 0 and 0 or 201000
        local event = random(16) == 0 and "&event=started" or ""
        requests[i] = announce(hashes[rank()], PORT_FIRST + i, left, event, host)
    end
    -- Processor time of the program until now: none of it is the load's.
    io.write(string.format("set-up: %.6f\n", os.clock()))
end

function request()
    next_one = next_one % PEERS + 1
    return requests[next_one]
end

-- One line for the benchmark to read; the order is that of `Load::parse`.
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format("wire: %d %d %d %d %d %d %d %d %d %d\n",
        summary.requests, summary.duration, summary.bytes,
        errors.connect, errors.read, errors.write, errors.timeout, errors.status,
        latency:percentile(50), latency:percentile(99)))
    local kept = threads[1]:get("lengths")
    if kept then
        table.sort(kept)
        io.write("lengths:")
        for i = 0, LENGTHS - 1 do
            io.write(" ", kept[math.floor((i * STEP % LENGTHS + 0.5) * #kept / LENGTHS) + 1])
        end
        io.write("\n")
    end
end
